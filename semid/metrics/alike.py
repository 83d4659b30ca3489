"""Whether items that share codes are alike, by the cosine of their embeddings.

Pure functions on arrays. Shapes: m pairs, d dims.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semid.metrics.sampling import standard_error
from semid.metrics.vectors import cosine_similarity

Matrix = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]

# Colliding items whose embeddings, less the catalog's mean, have a cosine below it are unlike.
HARMFUL_COSINE = 0.5


def mean_cosine(one_md: Matrix, other_md: Matrix) -> tuple[float | None, float | None]:
    """Return the mean cosine of pairs, -1 to 1: of items with one prefix its cohesion.

    Good is far above that of random pairs, which is the null. As the overall similarity of a
    cluster (Steinbach, Karypis & Kumar, "A comparison of document clustering techniques", 2000),
    of a sample of its pairs. With its standard error; None without pairs.
    """
    if not len(one_md):
        return None, None
    cosine_m = cosine_similarity(one_md, other_md)
    return float(cosine_m.mean()), standard_error(cosine_m)


def centred_cosine(one_md: Matrix, other_md: Matrix, mean_d: npt.NDArray[np.floating]) -> Figures:
    """Return the cosine of pairs less the mean of the catalog, ``(m,)``, -1 to 1.

    Embeddings of many encoders share a large mean, with which any two of them look alike; without
    it random pairs have about 0 (Mu & Viswanath, "All-but-the-top", 2018; Ethayarajh, "How
    contextual are contextualized word representations?", 2019). 1 for rows that are equal.
    """
    cosine_m = cosine_similarity(one_md - mean_d, other_md - mean_d)
    return np.where((one_md == other_md).all(1), 1.0, cosine_m)


def unlike(cosine_m: Figures, threshold: float) -> dict[str, float | None]:
    """Say how many pairs are unlike, from `centred_cosine`.

    Own definition.

    Returns
    -------
    figures : ``share``, of the pairs with a cosine below `threshold`, 0 to 1: of those that collide
        good is near 0, and far below the null, that of random pairs; ``cosine``, their mean. None
        without pairs
    """
    if not len(cosine_m):
        return {"share": None, "cosine": None}
    return {"share": float((cosine_m < threshold).mean()), "cosine": float(cosine_m.mean())}
