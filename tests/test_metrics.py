"""The metrics against values worked by hand and against direct computations."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.metrics.codes import relative_error, utilization
from semid.metrics.measurement import Measurement

Arrays = tuple[npt.NDArray[Any], ...]


def test_utilization_by_hand() -> None:
    found = utilization(np.array([2, 0, 1, 1]))
    # Shares 1/2, 1/4 and 1/4: entropy (ln 2) / 2 + 2 (ln 4) / 4 = 1.5 ln 2.
    assert found.used == 3
    assert found.size == 4
    assert found.perplexity == pytest.approx(2 * sqrt(2), rel=1e-15)
    assert found.largest_share == 0.5


def test_utilization_at_its_ends() -> None:
    assert utilization(np.array([7, 7, 7, 7])) == (4, 4, pytest.approx(4.0, rel=1e-15), 0.25)
    assert utilization(np.array([0, 5, 0])) == (1, 3, 1.0, 1.0)
    assert utilization(np.array([9])) == (1, 1, 1.0, 1.0)
    assert utilization(np.array([0, 0])) == (0, 2, 0.0, 0.0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_utilization_in_general(counts: list[int]) -> None:
    found = utilization(np.array(counts))
    used = [count for count in counts if count]
    assert found.used == len(used)
    if used:
        shares = [count / sum(used) for count in used]
        entropy = -sum(share * log(share) for share in shares)
        assert found.perplexity == pytest.approx(exp(entropy), rel=1e-12)
        assert 1 - 1e-12 <= found.perplexity <= len(used) * (1 + 1e-12)
        assert found.largest_share == max(shares)


def test_relative_error() -> None:
    assert relative_error(1.0, 4.0) == 0.25
    assert relative_error(0.0, 4.0) == 0.0
    assert relative_error(3.0, 0.0) is None
    assert relative_error(0.0, 0.0) is None


# Measurement


def measured(parts: list[Arrays], levels: tuple[int, ...], width: int) -> dict[str, Any]:
    measurement = Measurement(levels, {"embedding": slice(0, width)})
    for part in parts:
        measurement.add(*part)
    return measurement.result()


def test_measurement_by_hand() -> None:
    x = np.array([[0, 0], [2, 0], [0, 4], [2, 4], [1, 12]], np.float32)
    decoded = x + np.array([[1, 0], [0, 0], [0, 2], [0, 0], [0, 4]], np.float32)
    codes = np.array([[0, 0], [0, 1], [0, 0], [2, 1], [1, 1]], np.int32)
    held_out = np.array([False, False, False, False, True])
    assert measured([(x, codes, decoded, held_out)], (3, 2), 2) == {
        "items": 5,
        "levels": [
            {
                "used": 3,
                "size": 3,
                "perplexity": pytest.approx(exp(-0.6 * log(0.6) - 0.4 * log(0.2))),
                "largest_share": 0.6,
            },
            {
                "used": 2,
                "size": 2,
                "perplexity": pytest.approx(exp(-0.6 * log(0.6) - 0.4 * log(0.4))),
                "largest_share": 0.6,
            },
        ],
        "raw_uniqueness": 4 / 5,
        # The training mean is (1, 2): each of the four is off by 1 + 4; errors 1 and 4.
        "train_error": 5 / 20,
        # Against the training mean as well: 0 + 100; error 16.
        "held_out_error": 16 / 100,
    }


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e5, -1e6])
def test_errors_are_those_of_a_direct_computation(offset: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3_000, 8)) + offset).astype(np.float32)
    decoded = (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32)
    held_out, codes = rng.random(3_000) < 0.1, np.zeros((3_000, 1), np.int32)
    parts = [
        tuple(array[rows] for array in (x, codes, decoded, held_out))
        for rows in (slice(0, 1_000), slice(1_000, 1_001), slice(1_001, None))
    ]
    found = measured(parts, (4,), 8)
    x64, mean = x.astype(np.float64), x[~held_out].mean(0, dtype=np.float64)
    error, deviation = np.square(x64 - decoded).sum(1), np.square(x64 - mean).sum(1)
    for name, rows in (("train_error", ~held_out), ("held_out_error", held_out)):
        direct = error[rows].sum() / deviation[rows].sum()
        assert found[name] == pytest.approx(direct, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e-18, 1e18, 1e25])
def test_errors_do_not_depend_on_the_unit(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)).astype(np.float32)
    decoded = (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32)
    held_out, codes = rng.random(500) < 0.1, np.zeros((500, 1), np.int32)
    plain = measured([(x, codes, decoded, held_out)], (4,), 8)
    unit = np.float32(scale)
    scaled = measured([(x * unit, codes, decoded * unit, held_out)], (4,), 8)
    assert scaled["train_error"] == pytest.approx(plain["train_error"], rel=1e-5)
    assert scaled["held_out_error"] == pytest.approx(plain["held_out_error"], rel=1e-5)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.5, 1e5])
@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_items_that_do_not_differ_have_no_relative_error(value: float, off: float) -> None:
    x, held_out = np.full((300, 8), value, np.float32), np.arange(300) < 30
    codes, decoded = np.zeros((300, 1), np.int32), x + np.float32(off)
    halves = [
        tuple(array[rows] for array in (x, codes, decoded, held_out))
        for rows in (slice(0, 150), slice(150, None))
    ]
    found = measured(halves, (4,), 8)
    assert found["train_error"] is None
    assert found["held_out_error"] is None


def test_nobody_held_out() -> None:
    x, codes = np.eye(3, dtype=np.float32), np.zeros((3, 1), np.int32)
    found = measured([(x, codes, x, np.zeros(3, np.bool_))], (2,), 3)
    assert found["train_error"] == 0.0
    assert found["held_out_error"] is None


def test_keys_beyond_63_bits_still_count() -> None:
    levels = (70_000,) * 4  # 4 × 16.1 bits
    codes = np.zeros((6, 4), np.int32)
    codes[:, 0] = [0, 1, 69_999, 69_999, 2, 2]
    codes[:, 3] = [0, 0, 69_999, 69_998, 5, 5]
    x = np.eye(6, dtype=np.float32)
    found = measured([(x, codes, x, np.zeros(6, np.bool_))], levels, 6)
    assert found["raw_uniqueness"] == 5 / 6


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_the_figures_do_not_depend_on_the_batches(seed: int, n: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    levels = (5, 3)
    arrays = (
        rng.normal(size=(n, 4)).astype(np.float32) + np.float32(50),
        rng.integers(0, levels, (n, 2)).astype(np.int32),
        rng.normal(size=(n, 4)).astype(np.float32) + np.float32(50),
        rng.random(n) < 0.3,
    )
    borders = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = [tuple(array[start:stop] for array in arrays) for start, stop in pairwise(borders)]
    whole, split = measured([arrays], levels, 4), measured(parts, levels, 4)
    for name in ("train_error", "held_out_error"):
        one, other = whole.pop(name), split.pop(name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one == pytest.approx(other, rel=1e-9)
    assert whole == split
