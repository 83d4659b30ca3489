"""The training loop: what it learns, what it says, what it repeats and how it goes on again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import semid
from semid import training
from semid.errors import SemidError
from semid.fit_config import FitConfig, TrainingConfig
from semid.fitting import fit_data, measure
from semid.model_config import ModelConfig
from semid.quantizer import Quantizer, make_network
from semid.training import Trainer, chosen_batch_size
from semid.training_data import ArrayData, held_out

Matrix = npt.NDArray[np.float32]


def clustered(n: int, d: int = 24, seed: int = 0) -> Matrix:
    """Eight groups of eight clusters, bent a little."""
    rng = np.random.default_rng(seed)
    outer, inner = 2 * rng.normal(size=(8, d)), rng.normal(size=(8, 8, d))
    i, j = rng.integers(0, 8, n), rng.integers(0, 8, n)
    flat = outer[i] + inner[i, j] + 0.3 * rng.normal(size=(n, d))
    bent = np.tanh(flat @ rng.normal(size=(d, d)) / d**0.5)
    return (flat + 0.5 * bent).astype(np.float32)


def data_of(x_nd: Matrix, holdout: float = 0.1) -> ArrayData:
    return ArrayData(x_nd, held_out(range(len(x_nd)), holdout))


def trainer_of(data: ArrayData, seed: int = 0, **settings: Any) -> Trainer:
    training = TrainingConfig(**{"epochs": 6, "batch_size": 64, "warmup_steps": 5, **settings})
    model = ModelConfig(latent_dim=6, hidden=(16,))
    config = FitConfig(levels=(8, 4), seed=seed, model=model, training=training)
    return Trainer(make_network(config, data.widths), data, config)


class Recorder:
    """Keeps what it hears, and interrupts the run at a step when asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self.epochs: list[dict[str, Any]] = []
        self.stop_at = stop_at

    def on_step(self, step: int, total: int) -> None:
        self.steps.append((step, total))
        if step == self.stop_at:
            raise KeyboardInterrupt

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        self.epochs.append(metrics)


def state_of(trainer: Trainer) -> dict[str, bytes]:
    """Every number that decides how training goes on, as bytes."""
    network = dict(trainer.network.named_parameters()) | dict(trainer.network.named_buffers())
    found = {name: tensor.detach().numpy().tobytes() for name, tensor in network.items()}
    for index, slot in trainer.optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": value.numpy().tobytes() for name, value in slot.items()}
    return found | {f"best.{name}": t.numpy().tobytes() for name, t in trainer.best.items()}


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


# What it learns


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clustered_catalog(seed: int) -> None:
    levels, data = (16, 16, 16), data_of(clustered(3_000))
    shape = ModelConfig(latent_dim=24, hidden=(128,))
    settings = TrainingConfig(epochs=10, batch_size=128)
    model = fit_data(data, FitConfig(levels=levels, seed=seed, model=shape, training=settings))

    for level in model.metrics["levels"]:
        assert level["used"] == level["size"]
        assert level["perplexity"] > 0.6 * level["size"]
    for row in model.history:
        assert all(math.isfinite(value) for value in row.values() if value is not None)
        if row["step"] > 40:
            assert all(row[f"used_{level}"] == 16 for level in range(3))
    assert all(t.isfinite().all() for t in model.network.state_dict().values())

    start = make_network(FitConfig(levels=levels, model=shape), {"embedding": 24})
    rows = torch.from_numpy(data.sample(10_000, seed=seed))
    start.initialise(rows, torch.Generator())
    with torch.no_grad():
        start.codes.initialise(start.project(rows), batch_rows=128, seed=seed)
    train_nd, held_out_nd = (take(3_000, seed=0) for take in (data.sample, data.held_out_sample))
    untrained = measure(Quantizer("rqvae", start, {"embedding": 24}, {}), train_nd, held_out_nd)
    baseline = fit_data(data, FitConfig(quantizer="rqkmeans", levels=levels, seed=seed)).metrics
    assert model.metrics["held_out_error"] < 0.9 * untrained["held_out_error"]
    assert model.metrics["held_out_error"] < 0.9 * baseline["held_out_error"]


