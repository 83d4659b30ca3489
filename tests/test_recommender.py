"""The recommender that `benchmarks/recommend.py` measures IDs with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recommender import Codes, Histories, Recommender, Study, measure

# Eight items under two first codes, two of which end in the same code.
CODES = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 3], [1, 4]])


def test_the_tree_of_prefixes_by_hand() -> None:
    codes = Codes.of(np.array([[2, 0], [0, 1], [2, 1]]))
    assert codes.sizes == (3, 2)
    assert codes.children[0].tolist() == [[0, -1, 1]]
    # Below prefix (0) code 1 is item 1; below (2) codes 0 and 1 are items 0 and 2.
    assert codes.children[1].tolist() == [[-1, 1], [0, 2]]


def test_ids_that_repeat_are_refused() -> None:
    with pytest.raises(SystemExit, match="two items have one ID"):
        Codes.of(np.array([[0, 1], [0, 1]]))


def test_windows_by_hand() -> None:
    read_ut, wanted_ut = Histories([np.array([5, 6, 7, 8]), np.array([1, 2, 3])]).windows(1)
    assert read_ut[:, :3].tolist() == [[5, 6, -1], [1, -1, -1]]
    assert wanted_ut[:, :3].tolist() == [[6, 7, -1], [2, -1, -1]]


def test_recommendations_are_items_and_each_once() -> None:
    torch.manual_seed(0)
    model = Recommender(Codes.of(CODES), width=8, layers=1, dropout=0.0).eval()
    read_ut, _ = Histories([np.array([0, 1, 2, 3]), np.array([7, 6, 5])]).windows(0)
    found = model.recommend(read_ut)
    assert [sorted(row) for row in found.tolist()] == [[-1, -1, *range(8)]] * 2


def test_recall_and_ndcg_by_hand() -> None:
    class Fixed:
        def eval(self) -> None: ...

        def recommend(self, read_ut: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[3, 4, 5, 0, 0, 0, 0, 0, 0, 0]] * len(read_ut))

    # First place, third place, and not among them: gains of 1, 1 / log2(4) and 0.
    recall, gain = measure(Fixed(), torch.zeros(3, 2), torch.tensor([3, 5, 9]))  # type: ignore[arg-type]
    assert recall == pytest.approx(2 / 3)
    assert gain == pytest.approx(0.5)


def test_what_always_follows_is_learnt() -> None:
    random = np.random.default_rng(0)
    histories = Histories(
        [(np.arange(random.integers(5, 12)) + random.integers(8)) % 8 for _ in range(400)]
    )
    study = Study(epochs=16, width=16, layers=1, dropout=0.0, users=50, batch=64, rate=1e-2)
    _, gain = study.run(Codes.of(CODES), histories, seed=0)
    assert gain > 0.9
    shuffled = Histories([random.permutation(items) for items in histories.items])
    _, chance = study.run(Codes.of(CODES), shuffled, seed=0)
    assert chance < 0.7
