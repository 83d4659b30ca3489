"""Positive pointwise mutual information of counts, and its truncated SVD.

As of Levy, Goldberg and Dagan, "Improving Distributional Similarity with Lessons Learned from Word
Embeddings" (TACL 2015). Knows nothing about items or files. Legend: n rows, m contexts, e pairs, d
dims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

    from semid.cooccurrence import Cooccurrences

# The spectrum of behaviour is flat: with fewer, the last dims are not those of the exact SVD.
POWER_ITERATIONS, OVERSAMPLES = 10, 64
# Below this part of the whole, a singular value or a vector is rounding noise of float32.
TOLERANCE = 1e-5


def smoothed_share(times_m: np.ndarray, smoothing: float) -> np.ndarray:
    """Return each context's share of all counts to the power of `smoothing`, float64, ``(m,)``."""
    weight_m = times_m.astype(np.float64) ** smoothing
    return np.asarray(weight_m / weight_m.sum())


def positive_information(
    met: Cooccurrences, row_n: np.ndarray, context_m: np.ndarray, share_m: np.ndarray
) -> sp.csr_matrix:
    """Return by how many nats a context is likelier beside a row than its share, where it is.

    Parameters
    ----------
    met : counts
    row_n, context_m : the rows of `met` that are the rows and the contexts of the result
    share_m : how likely each context is beside any row

    Returns
    -------
    information_nm : float32, ``(n, m)``; max(0, log(P(context | row) / share))
    """
    import scipy.sparse as sp

    place_n, place_m = (np.full(len(met.met_n), -1, np.int32) for _ in range(2))
    place_n[row_n], place_m[context_m] = np.arange(len(row_n)), np.arange(len(context_m))
    there_e = (place_n[met.row_e] >= 0) & (place_m[met.partner_e] >= 0)
    row_e, partner_e = met.row_e[there_e], met.partner_e[there_e]
    context_e = place_m[partner_e]
    information_e = np.log(met.times_e[there_e] / met.met_n[row_e] / share_m[context_e])
    above_e = information_e > 0
    values_e = information_e[above_e].astype(np.float32)
    places_e = (place_n[row_e[above_e]], context_e[above_e])
    information_nm = sp.csr_matrix((values_e, places_e), shape=(len(row_n), len(context_m)))
    information_nm.sort_indices()  # products add up a row in this order
    return information_nm


def context_vectors(information_nm: sp.csr_matrix, dim: int, seed: int) -> tuple[np.ndarray, int]:
    """Return the leading right singular vectors over the roots of their values, and the rank.

    Rows projected on them are U sqrt(S). Float32, ``(m, dim)``; a rank below `dim` says that the
    last of them are noise. Signs are fixed by the largest entries.
    """
    from sklearn.utils.extmath import randomized_svd

    _, singular_d, vectors_dm = randomized_svd(
        information_nm,
        dim,
        n_oversamples=OVERSAMPLES,
        n_iter=POWER_ITERATIONS,
        power_iteration_normalizer="LU",
        random_state=seed,
    )
    rank = int((singular_d > TOLERANCE * singular_d[0]).sum())
    roots_d = np.sqrt(np.maximum(singular_d, TOLERANCE * singular_d[0]))
    return np.ascontiguousarray(vectors_dm.T / roots_d, dtype=np.float32), rank


def project(information_nm: sp.csr_matrix, contexts_md: np.ndarray) -> np.ndarray:
    """Return rows projected on contexts, of norm 1, float32, ``(n, d)``.

    Rows of zeros, and those of which the dims hold nothing but noise, are 0.
    """
    x_nd = np.asarray(information_nm @ contexts_md)
    norm_n = np.linalg.norm(x_nd, axis=1)
    # What rows of these lengths would come to, if the dims held all of them.
    whole_n = np.sqrt(np.asarray(information_nm.multiply(information_nm).sum(axis=1)).ravel())
    empty_n = norm_n <= TOLERANCE * whole_n * np.linalg.norm(contexts_md, axis=0).max()
    x_nd[empty_n] = 0
    x_nd /= np.where(empty_n, 1, norm_n)[:, None]
    return x_nd
