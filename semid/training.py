"""The training loop of the networks: rows in, a trained network and its history out.

First the autoencoder alone; then the codebooks start from k-means on a catalog-wide sample and
train along. Knows nothing about tables or folders beyond the checkpoint it is handed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.autoencoder import Autoencoder
from semid.checkpoints import load_checkpoint, save_checkpoint, state_of
from semid.cooccurrence import Partners
from semid.errors import SemidError
from semid.feed import Batch, Feed
from semid.fit_config import FitConfig
from semid.losses import Loss, batch_loss
from semid.monitoring import Monitor, better, diverged
from semid.quantised import Moment, Quantised
from semid.revival import revive
from semid.shards import Shards, add_up, in_threads, joined, shard_rows
from semid.training_data import TrainingData

# Often enough to lose little work, seldom enough to cost nothing.
CHECKPOINT_SECONDS = 5.0
# What counts as an epoch of a table so large that a pass takes more: measured and kept as often.
EPOCH_STEPS = 2_000


def chosen_batch_size(rows: int) -> int:
    """Return the rows of a step for so many training rows.

    512; less where that would be fewer than ten steps an epoch, which leaves codebooks too little
    time; more where it would be very many.
    """
    power_of_two = 1 << max(rows // 10, 1).bit_length() - 1
    return min(max(128, min(power_of_two, 512), rows // 48), 4_096)


class Callback(Protocol):
    """Something that watches a training run: a progress bar, a log file, a tracker."""

    def on_step(self, step: int, total: int) -> None:
        """Hear that `step` of `total` steps are done."""
        ...

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Hear the metrics of an epoch."""
        ...


