"""Near rows, pairs of them, and batches in which they stand side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import semid
from semid import feed, neighbours
from semid.codebooks import ResidualCodebooks
from semid.feed import Batch, Feed
from semid.locality import nearness
from semid.metrics.neighbours import prefix_purity
from semid.model_config import CodebookConfig
from semid.neighbours import (
    near_rows,
    nearest_neighbours,
    nearest_of_all,
    pair_up,
    side_by_side_order,
)
from semid.quantised import Moment
from semid.tables import open_table
from semid.training_data import ArrayData, StreamedData, TrainingData


def clusters(rows: int, size: int = 2) -> npt.NDArray[np.float32]:
    """Rows in clusters of `size`, far from each other, in any order."""
    random = np.random.default_rng(0)
    centre_n = random.permutation(np.repeat(np.arange(-(-rows // size)), size)[:rows])
    x_nd = np.stack([100.0 * centre_n, random.random(rows)], 1)
    return x_nd.astype(np.float32)


def test_nearest_neighbours_by_hand() -> None:
    x_nd = np.array([[0], [1], [3], [7], [7], [7]], np.float32)
    assert nearest_neighbours(x_nd, np.array([0, 2]), 2).tolist() == [[1, 2], [1, 0]]
    # Of rows that are alike, each finds others than itself.
    found = nearest_neighbours(x_nd, np.array([3, 4, 5]), 1)
    assert all(row != own and row >= 3 for (row,), own in zip(found.tolist(), (3, 4, 5)))  # noqa: B905
    assert nearest_neighbours(x_nd, np.array([0]), 10).shape == (1, 5)


def test_neighbours_are_the_same_for_any_number_of_threads() -> None:
    random = np.random.default_rng(0)
    x_nd = random.standard_normal((3_001, 61)).astype(np.float32)
    x_nd[1_500:] = x_nd[:1_501] + np.float32(1e-3) * random.standard_normal((1_501, 61))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(nearest_neighbours(x_nd, np.arange(3_001), 10))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    squared_nn = np.square(x_nd[:50, None].astype(np.float64) - x_nd).sum(2)
    squared_nn[np.arange(50), np.arange(50)] = np.inf
    assert np.array_equal(found[0][:50], squared_nn.argsort(1)[:, :10])


def test_near_rows_of_many_are_those_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    x_nd = clusters(3_000, 6)
    exact_nk = near_rows(x_nd, 4, seed=0)
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 2_999)
    monkeypatch.setattr(neighbours, "CELL_ROWS", 100)
    found_nk = near_rows(x_nd, 4, seed=0)
    # Each cluster has one cell, unless it is cut; within a cell the search is exact.
    same_n = (np.sort(found_nk) == np.sort(exact_nk)).all(1)
    assert same_n.mean() > 0.95
    np.testing.assert_array_equal(found_nk, near_rows(x_nd, 4, seed=0))


def test_the_nearest_of_all_and_how_many_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    x_nd = clusters(3_000, 6)
    exact_nk, right = nearest_of_all(x_nd, 4, seed=0)
    assert right == 1
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 2_999)
    found_nk, right = nearest_of_all(x_nd, 4, seed=0)
    agree = (found_nk[:, :, None] == exact_nk[:, None]).any(2).mean()
    assert right >= 0.95
    assert right == pytest.approx(agree, abs=0.05)
    np.testing.assert_array_equal(found_nk, nearest_of_all(x_nd, 4, seed=0)[0])
    # Of one cell, which finds few of what has no clusters, it says so.
    monkeypatch.setattr(neighbours, "SEEN", (1,))
    noise_nd = np.random.default_rng(0).standard_normal((3_000, 40)).astype(np.float32)
    found_nk, right = nearest_of_all(noise_nd, 4, seed=0)
    right_nk = neighbours.nearest_neighbours(noise_nd, np.arange(3_000), 4)
    agree = (found_nk[:, :, None] == right_nk[:, None]).any(2).mean()
    assert right == pytest.approx(agree, abs=0.05)
    assert right < 0.6


def test_cells_are_bounded_however_uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 100)
    monkeypatch.setattr(neighbours, "CELL_ROWS", 50)
    monkeypatch.setattr(neighbours, "MOST_CELL_ROWS", 60)
    x_nd = np.ones((181, 3), np.float32)  # one cell, in pieces of 60, 60, 60 and 1
    x_nd[-1] = 1.0
    near_nk = near_rows(x_nd, 5, seed=0)
    assert (near_nk[:180] >= 0).all()
    assert (near_nk[:180] // 60 == np.arange(180)[:, None] // 60).all()
    assert (near_nk[180] == -1).all()


def test_pairs_by_hand() -> None:
    # All want 1, but for 1 itself, which wants 0; whose turn comes first gets it.
    near_nk = np.array([[1, 2], [0, 2], [1, 3], [1, 2], [-1, -1]])
    found = {tuple(pair_up(near_nk, seed=seed).tolist()) for seed in range(50)}
    # It is 0, and 2 and 3 take each other; or 2, whom 0 and 3 want too; or 3, and 0 takes 2.
    assert found == {(1, 0, 3, 2, 4), (0, 2, 1, 3, 4), (2, 3, 0, 1, 4)}


@settings(deadline=None)
@given(
    n=st.integers(1, 60),
    k=st.integers(0, 6),
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 61),
    shard=st.integers(1, 61),
)
def test_pairs_stand_side_by_side_and_once(
    n: int, k: int, seed: int, batch: int, shard: int
) -> None:
    random = np.random.default_rng(seed)
    near_nk = random.integers(-1, n, (n, k))
    near_nk[near_nk == np.arange(n)[:, None]] = -1
    mate_n = pair_up(near_nk, seed=seed)
    assert mate_n[mate_n].tolist() == list(range(n))
    for row in np.flatnonzero(mate_n != np.arange(n)):
        assert mate_n[row] in near_nk[row] or row in near_nk[mate_n[row]]
    order_n, place_n = side_by_side_order(mate_n, seed=seed)
    assert sorted(order_n.tolist()) == list(range(n))
    assert order_n[place_n].tolist() == mate_n[order_n].tolist()
    # Cut into batches and these into shards, rows whose mate is elsewhere are alone.
    whole = Batch(torch.from_numpy(order_n), order_n, torch.from_numpy(place_n))
    for start in range(0, n, batch):
        cut = whole.part(start, start + batch)
        for begin in range(0, len(cut.x_nd), shard):
            part = cut.part(begin, begin + shard)
            assert part.row_n is not None
            assert part.mate_n is not None
            for row, place in zip(part.row_n, part.mate_n.tolist(), strict=True):
                there = mate_n[row] in part.row_n
                assert part.row_n[place] == (mate_n[row] if there else row)


def sources(folder: Path, x_nd: npt.NDArray[np.float32]) -> list[TrainingData]:
    ids, none = pa.array(range(len(x_nd))), np.zeros(len(x_nd), np.bool_)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.ravel()), x_nd.shape[1])
    table = pa.table({"item_id": ids, "embedding": lists})
    pq.write_table(table, folder / "e.parquet", row_group_size=64)
    opened = open_table(str(folder / "e.parquet"))
    return [ArrayData(x_nd, none), StreamedData(opened, "item_id", share=0.0, memory_bytes=0)]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_epoch_has_every_row_once_beside_one_near_to_it(tmp_path: Path, streamed: bool) -> None:
    x_nd = clusters(400)
    data = sources(tmp_path, x_nd)[streamed]
    source = Feed(data, torch.device("cpu"), 64, neighbours=np.asarray)
    epochs = [list(source.epoch(seed)) for seed in (1, 1, 2)]
    first, again, other = (torch.cat([batch.x_nd for batch in epoch]) for epoch in epochs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted(first.tolist()) == sorted(x_nd.tolist())
    assert [len(batch.x_nd) for batch in epochs[0]] == [64] * 6 + [16]
    for batch in epochs[0]:
        assert batch.mate_n is not None
        mates = batch.x_nd[batch.mate_n]
        assert torch.equal(mates[:, 0], batch.x_nd[:, 0])
        assert (mates[:, 1] != batch.x_nd[:, 1]).all()


def test_a_stream_is_paired_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BLOCK_ROWS", 100)
    x_nd = clusters(250)
    source = Feed(sources(tmp_path, x_nd)[1], torch.device("cpu"), 32, neighbours=np.asarray)
    batches = list(source.epoch(0))
    # Only the last is smaller: an epoch has as many steps as are counted on.
    assert [len(batch.x_nd) for batch in batches] == [32] * 7 + [26]
    rows = torch.cat([batch.x_nd for batch in batches])
    assert sorted(rows.tolist()) == sorted(x_nd.tolist())


def test_a_choice_that_heeds_a_neighbour_by_hand() -> None:
    codes = ResidualCodebooks((2, 2), 1, CodebookConfig(balance=0.0, locality=0.4))
    for home in range(2):
        codes.get_buffer(f"codebook_{home}").copy_(torch.tensor([[0.0], [1.0]]))
    codes.started = 2
    latent_nz = torch.tensor([[0.45], [0.6], [0.45]])
    alone = codes(latent_nz, Moment(2), torch.Generator()).codes_nl
    assert alone.tolist() == [[0, 0], [1, 0], [0, 0]]
    # Half squared distances to 1 less those to 0: 0.05 and -0.1. For the first row, with its
    # mate's, 0.6 x 0.05 - 0.4 x 0.1 = -0.01; the second stays where it was, and the third is alone.
    moment = Moment(2, mate_n=torch.tensor([1, 0, 2]))
    together = codes(latent_nz, moment, torch.Generator()).codes_nl
    assert together[:, 0].tolist() == [1, 1, 0]
    # Partners of the contrast that follow choose for themselves.
    longer = codes(torch.tensor([[0.45], [0.6], [0.45], [0.45]]), moment, torch.Generator())
    assert longer.codes_nl[:, 0].tolist() == [1, 1, 0, 0]


def test_neighbours_choose_apart_on_the_last_level_by_hand() -> None:
    # Both leave 0.3 and more to the first level's only codeword: mates are near each other.
    moment = Moment(2, mate_n=torch.tensor([1, 0, 2]))
    latent_nz = torch.tensor([[0.49], [0.4], [0.49]])
    for separation, wanted in ((0.0, [0, 0, 0]), (0.5, [1, 0, 0])):
        # Half squared distances to 1 less those to 0: 0.01 and 0.1. For the first row, against
        # its mate's, 1.5 x 0.01 - 0.5 x 0.1 = -0.035.
        config = CodebookConfig(balance=0.0, locality=0.9, separation=separation)
        codes = ResidualCodebooks((1, 2), 1, config)
        codes.get_buffer("codebook_1").copy_(torch.tensor([[0.0], [1.0]]))
        codes.started = 2
        found = codes(latent_nz, moment, torch.Generator())
        assert found.codes_nl[:, 1].tolist() == wanted


@pytest.mark.parametrize("chosen", [{"locality": 0.0}, {"separation": 0.0}])
def test_one_of_locality_and_separation_is_enough(chosen: dict[str, float]) -> None:
    assert ResidualCodebooks((2, 2), 1, CodebookConfig(**chosen)).local  # type: ignore[arg-type]
    assert not ResidualCodebooks((2,), 1, CodebookConfig(**chosen)).local  # type: ignore[arg-type]
    none = CodebookConfig(locality=0.0, separation=0.0)
    assert not ResidualCodebooks((2, 2), 1, none).local


@pytest.mark.parametrize(
    ("gap", "share"), [(0.0, 1.0), (1.2, 1.0), (1.3, 0.5), (1.4, 0.0), (9.0, 0.0)]
)
def test_how_near_mates_are_by_hand(gap: float, share: float) -> None:
    # Two mates at a squared distance of `gap`, each at 1 from its codeword; the third row is alone.
    residual_mz = torch.tensor([[0.0], [gap**0.5], [100.0]])
    left_m, mate_m = torch.tensor([1.0, 1.0, 5.0]), torch.tensor([1, 0, 2])
    assert float(nearness(residual_mz, left_m, mate_m)) == pytest.approx(share, abs=1e-5)
    assert float(nearness(residual_mz, left_m, torch.arange(3))) == 0.0


def test_locality_lets_neighbours_share_codes() -> None:
    x_nd = load_digits().data.astype(np.float32)
    row_n, near_nk = np.arange(len(x_nd)), near_rows(x_nd, 5, seed=0)
    shares = []
    for locality in (0.0, 0.5):
        config = {
            "codebooks": {"locality": locality, "separation": 0.0},
            "model": {"hidden": [64]},
            "training": {"epochs": 20},
        }
        codes_nl = semid.fit(x_nd, levels=(64, 64, 64), config=config).encode(x_nd)
        shares.append(prefix_purity(codes_nl, row_n, near_nk)[1])
    assert shares[1] > shares[0] + 0.02


def test_separation_lets_neighbours_differ_in_the_last_code_alone() -> None:
    x_nd = load_digits().data.astype(np.float32)
    unique, shares = list[float](), list[float]()
    row_n, near_nk = np.arange(len(x_nd)), near_rows(x_nd, 5, seed=0)
    for separation in (0.0, 1.0):
        config = {
            "codebooks": {"separation": separation},
            "model": {"hidden": [64]},
            "training": {"epochs": 20},
        }
        model = semid.fit(x_nd, levels=(32, 16, 16), config=config)
        unique.append(model.metrics["raw_uniqueness"])
        shares.append(float(prefix_purity(model.encode(x_nd), row_n, near_nk)[1]))
    assert unique[1] > unique[0] + 0.01
    assert shares[1] > shares[0] - 0.02
