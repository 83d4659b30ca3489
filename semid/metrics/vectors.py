"""How alike rows of two matrices are. Shapes: n rows, d dims."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def cosine_similarity(
    x_nd: npt.NDArray[np.float32], y_nd: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return the cosine between every row of `x_nd` and its own of `y_nd`, ``(n,)``.

    Salton & McGill, "Introduction to modern information retrieval", 1983.

    0 where either has no length.
    """
    dot_n, x_n, y_n = (
        np.einsum("nd,nd->n", a, b, dtype=np.float64)
        for a, b in ((x_nd, y_nd), (x_nd, x_nd), (y_nd, y_nd))
    )
    length_n = np.sqrt(x_n * y_n)
    cosine_n: npt.NDArray[np.float64] = np.divide(
        dot_n, length_n, out=np.zeros_like(dot_n), where=length_n > 0
    )
    return cosine_n
