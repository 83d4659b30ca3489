"""LSA: what its numbers mean, empty texts, samples that are too small."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from semid.encoders import LsaConfig, load_encoder, make_encoder
from semid.encoders.ngrams import count_ngrams
from semid.errors import SemidError

KINDS = {
    "lips": "matte red lipstick lip gloss balm colour",
    "hair": "repair shampoo conditioner hair mask scalp",
    "nail": "nail polish lacquer top coat manicure glitter",
    "sun": "sunscreen spf lotion sun protection spray",
}


def make_items(n: int = 400, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(KINDS), n)
    titles = [
        " ".join(rng.choice(KINDS[kind].split(), 4)) + f" no{i % 9}" for i, kind in enumerate(kinds)
    ]
    return pa.table({"title": titles, "kind": kinds})


ITEMS = make_items()
CONFIG = LsaConfig(text=("title",), dim=16, features=2**14)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder(CONFIG).fit(ITEMS)


def titles(*values: str | None) -> pa.Table:
    return pa.table({"title": pa.array(values, pa.string())})


def test_counts_equal_scikit_learns_text_by_text():
    texts = [*ITEMS["title"].to_pylist()[:50], "", "  ", "Ünïcode ß 全角文字", "a", "x" * 300]
    expected = sum(
        HashingVectorizer(
            analyzer=analyzer, ngram_range=ngrams, n_features=4096, norm=None, alternate_sign=False
        ).transform(texts)
        for analyzer, ngrams in (("word", (1, 2)), ("char_wb", (3, 5)))
    )
    counts = count_ngrams(texts, word_ngrams=(1, 2), char_ngrams=(3, 5), features=4096)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), expected.toarray())


def test_is_tf_idf_times_components(encoder):
    counts = count_ngrams(
        ["Title: " + title for title in ITEMS["title"].to_pylist()],
        word_ngrams=(1, 2),
        char_ngrams=(3, 5),
        features=2**14,
    )
    projected = TfidfTransformer().fit_transform(counts) @ encoder.components_
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(ITEMS), expected, atol=1e-5)


def test_components_are_orthonormal(encoder):
    gram = encoder.components_.T @ encoder.components_
    np.testing.assert_allclose(gram, np.eye(16), atol=1e-4)


def test_norms(encoder):
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(ITEMS), axis=1), 1, atol=1e-6)
    raw = make_encoder(LsaConfig(text=("title",), dim=16, features=2**14, normalize=False))
    norms = np.linalg.norm(raw.fit(ITEMS).encode(ITEMS), axis=1)
    assert norms.max() <= 1 + 1e-6
    assert norms.min() < 0.99


def test_same_seed_same_embeddings(encoder):
    np.testing.assert_array_equal(
        make_encoder(CONFIG).fit(ITEMS).encode(ITEMS), encoder.encode(ITEMS)
    )


def test_close_texts_rank_above_unrelated_ones(encoder):
    query, close, unrelated = encoder.encode(
        titles("red matte lipstick", "lip gloss lipsticks red", "hair repair shampoo")
    )
    assert query @ close > query @ unrelated + 0.3


def test_neighbours_share_their_kind(encoder):
    x = encoder.encode(ITEMS)
    similarity = x @ x.T - 2 * np.eye(len(x))
    nearest = np.argsort(-similarity, axis=1)[:, :5]
    kinds = np.array(ITEMS["kind"].to_pylist())
    assert (kinds[nearest] == kinds[:, None]).mean() > 0.95


def test_texts_without_known_ngram_get_the_mean_direction(encoder, caplog, tmp_path):
    items = titles(None, "red lipstick", "", "  ")
    with caplog.at_level(logging.WARNING):
        x = encoder.encode(items)
    assert [record.message for record in caplog.records] == [
        "3 of 4 items have an empty text or no n-gram known from the sample; "
        "they get the mean direction of the sample"
    ]
    mean = encoder.encode(ITEMS).mean(axis=0)
    for row in (0, 2, 3):
        np.testing.assert_allclose(x[row], mean / np.linalg.norm(mean), atol=1e-6)
    encoder.save(tmp_path)
    np.testing.assert_array_equal(load_encoder(tmp_path).encode(items), x)


def test_template_text_of_unknown_ngrams_only(caplog):
    config = LsaConfig(template="{title}", dim=8, features=2**18)
    encoder = make_encoder(config).fit(ITEMS)
    with caplog.at_level(logging.WARNING):
        x = encoder.encode(titles("日本語テキスト", "red lipstick"))
    np.testing.assert_array_equal(x[0], encoder.empty_)
    assert len(caplog.records) == 1


def test_empty_texts_in_the_sample_do_not_count(encoder):
    padded = pa.concat_tables([ITEMS.select(["title"]), titles(*[None] * 100)])
    np.testing.assert_array_equal(make_encoder(CONFIG).fit(padded).idf_, encoder.idf_)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (ITEMS.slice(0, 10), "dim=16 .* has 10 texts that are not empty"),
        (ITEMS.slice(0, 0), "has 0 texts that are not empty and 0 different"),
        (titles(*[None] * 50), "has 0 texts that are not empty"),
        (titles(*["red lipstick", "blue mascara"] * 25), "span only 2 dimensions"),
    ],
)
def test_sample_too_small_for_dim(items, message):
    with pytest.raises(SemidError, match=message):
        make_encoder(CONFIG).fit(items)


def test_a_failed_fit_keeps_the_old_state():
    encoder = make_encoder(CONFIG).fit(ITEMS)
    before = encoder.encode(ITEMS)
    with pytest.raises(SemidError):
        encoder.fit(titles(*["red lipstick", "blue mascara"] * 25))
    np.testing.assert_array_equal(encoder.encode(ITEMS), before)


def test_slices_inside_a_batch_leave_no_trace(monkeypatch, encoder):
    whole = encoder.encode(ITEMS)
    monkeypatch.setattr("semid.encoders.lsa.SLICE_ROWS", 37)
    np.testing.assert_array_equal(encoder.encode(ITEMS), whole)
    np.testing.assert_array_equal(make_encoder(CONFIG).fit(ITEMS).encode(ITEMS), whole)
