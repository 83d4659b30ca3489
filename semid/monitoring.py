"""What a training run knows of itself after every epoch, and which epoch is the best.

Shapes: n monitored items, l levels, k codewords.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semid.autoencoder import Autoencoder
from semid.errors import SemidError
from semid.fit_config import FitConfig
from semid.metrics.codes import mean_error, relative_error, utilization
from semid.quantised import Quantised
from semid.quantization import look_up, search
from semid.training_data import TrainingData

MONITORED_ROWS = 8_192
# Squared errors over those of the mean that no training comes back from.
_DIVERGED = 1e3


def diverged(how: str, epoch: int, config: FitConfig) -> SemidError:
    """Return the error of a training whose numbers have left their range."""
    return SemidError(
        f"training diverged: {how} in epoch {epoch}; lower training.learning_rate, which is "
        f"{config.training.learning_rate}"
    )


class Monitor:
    """Adds up an epoch, then measures the network on held-out items.

    Code churn is the share of the monitored items (held-out ones, or training items when none are
    held out) whose code at a level differs from the epoch before.
    """

    def __init__(self, network: Autoencoder, data: TrainingData, config: FitConfig) -> None:
        self.network, self.config = network, config
        rows_nd = data.held_out_sample(MONITORED_ROWS, seed=config.seed)
        self._held_out = len(rows_nd) > 0
        if not self._held_out:
            rows_nd = data.sample(MONITORED_ROWS, seed=config.seed)
        device = network.mean.device
        self._x_nd = torch.from_numpy(np.ascontiguousarray(rows_nd)).to(device)
        self._sizes = () if network.codes is None else network.codes.levels
        self._codes_nl: Tensor | None = None
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        device = self.network.mean.device
        self._batches = 0
        self._terms: dict[str, Tensor] = {}
        self._counts = [torch.zeros(k, dtype=torch.int64, device=device) for k in self._sizes]
        self.restarts = [0] * len(self._sizes)

    def add(
        self,
        terms: Sequence[Mapping[str, Tensor]],
        shares: Sequence[float],
        quantised: Quantised | None,
    ) -> None:
        """Add a batch: the loss terms of its shards, their shares of the rows, its codes."""
        self._batches += 1
        for shard, share in zip(terms, shares, strict=True):
            for name, term in shard.items():
                self._terms[name] = self._terms.get(name, 0.0) + share * term
        if quantised is not None:
            for level, code_n in enumerate(quantised.codes_nl.T):
                self._counts[level] += torch.bincount(code_n, minlength=self._sizes[level])

    def end(self, epoch: int, *, coded: bool) -> dict[str, Any]:
        """Return the figures of the epoch; `coded` says whether the codebooks have started.

        Raises
        ------
        SemidError
            When training diverged.
        """
        metrics: dict[str, Any] = {}
        for name in ("reconstruction", *self._names()):
            metrics[f"{name}_loss"] = float(self._terms.get(name, 0.0)) / max(self._batches, 1)
        loss = sum(metrics.values())
        if not math.isfinite(loss):
            raise diverged(f"the loss is {loss}", epoch, self.config)
        error, churn = self._measure(coded)
        if error is not None and not error < _DIVERGED:
            raise diverged(f"the error is {error:.3g} times that of the mean", epoch, self.config)
        metrics["held_out_error"] = error if self._held_out else None
        for level, count_k in enumerate(self._counts):
            used = utilization(count_k.cpu().numpy())
            metrics[f"used_{level}"] = used.used
            metrics[f"perplexity_{level}"] = used.perplexity
            metrics[f"largest_share_{level}"] = used.largest_share
            metrics[f"restarts_{level}"] = self.restarts[level]
            metrics[f"churn_{level}"] = churn[level]
            metrics[f"distance_{level}"] = self._distance(level)
            metrics[f"loss_share_{level}"] = self._loss_share(level)
        return metrics

    def _names(self) -> tuple[str, ...]:
        contrast = ("contrast",) if "contrast" in self._terms else ()
        if self.network.log_variance is not None:
            return ("kl", *contrast)
        coded = ("commitment", "codebook", "diversity", "uniformity", *contrast)
        return coded if self._sizes else contrast

    def _distance(self, level: int) -> float:
        """Mean squared distance that a level leaves, per latent dim."""
        codes = self.network.codes
        assert codes is not None
        return float(codes.get_buffer(f"distance_{level}")) / codes.codebooks[0].shape[1]

    def _loss_share(self, level: int) -> float:
        """Share of the weighted commitment of a level in the loss."""
        part, total = (float(self._terms.get(n, 0.0)) for n in (f"commitment_{level}", "total"))
        return self.config.loss.commitment * part / total if total else 0.0

    @torch.no_grad()
    def _measure(self, coded: bool) -> tuple[float | None, list[float | None]]:
        network, x_nd = self.network, self._x_nd
        latent_nz = network.project(x_nd)
        churn: list[float | None] = [None] * len(self._sizes)
        if network.codes is not None and coded:
            levels = network.search_levels[: network.codes.started]
            codes_nl = search(latent_nz, levels).codes_nl
            latent_nz = look_up(codes_nl, [level.codebook_kz for level in levels])
            if self._codes_nl is not None:
                shared = min(codes_nl.shape[1], self._codes_nl.shape[1])
                changed = codes_nl[:, :shared] != self._codes_nl[:, :shared]
                churn[:shared] = changed.double().mean(0).tolist()
            self._codes_nl = codes_nl
        error_nd = (network.reconstruct(latent_nz) - x_nd).square()
        deviation_nd = (x_nd - network.mean).square()
        columns = (
            torch.split(of_nd, list(network.widths), 1) for of_nd in (error_nd, deviation_nd)
        )
        errors = (relative_error(*map(_sum, column)) for column in zip(*columns, strict=True))
        return mean_error(errors), churn

    def state(self) -> Any:
        """Return what outlives an epoch, as plain values."""
        return None if self._codes_nl is None else self._codes_nl.tolist()

    def restore(self, state: Any) -> None:
        """Put back what `state` returned."""
        device = self.network.mean.device
        self._codes_nl = None if state is None else torch.tensor(state, device=device)


def _sum(x_nd: Tensor) -> float:
    return float(x_nd.sum())


def better(best: dict[str, Any] | None, metrics: dict[str, Any], config: FitConfig) -> bool:
    """Tell whether an epoch is better than the best so far.

    The criterion: levels that keep to the utilization floor first, then the least held-out error.
    Of epochs below the floor, the one whose worst level is used best. Without held-out items, and
    under contrast, which trades their reconstruction for behaviour, the later epoch.
    """
    return best is None or _merit(metrics, config) >= _merit(best, config)


def _merit(metrics: dict[str, Any], config: FitConfig) -> tuple[float, float]:
    floor, worst = config.training.utilization_floor, math.inf
    for level, size in enumerate(config.levels):
        if f"perplexity_{level}" in metrics:
            worst = min(worst, metrics[f"perplexity_{level}"] / size)
    error = None if "contrast_loss" in metrics else metrics["held_out_error"]
    return min(worst, floor), 0.0 if error is None else -error
