"""Codes of a new model renumbered to agree with an old one's: orders, models, and semid align."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from conftest import TINY, make_embeddings, run_here
from hypothesis import given, settings
from hypothesis import strategies as st

import semid
from semid.alignment import align, churn, find_orders
from semid.errors import SemidError
from semid.fit_config import BASELINES
from semid.id_reading import read_ids
from semid.quantizer import Quantizer
from semid.reordering import Numbering

Matrix = npt.NDArray[np.float32]
WIDTH = 12


def numbering(sizes: Sequence[int], **chosen: Any) -> Numbering:
    """Codebooks of their own on every level, no two codewords alike."""
    plain = {
        "homes": tuple(range(len(sizes))),
        "fixed": (False,) * len(sizes),
        "twins": tuple(np.arange(size) for size in sizes),
    }
    return Numbering(tuple(sizes), **{**plain, **chosen})


def orders_of(new: Any, old: Any, sizes: Sequence[int], **chosen: Any) -> list[list[int]]:
    pairs = [(np.array(new, np.int32), np.array(old, np.int32))]
    return [order.tolist() for order in find_orders(lambda: pairs, numbering(sizes, **chosen))]


# Orders, by hand


def test_codes_that_meet_most_get_the_same_number() -> None:
    new = [[0], [0], [0], [1], [1], [2], [2], [2]]
    old = [[2], [2], [1], [1], [1], [0], [0], [2]]
    assert orders_of(new, old, [3]) == [[2, 1, 0]]


def test_the_whole_counts_and_not_one_codeword_after_the_other() -> None:
    # The code 0 meets the old 0 three times and the old 1 twice; the code 1 only the old 0, twice.
    new, old = [[0]] * 5 + [[1]] * 2, [[0]] * 3 + [[1]] * 2 + [[0]] * 2
    assert orders_of(new, old, [2]) == [[1, 0]]


def test_a_level_heeds_the_items_whose_prefix_is_kept() -> None:
    new = [[0, 0], [0, 1], [1, 0], [1, 0], [1, 0]]
    # The first code of the last three is lost, whatever the second one; there are more of them.
    old = [[0, 0], [0, 1], [2, 1], [2, 1], [3, 1]]
    sizes, kept = [2, 2], [[0, 1], [0, 1]]
    assert orders_of(new, old, sizes) == kept
    assert orders_of(new[2:], old[2:], sizes) == [[0, 1], [1, 0]]


def test_without_a_kept_prefix_all_items_decide() -> None:
    new = [[0, 0], [0, 1], [0, 2], [1, 2], [1, 2]]
    old = [[1, 1], [1, 2], [1, 2], [1, 0], [1, 0]]
    # Only the first three keep their first code, of which two want the second code 2.
    assert orders_of(new, old, [2, 3]) == [[1, 0], [1, 2, 0]]


def test_codewords_without_evidence_get_the_lowest_numbers_left() -> None:
    assert orders_of([[1], [3]], [[3], [0]], [5]) == [[1, 3, 2, 0, 4]]
    assert orders_of(np.zeros((0, 2)), np.zeros((0, 2)), [3, 2]) == [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("new", "old", "sizes", "expected"),
    [
        # More codewords than before, and fewer: the old code 3 has no number now.
        ([[0], [1], [2], [2]], [[1], [0], [1], [1]], [3], [[2, 0, 1]]),
        ([[0], [0], [1]], [[3], [1], [3]], [2], [[1, 0]]),
        # More levels than before, and fewer.
        ([[0, 1], [1, 1]], [[1], [0]], [2, 2], [[1, 0], [0, 1]]),
        ([[0], [1]], [[1, 5], [0, 4]], [2], [[1, 0]]),
    ],
)
def test_other_sizes_than_before(new: Any, old: Any, sizes: Any, expected: Any) -> None:
    assert orders_of(new, old, sizes) == expected


def test_a_shared_codebook_has_one_order() -> None:
    new, old = [[0, 2], [0, 3], [1, 3]], [[1, 3], [1, 2], [0, 2]]
    assert orders_of(new, old, [4, 4], homes=(0, 0)) == [[1, 0, 3, 2]] * 2
    # The first level decides where the others want something else.
    assert orders_of([[0, 0]] * 2, [[1, 0]] * 2, [2, 2], homes=(0, 0)) == [[1, 0]] * 2


def test_grids_keep_their_numbers() -> None:
    new, old = [[0, 0], [1, 1]], [[1, 1], [0, 0]]
    assert orders_of(new, old, [2, 2], fixed=(False, True)) == [[1, 0], [0, 1]]


def test_codewords_that_are_alike_stay_in_order() -> None:
    # 0 and 2 are one codeword twice: rows go to the lower number, before and after.
    twins = (np.array([0, 1, 0]),)
    assert orders_of([[0], [1]], [[2], [1]], [3], twins=twins) == [[0, 1, 2]]


def test_churn_by_hand() -> None:
    new = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
    old = np.array([[0, 0, 7], [0, 0, 7], [0, 0, 7], [1, 1, 7]], np.int32)
    pairs = [(new[:1], old[:1]), (new[1:], old[1:])]
    assert churn(lambda: pairs) == [0.25, 0.5]
    assert churn(lambda: pairs, [np.array([1, 0]), np.array([0, 1])]) == [0.75, 0.75]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_orders_are_best_and_heed_neither_rows_nor_blocks(data: st.DataObject) -> None:
    k, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    new_nl, old_nl = random.integers(0, k, (2, n, 2)).astype(np.int32)
    orders = find_orders(lambda: [(new_nl, old_nl)], numbering([k, k]))
    first = max((np.array(p)[new_nl[:, 0]] == old_nl[:, 0]).sum() for p in permutations(range(k)))
    kept_n = orders[0][new_nl[:, 0]] == old_nl[:, 0]
    assert kept_n.sum() == first
    new_m, old_m = new_nl[kept_n, 1], old_nl[kept_n, 1]
    second = max((np.array(p)[new_m] == old_m).sum() for p in permutations(range(k)))
    assert (orders[1][new_m] == old_m).sum() == second
    row_n = random.permutation(n)
    blocks = [(new_nl[rows], old_nl[rows]) for rows in np.array_split(row_n, 3)]
    again = find_orders(lambda: blocks, numbering([k, k]))
    assert [order.tolist() for order in again] == [order.tolist() for order in orders]
    assert churn(lambda: blocks, orders) == churn(lambda: [(new_nl, old_nl)], orders)


def test_codebooks_too_large_for_a_matrix_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semid.alignment._WAITING", 5_000)
    size, random = 1 << 14, np.random.default_rng(0)
    place_k = random.permutation(size)
    new_n = random.integers(0, size, 60_000).astype(np.int32)
    pairs = [(c[:, None], place_k[c][:, None].astype(np.int32)) for c in np.split(new_n, 20)]
    (order,) = find_orders(lambda: pairs, numbering([size]))
    np.testing.assert_array_equal(order[new_n], place_k[new_n])
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


# Models


MODELS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "rqvae": ("rqvae", (16, 8, 4), {}),
    "without prices": ("rqvae", (16, 8), {"codebooks": {"balance": 0.0}}),
    "shared": ("rqvae", (8, 8), {"codebooks": {"shared": True}}),
    "gradient": ("rqvae", (16, 8), {"codebooks": {"update": "gradient"}}),
    "cosine": ("rqvae", (16, 8), {"codebooks": {"metric": "cosine"}}),
    "layer norm": ("rqvae", (16, 8), {"codebooks": {"layer_norm": True}}),
    "fsq last": ("rqvae", (16, 8), {"codebooks": {"fsq": "last", "separation": 0.5}}),
    "vqvae": ("vqvae", (16,), {}),
    "fsq": ("fsq", (16, 9), {}),
    "rqkmeans": ("rqkmeans", (16, 7), {}),
    "pca": ("rqkmeans", (16, 7), {"kmeans": {"pca": 5}}),
    "bounded": ("rqkmeans", (16, 7), {"kmeans": {"size_limit": 1.5}}),
    "kmeans": ("kmeans", (13,), {}),
    "pq": ("pq", (8, 8, 8), {}),
    "opq": ("opq", (8, 8, 8), {}),
}
SMALL: dict[str, Any] = {
    "training": {"epochs": 3, "batch_size": 128},
    "model": {"latent_dim": 5, "hidden": [16]},
}


def drawn(n: int = 1_000, seed: int = 0) -> Matrix:
    random = np.random.default_rng(0)
    centre_cd = random.normal(size=(20, WIDTH))
    random = np.random.default_rng(seed)
    noise_nd = 0.4 * random.normal(size=(n, WIDTH))
    return (centre_cd[random.integers(0, 20, n)] + noise_nd).astype(np.float32)


@cache
def fitted(name: str, seed: int = 0) -> Quantizer:
    kind, levels, config = MODELS[name]
    config = {**({} if kind in BASELINES else SMALL), **config}
    return semid.fit(drawn(), kind, levels, seed, config=config, device="cpu")


def random_orders(model: Quantizer) -> list[npt.NDArray[np.int64]]:
    random, found = np.random.default_rng(1), model.numbering
    orders = [np.arange(k) if f else random.permutation(k) for k, f in zip(found[0], found[2])]  # noqa: B905
    return [orders[home] for home in found.homes]


@pytest.mark.parametrize("name", MODELS)
def test_a_renumbered_model_is_the_same_otherwise(name: str, tmp_path: Path) -> None:
    model, x_nd = fitted(name), drawn(3_000, seed=1)
    orders = random_orders(model)
    other = model.permuted(orders)
    before, after = model.quantize(x_nd), other.quantize(x_nd)
    mapped = [order[code_n] for order, code_n in zip(orders, before.codes_nl.T, strict=True)]
    np.testing.assert_array_equal(after.codes_nl, np.stack(mapped, 1))
    assert after.distance_n.tobytes() == before.distance_n.tobytes()
    assert after.margin_n.tobytes() == before.margin_n.tobytes()
    for depth in range(1, len(model.levels) + 1):
        there, here = (
            model.decode(before.codes_nl[:, :depth]),
            other.decode(after.codes_nl[:, :depth]),
        )
        assert here.tobytes() == there.tobytes()
    assert (other.config, other.history, other.metrics) == (
        *(model.config, model.history, model.metrics),
    )
    other.save(tmp_path / "model")
    loaded = semid.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(x_nd), after.codes_nl)


@pytest.mark.parametrize("name", MODELS)
def test_renumbering_is_undone_by_aligning(name: str) -> None:
    model, x_nd = fitted(name), drawn()
    other = align(model.permuted(random_orders(model)), model, x_nd)
    np.testing.assert_array_equal(other.encode(x_nd), model.encode(x_nd))


def test_what_training_remembers_moves_along() -> None:
    model = fitted("rqvae")
    orders = random_orders(model)
    before, after = model.network.codes, model.permuted(orders).network.codes
    for level, order in enumerate(orders):
        for name in ("codebook", "offset", "count", "sum"):
            was, now = (c.get_buffer(f"{name}_{level}") for c in (before, after))
            assert torch.equal(now[torch.from_numpy(order)], was)


def test_another_training_keeps_more_codes_when_aligned() -> None:
    x_nd, old, new = drawn(), fitted("rqvae"), fitted("rqvae", seed=1)
    pairs = [(new.encode(x_nd), old.encode(x_nd))]
    aligned = [(align(new, old, x_nd).encode(x_nd), pairs[0][1])]
    before, after = churn(lambda: pairs), churn(lambda: aligned)
    assert before[0] > 0.8
    assert after[0] < 0.5 * before[0]
    assert after[1] < before[1]


def test_models_of_other_kinds_are_aligned_too() -> None:
    x_nd, old, new = drawn(), fitted("vqvae"), fitted("rqkmeans")
    aligned_nl = align(new, old, x_nd).encode(x_nd)
    assert (aligned_nl[:, 0] == old.encode(x_nd)[:, 0]).mean() > 0.5
    np.testing.assert_array_equal(aligned_nl[:, 1], new.encode(x_nd)[:, 1])


def test_codewords_that_are_bit_for_bit_alike() -> None:
    # Twelve rows of which each is there twice: six of the twelve codewords repeat the others.
    x_nd = np.repeat(drawn(6), 2, axis=0)
    models = [semid.fit(x_nd, "kmeans", (12,), seed, config={"holdout": 0.0}) for seed in (0, 1)]
    assert any(len(set(twin_k)) < 12 for twin_k in models[0].numbering.twins)
    aligned = align(*models, x_nd)
    decoded_nd = models[0].decode(models[0].encode(x_nd))
    assert aligned.decode(aligned.encode(x_nd)).tobytes() == decoded_nd.tobytes()
    groups = [len(np.unique(m.encode(x_nd))) for m in (models[0], aligned)]
    assert groups[0] == groups[1]


@pytest.mark.parametrize(
    ("name", "orders", "said"),
    [
        ("rqvae", [np.arange(16)], "1 orders were given for 3 levels"),
        ("rqkmeans", [np.zeros(16, int), np.arange(7)], "the order of level 0 holds other numbers"),
        ("fsq", [np.arange(16)[::-1], np.arange(9)], "level 0 is a grid"),
        ("shared", [np.arange(8), np.arange(8)[::-1]], "levels 0 and 1 share a codebook"),
    ],
)
def test_orders_that_do_not_fit(name: str, orders: Any, said: str) -> None:
    with pytest.raises(SemidError, match=said):
        fitted(name).permuted(orders)


# The command


@pytest.fixture(scope="module")
def retrained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of another seed than the world's, and the same aligned."""
    folder = tmp_path_factory.mktemp("retrained")
    for arguments in (
        ("train", world / "embeddings.parquet", "--output", folder / "new", "--seed", 5, *TINY),
        ("align", folder / "new", *aligned_from(world), "--output", folder / "aligned"),
    ):
        done = run_here(*arguments)
        assert done.code == 0, done.err
    return folder


