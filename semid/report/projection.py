"""Items in two dimensions, for a map. Shapes: n items, d dims, s items of a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError

METHODS = ("tsne", "pca")
# Items that t-SNE places itself, and what it sees of them.
SAMPLE = 2_500
COMPONENTS = 50
PERPLEXITY = 30.0
# Placed items that another one is put between.
AMONG = 3
# t-SNE says nothing of fewer.
_LEAST = 50
_ROWS = 8_192

Matrix = npt.NDArray[np.float32]


def place(x_nd: Matrix, method: str = "tsne", *, seed: int = 0) -> tuple[Matrix, str]:
    """Place items in the unit square; returns ``(n, 2)`` and a sentence on how.

    ``pca`` takes the first two principal components. ``tsne`` (van der Maaten and Hinton, 2008)
    places at most `SAMPLE` items, drawn by `seed`, by their first `COMPONENTS` components, and puts
    every other item at the mean of its `AMONG` nearest of these.

    Raises
    ------
    SemidError
        For another method.
    """
    require_method(method)
    if method == "pca" or len(x_nd) < _LEAST or (x_nd == x_nd[0]).all():
        components_nc, share = components(x_nd, 2)
        return _in_unit_square(components_nc), (
            f"The first two principal components, {share:.0%} of the variance."
        )
    return _tsne(components(x_nd, COMPONENTS)[0], seed)


def require_method(method: str) -> None:
    """Raise `SemidError` for a projection that there is not."""
    if method not in METHODS:
        raise SemidError(f"the projection is {method!r}; it must be one of {', '.join(METHODS)}")


def components(x_nd: Matrix, count: int) -> tuple[Matrix, float]:
    """Return the first principal components of items, ``(n, count)``, and their share of it all."""
    import torch

    from semid.principal import principal_components

    centred_nd = torch.from_numpy(x_nd - x_nd.mean(0))
    found_nc = (centred_nd @ principal_components(centred_nd, count).T).numpy()
    total = float(centred_nd.double().square().sum())
    share = float(np.square(found_nc, dtype=np.float64).sum()) / total if total else 1.0
    return found_nc, share


def _tsne(x_nc: Matrix, seed: int) -> tuple[Matrix, str]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, size = len(x_nc), min(len(x_nc), SAMPLE)
    row_s = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    map_ = TSNE(
        2, init="pca", perplexity=min(PERPLEXITY, size / 4), max_iter=500, random_state=seed
    )
    with threadpool_limits(1):  # so many short steps that threads spend the time waiting
        place_s2 = map_.fit_transform(x_nc[row_s])
    said = f"t-SNE of the first {x_nc.shape[1]} principal components"
    if size == n:
        return _in_unit_square(place_s2), f"{said}."
    sample_sc = x_nc[row_s]
    half_s = 0.5 * np.square(sample_sc).sum(1)
    place_n2 = np.empty((n, 2), np.float32)
    for start in range(0, n, _ROWS):
        far_bs = half_s - x_nc[start : start + _ROWS] @ sample_sc.T
        near_bk = np.argpartition(far_bs, AMONG, axis=1)[:, :AMONG]
        place_n2[start : start + _ROWS] = place_s2[near_bk].mean(1)
    place_n2[row_s] = place_s2
    return _in_unit_square(place_n2), (
        f"{said} of {size:,} items; the others stand between their {AMONG} nearest of these."
    )


def _in_unit_square(place_n2: npt.NDArray[np.floating]) -> Matrix:
    # An item far out must not press all others together.
    low_2, high_2 = np.percentile(place_n2, (0.1, 99.9), axis=0)
    span_2 = np.where(high_2 > low_2, high_2 - low_2, 1.0)
    scaled_n2: Matrix = np.clip((place_n2 - low_2) / span_2, 0, 1).astype(np.float32)
    return scaled_n2
