"""The training loop of the RQ-VAE: rows in, a trained network and its history out.

First the autoencoder alone; then the codebooks start from k-means on a catalog-wide sample and
train along. Knows nothing about tables or folders beyond the checkpoint it is handed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from semid.errors import SemidError, display_path
from semid.fit_config import TrainingConfig
from semid.metrics.codes import relative_error, utilization
from semid.quantization import Quantised, look_up, search
from semid.rqvae import RQVAE
from semid.training_data import TrainingData

HELD_OUT_ROWS = 8_192
# Often enough to lose little work, seldom enough to cost nothing.
CHECKPOINT_SECONDS = 5.0
# What counts as an epoch of a table so large that a pass takes more: measured and kept as often.
EPOCH_STEPS = 2_000


class Callback(Protocol):
    """Something that watches a training run: a progress bar, a log file, a tracker."""

    def on_step(self, step: int, total: int) -> None:
        """Hear that `step` of `total` steps are done."""
        ...

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Hear the metrics of an epoch."""
        ...


@dataclass
class _Totals:
    """What an epoch adds up; kept on the device until it ends."""

    reconstruction: Tensor
    commitment: Tensor
    counts: list[Tensor]
    restarts: list[int]
    batches: int = 0

    @classmethod
    def empty(cls, network: RQVAE) -> _Totals:
        zero = network.mean.new_zeros(())
        counts = [zero.new_zeros(len(c), dtype=torch.int64) for c in network.codebooks]
        return cls(zero.clone(), zero.clone(), counts, [0] * len(counts))