def test_the_start_is_pca() -> None:
    data = data_of(clustered(1_000))
    trainer = trainer_of(data)
    rows = torch.from_numpy(data.sample(10_000, seed=0))
    trainer.network.initialise(rows, torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = trainer.network.reconstruct(trainer.network.project(rows))
    centred = (rows - rows.mean(0)).double().numpy()
    values = np.linalg.svd(centred, compute_uv=False)
    left = float((decoded - rows).double().square().sum())
    assert left == pytest.approx((values[6:] ** 2).sum(), rel=1e-4)


def test_dead_codes_come_back() -> None:
    # All codewords but one far from every row: without restarts they would stay there unused.
    trainer = trainer_of(data_of(clustered(1_500)), epochs=12)
    far_at = trainer.codebook_start + 5

    class Scatter(Recorder):
        def on_step(self, step: int, total: int) -> None:
            if step == far_at:
                for codebook in trainer.network.codebooks:
                    codebook[1:] += 1e3

    trainer.run([Scatter()], None)
    assert sum(row["restarts_0"] for row in trainer.history) >= 7
    assert trainer.history[-1]["used_0"] == 8
    assert trainer.history[-1]["used_1"] == 4


def test_a_catalog_smaller_than_a_batch() -> None:
    trainer = trainer_of(data_of(clustered(20), 0), batch_size=64)
    trainer.run([], None)
    assert trainer.batch_size == 20
    assert trainer.step == 6
    assert all(math.isfinite(row["reconstruction_loss"]) for row in trainer.history)


# What it says


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        *((1, 128), (2_000, 128), (2_559, 128), (2_560, 256), (5_119, 256), (5_120, 512)),
        *((24_623, 512), (48_000, 1_000), (10_000_000, 4_096)),
    ],
)
def test_rows_of_a_step_by_hand(rows: int, size: int) -> None:
    assert chosen_batch_size(rows) == size


def test_history_and_callbacks() -> None:
    data, recorder = data_of(clustered(500), 0.2), Recorder()
    trainer = trainer_of(data, epochs=5, autoencoder_share=0.4)
    trainer.run([recorder], None)
    epoch_steps = math.ceil(data.train_rows / 64)
    assert recorder.steps == [(step + 1, 5 * epoch_steps) for step in range(5 * epoch_steps)]
    assert recorder.epochs == trainer.history
    assert [row["epoch"] for row in trainer.history] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in trainer.history] == [epoch_steps * e for e in range(1, 6)]
    last = trainer.history[-1]
    assert 0 < last["learning_rate"] < 1e-5
    assert last["reconstruction_loss"] > 0
    assert last["commitment_loss"] > 0
    assert 0 < last["held_out_error"] < 1
    # A share of the epoch's rows, all of them counted.
    assert 1 <= last["used_0"] <= 8
    assert last["largest_share_0"] * data.train_rows == pytest.approx(
        round(last["largest_share_0"] * data.train_rows)
    )
    assert trainer.history[0]["used_0"] == 0  # the codebooks start later


def test_the_share_of_a_level_in_the_loss() -> None:
    trainer = trainer_of(data_of(clustered(500)), autoencoder_share=0.4)
    trainer.run([], None)
    assert trainer.history[0]["loss_share_0"] == 0  # the autoencoder alone
    last = trainer.history[-1]
    weight = trainer.config.loss.commitment
    total = last["reconstruction_loss"] + weight * last["commitment_loss"]
    total += trainer.config.loss.uniformity * last["uniformity_loss"]
    shares = [last[f"loss_share_{level}"] for level in range(2)]
    assert sum(shares) == pytest.approx(weight * last["commitment_loss"] / total, rel=1e-5)
    assert shares[0] > shares[1] > 0  # what a level leaves is less than what it was given


def test_float16_is_refused_on_the_cpu() -> None:
    with pytest.raises(SemidError, match=r"training\.precision float16 needs a GPU"):
        trainer_of(data_of(clustered(500)), precision="float16")


def test_bfloat16_trains_on_the_cpu() -> None:
    errors = []
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(data_of(clustered(500)), precision=precision)
        trainer.run([], None)
        errors.append(trainer.history[-1]["held_out_error"])
        assert all(t.dtype == torch.float32 for t in trainer.network.state_dict().values())
    assert errors[0] != errors[1]
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_max_steps_ends_in_the_midst_of_an_epoch() -> None:
    trainer = trainer_of(data_of(clustered(500), 0), max_steps=11)  # 8 steps an epoch
    trainer.run([], None)
    assert [row["step"] for row in trainer.history] == [8, 11]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("max_steps", [1, 2, 30])
def test_the_codebooks_are_always_trained(share: float, max_steps: int) -> None:
    trainer = trainer_of(data_of(clustered(300)), autoencoder_share=share, max_steps=max_steps)
    trainer.run([], None)
    assert all(codebook.abs().sum() > 0 for codebook in trainer.network.codebooks)
    assert trainer.history[-1]["used_0"] > 0


