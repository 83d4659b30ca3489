"""The spectrum of a catalog's embeddings: how many dims they fill, and what bits could make of it.

Shapes: n rows, d dims.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Variances = npt.NDArray[np.float64]

_SHARES = (1, 8, 32, 128)
_ROWS_AT_ONCE = 16_384


def variances(x_nd: Matrix) -> Variances:
    """Return the variances along the principal axes, ``(d,)``, the largest first."""
    mean_d = x_nd.mean(0, dtype=np.float64).astype(np.float32)
    total_dd = np.zeros((x_nd.shape[1],) * 2)
    for start in range(0, len(x_nd), _ROWS_AT_ONCE):
        centred_bd = (x_nd[start : start + _ROWS_AT_ONCE] - mean_d).astype(np.float64)
        total_dd += centred_bd.T @ centred_bd
    found_d: Variances = np.linalg.eigvalsh(total_dd / len(x_nd))[::-1].clip(0)
    return found_d


def effective_rank(variance_d: Variances) -> float:
    """Return exp of the entropy of the shares of variance (Roy & Vetterli, 2007)."""
    share_d = variance_d[variance_d > 0] / variance_d.sum()
    return float(np.exp(-(share_d * np.log(share_d)).sum()))


def participation_ratio(variance_d: Variances) -> float:
    """Return the square of the sum over the sum of squares: d when all variances are alike."""
    return float(variance_d.sum() ** 2 / np.square(variance_d).sum())


def gaussian_error(variance_d: Variances, bits: float) -> float:
    """Return the least relative squared error of any code of `bits` bits for Gaussian rows.

    The distortion-rate function by reverse water-filling (Cover & Thomas, Elements of Information
    Theory, 10.3.3): every axis keeps an error of the water level, or its variance where that is
    less. Of all rows with these variances Gaussian ones are the hardest, so rows in clusters may
    be coded with less error; a residual quantizer of few levels mostly stays above it.
    """
    sorted_d = np.sort(variance_d[variance_d > 0])[::-1]
    # With the m largest axes above the water, the level follows from the bits.
    axes_m = np.arange(1, len(sorted_d) + 1)
    level_m = np.exp((np.cumsum(np.log(sorted_d)) - 2 * math.log(2) * bits) / axes_m)
    above = int((sorted_d >= level_m).sum())
    error = above * level_m[above - 1] + sorted_d[above:].sum()
    return float(error / sorted_d.sum())


def describe_spectrum(variance_d: Variances) -> dict[str, Any]:
    """Return the figures of a spectrum as plain values; of rows that all are one, zeros.

    ``effective_rank``, ``participation_ratio``, and ``variance_of_first``, the share of the
    variance on the first 1, 8, 32 and 128 axes.
    """
    total = float(variance_d.sum())
    if not total:
        return {"effective_rank": 0.0, "participation_ratio": 0.0, "variance_of_first": {}}
    shares = {
        str(count): float(variance_d[:count].sum() / total)
        for count in _SHARES
        if count < len(variance_d)
    }
    return {
        "effective_rank": effective_rank(variance_d),
        "participation_ratio": participation_ratio(variance_d),
        "variance_of_first": shares,
    }
