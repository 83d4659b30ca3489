"""The only k-means: FAISS, with scikit-learn's as a second opinion, and OPQ's rotation beside it.

The baselines and the initialisation of codebooks use it.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError, require_package

Matrix = npt.NDArray[np.float32]


def kmeans(
    x_nd: Matrix,
    k: int,
    *,
    seed: int,
    iterations: int = 25,
    library: str = "faiss",
    init: str | Matrix = "random",
) -> Matrix:
    """Return k centroids of all rows of `x_nd`, shape ``(k, d)``.

    Every row is used: a caller who wants a sample passes one. `library` is ``faiss`` or
    ``sklearn``; `init` is ``random`` rows, ``k-means++`` (Arthur & Vassilvitskii, 2007), or the
    centroids to start from, ``(k, d)``.

    Raises
    ------
    SemidError
        When there are fewer rows than centroids, or faiss is not installed.
    """
    require_package("faiss", extra="cpu", purpose="k-means")
    n = len(x_nd)
    if n < k:
        raise SemidError(
            f"{n} rows are too few for {k} codewords; use smaller levels or more training rows"
        )
    if k == 1:  # either library would iterate to the same answer
        return np.asarray(x_nd.mean(0, keepdims=True, dtype=np.float64), dtype=np.float32)
    x_nd = np.ascontiguousarray(x_nd, dtype=np.float32)
    return (_by_sklearn if library == "sklearn" else _by_faiss)(x_nd, k, seed, iterations, init)


def _by_faiss(x_nd: Matrix, k: int, seed: int, iterations: int, init: str | Matrix) -> Matrix:
    import faiss

    n, d = x_nd.shape
    methods = {
        "random": faiss.ClusteringInitMethod_RANDOM,
        "k-means++": faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
    }
    given = None if isinstance(init, str) else np.ascontiguousarray(init, dtype=np.float32)
    clustering = faiss.Kmeans(
        d,
        k,
        niter=iterations,
        seed=seed,
        # Neither the silent sampling above 256 rows a centroid nor the warning below 39.
        max_points_per_centroid=n,
        min_points_per_centroid=1,
        init_method=methods[init if isinstance(init, str) else "random"],
    )
    clustering.train(x_nd, init_centroids=given)
    return np.asarray(clustering.centroids, dtype=np.float32)


def _by_sklearn(x_nd: Matrix, k: int, seed: int, iterations: int, init: str | Matrix) -> Matrix:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    clustering = KMeans(k, init=init, n_init=1, max_iter=iterations, random_state=seed)
    with warnings.catch_warnings():  # of rows that repeat: fewer clusters than were asked for
        warnings.simplefilter("ignore", ConvergenceWarning)
        clustering.fit(x_nd)
    return np.asarray(clustering.cluster_centers_, dtype=np.float32)


def opq_rotation(x_nd: Matrix, parts: int, k: int, *, seed: int) -> Matrix:
    """Return the rotation that suits product quantisation best, with orthonormal columns.

    FAISS's optimised product quantisation (Ge et al., 2013). Shape ``(z, d)``, with z the next
    multiple of `parts`.

    Parameters
    ----------
    x_nd : centred rows, ``(n, d)``
    parts : levels, which share the dims evenly
    k : codewords per level, at most n; the rotation is fitted with the next lower power of two
    """
    import faiss

    d = x_nd.shape[1]
    z = -(-d // parts) * parts
    if k < 2:  # nothing to quantise; FAISS needs two
        return np.eye(z, d, dtype=np.float32)
    quantizer = faiss.ProductQuantizer(z, parts, k.bit_length() - 1)
    quantizer.cp.seed, quantizer.cp.min_points_per_centroid = seed, 1
    rotation = faiss.OPQMatrix(d, parts, z)
    rotation.pq = quantizer
    rotation.train(np.ascontiguousarray(x_nd, dtype=np.float32))
    return np.asarray(faiss.vector_to_array(rotation.A).reshape(z, d), dtype=np.float32)
