"""The only k-means: FAISS. The baseline and the initialisation of codebooks both use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError, require_package


def kmeans(
    x_nd: npt.NDArray[np.float32], k: int, *, seed: int, iterations: int = 25
) -> npt.NDArray[np.float32]:
    """Return k centroids of all rows of `x_nd`, shape ``(k, d)``.

    Every row is used: a caller who wants a sample passes one.

    Raises
    ------
    SemidError
        When there are fewer rows than centroids, or faiss is not installed.
    """
    require_package("faiss", extra="cpu", purpose="k-means")
    import faiss

    n, d = x_nd.shape
    if n < k:
        raise SemidError(
            f"{n} rows are too few for {k} codewords; use smaller levels or more training rows"
        )
    if k == 1:  # FAISS would iterate to the same answer
        return np.asarray(x_nd.mean(0, keepdims=True, dtype=np.float64), dtype=np.float32)
    clustering = faiss.Kmeans(
        d,
        k,
        niter=iterations,
        seed=seed,
        # Neither the silent sampling above 256 rows a centroid nor the warning below 39.
        max_points_per_centroid=n,
        min_points_per_centroid=1,
    )
    clustering.train(np.ascontiguousarray(x_nd, dtype=np.float32))
    return np.asarray(clustering.centroids, dtype=np.float32)
