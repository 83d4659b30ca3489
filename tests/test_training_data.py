"""Where training rows come from: each exactly once an epoch, never a held-out one."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.fit_config import FitConfig, TrainingConfig
from semid.fitting import fit_data
from semid.model_config import ModelConfig
from semid.tables import open_table
from semid.training_data import (
    ArrayData,
    StreamedData,
    TrainingData,
    held_out,
    open_training_data,
    require_rows,
)

Matrix = npt.NDArray[np.float32]


def numbered(n: int, d: int = 2) -> Matrix:
    """Row i is (i + 1, -i - 1, i + 1, …), so that a row says which it is."""
    return ((np.arange(n) + 1)[:, None] * (-1.0) ** np.arange(d)).astype(np.float32)


def numbers_of(x_nd: Matrix) -> list[int]:
    numbers = x_nd[:, 0].astype(int) - 1
    np.testing.assert_array_equal(
        x_nd, numbered(numbers.max(initial=0) + 1, x_nd.shape[1])[numbers]
    )
    return numbers.tolist()  # type: ignore[no-any-return]


def write(path: Path, x_nd: Matrix, ids: Any, row_group: int = 1_000, **options: Any) -> Path:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), x_nd.shape[1])
    if options.get("lists"):
        vectors = vectors.cast(pa.list_(pa.float32()))
    pq.write_table(pa.table({"item_id": ids, "embedding": vectors}), path, row_group_size=row_group)
    return path


def streamed(path: Path, share: float = 0.1) -> StreamedData:
    return StreamedData(open_table(path), "item_id", share=share, memory_bytes=1)


# Holding out


def test_the_split_depends_on_the_id_alone() -> None:
    ids = list(range(2_000))
    held_n = held_out(ids, 0.3)
    np.testing.assert_array_equal(held_out(pa.array(ids), 0.3), held_n)
    np.testing.assert_array_equal(held_out(pa.array(ids, pa.int32()), 0.3), held_n)
    np.testing.assert_array_equal(held_out(pa.array(map(str, ids)), 0.3), held_n)
    np.testing.assert_array_equal(held_out(pa.array(map(str, ids), pa.large_string()), 0.3), held_n)
    order = np.random.default_rng(0).permutation(2_000)
    np.testing.assert_array_equal(held_out(order.tolist(), 0.3), held_n[order])
    np.testing.assert_array_equal(held_out(ids[700:], 0.3), held_n[700:])
    # Another process must agree, today and with the next release.
    assert np.flatnonzero(held_n)[:8].tolist() == [0, 7, 9, 11, 14, 25, 29, 30]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("prefix", ["", "B00", "item-"])
def test_the_share_is_about_what_was_asked(share: float, prefix: str) -> None:
    n = 20_000
    held_n = held_out(pa.array(f"{prefix}{i}" for i in range(n)), share)
    assert abs(held_n.mean() - share) < 5 * (share * (1 - share) / n) ** 0.5


def test_a_larger_share_holds_out_the_same_items_and_more() -> None:
    small_n, large_n = held_out(range(5_000), 0.1), held_out(range(5_000), 0.2)
    assert not (small_n & ~large_n).any()
    assert large_n.sum() > small_n.sum()
    assert not held_out(range(5_000), 0.0).any()


# Both sources


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 400),
    rows=st.integers(1, 130),
    row_group=st.integers(1, 150),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["array", "streamed"]),
)
def test_every_training_row_exactly_once_an_epoch(
    n: int, rows: int, row_group: int, share: float, seed: int, kind: str
) -> None:
    x_nd, ids = numbered(n), [f"item{i}" for i in range(n)]
    held_n = held_out(pa.array(ids), share)
    with tempfile.TemporaryDirectory() as folder:
        data: TrainingData = ArrayData(x_nd, held_n)
        if kind == "streamed":
            data = streamed(write(Path(folder) / "t.parquet", x_nd, ids, row_group), share)
        assert (data.train_rows, data.held_out_rows) == ((~held_n).sum(), held_n.sum())
        assert data.width == 2
        batches = list(data.batches(rows, seed=seed))
        held = numbers_of(data.held_out_sample(1_000, seed=seed))
    seen = sorted(number for batch in batches for number in numbers_of(batch))
    assert seen == np.flatnonzero(~held_n).tolist()
    assert [len(batch) for batch in batches] == [
        min(rows, data.train_rows - start) for start in range(0, data.train_rows, rows)
    ]
    assert all(batch.dtype == np.float32 for batch in batches)
    assert held == np.flatnonzero(held_n).tolist()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> StreamedData:
    """More training rows than the shuffle buffer holds."""
    path = tmp_path_factory.mktemp("large") / "t.parquet"
    return streamed(write(path, numbered(110_000), np.arange(110_000), 7_000))


@pytest.mark.parametrize("rows", [512, 4_096, 70_000])
def test_every_row_once_when_the_buffer_overflows(large: StreamedData, rows: int) -> None:
    expected = np.flatnonzero(~held_out(range(110_000), 0.1))
    assert len(expected) > 65_536 + 16_384
    batches = list(large.batches(rows, seed=3))
    assert {len(batch) for batch in batches[:-1]} == {rows}
    assert 0 < len(batches[-1]) <= rows
    found = np.concatenate(batches)[:, 0].astype(int) - 1
    np.testing.assert_array_equal(np.sort(found), expected)


def test_the_buffer_mixes_row_groups(large: StreamedData) -> None:
    for batch in list(large.batches(512, seed=3))[:-1:20]:
        groups = np.bincount(batch[:, 0].astype(int) // 7_000, minlength=16)
        assert (groups > 0).sum() >= 6
        assert groups.max() < 256


@pytest.fixture(params=["array", "streamed"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> TrainingData:
    x_nd, ids = numbered(3_000), np.arange(3_000)
    if request.param == "array":
        return ArrayData(x_nd, held_out(range(3_000), 0.1))
    return streamed(write(tmp_path / "t.parquet", x_nd, ids))


def test_epochs_are_shuffled_and_repeatable(source: TrainingData) -> None:
    def order(seed: int) -> list[int]:
        return [i for batch in source.batches(256, seed=seed) for i in numbers_of(batch)]

    first = order(1)
    assert first == order(1)
    assert first != order(2)
    assert sorted(first) == sorted(order(2))
    # Neighbours in the table are no neighbours in the epoch.
    assert np.mean([abs(a - b) < 10 for a, b in pairwise(first)]) < 0.02


def test_batches_may_be_changed_without_harm(source: TrainingData) -> None:
    before = source.sample(10_000, seed=0).copy()
    for batch in source.batches(256, seed=1):
        batch *= 0
    np.testing.assert_array_equal(source.sample(10_000, seed=0), before)


def test_samples(source: TrainingData) -> None:
    train = np.flatnonzero(~held_out(range(3_000), 0.1)).tolist()
    some = numbers_of(source.sample(500, seed=0))
    assert len(some) == 500
    assert some == sorted(set(some))
    assert set(some) <= set(train)
    assert some == numbers_of(source.sample(500, seed=0))
    assert some != numbers_of(source.sample(500, seed=1))
    assert abs(np.mean(some) - np.mean(train)) < 5 * 3_000 / 12**0.5 / 500**0.5
    assert numbers_of(source.sample(10_000, seed=0)) == train
    held = numbers_of(source.held_out_sample(50, seed=0))
    assert len(held) == 50
    assert not set(held) & set(train)


def test_nobody_held_out(tmp_path: Path) -> None:
    x_nd = numbered(50)
    path = write(tmp_path / "t.parquet", x_nd, np.arange(50))
    for data in (ArrayData(x_nd, held_out(range(50), 0.0)), streamed(path, 0.0)):
        assert (data.train_rows, data.held_out_rows) == (50, 0)
        assert data.held_out_sample(10, seed=0).shape == (0, 2)


def test_too_few_rows() -> None:
    data = ArrayData(numbered(1_200), np.arange(1_200) < 100)
    require_rows(data, (256, 1_100))
    with pytest.raises(SemidError) as error:
        require_rows(data, (256, 2_000, 1_101))
    assert str(error.value) == (
        "1,100 training rows (100 more are held out) are fewer than the 2000 codewords of level 1; "
        "use smaller levels, a smaller holdout, or more items"
    )


# Opening a table


def test_the_budget_decides_between_memory_and_streaming(tmp_path: Path) -> None:
    x_nd, ids = numbered(1_000, 4), [f"item{i}" for i in range(1_000)]
    table = open_table(write(tmp_path / "t.parquet", x_nd, ids, 300))
    half = x_nd.nbytes
    kept = open_training_data(table, "item_id", share=0.2, memory_bytes=2 * half)
    read = open_training_data(table, "item_id", share=0.2, memory_bytes=2 * half - 1)
    assert isinstance(kept, ArrayData)
    assert isinstance(read, StreamedData)
    assert (kept.train_rows, kept.held_out_rows) == (read.train_rows, read.held_out_rows)
    for draw in ("sample", "held_out_sample"):
        np.testing.assert_array_equal(
            getattr(kept, draw)(10_000, seed=0), getattr(read, draw)(10_000, seed=0)
        )


@pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
def test_plain_lists_and_parts(tmp_path: Path, memory_bytes: int) -> None:
    x_nd = numbered(500, 3)
    for part, rows in enumerate((slice(0, 200), slice(200, 201), slice(201, 500))):
        path = tmp_path / f"part-{part}.parquet"
        write(path, x_nd[rows], np.arange(500)[rows], lists=True)
    data = open_training_data(open_table(tmp_path), "item_id", share=0.0, memory_bytes=memory_bytes)
    assert numbers_of(data.sample(1_000, seed=0)) == list(range(500))


@pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
def test_bad_rows_are_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    monkeypatch.chdir(tmp_path)
    x_nd = numbered(50_000)
    x_nd[45_678, 1] = np.nan
    Path("items").mkdir()
    write(Path("items/a.parquet"), x_nd[:20_000], np.arange(20_000))
    write(Path("items/b.parquet"), x_nd[20_000:], np.arange(20_000, 50_000))
    table = open_table("items")
    with pytest.raises(SemidError, match=r"items/b\.parquet, row 25678: the embedding holds nan"):
        open_training_data(table, "item_id", share=0.1, memory_bytes=memory_bytes)


@pytest.mark.parametrize("quantizer", ["rqvae", "rqkmeans"])
def test_a_streamed_fit_is_as_good_as_one_in_memory(tmp_path: Path, quantizer: str) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 8))
    x_nd = (centres[rng.integers(0, 30, 3_000)] + 0.3 * rng.normal(size=(3_000, 8))).astype("f4")
    order = np.argsort(x_nd[:, 0])  # the worst order for a stream
    table = open_table(write(tmp_path / "t.parquet", x_nd[order], order, 500))
    config = FitConfig(quantizer=quantizer, levels=(16, 8), memory_gib=0)  # as little as it takes
    if quantizer == "rqvae":
        model = ModelConfig(latent_dim=8, hidden=(32,))
        config = replace(config, model=model, training=TrainingConfig(epochs=8, batch_size=128))
    errors = []
    for memory_bytes in (1, 1 << 30):
        data = open_training_data(table, "item_id", share=0.1, memory_bytes=memory_bytes)
        model = fit_data(data, config, device="cpu")
        errors.append(model.metrics["held_out_error"])
        assert all(level["used"] == level["size"] for level in model.metrics["levels"])
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[0] < 0.4
