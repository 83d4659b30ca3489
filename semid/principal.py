"""Principal components of a sample of rows, in torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, linalg, nn

from semid.devices import one_thread_each

# The rows are added up in so many parts, whatever the number of threads.
PARTS = 8


def principal_components(centred_nd: Tensor, count: int) -> Tensor:
    """Return the first principal components ``(count, d)``; zeros beyond d.

    On a CPU the same for any number of threads: each part of the rows is one thread's, and so is
    the search for eigenvectors.
    """
    parts = centred_nd.chunk(PARTS)
    if centred_nd.is_cuda:
        vectors_dd = _eigenvectors(map(_products, parts))
    else:
        with one_thread_each(min(torch.get_num_threads(), PARTS)) as pool:
            vectors_dd = pool.submit(_eigenvectors, list(pool.map(_products, parts))).result()
    components_zd = vectors_dd.flip(1)[:, :count].T.to(centred_nd.dtype)
    # Eigenvectors come with either sign; fix it so that machines agree.
    peak_z = components_zd.gather(1, components_zd.abs().argmax(1, keepdim=True))
    components_zd = components_zd * peak_z.sign()
    return nn.functional.pad(components_zd, (0, 0, 0, count - len(components_zd)))


def _products(centred_nd: Tensor) -> Tensor:
    double_nd = centred_nd.double()
    return double_nd.T @ double_nd


def _eigenvectors(parts: Iterable[Tensor]) -> Tensor:
    """Return the eigenvectors ``(d, d)`` of the sum, by ascending eigenvalue."""
    first, *others = parts
    for part in others:
        first += part
    vectors_dd: Tensor = linalg.eigh(first)[1]
    return vectors_dd