def aligned_from(world: Path) -> tuple[Any, ...]:
    return ("--to", world / "model", "--embeddings", world / "embeddings.parquet")


def test_the_command_tells_the_churn_that_the_ids_have(
    world: Path, retrained: Path, tmp_path: Path
) -> None:
    again = run_here(
        *("align", retrained / "new", *aligned_from(world)),
        *("--output", retrained / "aligned", "--json"),
    ).json
    assert again["up_to_date"]
    old_nl = read_ids(world / "ids.parquet").codes
    for name, when in (("new", "before"), ("aligned", "after")):
        table = tmp_path / f"{name}.parquet"
        embeddings = world / "embeddings.parquet"
        done = run_here("assign", embeddings, "--model", retrained / name, "--output", table)
        assert done.code == 0, done.err
        same_nl = read_ids(table).codes == old_nl
        for depth, found in enumerate(again["summary"]["churn"], 1):
            assert found["codes"] == depth
            assert found[when] == pytest.approx(1 - same_nl[:, :depth].all(1).mean())
    first = again["summary"]["churn"][0]
    assert first["after"] < first["before"]


def test_the_aligned_model_is_the_new_one_otherwise(world: Path, retrained: Path) -> None:
    new, aligned = retrained / "new", retrained / "aligned"
    for name in ("config.json", "metrics.json", "history.csv", "history.jsonl"):
        assert (aligned / name).read_bytes() == (new / name).read_bytes()
    manifest = json.loads((aligned / "manifest.json").read_text())
    fingerprints = [
        json.loads((folder / "manifest.json").read_text())["model_fingerprint"]
        for folder in (new, world / "model")
    ]
    assert list(manifest["aligned"].values()) == fingerprints
    assert manifest["model_fingerprint"] not in fingerprints
    assert run_here("show", aligned, "--json").json["aligned"] == manifest["aligned"]
    x_nd = np.array(pq.read_table(world / "embeddings.parquet")["embedding"].to_pylist())
    one, other = (semid.load(folder) for folder in (new, aligned))
    assert one.reconstruct(x_nd).tobytes() == other.reconstruct(x_nd).tobytes()


