"""What the levels that are planned will cost: seconds and memory, told from a fit to a sample.

Times are those of the machine that planned. Shapes: n rows, d dims, z latent dims.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from semid.fit_config import FitConfig
from semid.planning.candidates import Levels
from semid.planning.trials import Trial

# What a step of the RQ-VAE takes beside its matrix products: docs/benchmarks.md has these at 54%.
EFFICIENCY = 0.54
# A forward pass, and twice that backward.
PASSES = 3
_PROBE_ROWS, _PROBE_WIDTH, _PROBES = 512, 768, 8
_FLOAT = 4


@dataclass(frozen=True)
class Catalog:
    """What a training is given: training rows, all rows, d, and the memory budget in bytes."""

    train_rows: int
    rows: int
    width: int
    memory_bytes: int

    @property
    def kmeans_rows(self) -> int:
        """Rows that RQ-KMeans learns from, as `semid.fitting` chooses them."""
        held = self.memory_bytes // (4 * _FLOAT * self.width)
        return min(self.train_rows, FitConfig().kmeans.max_rows, max(held, 65_536))


def product_rate() -> float:
    """Measure the multiplications and additions a second of matrix products of a step's size."""
    import torch

    x_nd = torch.ones(_PROBE_ROWS, _PROBE_WIDTH)
    w_dd = torch.ones(_PROBE_WIDTH, _PROBE_WIDTH)
    seconds = []
    for _ in range(_PROBES):
        began = time.perf_counter()
        torch.mm(x_nd, w_dd)
        seconds.append(time.perf_counter() - began)
    return 2.0 * _PROBE_ROWS * _PROBE_WIDTH**2 / float(np.median(seconds))


def network_weights(widths: Sequence[int]) -> int:
    """Return the weights of the default RQ-VAE's encoders and decoders for columns of `widths`."""
    model = FitConfig().model
    latent_dim = min(model.latent_dim, sum(widths))
    path = [(width, *model.hidden, latent_dim) for width in widths]
    layers = sum(a * b for layers in path for a, b in pairwise(layers))
    return 2 * (layers + sum(width * latent_dim for width in widths))


def cost(trial: Trial, catalog: Catalog, widths: Sequence[int], rate: float) -> dict[str, Any]:
    """Return the seconds and the peak memory of levels as plain values.

    ``fit_seconds`` and ``encode_seconds`` of RQ-KMeans go by what its trial took, in proportion to
    the rows; ``rqvae_seconds`` is an estimate from the matrix products of the default network at
    `rate`, which docs/benchmarks.md has as 54% of a step. The bytes are those of the largest
    arrays: ``fit_bytes`` of RQ-KMeans's sample, residuals and the copy that k-means makes,
    ``rqvae_bytes`` of the rows in memory and the network with its gradients and moments.
    """
    size, held = _FLOAT * catalog.width, catalog.kmeans_rows
    fitted = zip(trial.fit_seconds, trial.fit_rows, strict=True)
    weights = network_weights(widths)
    in_memory = min(size * catalog.rows, catalog.memory_bytes // 2)
    return {
        "fit_seconds": sum(seconds * held / rows for seconds, rows in fitted),
        "encode_seconds": sum(trial.encode_seconds) * catalog.rows / int(trial.sizes_u.sum()),
        "rqvae_seconds": _steps(catalog) * 2.0 * PASSES * weights / rate / EFFICIENCY,
        "fit_bytes": in_memory + 3 * size * held + size * sum(trial.levels),
        "rqvae_bytes": in_memory + 4 * _FLOAT * (weights + sum(trial.levels) * catalog.width),
    }


def _steps(catalog: Catalog) -> int:
    """Return how many rows the default RQ-VAE is trained on, over all epochs."""
    from semid.training import chosen_batch_size

    settings = FitConfig().training
    steps = settings.max_steps * chosen_batch_size(catalog.train_rows)
    return min(settings.epochs * catalog.train_rows, steps)


def vocabulary(levels: Levels) -> dict[str, Any]:
    """Return what a recommender pays for levels: tokens an item, codewords in all, bits an ID."""
    bits = float(np.log2(np.array(levels, np.float64)).sum())
    return {"tokens": len(levels), "codewords": sum(levels), "bits": bits}
