"""One run of a comparison, in a process of its own: rows and settings in, its figures out.

Every run sees the same rows, the same held-out items and the same neighbours; only its seed
differs. Shapes: n items, d dims, q queries, l levels.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from semid.comparison.entries import RANDOM, Entry
from semid.cooccurrence import Partners
from semid.embedding_columns import Widths, spans
from semid.fitting import MEASURED_BATCH, MEASURED_ROWS, fit_unmeasured
from semid.metrics.measurement import Measurement
from semid.metrics.neighbours import prefix_purity
from semid.metrics.vectors import cosine_similarity
from semid.neighbours import nearest_neighbours
from semid.quantizer import Quantizer
from semid.training_data import TrainingData

NEIGHBOURS = 10
# Items whose neighbours are looked for: a share is then known to about half a percent.
QUERIES = 2_000
_SAMPLE_SEED = 0

Matrix = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


class Fitted(Protocol):
    """What a run measures."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Codewords per level; none for a model without codes."""
        ...

    def encode(self, x_nd: Matrix) -> Codes:
        """Return codes ``(n, l)``."""
        ...

    def decode(self, x_nd: Matrix, codes_nl: Codes | None) -> Matrix:
        """Return what a prefix of the codes stands for; without codes, what the rows come to."""
        ...


class _FittedQuantizer:
    """A quantizer as `Fitted`."""

    def __init__(self, model: Quantizer) -> None:
        self._model, self.levels = model, model.levels

    def encode(self, x_nd: Matrix) -> Codes:
        return self._model.quantize(x_nd).codes_nl

    def decode(self, x_nd: Matrix, codes_nl: Codes | None) -> Matrix:
        return self._model.reconstruct(x_nd) if codes_nl is None else self._model.decode(codes_nl)


@dataclass(frozen=True)
class Steps:
    """Users' steps from one item to the next, to see whether codes follow behaviour.

    Attributes
    ----------
    x_nd : the embeddings of their items
    pairs_m2 : the steps, as rows of `x_nd`
    """

    x_nd: Matrix
    pairs_m2: npt.NDArray[np.int64]