@dataclass
class Trainer:
    """One training run. All of its state is in `network`, `optimizer`, `generator` and counters."""

    network: RQVAE
    data: TrainingData
    config: TrainingConfig
    seed: int
    step: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows, asked = self.data.train_rows, self.config.batch_size
        self.batch_size = min(rows, asked or min(max(512, rows // 48), 4_096))
        self.epoch_steps = math.ceil(rows / self.batch_size)
        self.total_steps = min(self.config.epochs * self.epoch_steps, self.config.max_steps)
        share = self.config.autoencoder_share
        # At least one step for the codebooks: before it they are empty.
        self.autoencoder_steps = min(round(self.total_steps * share), self.total_steps - 1)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.device = self.network.mean.device
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        held_out_nd = self.data.held_out_sample(HELD_OUT_ROWS, seed=self.seed)
        self._held_out_nd = torch.from_numpy(np.ascontiguousarray(held_out_nd)).to(self.device)

    def run(self, callbacks: Sequence[Callback], checkpoint: Path | None) -> None:
        """Train to the end, going on from `checkpoint` when it holds a state of this run.

        Raises
        ------
        SemidError
            When the embeddings are too large for float32, training diverges, or the checkpoint is
            damaged.
        """
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        elif self.step == 0:
            sample_nd = self._sample()
            self.network.initialise(sample_nd, self.generator)
            if not self.network.scale.isfinite():
                raise SemidError(
                    "the squares of the embeddings overflow float32; scale them all by one factor"
                )
        saved = time.monotonic()
        while self.step < self.total_steps:
            metrics = self._run_epoch(callbacks)
            self.history.append(metrics)
            for callback in callbacks:
                callback.on_epoch(metrics)
            if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(checkpoint)
                saved = time.monotonic()

    def _sample(self) -> Tensor:
        rows_nd = self.data.sample(self.config.init_rows, seed=self.seed)
        return torch.from_numpy(np.ascontiguousarray(rows_nd)).to(self.device)

    def _run_epoch(self, callbacks: Sequence[Callback]) -> dict[str, Any]:
        started, totals = time.perf_counter(), _Totals.empty(self.network)
        rate = 0.0
        shuffled = self.data.batches(self.batch_size, seed=self.seed * 1_000_003 + self.epoch)
        for rows_nd in islice(shuffled, EPOCH_STEPS):
            if self.step == self.autoencoder_steps:
                self._start_codebooks()
            rate = self._learning_rate()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._train_step(torch.from_numpy(rows_nd).to(self.device), totals)
            self.step += 1
            for callback in callbacks:
                callback.on_step(self.step, self.total_steps)
            if self.step == self.total_steps:
                break
        self.epoch += 1
        return self._summary(totals, rate, time.perf_counter() - started)

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / max(self.config.warmup_steps, 1))
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.total_steps))
        return self.config.learning_rate * warm * cosine

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        latent_nz = self.network.project(self._sample())
        self.network.codes.initialise(latent_nz, batch_rows=self.batch_size, seed=self.seed)

    def _train_step(self, x_nd: Tensor, totals: _Totals) -> None:
        network, config = self.network, self.config
        target_nd = network.standardise(x_nd)
        latent_nz = network.encoder(target_nd)
        quantised: Quantised | None = None
        commitment = latent_nz.new_zeros(())
        if self.step >= self.autoencoder_steps:
            quantised = network.codes(latent_nz)
            assert quantised is not None
            latent_nz, commitment = quantised.latent_nz, quantised.commitment
        reconstruction = nn.functional.mse_loss(network.decoder(latent_nz), target_nd)
        self.optimizer.zero_grad()
        (reconstruction + config.commitment * commitment).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        self.optimizer.step()
        totals.reconstruction += reconstruction.detach()
        totals.commitment += commitment.detach()
        totals.batches += 1
        if quantised is not None:
            self._update_codebooks(quantised, totals)

    def _update_codebooks(self, quantised: Quantised, totals: _Totals) -> None:
        codes, config = self.network.codes, self.config
        codes.update(quantised, decay=config.ema_decay)
        settling = self.step >= config.restart_until * self.total_steps
        # While the rest settles, only codewords that no item has chosen for long still move.
        below = config.restart_below * (0.05 if settling else 1.0)
        moved = codes.restart(quantised, below=below, generator=self.generator)
        totals.restarts = [a + b for a, b in zip(totals.restarts, moved, strict=True)]
        for level, count_k in enumerate(totals.counts):
            count_k += torch.bincount(quantised.codes_nl[:, level], minlength=len(count_k))

    def _summary(self, totals: _Totals, rate: float, seconds: float) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": round(seconds, 3),
            "learning_rate": rate,
            "reconstruction_loss": float(totals.reconstruction) / totals.batches,
            "commitment_loss": float(totals.commitment) / totals.batches,
            "held_out_error": self._held_out_error(),
        }
        loss = metrics["reconstruction_loss"] + metrics["commitment_loss"]
        if not math.isfinite(loss):
            raise SemidError(
                f"training diverged: the loss is {loss} in epoch {self.epoch}; lower "
                f"training.learning_rate, which is {self.config.learning_rate}"
            )
        for level, count_k in enumerate(totals.counts):
            used = utilization(count_k.cpu().numpy())
            metrics[f"used_{level}"] = used.used
            metrics[f"perplexity_{level}"] = used.perplexity
            metrics[f"largest_share_{level}"] = used.largest_share
            metrics[f"restarts_{level}"] = totals.restarts[level]
        return metrics

    @torch.no_grad()
    def _held_out_error(self) -> float | None:
        x_nd, network = self._held_out_nd, self.network
        if not len(x_nd):
            return None
        latent_nz = network.project(x_nd)
        if self.step > self.autoencoder_steps:
            latent_nz = look_up(search(latent_nz, network.codebooks).codes_nl, network.codebooks)
        error = (network.reconstruct(latent_nz) - x_nd).square().sum()
        return relative_error(float(error), float((x_nd - network.mean).square().sum()))

    def _save(self, path: Path) -> None:
        state = {f"network.{name}": tensor for name, tensor in self._buffers().items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": tensor for name, tensor in slot.items()}
        state["generator"] = self.generator.get_state()
        facts = {"step": self.step, "epoch": self.epoch, "history": self.history}
        part = path.with_suffix(".writing")
        save_file(
            {name: tensor.contiguous() for name, tensor in state.items()},
            part,
            {"facts": json.dumps(facts)},
        )
        part.replace(path)

    def _load(self, path: Path) -> None:
        try:
            self._restore(path)
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise SemidError(
                f"{display_path(path)} is damaged or of another run ({error}); remove it to begin "
                "again"
            ) from error

    def _restore(self, path: Path) -> None:
        state = load_file(path)
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        self.step, self.epoch, self.history = facts["step"], facts["epoch"], facts["history"]
        for name, tensor in self._buffers().items():
            tensor.data.copy_(state[f"network.{name}"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = tensor
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**whole, "state": slots})
        self.generator.set_state(state["generator"])

    def _buffers(self) -> dict[str, Tensor]:
        """All tensors of the network, the moving averages included."""
        return dict(self.network.named_parameters()) | dict(self.network.named_buffers())
