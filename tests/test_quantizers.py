"""The contract that every quantizer keeps: rows, seeds, shapes, saving, and what it refuses."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file

import semid
from semid.devices import pick_device
from semid.errors import SemidError
from semid.fit_config import BASELINES
from semid.quantization import NEAR_TIE
from semid.quantizer import Codes, Quantizer
from semid.training_data import held_out

KINDS = ["rqvae", "fsq", "rqkmeans", "pq", "opq"]
# Widths that are no multiple of anything: there matrix products differ most from row to row.
WIDTH = 23
SMALL: dict[str, Any] = {
    "training": {"epochs": 3, "batch_size": 256},
    "model": {"latent_dim": 7, "hidden": [33]},
}


def small(kind: str, **more: Any) -> dict[str, Any]:
    """The settings of a quick fit; a baseline has no network to make small."""
    return {**({} if kind in BASELINES else SMALL), **more}


Matrix = npt.NDArray[np.float32]
fit = partial(semid.fit, device="cpu")


def drawn(n: int, d: int = WIDTH, seed: int = 0, offset: float = 2.0) -> Matrix:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    noise = rng.normal(size=(n, d))
    return (centres[rng.integers(0, 20, n)] + 0.5 * noise + offset).astype(np.float32)


@cache
def fitted(kind: str, levels: tuple[int, ...] = (32, 16, 8), seed: int = 0) -> Quantizer:
    return fit(drawn(3_000), kind, levels, seed, config=small(kind))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str) -> Quantizer:
    return fitted(kind)


def bits(found: Codes) -> list[bytes]:
    return [np.ascontiguousarray(array).tobytes() for array in found]


def joined(parts: list[Codes]) -> Codes:
    return Codes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def in_float64(model: Quantizer, x_nd: Matrix) -> npt.NDArray[np.int64]:
    """Codes by brute force, row by row, all of it in float64."""
    network = copy.deepcopy(model.network).double()
    with torch.no_grad():
        latents = [network.project(torch.from_numpy(row[None]).double()).numpy() for row in x_nd]
    residual_nz = np.concatenate(latents)
    square_n, codes = (residual_nz**2).sum(1), []
    for level in network.search_levels:
        codebook_kz = level.codebook_kz.numpy()
        if level.grid is None:
            offset_k = np.zeros(1) if level.offset_k is None else 2 * level.offset_k.numpy()
            cost_nk = ((residual_nz[:, None] - codebook_kz) ** 2).sum(2) + offset_k
            scale_n = square_n + (codebook_kz**2).sum(1).max() + np.abs(offset_k).max()
            tie_n = NEAR_TIE[torch.float64] * scale_n
            # The lowest index of those that float64 cannot tell apart.
            code_n = (cost_nk <= (cost_nk.min(1) + tie_n)[:, None]).argmax(1)
        else:
            place_ng = level.grid.bounded(torch.from_numpy(residual_nz)).numpy()
            down_g = np.linalg.norm(level.grid.down.numpy(), axis=1)
            steps_g = level.grid.steps_g.numpy()
            size_n = np.sqrt(square_n)[:, None]
            tie_ng = NEAR_TIE[torch.float64] * steps_g * (1 + size_n * down_g)
            lower_ng = np.floor(place_ng)
            step_ng = lower_ng + (place_ng - lower_ng > 0.5 + tie_ng)  # halves go down
            code_n = level.grid.code(torch.from_numpy(step_ng)).numpy()
        codes.append(code_n)
        residual_nz = residual_nz - codebook_kz[code_n]
    return np.stack(codes, 1)


@cache
def on_the_border(kind: str) -> Matrix:
    """Rows with a decision boundary of some level between them and the next float32 row."""
    model, x_nd, found = fitted(kind), drawn(80, seed=1), []
    for level in range(3):
        a_nd, b_nd = x_nd[:40].copy(), x_nd[40:].copy()
        codes_nl = in_float64(model, a_nd)[:, : level + 1]
        for _ in range(40):
            middle_nd = ((a_nd.astype(np.float64) + b_nd) / 2).astype(np.float32)
            same_n = (in_float64(model, middle_nd)[:, : level + 1] == codes_nl).all(1)
            a_nd[same_n], b_nd[~same_n] = middle_nd[same_n], middle_nd[~same_n]
        met_n = (in_float64(model, b_nd)[:, : level + 1] != codes_nl).any(1)
        found += [a_nd[met_n], b_nd[met_n]]
    return np.concatenate(found)


# Codes do not depend on what is beside a row


def test_rows_on_a_border_get_the_float64_answer(kind: str, model: Quantizer) -> None:
    border_nd = on_the_border(kind)
    assert len(border_nd) > 150
    np.testing.assert_array_equal(model.encode(border_nd), in_float64(model, border_nd))
    # They are hard: float32 alone gets many of them wrong.
    alone = copy.deepcopy(model.network)
    with torch.no_grad():
        plain = alone.project(torch.from_numpy(border_nd)).numpy()
    first_nk = ((plain[:, None] - alone.codebooks[0].numpy()) ** 2).sum(2)
    assert (first_nk.argmin(1) != model.encode(border_nd)[:, 0]).any()


def test_ordinary_rows_get_the_float64_answer(model: Quantizer) -> None:
    x_nd = drawn(600, seed=2)
    np.testing.assert_array_equal(model.encode(x_nd), in_float64(model, x_nd))


@pytest.mark.parametrize("scale", [1e-25, 1e4, 1e19, 1e25])
def test_rows_of_extreme_size_get_the_float64_answer(model: Quantizer, scale: float) -> None:
    x_nd = drawn(50, seed=2) * np.float32(scale)
    with np.errstate(over="ignore"):
        found = model.encode(x_nd)
    np.testing.assert_array_equal(found, in_float64(model, x_nd))


def hard_and_easy(kind: str, n: int = 150) -> Matrix:
    border_nd = np.random.default_rng(0).permutation(on_the_border(kind))
    return np.concatenate([border_nd[:n], drawn(n, seed=3)])


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_batch_size(kind: str, model: Quantizer, rows: int) -> None:
    x_nd = hard_and_easy(kind, 30 * min(rows, 3))
    parts = [model.quantize(x_nd[i : i + rows]) for i in range(0, len(x_nd), rows)]
    assert bits(joined(parts)) == bits(model.quantize(x_nd))


def test_place_among_other_rows(kind: str, model: Quantizer) -> None:
    x_nd = hard_and_easy(kind)
    alone = model.quantize(x_nd)
    # More than one block, at places that are no multiple of anything.
    for before in (1, 1_999, 4_097):
        among = model.quantize(np.concatenate([drawn(before, seed=4), x_nd, drawn(77, seed=5)]))
        assert bits(Codes(*(a[before : before + len(x_nd)] for a in among))) == bits(alone)


def test_row_order(kind: str, model: Quantizer) -> None:
    x_nd = np.concatenate([hard_and_easy(kind), drawn(4_000, seed=6)])
    order = np.random.default_rng(0).permutation(len(x_nd))
    found, shuffled = model.quantize(x_nd), model.quantize(x_nd[order])
    assert bits(shuffled) == bits(Codes(*(array[order] for array in found)))


def test_thread_count(kind: str, model: Quantizer) -> None:
    x_nd = np.concatenate([hard_and_easy(kind), drawn(4_000, seed=6)])
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(bits(model.quantize(x_nd)))
    finally:
        torch.set_num_threads(threads)
    assert found == found[:1] * 3


def test_encoding_again_and_elsewhere(kind: str, model: Quantizer, tmp_path: Path) -> None:
    x_nd = hard_and_easy(kind)
    model.save(tmp_path / "model")
    loaded = semid.load(tmp_path / "model")
    assert bits(loaded.quantize(x_nd)) == bits(model.quantize(x_nd))
    assert bits(loaded.quantize(x_nd)) == bits(loaded.quantize(x_nd))


def test_a_model_in_use_can_be_pickled(model: Quantizer) -> None:
    x_nd = drawn(70)
    expected = bits(model.quantize(x_nd))
    copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert bits(copied.quantize(x_nd)) == expected


# What encode and decode take and give


def fixed_size(x_nd: Matrix) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), x_nd.shape[1])


INPUTS: dict[str, Callable[[Matrix], Any]] = {
    "float64": lambda x: x.astype(np.float64),
    "column order": np.asfortranarray,
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "big endian": lambda x: x.astype(">f4"),
    "nested lists": lambda x: x.tolist(),
    "a column of pandas": lambda x: pd.Series(list(x)),
    "torch": torch.from_numpy,
    "torch with gradient": lambda x: torch.from_numpy(x).clone().requires_grad_(),
    "torch transposed": lambda x: torch.from_numpy(np.ascontiguousarray(x.T)).T,
    "fixed-size lists": fixed_size,
    "lists": lambda x: pa.array(x.tolist(), pa.list_(pa.float32())),
    "large lists": lambda x: pa.array(x.tolist(), pa.large_list(pa.float64())),
    "slice": lambda x: fixed_size(np.concatenate([x[:3] + 1, x]))[3:],
    "chunks": lambda x: pa.chunked_array([fixed_size(x[:5]), fixed_size(x[5:])]),
    "chunks of lists": lambda x: pa.chunked_array([x[:5].tolist(), x[5:].tolist()]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(model: Quantizer, name: str) -> None:
    x_nd = drawn(20, seed=7)
    codes_nl = model.encode(INPUTS[name](x_nd))
    assert codes_nl.dtype == np.int32
    assert codes_nl.shape == (20, 3)
    np.testing.assert_array_equal(codes_nl, model.encode(x_nd))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_torch_types(model: Quantizer, dtype: torch.dtype) -> None:
    x = torch.from_numpy(drawn(20, seed=7)).to(dtype)
    np.testing.assert_array_equal(model.encode(x), model.encode(x.float().numpy()))


def test_encoding_leaves_its_input_alone(model: Quantizer) -> None:
    x_nd = drawn(50, seed=7)
    before = x_nd.copy()
    model.encode(x_nd)
    np.testing.assert_array_equal(x_nd, before)


def test_codes_distance_and_margin(model: Quantizer) -> None:
    x_nd = drawn(500, seed=8)
    found = model.quantize(x_nd)
    assert [array.dtype for array in found] == [np.int32, np.float32, np.float32]
    assert (found.codes_nl >= 0).all()
    assert (found.codes_nl < np.array(model.levels)).all()
    latent_nz = model.network.project(torch.from_numpy(x_nd)).detach().double().numpy()
    chosen = [
        c.double().numpy()[found.codes_nl[:, i]] for i, c in enumerate(model.network.codebooks)
    ]
    distance_n = ((latent_nz - sum(chosen)) ** 2).sum(1)
    np.testing.assert_allclose(found.distance_n, distance_n, rtol=1e-3, atol=1e-5)
    assert (found.margin_n >= 0).all()
    assert np.isfinite(found.margin_n).all()


def test_decoding_a_prefix(model: Quantizer) -> None:
    x_nd = drawn(2_500, seed=8)
    codes_nl = model.encode(x_nd)
    errors = []
    for depth in (1, 2, 3):
        decoded_nd = model.decode(codes_nl[:, :depth])
        assert decoded_nd.shape == x_nd.shape
        assert decoded_nd.dtype == np.float32
        chosen = [c[codes_nl[:, i]] for i, c in enumerate(model.network.codebooks[:depth])]
        with torch.no_grad():
            expected_nd = model.network.reconstruct(torch.stack(chosen).sum(0)).numpy()
        np.testing.assert_allclose(decoded_nd, expected_nd, rtol=1e-5, atol=1e-5)
        errors.append(float(np.square(decoded_nd - x_nd).mean()))
    assert errors == sorted(errors, reverse=True)


def test_decode_takes_torch_lists_and_no_rows(model: Quantizer) -> None:
    codes_nl = model.encode(drawn(5, seed=8))
    expected_nd = model.decode(codes_nl)
    np.testing.assert_array_equal(model.decode(torch.from_numpy(codes_nl)), expected_nd)
    np.testing.assert_array_equal(model.decode(codes_nl.tolist()), expected_nd)
    assert model.decode(codes_nl[:0]).shape == (0, WIDTH)


def test_measured_error_is_that_of_decoding_what_was_encoded(kind: str) -> None:
    x_nd, ids = drawn(3_000), [f"item{i}" for i in range(3_000)]
    model = fit(x_nd, kind, (32, 16), item_ids=ids, config=small(kind))
    held_n = held_out(pa.array(ids), 0.1)
    x64, decoded = x_nd.astype(np.float64), model.decode(model.encode(x_nd))
    error_n, deviation_n = (
        np.square(x64 - other).sum(1) for other in (decoded, x64[~held_n].mean(0))
    )
    for side, rows_n in (("train", ~held_n), ("held_out", held_n)):
        assert model.metrics[f"{side}_rows"] == rows_n.sum()
        direct = error_n[rows_n].sum() / deviation_n[rows_n].sum()
        assert model.metrics[f"{side}_error"] == pytest.approx(direct, rel=1e-5)
    assert 0 < model.metrics["train_error"] < 1
    codes_nl = model.encode(x_nd)
    assert model.metrics["raw_uniqueness"] == len(np.unique(codes_nl, axis=0)) / 3_000
    for level, figures in enumerate(model.metrics["levels"]):
        assert figures["size"] == model.levels[level]
        assert figures["used"] == len(np.unique(codes_nl[:, level]))


# Shapes of models and catalogs


@pytest.mark.parametrize(
    ("levels", "n", "d"),
    [
        ((256,), 600, WIDTH),
        ((3, 1, 7), 300, WIDTH),
        ((1,), 50, WIDTH),
        ((1, 1), 50, WIDTH),
        ((1000, 5), 1_001, 8),
        ((12, 4), 12, 5),
        ((4,) * 6, 300, WIDTH),
        ((16, 4), 300, 1),
        ((16, 4), 300, 3),
    ],
)
def test_levels_rows_and_widths(kind: str, levels: tuple[int, ...], n: int, d: int) -> None:
    x_nd = drawn(n, d)
    if kind in ("pq", "opq") and len(levels) > d:
        with pytest.raises(SemidError, match=f"{len(levels)} levels are more than the {d} dim"):
            fit(x_nd, kind, levels, config=small(kind, holdout=0))
        return
    model = fit(x_nd, kind, levels, config=small(kind, holdout=0))
    assert model.levels == levels
    found = model.quantize(x_nd)
    assert found.codes_nl.shape == (n, len(levels))
    assert (found.codes_nl < np.array(levels)).all()
    np.testing.assert_array_equal(found.codes_nl, in_float64(model, x_nd))
    assert np.isinf(found.margin_n).all() == (set(levels) == {1})
    decoded_nd = model.decode(found.codes_nl)
    assert decoded_nd.shape == x_nd.shape
    assert np.isfinite(decoded_nd).all()
    assert model.metrics["train_rows"] == n
    assert model.metrics["held_out_rows"] == 0
    assert model.metrics["held_out_error"] is None
    # k-means of more codewords than one beats the mean; one codeword is the mean.
    assert model.metrics["train_error"] < (1.001 if max(levels) == 1 else 0.99)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.0, -1e4])
def test_a_catalog_of_one_repeated_embedding(kind: str, value: float) -> None:
    x_nd = np.full((100, 6), value, np.float32)
    model = fit(x_nd, kind, (4, 3), config=small(kind))
    codes_nl = model.encode(x_nd)
    assert (codes_nl == codes_nl[0]).all()
    np.testing.assert_allclose(model.decode(codes_nl), x_nd, rtol=1e-2)
    assert model.metrics["train_error"] is None  # nothing that could be lost
    assert model.metrics["raw_uniqueness"] == 0.01


def test_many_duplicates(kind: str) -> None:
    x_nd = np.repeat(drawn(6, 8), 50, axis=0)
    model = fit(x_nd, kind, (16, 4), config=small(kind))
    codes_nl = model.encode(x_nd)
    assert len(np.unique(codes_nl, axis=0)) == 6
    np.testing.assert_array_equal(codes_nl, np.repeat(codes_nl[::50], 50, axis=0))
    assert np.isfinite(model.decode(codes_nl)).all()
    # A grid has no codewords to put on the rows; a product has four for six in half of the dims.
    if kind not in ("fsq", "pq", "opq"):
        assert model.metrics["train_error"] < 0.01


def test_fewer_training_rows_than_codewords(kind: str) -> None:
    with pytest.raises(SemidError, match=r"40 training rows .*the 41 codewords of level 1"):
        fit(drawn(40), kind, (8, 41), config=small(kind, holdout=0))


def test_the_hold_out_counts_for_too_few_rows(kind: str) -> None:
    with pytest.raises(SemidError, match=r"training rows \(\d+ more are held out\) are fewer than"):
        fit(drawn(100), kind, (100,), config=small(kind, holdout=0.5))


# Seeds and state


def weights(model: Quantizer) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.to_artifact().weights.items()}


def test_a_seed_repeats_the_fit(kind: str) -> None:
    x_nd = drawn(700, 8)
    fits = [fit(x_nd, kind, (8, 4), seed, config=small(kind)) for seed in (3, 3, 4)]
    assert weights(fits[0]) == weights(fits[1])
    assert fits[0].metrics == fits[1].metrics
    assert bits(fits[0].quantize(x_nd)) == bits(fits[1].quantize(x_nd))
    assert weights(fits[0]) != weights(fits[2])


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_every_seed_allowed_works(kind: str, seed: int) -> None:
    x_nd = drawn(100, 8)
    assert fit(x_nd, kind, (4, 4), seed, config=small(kind)).encode(x_nd).shape == (100, 2)


def test_global_state_is_left_alone(kind: str, tmp_path: Path) -> None:
    def state() -> list[Any]:
        generator = np.random.get_state()  # noqa: NPY002
        return [
            torch.get_rng_state().tolist(),
            [part.tolist() if isinstance(part, np.ndarray) else part for part in generator],
            random.getstate(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            np.geterr(),
            dict(os.environ),
        ]

    before = state()
    model = fit(drawn(300, 8), kind, (8, 4), config=small(kind))
    model.save(tmp_path / "model")
    model = semid.load(tmp_path / "model")
    model.decode(model.encode(drawn(300, 8)))
    assert state() == before


def test_global_state_is_not_read(kind: str) -> None:
    x_nd = drawn(300, 8)
    first = fit(x_nd, kind, (8, 4), config=small(kind))
    torch.rand(7)
    np.random.rand(7)  # noqa: NPY002
    random.random()
    assert weights(fit(x_nd, kind, (8, 4), config=small(kind))) == weights(first)


# What encode, decode and fit refuse


def with_value(value: float, row: int = 3, place: int = 2) -> Matrix:
    x_nd = drawn(8)
    x_nd[row, place] = value
    return x_nd


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "NaN": (with_value(np.nan), "row 3: the embedding holds nan at position 2; drop"),
    "infinity": (with_value(np.inf), "row 3: the embedding holds inf at position 2; drop"),
    "minus infinity": (with_value(-np.inf), "row 3: the embedding holds -inf at position 2"),
    "zeros": (drawn(4) * [[1], [1], [0], [1]], "row 2: the embedding is all zeros"),
    "one dimension": (np.ones(9), r"x has shape \(9,\); expected \(n, d\)"),
    "three dimensions": (np.ones((2, 3, 4)), r"x has shape \(2, 3, 4\); expected \(n, d\)"),
    "no columns": (np.ones((3, 0)), r"x has shape \(3, 0\)"),
    "no Arrow rows": (pa.array([], pa.list_(pa.float32())), "x has no rows"),
    "no Arrow columns": (pa.array([[], []], pa.list_(pa.float32())), "x has no values in row 0"),
    "text": ([["a", "b"]], "x cannot be read as a matrix of floats"),
    "complex": (np.ones((2, WIDTH)) + 1j, "it holds complex numbers"),
    "a table": (pa.table({"embedding": [[1.0] * WIDTH]}), "give its column of embeddings"),
    "ragged lists": ([[1.0, 2.0], [3.0]], "x cannot be read as a matrix of floats"),
    "ragged Arrow": (pa.array([[1.0, 2.0], [3.0]]), "row 1: the embedding has 1 values where 2"),
    "Arrow null": (pa.array([[1.0], None]), "row 1: the embedding is null"),
    "Arrow null value": (pa.array([[1.0, 2.0], [1.0, None]]), "row 1: the embedding holds a null"),
    "Arrow text": (pa.array([["a", "b"]]), "is list<.*string>, but embeddings must be lists of"),
    "Arrow floats": (pa.array([1.0, 2.0]), r"x has shape \(2,\)"),
    "beyond float32": ([[1e39, 1.0]], "row 0: the embedding holds inf at position 0"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(model: Quantizer, name: str) -> None:
    x, message = BAD_ROWS[name]
    with pytest.raises(SemidError, match=message):
        model.encode(x)
    with pytest.raises(SemidError, match=message):
        fit(x, model.kind, (2,))


def test_wrong_width(model: Quantizer) -> None:
    with pytest.raises(SemidError, match="have 22 dimensions but the model was trained on 23"):
        model.encode(drawn(5, 22))


BAD_CODES: dict[str, tuple[Any, str]] = {
    "too large": ([[0, 0, 0], [0, 16, 0]], "row 1 holds the code 16 at level 1.* 0 to 15"),
    "negative": ([[-1, 0, 0]], "row 0 holds the code -1 at level 0"),
    "too many levels": (
        [[0, 0, 0, 0]],
        r"shape \(1, 4\); expected \(n, l\) with l from 1 to 3",
    ),
    "no levels": (np.zeros((2, 0), np.int32), r"shape \(2, 0\)"),
    "one dimension": ([0, 0, 0], r"shape \(3,\)"),
    "floats": ([[0.0, 1.0, 2.0]], "type float64"),
    "ragged": ([[0, 0], [1]], "codes cannot be read as a matrix of integers"),
}


@pytest.mark.parametrize("name", BAD_CODES)
def test_bad_codes(model: Quantizer, name: str) -> None:
    codes, message = BAD_CODES[name]
    with pytest.raises(SemidError, match=message):
        model.decode(codes)


def test_fit_refuses(kind: str) -> None:
    x_nd = drawn(60, 4)
    with pytest.raises(SemidError, match="59 item_ids were given for 60 rows of x"):
        fit(x_nd, kind, (4,), item_ids=range(59))
    with pytest.raises(SemidError, match="row 7: 'item_ids' is null"):
        fit(x_nd, kind, (4,), item_ids=[None if i == 7 else str(i) for i in range(60)])
    with pytest.raises(SemidError, match="fit: unknown setting 'epochs'; the valid ones are "):
        fit(x_nd, kind, (4,), config={"epochs": 3})
    with pytest.raises(SemidError, match=r"levels are \[\]"):
        fit(x_nd, kind, ())
    with pytest.raises(SemidError, match="seed is -1"):
        fit(x_nd, kind, (4,), seed=-1)
    with pytest.raises(SemidError, match=r"config holds levels, seed.* arguments of fit"):
        fit(x_nd, kind, (4,), config={"levels": [8], "seed": 1})


def test_an_unknown_quantizer() -> None:
    with pytest.raises(SemidError, match="unknown quantizer 'dpq'; use one of rqvae, vqvae"):
        fit(drawn(60, 4), "dpq", (4,))


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SemidError, match="unknown device 'gpu0'; use auto, cpu, cuda or cuda:"):
        pick_device("gpu0")
    with pytest.raises(SemidError, match="device 'meta' is not supported; use auto, cpu or cuda"):
        pick_device("meta")
    with pytest.raises(SemidError, match=r"device 'cuda:99' was asked for but torch .* sees \d+"):
        pick_device("cuda:99")


# Model directories

FILES = ["config.json", "history.csv", "manifest.json", "metrics.json", "model.safetensors"]


@pytest.fixture
def folder(model: Quantizer, tmp_path: Path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_loading_gives_back_everything(model: Quantizer, folder: Path) -> None:
    loaded = semid.load(folder)
    assert weights(loaded) == weights(model)
    for name in ("kind", "width", "widths", "levels", "config", "history", "metrics"):
        assert getattr(loaded, name) == getattr(model, name), name
    assert not loaded.network.training
    codes_nl = np.zeros((3, 3), np.int32)
    np.testing.assert_array_equal(loaded.decode(codes_nl), model.decode(codes_nl))


def test_history_without_held_out_rows_survives(kind: str, tmp_path: Path) -> None:
    model = fit(drawn(200, 4), kind, (4,), config=small(kind, holdout=0))
    model.save(tmp_path / "model")
    assert semid.load(tmp_path / "model").history == model.history


def test_a_model_directory_is_plain_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path.name
        if path.suffix == ".safetensors":
            load_file(path)  # which runs no code
        else:
            path.read_text("utf-8")
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_no_rows_have_no_codes(model: Quantizer) -> None:
    lists = pa.array([], pa.list_(pa.float32(), WIDTH))
    for nothing in (np.empty((0, WIDTH), np.float32), lists):
        assert model.encode(nothing).shape == (0, len(model.levels))
    with pytest.raises(SemidError, match="dimensions"):
        model.encode(np.empty((0, WIDTH + 1), np.float32))


def test_codes_from_a_column_of_a_frame(model: Quantizer) -> None:
    codes_nl = model.encode(drawn(5))
    column = pd.DataFrame({"codes": list(codes_nl)})["codes"]
    np.testing.assert_array_equal(model.decode(column), model.decode(codes_nl))


def test_what_the_manifest_says(model: Quantizer, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["semid"] == semid.__version__
    assert {"torch", "numpy", "python"} <= set(manifest["versions"])
    model.save(folder.parent / "again")
    again = json.loads((folder.parent / "again" / "manifest.json").read_text())
    assert again["model_fingerprint"] == manifest["model_fingerprint"]
    fitted(model.kind, (8,)).save(folder.parent / "other")
    other = json.loads((folder.parent / "other" / "manifest.json").read_text())
    assert other["model_fingerprint"] != manifest["model_fingerprint"]


def test_saving_replaces_another_model_only_when_asked(model: Quantizer, folder: Path) -> None:
    other = fitted(model.kind, (8,))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SemidError, match="model holds another model; choose another folder, or"):
        other.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    other.save(folder, overwrite=True)
    assert semid.load(folder).levels == (8,)


def test_saving_a_model_where_it_stands_changes_nothing(model: Quantizer, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    semid.load(folder).save(folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_changed_weight_is_found(model: Quantizer, folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(SemidError, match=r"is damaged .* changed since the model was written"):
        semid.load(folder)


def test_saving_replaces_nothing_else(model: Quantizer, folder: Path) -> None:
    other = folder.parent / "photos"
    other.mkdir()
    (other / "cat.jpg").write_text("cat")
    with pytest.raises(SemidError, match="photos exists and is not a model; choose another folder"):
        model.save(other)
    with pytest.raises(SemidError, match=r"cat\.jpg exists and is not a model"):
        model.save(other / "cat.jpg")
    assert (other / "cat.jpg").read_text() == "cat"


@pytest.mark.parametrize("name", FILES)
def test_an_incomplete_model(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SemidError, match=rf"is incomplete: {name} missing; copy it again"):
        semid.load(folder)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(SemidError, match=r"the model .*nowhere does not exist; semid train writes"):
        semid.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(SemidError, match="is a file, not a model directory"):
        semid.load(tmp_path / "file")


def test_a_newer_format(folder: Path) -> None:
    edit_config(folder, ("format_version",), 2)
    with pytest.raises(SemidError, match=r"has format 2 but semid .* up to format 1; upgrade"):
        semid.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"{", b"7"])
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "model.safetensors"])
def test_a_damaged_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(SemidError, match=r"is damaged .*train it again"):
        semid.load(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a,b\n1\n", b"a\n1,2\n"])
def test_a_damaged_history(folder: Path, content: bytes) -> None:
    (folder / "history.csv").write_bytes(content)
    with pytest.raises(SemidError, match=r"is damaged .*train it again"):
        semid.load(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SemidError, match=r"is damaged .*train it again"):
        semid.load(folder)


def edit_config(folder: Path, keys: tuple[str, ...], value: Any) -> None:
    header = json.loads((folder / "config.json").read_text())
    place = header
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("width",), 24),
        (("width",), -1),
        (("width",), "wide"),
        (("width",), None),
        (("columns",), {"embedding": 24}),
        (("columns",), {"embedding": "wide"}),
        (("columns",), {"embedding": WIDTH + 1, "image": -1}),
        (("columns",), {"image": WIDTH}),
        (("columns",), None),
        (("levels",), [32, 16, 9]),
        (("levels",), [32, 16]),
        (("levels",), ["many"]),
        (("levels",), 5),
        (("kind",), "dpq"),
        (("config",), 5),
        (("format_version",), "one"),
    ],
)
def test_a_config_that_does_not_fit(folder: Path, keys: tuple[str, ...], value: Any) -> None:
    edit_config(folder, keys, value)
    with pytest.raises(SemidError, match=r"train it again|upgrade semid"):
        semid.load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("config", "model", "hidden"), [32]),
        (("config", "model", "hidden"), [0]),
        (("config", "model", "hidden"), 5),
        (("config", "model", "latent_dim"), "seven"),
        (("config", "model", "depth"), 5),
        (("config", "model"), 5),
    ],
)
def test_a_network_that_does_not_fit(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    fitted("rqvae").save(tmp_path / "model")
    edit_config(tmp_path / "model", keys, value)
    with pytest.raises(SemidError, match=r"the (weights|model) in .*model (is damaged|do not fit)"):
        semid.load(tmp_path / "model")


def test_a_model_of_the_other_kind(kind: str, folder: Path) -> None:
    other = next(name for name in KINDS if name != kind)
    fitted(other).save(folder.parent / "other")
    shutil.copy(folder.parent / "other" / "model.safetensors", folder)
    with pytest.raises(SemidError, match=r"the weights in .* do not fit its config\.json"):
        semid.load(folder)
