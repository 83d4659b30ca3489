"""Numbers to Arrow and back, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semid.arrays import to_arrow, to_numpy

KINDS = ("int8", "int32", "int64", "uint64", "float16", "float32", "float64")


@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, st.integers(0, 9))))
def test_round_trip(values: Any) -> None:
    found = to_arrow(values)
    found.validate(full=True)
    assert found.type == pa.from_numpy_dtype(values.dtype)
    assert found.null_count == 0
    np.testing.assert_array_equal(to_numpy(found), values)


def test_a_slice_and_a_stride() -> None:
    values = np.arange(10, dtype=np.int32)
    assert to_arrow(values[::3]).to_pylist() == [0, 3, 6, 9]
    assert to_numpy(to_arrow(values)[2:5]).tolist() == [2, 3, 4]
    assert np.shares_memory(to_numpy(to_arrow(values)), values)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.array([True]), np.zeros(2, ">i4")])
def test_what_it_cannot_hold_is_a_defect(bad: Any) -> None:
    with pytest.raises(AssertionError):
        to_arrow(bad)
