"""Tables of vectors that are looked up in bags, and what may be looked up.

Shapes: n items, l levels, r rows of a table, d dims, v vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from semid.errors import SemidError
from semid.ids import MAX_CODES
from semid.recsys.arguments import require_tensor

# A Mersenne prime, to hash by: products of two numbers below it fit in int64.
LARGEST_TABLE = (1 << 31) - 1

Unknown = Literal["zeros", "learned"]


@dataclass(frozen=True)
class Collisions:
    """How what is embedded shares vectors.

    Attributes
    ----------
    keys : what there is to tell apart: items, or distinct prefixes where these have rows of a table
    vectors : those that at least one of them has
    mean : keys a vector; 1 when none is shared
    largest : keys of the vector that most share
    share : share of the keys that share their vector
    """

    keys: int
    vectors: int
    mean: float
    largest: int
    share: float


def sharing(count_v: npt.NDArray[np.integer[Any]]) -> Collisions:
    """Sum up how many keys each vector has, all from 1, ``(v,)``."""
    total = int(count_v.sum())
    return Collisions(
        keys=total,
        vectors=len(count_v),
        mean=total / max(len(count_v), 1),
        largest=int(count_v.max(initial=0)),
        share=float(count_v[count_v > 1].sum() / max(total, 1)),
    )


def require_sizes(embedding_dim: Any, levels: Any) -> None:
    """Raise `SemidError` unless these are an integer and some integers."""
    are_levels = isinstance(levels, Sequence) and not isinstance(levels, str)
    sizes = (embedding_dim, *(levels if are_levels else ()))
    if not (are_levels and all(isinstance(size, Integral) for size in sizes)):
        raise SemidError(
            f"embedding_dim is {_shown(embedding_dim)} and levels {_shown(levels)}; give an "
            "integer, and the codes per level as a list, such as vocabulary.levels"
        )


def refuse_sizes(rows: int, embedding_dim: int, levels: Sequence[int]) -> None:
    """Raise `SemidError` for a size out of range."""
    if not 1 <= rows <= LARGEST_TABLE or embedding_dim < 1:
        raise SemidError(
            f"a table of {rows:,} rows of {embedding_dim} dims is asked for; rows go from 1 to "
            f"{LARGEST_TABLE:,}, dims from 1"
        )
    if not levels or not all(1 <= size <= MAX_CODES for size in levels):
        raise SemidError(
            f"levels are {list(levels)}; give at least one, each from 1 to {MAX_CODES:,}"
        )


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, int | str | tuple | list) else type(value).__name__


def may_look_at(values: Tensor) -> bool:
    """Tell whether a look at values costs little: else it waits for a device or breaks a graph."""
    cheap = not torch.compiler.is_compiling() and values.device.type == "cpu"
    return cheap and values.numel() > 0


def refuse_codes(codes: Tensor, levels_l: Tensor) -> None:
    """Raise `SemidError` unless codes are integers ``(…, l)``, below K where one may look."""
    require_tensor("codes", codes)
    if codes.ndim == 0 or codes.shape[-1] != len(levels_l) or codes.is_floating_point():
        raise SemidError(
            f"codes have shape {tuple(codes.shape)} and type {codes.dtype}; expected integers "
            f"(…, {len(levels_l)}), a code for every level"
        )
    if not may_look_at(codes):
        return
    most_l = codes.reshape(-1, len(levels_l)).amax(0)
    if bool((most_l >= levels_l).any()):
        level = int((most_l >= levels_l).nonzero()[0])
        raise SemidError(
            f"there is a code {int(most_l[level])} at level {level}; codes there go from 0 to "
            f"{int(levels_l[level]) - 1}: give levels that hold all codes of the table"
        )


def draw_bag(rows: int, width: int, unknown: Unknown, sparse: bool, seed: int) -> nn.EmbeddingBag:
    """Draw a table: its rows, that of unknown IDs where it is learned, and last the padding's."""
    total = rows + 1 + (unknown == "learned")
    generator = torch.Generator().manual_seed(seed)
    weight_rd = torch.empty(total, width).normal_(0, width**-0.5, generator=generator)
    weight_rd[-1] = 0
    return nn.EmbeddingBag.from_pretrained(
        weight_rd, freeze=False, mode="sum", sparse=sparse, padding_idx=total - 1
    )


def summed(bag: nn.EmbeddingBag, rows: Tensor) -> Tensor:
    """Sum vectors over the last axis of their rows: ``(…, l)`` to ``(…, d)``."""
    found_nd: Tensor = bag(rows.reshape(rows.shape[:-1].numel(), rows.shape[-1]))
    return found_nd.reshape(*rows.shape[:-1], bag.embedding_dim)


def without_unknown(rows: Tensor, codes: Tensor, first_beyond: int, unknown: Unknown) -> Tensor:
    """Send what follows a code below 0 to the padding, and the first code to its learned row."""
    known = (codes >= 0).long().cumprod(-1).bool()
    padding = first_beyond + (unknown == "learned")
    rows = torch.where(known, rows, padding)
    if unknown == "learned":
        first = torch.where(known[..., :1], rows[..., :1], first_beyond)
        rows = torch.cat([first, rows[..., 1:]], -1)
    return rows
