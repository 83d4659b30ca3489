"""Which latents are copies of one another, bit by bit.

Copies have the same wishes, so that what is asked for one of them holds for all. Shapes: m items,
d distinct latents, z latent dims.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semid.collisions.space import Integers


def distinct(latent_mz: npt.NDArray[np.float32]) -> tuple[Integers, Integers]:
    """Find the distinct latents, in the order of their first items.

    Returns
    -------
    first_d : the first item of each
    which_m : the number of each item's latent
    """
    m, z = latent_mz.shape
    bits_mz = np.ascontiguousarray(latent_mz).view(np.uint32)
    weight_z = np.random.default_rng(0).integers(1, 2**63, z, dtype=np.uint64) | 1
    mixed_m = (bits_mz * weight_z).sum(1)
    order = np.argsort(mixed_m, kind="stable")
    starts_m = np.ones(m, dtype=np.bool_)
    starts_m[1:] = mixed_m[order[1:]] != mixed_m[order[:-1]]
    # Other latents may mix to the same number: then the bits decide.
    same = np.flatnonzero(~starts_m)
    starts_m[same] = (bits_mz[order[same]] != bits_mz[order[same - 1]]).any(1)
    run_m = np.empty(m, dtype=np.int64)
    run_m[order] = np.cumsum(starts_m) - 1
    first_r = order[starts_m]
    by_first = np.argsort(first_r)
    number_r = np.empty(len(first_r), dtype=np.int64)
    number_r[by_first] = np.arange(len(first_r))
    return first_r[by_first], number_r[run_m]


def place_among(group_m: Integers) -> Integers:
    """Count how many of the same group come before each, ``(m,)``."""
    order = np.argsort(group_m, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group_m[order]) != 0]) if len(order) else order
    place_m = np.empty(len(group_m), dtype=np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    place_m[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return place_m


def alike(latent_mz: npt.NDArray[np.float32], group_m: Integers) -> int:
    """Count the items that another of the same group equals in every bit of its latent."""
    first_d, which_m = distinct(latent_mz)
    _, size_g = np.unique(group_m * len(first_d) + which_m, return_counts=True)
    return int(size_g[size_g > 1].sum())