def test_workers_do_not_matter(world: Path, retrained: Path, tmp_path: Path) -> None:
    done = run_here(
        *("align", retrained / "new", *aligned_from(world)),
        *("--output", tmp_path / "aligned", "--workers", 2),
    )
    assert done.code == 0, done.err
    weights = [f / "model.safetensors" for f in (tmp_path / "aligned", retrained / "aligned")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_what_cannot_be_aligned(world: Path, retrained: Path, tmp_path: Path) -> None:
    def error(model: Path, to: Path, embeddings: Path = world / "embeddings.parquet") -> str:
        arguments = ("--to", to, "--embeddings", embeddings, "--output", tmp_path / "out")
        said: str = run_here("align", model, *arguments).error
        return said

    for kind in ("fsq", "autoencoder"):
        output = ("--output", tmp_path / kind, "--quantizer", kind)
        assert run_here("train", world / "embeddings.parquet", *output, *TINY).code == 0
    assert "is an fsq, whose codes are places" in error(tmp_path / "fsq", world / "model")
    for model, to in (("autoencoder", "fsq"), ("autoencoder", "autoencoder")):
        assert "which has no codes" in error(tmp_path / model, tmp_path / to)
    assert "which has no codes" in error(retrained / "new", tmp_path / "autoencoder")
    assert "none does not exist" in error(retrained / "new", tmp_path / "none")
    pq.write_table(make_embeddings(50, 8), tmp_path / "narrow.parquet")
    narrow = error(retrained / "new", world / "model", tmp_path / "narrow.parquet")
    assert "of width 8 but the model" in narrow
    assert not (tmp_path / "out").exists()
    same = ("--embeddings", world / "embeddings.parquet", "--output", retrained / "new")
    assert (
        "is also an input"
        in run_here("align", retrained / "new", "--to", world / "model", *same).error
    )


def test_a_grid_among_the_levels_is_named(world: Path, tmp_path: Path) -> None:
    last = ("--set", "codebooks.fsq=last")
    made = run_here(
        "train", world / "embeddings.parquet", "--output", tmp_path / "new", *TINY, *last
    )
    assert made.code == 0, made.err
    done = run_here(
        "align", tmp_path / "new", *aligned_from(world), "--output", tmp_path / "out", "--json"
    )
    assert done.json["summary"]["grids"] == [1]
    assert "level 1 is a grid, whose codes keep their numbers" in done.err