def run_entry(
    entry: Entry,
    data: TrainingData,
    *,
    seed: int,
    device: str,
    partners: Partners | None = None,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Fit and measure one quantizer; returns a row of the comparison.

    `partners` are for the fit, as in `semid.fitting.fit_data`.

    ``seconds`` and ``peak_mib`` (of this process, so give it one of its own) are those of the fit.
    The errors and the cosine are lists, one value per prefix of the codes.
    """
    start = time.perf_counter()
    config = entry.config
    if entry.name == RANDOM:
        sample_nd = data.sample(MEASURED_ROWS, seed=_SAMPLE_SEED)
        fitted: Fitted = RandomCodes(config.levels, sample_nd, seed)
    else:
        config = dataclasses.replace(config, seed=seed)
        fitted = _FittedQuantizer(fit_unmeasured(data, config, partners=partners, device=device))
    cost = {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}
    train_nd = data.sample(MEASURED_ROWS, seed=_SAMPLE_SEED)
    held_nd = data.held_out_sample(MEASURED_ROWS, seed=_SAMPLE_SEED)
    x_nd = np.concatenate([train_nd, held_nd])
    codes_nl = fitted.encode(x_nd) if fitted.levels else None
    held_n = np.arange(len(x_nd)) >= len(train_nd)
    figures = measure(x_nd, codes_nl, fitted, held_n, data.widths)
    if codes_nl is not None:
        query_q = queries(len(x_nd))
        found_qk = nearest_neighbours(x_nd, query_q, NEIGHBOURS)
        figures["prefix_purity"] = prefix_purity(codes_nl, query_q, found_qk).tolist()
    if codes_nl is not None and steps is not None:
        first_m, second_m = steps.pairs_m2.T
        step_codes_nl = fitted.encode(steps.x_nd)
        figures["step_purity"] = prefix_purity(step_codes_nl, first_m, second_m[:, None]).tolist()
    facts = {"quantizer": entry.name, "seed": seed, "levels": list(fitted.levels)}
    return facts | figures | cost


def queries(n: int) -> npt.NDArray[np.int64]:
    """Return the rows whose neighbours are looked for: a seeded sample, ``(q,)``."""
    if n <= QUERIES:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SAMPLE_SEED).choice(n, QUERIES, replace=False))


def peak_mib() -> float:
    """Return the most memory this process has held at once, with all its libraries.

    The kernel's own figure for the process, where there is one: `getrusage` starts from what the
    parent held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        found = next((line for line in lines if line.startswith("VmHWM:")), None)
        if found is not None:
            return int(found.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    x_nd: Matrix,
    codes_nl: Codes | None,
    fitted: Fitted,
    held_n: npt.NDArray[np.bool_],
    widths: Widths,
) -> dict[str, Any]:
    """Measure codes and what every prefix of them decodes to.

    Parameters
    ----------
    x_nd, codes_nl : embeddings and their codes; None for a model without
    fitted : what decodes the prefixes
    held_n : who is held out, ``(n,)``
    widths : of the columns of `x_nd`

    Returns
    -------
    ``train_error``, ``held_out_error``, ``train_cosine`` and ``held_out_cosine``, each a list over
    prefixes (one value without codes), ``raw_uniqueness``, ``utilization`` and ``perplexity``.
    """
    figures: dict[str, Any] = {f"{s}_{what}": [] for s in _SIDES for what in ("error", "cosine")}
    found: dict[str, Any] = {}
    levels = fitted.levels
    for depth in range(1, len(levels) + 1) if levels else (0,):
        measurement = Measurement(levels[:depth], spans(widths))
        cosine_n = np.empty(len(x_nd))
        for start in range(0, len(x_nd), MEASURED_BATCH):
            rows = slice(start, start + MEASURED_BATCH)
            prefix_bl = None if codes_nl is None else codes_nl[rows, :depth]
            decoded_bd = fitted.decode(x_nd[rows], prefix_bl)
            measurement.add(x_nd[rows], prefix_bl, decoded_bd, held_n[rows])
            cosine_n[rows] = cosine_similarity(x_nd[rows], decoded_bd)
        found = measurement.result()
        for side, rows_n in zip(_SIDES, (~held_n, held_n), strict=True):
            figures[f"{side}_error"].append(found[f"{side}_error"])
            mean = float(cosine_n[rows_n].mean()) if rows_n.any() else None
            figures[f"{side}_cosine"].append(mean)
    return figures | {
        "raw_uniqueness": found["raw_uniqueness"],
        "utilization": [level["used"] / level["size"] for level in found["levels"]],
        "perplexity": [level["perplexity"] for level in found["levels"]],
        "prefix_purity": [],
        "step_purity": [],
    }


_SIDES = ("train", "held_out")


class RandomCodes:
    """The null: codes drawn for every row, whatever it is, each alike.

    A codeword is the mean of what the levels before left of the training rows that drew it; zero
    when none did.

    Parameters
    ----------
    levels : codewords per level
    train_nd : training rows, which are the first that are encoded
    seed : of the codes
    """

    def __init__(self, levels: tuple[int, ...], train_nd: Matrix, seed: int) -> None:
        self.levels, self._seed = levels, seed
        residual_nd = train_nd.astype(np.float64)
        self.codebooks: list[Matrix] = []
        for code_n, size in zip(self.encode(train_nd).T, levels, strict=True):
            sum_kd = np.zeros((size, train_nd.shape[1]))
            np.add.at(sum_kd, code_n, residual_nd)
            mean_kd = sum_kd / np.maximum(np.bincount(code_n, minlength=size), 1)[:, None]
            residual_nd -= mean_kd[code_n]
            self.codebooks.append(mean_kd.astype(np.float32))

    def encode(self, x_nd: Matrix) -> Codes:
        """Draw the codes of rows, ``(n, l)``; the first of more rows have the codes of fewer."""
        drawn_nl = np.random.default_rng(self._seed).random((len(x_nd), len(self.levels)))
        return (drawn_nl * self.levels).astype(np.int32)

    def decode(self, x_nd: Matrix, codes_nl: Codes | None) -> Matrix:
        """Add up the codewords, ``(n, d)``."""
        assert codes_nl is not None
        total_nd = np.zeros_like(x_nd)
        for level, code_n in enumerate(codes_nl.T):
            total_nd += self.codebooks[level][code_n]
        return total_nd
