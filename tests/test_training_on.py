"""Training that goes on from a model: its settings, its weights, and what must not differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY, make_embeddings, run_here

import semid
from semid import training
from semid.alignment import churn
from semid.config import as_plain
from semid.errors import SemidError
from semid.fit_config import BASELINES, FitConfig
from semid.fitting import fit_data
from semid.quantizer import Quantizer
from semid.training_data import ArrayData, Matrix, held_out
from semid.training_on import settings_on

SMALL: dict[str, Any] = {
    "model": {"latent_dim": 6, "hidden": [16]},
    "training": {"epochs": 6, "batch_size": 128},
}


def rows(n: int = 600, d: int = 12) -> Matrix:
    random = np.random.default_rng(0)
    centre_cd = random.standard_normal((40, d))
    noise_nd = 0.3 * random.standard_normal((n, d))
    return (centre_cd[random.integers(0, 40, n)] + noise_nd).astype(np.float32)


def fitted(kind: str = "rqvae", seed: int = 0, **more: Any) -> Quantizer:
    config = {} if kind in BASELINES else SMALL
    return semid.fit(rows(), kind, (16, 8), seed, config={**config, **more}, device="cpu")


def changed(new: Quantizer, old: Quantizer) -> float:
    """The share of rows with another first code."""
    return churn(lambda: [(new.encode(rows()), old.encode(rows()))])[0]


# Settings


def test_settings_that_are_not_given_are_the_models() -> None:
    model = {"levels": [8, 4], "seed": 3, "training": {"epochs": 7, "grad_clip": 2.0}}
    given = {"training.epochs": 2, "training": {"batch_size": 64}, "holdout": 0.2}
    found = settings_on(model, given, where="train", called="m")
    assert (found.levels, found.seed, found.holdout) == ((8, 4), 3, 0.2)
    assert (found.training.epochs, found.training.batch_size) == (2, 64)
    assert found.training.grad_clip == 2.0


def test_a_contrast_stays_only_with_interactions() -> None:
    model = {"contrast": {"weight": 2.0}}
    for met, weight in ((True, 2.0), (False, FitConfig().contrast.weight)):
        found = settings_on(model, {}, where="train", called="m", interactions=met)
        assert found.contrast.weight == weight


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("quantizer", "fsq", "rqvae"),
        ("levels", [8, 8], "[256, 256, 256]"),
        ("columns", ["text"], "['embedding']"),
        ("model.latent_dim", 64, "128"),
        ("model.hidden", [32], "[768, 384]"),
        ("model.skip", "none", "pca"),
        ("codebooks.metric", "cosine", "l2"),
        ("codebooks.shared", True, "False"),
        ("codebooks.balance", 0.0, "0.1"),
        ("kmeans.size_limit", 2.0, "0.0"),
    ],
)
def test_another_shape_is_refused_with_both_values(name: str, value: Any, was: str) -> None:
    with pytest.raises(SemidError) as said:
        settings_on(as_plain(FitConfig()), {name: value}, where="train", called="out/model")
    assert f"train: {name} is {value} but the model out/model has {was};" in str(said.value)


def test_how_a_model_is_trained_may_differ() -> None:
    given = {"codebooks.balance": 0.2, "codebooks.ema_decay": 0.99, "model.dropout": 0.3}
    found = settings_on(as_plain(FitConfig()), given, where="train", called="m")
    assert (found.codebooks.balance, found.codebooks.ema_decay) == (0.2, 0.99)
    with pytest.raises(SemidError, match="unknown setting 'levls'"):
        settings_on({}, {"levls": [8]}, where="train", called="m")


# The library


@pytest.mark.parametrize("kind", ["rqvae", "rqkmeans", "pq", "opq"])
def test_codes_stay_that_another_training_would_change(kind: str) -> None:
    old = fitted(kind)
    before = old.to_artifact().weights
    gentle = {} if kind in BASELINES else {"training": {"epochs": 2, "learning_rate": 1e-4}}
    new = semid.fit(rows(), kind, (16, 8), 1, config=gentle, init_from=old, device="cpu")
    assert changed(fitted(kind, seed=1), old) > 0.7
    assert changed(new, old) < 0.3
    after = old.to_artifact().weights
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    if kind not in BASELINES:
        assert new.config["model"] == old.config["model"]
        assert new.config["training"]["batch_size"] == 128
    if kind == "opq":
        assert new.network.map.equal(old.network.map)


def test_kmeans_goes_on_where_it_ended() -> None:
    # Lloyd's iterations have converged on the rows that both see.
    old = fitted("rqkmeans", kmeans={"iterations": 200})
    new = semid.fit(rows(), "rqkmeans", (16, 8), 7, init_from=old)
    np.testing.assert_array_equal(new.encode(rows()), old.encode(rows()))
    assert new.config["kmeans"]["iterations"] == 200


def test_rows_and_settings_of_another_model() -> None:
    old = fitted()
    with pytest.raises(SemidError, match="5 dimensions but the model was trained on 12"):
        semid.fit(rows(d=5), "rqvae", (16, 8), init_from=old)
    with pytest.raises(SemidError, match=r"levels is \[16\] but the model init_from has \[16, 8\]"):
        semid.fit(rows(), "rqvae", (16,), init_from=old)
    data = ArrayData(rows(), np.zeros(600, np.bool_), {"a": 4, "b": 8})
    config = FitConfig(levels=(16, 8), columns=("a", "b"))
    with pytest.raises(SemidError, match="the model to go on from has"):
        fit_data(data, config, start=old)


class Stop:
    """Interrupts a training at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, step: int, total: int) -> None:
        if step == self.at:
            raise KeyboardInterrupt

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Hear of an epoch."""


def test_a_killed_training_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    old, checkpoint = fitted(), tmp_path / "checkpoint.safetensors"
    data = ArrayData(rows(), held_out(range(600), 0.1))
    config = settings_on(old.config, {"seed": 1}, where="fit", called="old")
    whole = fit_data(data, config, start=old)
    with pytest.raises(KeyboardInterrupt):
        fit_data(data, config, start=old, callbacks=[Stop(20)], checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = fit_data(data, config, start=old, checkpoint=checkpoint)
    weights = [model.to_artifact().weights for model in (whole, resumed)]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])
    assert resumed.metrics == whole.metrics


# The command


def train_on(world: Path, output: Path, *more: Any, model: Path | None = None) -> Any:
    return run_here(
        *("train", world / "embeddings.parquet", "--output", output),
        *("--init-from", model or world / "model", *more),
    )


def test_the_command_takes_the_models_settings_and_is_up_to_date(
    world: Path, tmp_path: Path
) -> None:
    output = tmp_path / "on"
    made = train_on(world, output, "--seed", 1, "--json")
    assert not made.json["up_to_date"]
    config, old = (
        json.loads((folder / "config.json").read_text())["config"]
        for folder in (output, world / "model")
    )
    assert config == {**old, "seed": 1}
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["inputs"]["init model"]["path"] == str(world / "model" / "model.safetensors")
    assert train_on(world, output, "--seed", 1, "--json").json["up_to_date"]
    # From the beginning, or from another model, it is another model.
    plain = run_here("train", world / "embeddings.parquet", "--output", output, *TINY)
    assert "--overwrite" in plain.error
    assert "--overwrite" in train_on(world, tmp_path / "on", "--seed", 2).error


def test_what_the_command_refuses(world: Path, tmp_path: Path) -> None:
    output, model = tmp_path / "on", world / "model"
    levels = train_on(world, output, "--levels", "8,4").error
    assert f"levels is [8, 4] but the model {model} has [8, 8]" in levels
    kind = train_on(world, output, "--quantizer", "rqkmeans").error
    assert f"quantizer is rqkmeans but the model {model} has rqvae" in kind
    assert "none does not exist" in train_on(world, output, model=tmp_path / "none").error
    pq.write_table(make_embeddings(200, 8), tmp_path / "narrow.parquet")
    narrow = run_here(
        *("train", tmp_path / "narrow.parquet", "--output", output, "--init-from", model)
    )
    assert "of width 8 but the model" in narrow.error
    assert "is also an input" in train_on(world, model, "--overwrite").error
    assert not output.exists()


PIPELINE = """
[steps.train]
embeddings = "{world}/embeddings.parquet"
output = "old"
settings = {{ levels = [8, 8], training.epochs = 2, model.hidden = [16] }}

[steps.retrain]
command = "train"
embeddings = "{world}/embeddings.parquet"
init_from = "{init_from}"
output = "new"
settings = {settings}

[steps.align]
model = "new"
to = "old"
embeddings = "{world}/embeddings.parquet"
output = "aligned"
"""


def test_a_pipeline_trains_on_and_aligns(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(init_from: str = "old", settings: str = "{ seed = 1 }") -> Any:
        text = PIPELINE.format(world=world, init_from=init_from, settings=settings)
        Path("refresh.toml").write_text(text)
        return run_here("run", "refresh.toml", "--json")

    assert "is made by the step 'align' that comes later" in run(init_from="aligned").error
    assert "unknown setting 'sed'" in run(settings="{ sed = 1 }").error
    first = run().json
    assert [step["up_to_date"] for step in first.values()] == [False] * 3
    assert len(first["align"]["summary"]["churn"]) == 2
    assert [step["up_to_date"] for step in run().json.values()] == [True] * 3
    # The old model is there now: what does not fit it is seen before the first step.
    assert "levels is [4] but the model old has [8, 8]" in run(settings="{ levels = [4] }").error