@dataclass
class Trainer:
    """One training run. All of its state is in `network`, `optimizer`, `monitor` and counters.

    Whatever is drawn at a step is drawn from the seed and the step alone.
    """

    network: Autoencoder
    data: TrainingData
    config: FitConfig
    partners: Partners | None = None
    step: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings, rows = self.config.training, self.data.train_rows
        self.batch_size = min(rows, settings.batch_size or chosen_batch_size(rows))
        self.epoch_steps = math.ceil(rows / self.batch_size)
        self.total_steps = min(settings.epochs * self.epoch_steps, settings.max_steps)
        # At least one step for the codebooks: before it they are empty.
        start = min(round(self.total_steps * settings.autoencoder_share), self.total_steps - 1)
        start = 0 if self.network.trained else start
        self.codebook_start = self.total_steps if self.network.codes is None else start
        self.device = self.network.mean.device
        if self.device.type != "cuda" and settings.precision == "float16":
            raise SemidError(
                "training.precision float16 needs a GPU, and this run is on the CPU; use bfloat16 "
                "or float32"
            )
        self.parameters = list(self.network.requires_grad_(True).parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        # Small gradients vanish in float16 unless the loss is scaled up; otherwise it does nothing.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=settings.precision == "float16"
        )
        self.monitor = Monitor(self.network, self.data, self.config)
        local = self.network.codes is not None and self.network.codes.local
        self.feed = Feed(
            self.data,
            self.device,
            self.batch_size,
            partners=self.partners,
            neighbours=self._standardised if local else None,
            seed=self.config.seed,
        )
        self.best: dict[str, Tensor] = {}
        self.best_metrics: dict[str, Any] | None = None

    def run(self, callbacks: Sequence[Callback], checkpoint: Path | None) -> None:
        """Train to the end, going on from `checkpoint` when it holds a state of this run.

        Leaves the network as it was after the best epoch; see `semid.monitoring.better`.

        Raises
        ------
        SemidError
            When the embeddings are too large for float32, training diverges, or the checkpoint is
            damaged.
        """
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        elif self.step == 0 and not self.network.trained:
            self._initialise()
        saved = time.monotonic()
        with in_threads(self.device, self.batch_size) as shards:
            while self.step < self.total_steps:
                metrics = self._run_epoch(callbacks, shards)
                self.history.append(metrics)
                self._keep_best(metrics)
                for callback in callbacks:
                    callback.on_epoch(metrics)
                if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(checkpoint)
                    saved = time.monotonic()
        for name, tensor in state_of(self.network).items():
            tensor.data.copy_(self.best[name])
        self.network.trained = True
        if self.network.codes is not None:
            with torch.no_grad():
                revive(self.network.codes, self.network.project(self._sample()))

    def _initialise(self) -> None:
        self.network.initialise(self._sample(), self._chance())
        if not self.network.scale.isfinite().all():
            raise SemidError(
                "the squares of the embeddings overflow float32; scale them all by one factor"
            )

    def _sample(self) -> Tensor:
        rows_nd = self.data.sample(self.config.codebooks.init_rows, seed=self.config.seed)
        return torch.from_numpy(np.ascontiguousarray(rows_nd)).to(self.device)

    def _standardised(self, x_nd: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return rows as neighbours are looked for: in memory, every column counting alike."""
        mean, scale = self.network.mean.cpu().numpy(), self.network.scale.cpu().numpy()
        wide = np.repeat(np.sqrt(self.network.widths), self.network.widths)
        found: npt.NDArray[np.float32] = (x_nd - mean) / (scale * wide).astype(np.float32)
        return found

    def _chance(self, *place: int) -> torch.Generator:
        """Return the generator of a step, or of one use of it."""
        seed = np.random.SeedSequence([self.config.seed, self.step, *place]).generate_state(1)
        return torch.Generator().manual_seed(int(seed[0]))

    def _run_epoch(self, callbacks: Sequence[Callback], shards: Shards) -> dict[str, Any]:
        started, rate = time.perf_counter(), 0.0
        self.monitor.begin()
        seed = self.config.seed * 1_000_003 + self.epoch
        for batch in islice(self.feed.epoch(seed), EPOCH_STEPS):
            rate = self._learning_rate()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._train_step(batch, shards)
            self.step += 1
            for callback in callbacks:
                callback.on_step(self.step, self.total_steps)
            if self.step == self.total_steps:
                break
        self.epoch += 1
        facts = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": round(time.perf_counter() - started, 3),
            "learning_rate": rate,
        }
        return facts | self.monitor.end(self.epoch, coded=self.step > self.codebook_start)

    def _learning_rate(self) -> float:
        settings = self.config.training
        warm = min(1.0, (self.step + 1) / max(settings.warmup_steps, 1))
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.total_steps))
        return settings.learning_rate * warm * cosine

    def _moment(self) -> Moment | None:
        """Start the levels whose time has come; return how this step quantises, None if not yet."""
        codes, books = self.network.codes, self.config.codebooks
        if codes is None or self.step < self.codebook_start:
            return None
        done = (self.step - self.codebook_start) / (self.total_steps - self.codebook_start)
        depth = len(codes.levels)
        if books.progressive:
            depth = min(depth, 1 + int(done / books.progressive * depth))
        if depth > codes.started:
            with torch.no_grad():
                latent_nz = self.network.project(self._sample())
            if not latent_nz.square().sum(1).isfinite().all():  # k-means would crash on them
                raise diverged("latents are not finite", self.epoch + 1, self.config)
            codes.initialise(
                latent_nz,
                batch_rows=self.batch_size,
                seed=self.config.seed,
                depth=depth,
                keep=self.network.trained,
            )
        if books.prefix_share:
            chance = self._chance(0)
            if float(torch.rand((), generator=chance)) < books.prefix_share:
                depth = int(torch.randint(1, depth + 1, (), generator=chance))
        temperature = books.gumbel_start * (books.gumbel_end / books.gumbel_start) ** done
        return Moment(depth, temperature, entropy=self.config.loss.diversity > 0)

    def _train_step(self, batch: Batch, shards: Shards) -> None:
        moment, all_rows = self._moment(), len(batch.x_nd)
        batch = batch._replace(x_nd=self.network.standardise(batch.x_nd))
        rows = shard_rows(self.device, all_rows)
        parts = [batch.part(start, start + rows) for start in range(0, all_rows, rows)]
        shares = [len(part.x_nd) / all_rows for part in parts]

        def learn(place: int) -> tuple[Loss, tuple[Tensor | None, ...]]:
            chance, part = self._chance(1, place), parts[place]
            pairs = self.feed.pairs(part.row_n, (self.config.seed, self.step, 3, place))
            own = None if moment is None else replace(moment, mate_n=part.mate_n)
            loss = batch_loss(self.network, part.x_nd, self.config, own, chance, pairs)
            scaled = self.scaler.scale(loss.total * shares[place])
            wanted = torch.autograd.grad(scaled, self.parameters, allow_unused=True)
            return loss, wanted

        losses, gradients = zip(*shards(learn, range(len(parts))), strict=True)

        def optimise() -> None:
            for parameter, *found in zip(self.parameters, *gradients, strict=True):
                parameter.grad = add_up([part for part in found if part is not None])
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.training.grad_clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()

        def follow() -> None:
            quantised = joined([loss.quantised for loss in losses])
            self.monitor.add([loss.terms for loss in losses], shares, quantised)
            if quantised is not None:
                self._update_codebooks(quantised)

        codes = self.network.codes
        # Codewords that are buffers have nothing to do with the optimiser: both at once.
        apart = codes is not None and not list(codes.parameters())
        list((shards if apart else map)(lambda work: work(), (optimise, follow)))

    def _update_codebooks(self, quantised: Quantised) -> None:
        codes, books = self.network.codes, self.config.codebooks
        assert codes is not None
        learned = codes.statistics(quantised)
        codes.update(learned)
        settling = self.step >= books.restart_until * self.total_steps
        # While the rest settles, only codewords that no item has chosen for long still move.
        below = books.restart_below * (0.05 if settling else 1.0)
        moved = codes.restart(quantised, learned, below=below, chance=self._chance(2))
        for level, rows in enumerate(moved):
            self.monitor.restarts[level] += len(rows)
            if len(rows):
                self._forget(codes.codebooks[level], rows)

    def _forget(self, codebook_kz: Tensor, rows: Tensor) -> None:
        """Reset what the optimiser remembers of codewords that were moved elsewhere."""
        remembered = self.optimizer.state.get(codebook_kz, {})
        for name in ("exp_avg", "exp_avg_sq"):
            if name in remembered:
                remembered[name][rows] = 0

    def _keep_best(self, metrics: dict[str, Any]) -> None:
        coded = self.network.codes is None or self.step > self.codebook_start
        if not coded or better(self.best_metrics, metrics, self.config):
            self.best_metrics = metrics if coded else None
            self.best = {name: t.detach().clone() for name, t in state_of(self.network).items()}

    def _save(self, path: Path) -> None:
        facts = {
            **{"step": self.step, "epoch": self.epoch, "history": self.history},
            **{"best": self.best_metrics, "monitor": self.monitor.state()},
            "scaler": self.scaler.state_dict(),
            "started": 0 if self.network.codes is None else self.network.codes.started,
        }
        save_checkpoint(
            path, network=self.network, optimizer=self.optimizer, best=self.best, facts=facts
        )

    def _load(self, path: Path) -> None:
        self.best, facts = load_checkpoint(path, network=self.network, optimizer=self.optimizer)
        self.step, self.epoch, self.history = facts["step"], facts["epoch"], facts["history"]
        self.best_metrics = facts["best"]
        self.monitor.restore(facts["monitor"])
        self.scaler.load_state_dict(facts["scaler"])
        if self.network.codes is not None:
            self.network.codes.started = facts["started"]