@pytest.mark.parametrize("rate", [1e2, 1e3, 1e6, 1e12, 1e20])
@pytest.mark.parametrize("uniformity", [0.0, 0.2])
def test_divergence_is_told(rate: float, uniformity: float) -> None:
    config = {
        "training": {"learning_rate": rate, "epochs": 5},
        "model": {"hidden": [16]},
        "loss": {"uniformity": uniformity},
    }
    with pytest.raises(SemidError, match=r"diverged: .* epoch \d; lower training\.learning_rate"):
        semid.fit(clustered(400), "rqvae", (8,), config=config)


def test_embeddings_too_large_for_float32_are_told() -> None:
    with pytest.raises(SemidError, match="squares of the embeddings overflow float32; scale them"):
        semid.fit(clustered(400) * np.float32(1e20), "rqvae", (8,))


# Repeating, and going on after a crash


def test_a_run_is_repeatable_and_moves_no_global_generator() -> None:
    data, before = data_of(clustered(500)), torch.get_rng_state()
    states = []
    for seed in (3, 3, 4):
        trainer = trainer_of(data, seed)
        trainer.run([], None)
        states.append(state_of(trainer))
    assert states[0] == states[1]
    assert states[0] != states[2]
    assert torch.equal(before, torch.get_rng_state())


def test_checkpointing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, states = data_of(clustered(500)), []
    for checkpoint in (None, tmp_path / "checkpoint.safetensors"):
        trainer = trainer_of(data)
        trainer.run([], checkpoint)
        states.append(state_of(trainer))
        monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert states[0] == states[1]


# 8 steps an epoch, 48 in all, 7 without codebooks: stopped before a checkpoint was written, just
# when the codebooks start, in the midst, at an epoch's last step, while settling and at the end.
@pytest.mark.parametrize("stop_at", [3, 9, 19, 24, 44, 48])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    data, checkpoint = data_of(clustered(500), 0), tmp_path / "checkpoint.safetensors"
    whole = trainer_of(data)
    whole.run([], None)
    assert (whole.epoch_steps, whole.total_steps, whole.codebook_start) == (8, 48, 7)

    with pytest.raises(KeyboardInterrupt):
        trainer_of(data).run([Recorder(stop_at)], checkpoint)
    assert checkpoint.exists() == (stop_at > 8)
    resumed, recorder = trainer_of(data), Recorder()
    resumed.run([recorder], checkpoint)
    assert recorder.steps[0] == ((stop_at - 1) // 8 * 8 + 1, 48)
    assert state_of(resumed) == state_of(whole)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors"]

    again = trainer_of(data)  # nothing is left to do
    again.run([recorder], checkpoint)
    assert state_of(again) == state_of(whole)


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    data, checkpoint = data_of(clustered(500)), tmp_path / "checkpoint.safetensors"
    config = FitConfig(
        levels=(8, 4),
        model=ModelConfig(latent_dim=6, hidden=(16,)),
        training=TrainingConfig(epochs=6, batch_size=64),
    )
    whole = fit_data(data, config)
    with pytest.raises(KeyboardInterrupt):
        fit_data(data, config, callbacks=[Recorder(30)], checkpoint=checkpoint)
    resumed = fit_data(data, config, checkpoint=checkpoint)
    weights = [model.to_artifact().weights for model in (whole, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])
    assert resumed.metrics == whole.metrics


def test_a_damaged_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    data, checkpoint = data_of(clustered(500)), tmp_path / "checkpoint.safetensors"
    trainer_of(data, max_steps=8).run([], checkpoint)
    content = checkpoint.read_bytes()
    other = FitConfig(levels=(8, 4), model=ModelConfig(latent_dim=5, hidden=(16,)))
    with pytest.raises(SemidError, match=r"checkpoint\.safetensors .* remove it"):
        Trainer(make_network(other, {"embedding": 24}), data, other).run([], checkpoint)
    for damaged in (b"", content[:-10], content[:40], b"\xff" * 200):
        checkpoint.write_bytes(damaged)
        with pytest.raises(SemidError, match=r"checkpoint\.safetensors .* remove it"):
            trainer_of(data).run([], checkpoint)


# On a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_is_repeatable() -> None:
    x_nd = clustered(2_000)
    config = {"training": {"epochs": 5}, "model": {"hidden": [64]}}
    models = [semid.fit(x_nd, "rqvae", (16, 8), config=config, device="cuda") for _ in range(2)]
    weights = [model.to_artifact().weights for model in models]
    assert all(weights[0][name].tobytes() == weights[1][name].tobytes() for name in weights[0])
    assert models[0].device.type == "cuda"
    assert models[0].metrics["train_error"] < 0.5
