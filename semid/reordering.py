"""The codewords of a model in another order: other numbers for its codes, the same model otherwise.

Shapes: k codewords, l levels, z latent dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from semid.codebooks import ResidualCodebooks
from semid.errors import SemidError
from semid.quantization import Level

# The new number of every codeword of a level, ``(k,)``.
Order = npt.NDArray[np.int64]


class Numbering(NamedTuple):
    """What may be renumbered of l levels.

    sizes : codewords per level
    homes : for each level the first one that has the same codebook: itself, unless it is shared
    fixed : whether a level is a grid, whose codes are places and keep their numbers
    twins : for each level the group of codewords that are exactly alike, ``(k,)``: rows go to the
        first of a group, so that a group must keep its order
    """

    sizes: tuple[int, ...]
    homes: tuple[int, ...]
    fixed: tuple[bool, ...]
    twins: tuple[Order, ...]


def numbering(codes: ResidualCodebooks) -> Numbering:
    """Return what may be renumbered of codebooks."""
    levels = codes.search_levels
    return Numbering(
        codes.levels,
        tuple(codes.homes),
        tuple(level.grid is not None for level in levels),
        tuple(map(_twins, levels)),
    )


def _twins(level: Level) -> Order:
    found = level.constants  # what the search compares
    row_kz = torch.cat([found.match_kz, found.bias_k[:, None]], 1).detach().cpu().numpy()
    return np.unique(row_kz, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@torch.no_grad()
def reorder(codes: ResidualCodebooks, orders: Sequence[Order]) -> None:
    """Move the codeword that has the number c on level l to ``orders[l][c]``.

    All that belongs to a codeword moves along: its offset, and what training remembers of its use.

    Raises
    ------
    SemidError
        When an order is no permutation of its level, renumbers a grid, or differs between levels
        that share a codebook.
    """
    _require_orders(codes, orders)
    for level, order in enumerate(orders):
        place_k = torch.from_numpy(np.ascontiguousarray(order, np.int64))
        tensors = [
            getattr(codes, f"{name}_{level}", None)
            # Of a shared codebook there is one, under its first level.
            for name in ("codebook", "offset", "count", "sum")
        ]
        for tensor in tensors:
            if tensor is not None:
                tensor.data[place_k.to(tensor.device)] = tensor.data.clone()


def _require_orders(codes: ResidualCodebooks, orders: Sequence[Order]) -> None:
    if len(orders) != len(codes.levels):
        raise SemidError(
            f"{len(orders)} orders were given for {len(codes.levels)} levels; give one for each"
        )
    grids = [level.grid is not None for level in codes.search_levels]
    for level, (order, size) in enumerate(zip(orders, codes.levels, strict=True)):
        if not np.array_equal(np.sort(order), np.arange(size)):
            raise SemidError(
                f"the order of level {level} holds other numbers than 0 to {size - 1}, once each"
            )
        if grids[level] and not np.array_equal(order, np.arange(size)):
            raise SemidError(
                f"level {level} is a grid, whose codes are places and cannot be renumbered; give "
                "it the numbers that it has"
            )
        if not np.array_equal(order, orders[codes.homes[level]]):
            raise SemidError(
                f"levels {codes.homes[level]} and {level} share a codebook but were given "
                "different orders; give both the same"
            )
