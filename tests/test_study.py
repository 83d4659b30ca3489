"""The codes that no model makes, which `benchmarks/study.py` compares with those of models."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from study import category_codes, codebooks, given_table

X_ND = np.array([[1, 0], [3, 0], [0, 5]], np.float32)


def test_category_codes_number_the_beginnings_of_paths_at_every_depth():
    paths = [["a"], ["a", "x"], ["b"], ["a", "x", "p"], ["a", "x", "p", "deeper"]]

    assert category_codes(paths).tolist() == [[0, 0, 0], [0, 1, 1], [1, 2, 3], [0, 1, 2], [0, 1, 2]]


def test_a_codeword_is_the_mean_of_the_residuals_that_have_it_and_zero_where_none_has():
    first_kd, second_kd, third_kd = codebooks(X_ND, np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0]]))

    assert first_kd[:3].tolist() == [[2, 0], [0, 5], [0, 0]]
    assert second_kd[:3].tolist() == [[-0.5, 0], [1, 0], [0, 0]]
    assert third_kd.shape == (256, 2)
    assert not third_kd.any()


@pytest.mark.parametrize(("policy", "length"), [("suffix", 4), ("reassign", 3)])
def test_given_codes_stay_as_they_are_and_every_item_gets_an_id_of_its_own(policy, length):
    codes_nl = np.array([[4, 5, 6], [4, 5, 6], [4, 5, 7]], np.int32)

    table = given_table(pa.array(["p", "q", "r"]), X_ND, codes_nl, policy)

    assert table.codes.tolist() == codes_nl.tolist()
    assert table.sids.shape == (3, length)
    assert table.sids[:, :2].tolist() == [[4, 5]] * 3
    assert len(np.unique(table.sids, axis=0)) == 3
    assert table.metadata["summary"]["raw_unique"] == 2
    assert table.verify().total == 0
