"""RQ-KMeans fitted to a sample with many levels at once: levels that begin alike are fitted once.

Shapes: s rows of the sample, d dims, k codewords, l levels, u distinct IDs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semid.ids import pack_keys
from semid.kmeans import kmeans
from semid.metrics.codes import mean_error, relative_error, utilization
from semid.planning.candidates import ITERATIONS, Levels, Shape
from semid.planning.sample import Matrix, Sample


@dataclass(frozen=True)
class Trial:
    """What came of levels on a sample.

    Attributes
    ----------
    levels : codewords per level
    sizes_u : embeddings of the sample that have each ID, ``(u,)``
    largest_items : most items of the catalog whose embeddings share an ID in the sample
    perplexity : of each level
    fitted_error, other_error : relative squared error on rows of the fit and on others; None
        where there are none, or these do not differ
    fit_rows : rows that each level was fitted to
    fit_seconds, encode_seconds : taken by each level
    """

    levels: Levels
    sizes_u: npt.NDArray[np.int64]
    largest_items: int
    perplexity: list[float]
    fitted_error: float | None
    other_error: float | None
    fit_rows: list[int]
    fit_seconds: list[float]
    encode_seconds: list[float]


@dataclass(frozen=True)
class _Level:
    codebook_kd: Matrix
    code_s: npt.NDArray[np.int32]
    fit_rows: int
    fit_seconds: float
    encode_seconds: float

    def leave(self, residual_sd: Matrix) -> None:
        residual_sd -= self.codebook_kd[self.code_s]


def run_trials(
    sample: Sample,
    levels: Iterable[Levels],
    shape: Shape,
    spans: Mapping[str, slice],
    *,
    seed: int,
    on_level: Callable[[int], object] = lambda _: None,
) -> Iterator[Trial]:
    """Fit all `levels` to the first rows of a sample, encode all of it and measure.

    The fit is that of `semid.residual_kmeans.ResidualKMeans` with its defaults, to fewer rows where
    `shape` says so. Memory: the sample twice, its residuals being the second, and once more the
    rows of a fit where these are not in one piece.

    Parameters
    ----------
    spans : where the dims of each embedding column stand in a row
    seed : of the first level; each next one has the next
    on_level : hears of every level that is done how many codewords it has
    """
    path: list[_Level] = []
    for one in sorted(levels):
        shared = 0
        while shared < min(len(path), len(one)) and len(path[shared].codebook_kd) == one[shared]:
            shared += 1
        del path[shared:]
        residual_sd = sample.x_sd.copy()
        for level in path:
            level.leave(residual_sd)
        for number in range(shared, len(one)):
            path.append(_fit(residual_sd, one[number], shape, (seed + number) % 2**31))
            path[-1].leave(residual_sd)
            on_level(one[number])
        yield _measured(one, path, sample, residual_sd, spans)


def _fit(residual_sd: Matrix, size: int, shape: Shape, seed: int) -> _Level:
    from semid.neighbours import nearest_centroids

    rows = shape.rows_for(size)
    began = time.perf_counter()
    codebook_kd = kmeans(residual_sd[:rows], size, seed=seed, iterations=ITERATIONS)
    fitted = time.perf_counter()
    code_s = nearest_centroids(residual_sd, codebook_kd).astype(np.int32)
    seconds = time.perf_counter() - fitted
    return _Level(codebook_kd, code_s, rows, fitted - began, seconds)


def _measured(
    levels: Levels,
    path: list[_Level],
    sample: Sample,
    residual_sd: Matrix,
    spans: Mapping[str, slice],
) -> Trial:
    key_sm = pack_keys(np.stack([level.code_s for level in path], 1), levels)
    one_column = key_sm.shape[1] == 1
    _, id_s, sizes_u = np.unique(
        key_sm[:, 0] if one_column else key_sm,
        axis=None if one_column else 0,
        return_inverse=True,
        return_counts=True,
    )
    items_u = np.bincount(id_s.reshape(-1), weights=sample.copies_s)
    # What no level was fitted to: levels may have been fitted to different numbers of rows.
    least, most = min(level.fit_rows for level in path), max(level.fit_rows for level in path)
    centre_d = sample.x_sd[:most].mean(0, dtype=np.float64).astype(np.float32)
    used = [utilization(np.bincount(p.code_s, minlength=len(p.codebook_kd))) for p in path]
    return Trial(
        levels,
        sizes_u,
        int(items_u.max()),
        [one.perplexity for one in used],
        _error(sample.x_sd[:least], residual_sd[:least], centre_d, spans),
        _error(sample.x_sd[most:], residual_sd[most:], centre_d, spans),
        [level.fit_rows for level in path],
        [level.fit_seconds for level in path],
        [level.encode_seconds for level in path],
    )


def _error(
    x_nd: Matrix, left_nd: Matrix, centre_d: Matrix, spans: Mapping[str, slice]
) -> float | None:
    """Return the relative squared error of rows, columns of embeddings counting alike."""
    off_d, left_d = np.zeros(len(centre_d)), np.zeros(len(centre_d))
    for start in range(0, len(x_nd), 16_384):
        centred_bd, part_bd = x_nd[start : start + 16_384] - centre_d, left_nd[start:][:16_384]
        off_d += np.einsum("nd,nd->d", centred_bd, centred_bd, dtype=np.float64)
        left_d += np.einsum("nd,nd->d", part_bd, part_bd, dtype=np.float64)
    return mean_error(
        relative_error(float(left_d[span].sum()), float(off_d[span].sum()))
        for span in spans.values()
    )
