"""From item ids to rows of a table, as tensors: a hash table without a loop over items.

Keys stand sorted by the bucket that their hash names, about one in each. A look-up reads the first
of its bucket for every id at once, then the next for those that are left. Integer ids are their own
keys, and are looked up where the index is; of strings the keys are hashes, so that a hit is
compared with the id itself, and they stay on the CPU.

Shapes: n items, q queries, b buckets, h hits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from semid.arrays import to_arrow, to_numpy
from semid.errors import SemidError
from semid.id_columns import id_column
from semid.id_hashes import hash_ids

# The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), as signed numbers.
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Where the rows of items are; `ItemIndex.of` makes one.

    Attributes
    ----------
    name : of the id column, for messages
    key_n : the keys, sorted by bucket, and one that stands for none; int64, ``(n + 1,)``
    row_n : the row of each, and -1; int64, ``(n + 1,)``
    start_b : where every bucket begins, and n; int32, ``(2**bits + 1,)``
    text : the item ids in the order of the rows, if they are strings
    """

    name: str
    key_n: Tensor
    row_n: Tensor
    start_b: Tensor
    text: pa.Array | None

    @classmethod
    def of(cls, ids: pa.Array, name: str) -> ItemIndex:
        """Make the index of unique item ids, strings or int64, ``(n,)``."""
        is_text = not pa.types.is_integer(ids.type)
        key_n = _hashes(ids) if is_text else torch.from_numpy(to_numpy(ids).copy())
        bits = max(len(ids) - 1, 1).bit_length()
        bucket_n, row_n = torch.sort(_bucket(key_n, bits), stable=True)
        start_b = torch.searchsorted(bucket_n, torch.arange((1 << bits) + 1))
        key_n = torch.cat([key_n[row_n], key_n.new_zeros(1)])
        row_n = torch.cat([row_n, row_n.new_full((1,), -1)])
        return cls(name, key_n, row_n, start_b.int(), ids if is_text else None)

    def to(self, device: str | torch.device) -> ItemIndex:
        """Return the index on another device; that of strings stays on the CPU."""
        if self.text is not None:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("key_n", "row_n", "start_b")}
        return replace(self, **moved)

    def rows(self, item_ids: Any) -> Tensor:
        """Return the rows of item ids: int64 of their shape, -1 for those that are not there.

        Tensors and NumPy arrays may have any shape; anything else has ``(q,)``.

        Raises
        ------
        SemidError
            When the ids are of another type than the table's, one is null, or they are nested lists
            or a single id.
        """
        if not isinstance(item_ids, Tensor | np.ndarray):
            return self._rows_of(item_ids)
        if item_ids.dtype == object:
            # Which Arrow reads several times as fast as an array.
            return self._rows_of(item_ids.reshape(-1).tolist()).view(item_ids.shape)
        return self._rows_of(item_ids.reshape(-1)).view(item_ids.shape)

    def _rows_of(self, item_ids: Any) -> Tensor:
        """Return the rows of item ids ``(q,)``."""
        if self.text is None:
            return self._rows_of_keys(self._integers(item_ids))
        if isinstance(item_ids, Tensor):
            raise self._other_type(str(item_ids.dtype), "strings")
        ids = self._column(item_ids)
        if not len(ids):
            return torch.empty(0, dtype=torch.int64)
        if pa.types.is_integer(ids.type):
            raise self._other_type("integers", "strings")
        return self._rows_of_text(ids.cast(self.text.type))

    def _integers(self, item_ids: Any) -> Tensor:
        device = self.key_n.device
        if isinstance(item_ids, np.ndarray) and item_ids.dtype.kind in "iu":
            item_ids = torch.from_numpy(item_ids.astype(np.int64))
        if isinstance(item_ids, Tensor):
            if item_ids.is_floating_point() or item_ids.dtype == torch.bool:
                raise self._other_type(str(item_ids.dtype), "int64")
            return item_ids.to(device, torch.int64)
        ids = self._column(item_ids)
        if not len(ids):
            return torch.empty(0, dtype=torch.int64, device=device)
        if not pa.types.is_integer(ids.type):
            raise self._other_type("strings", "int64")
        return torch.from_numpy(to_numpy(ids).copy()).to(device)

    def _column(self, item_ids: Any) -> pa.Array:
        """Return item ids as an Arrow column of strings or integers; of nulls if there are none."""
        if hasattr(item_ids, "__len__") and not isinstance(item_ids, str) and not len(item_ids):
            return pa.nulls(0)
        return id_column(item_ids, self.name)

    def _other_type(self, given: str, own: str) -> SemidError:
        return SemidError(
            f"the item ids asked for are {given} but '{self.name}' of the table is {own}; "
            "convert them"
        )

    def _rows_of_keys(self, key_q: Tensor) -> Tensor:
        place_q = self._find(key_q)
        return self.row_n.index_select(0, torch.where(place_q >= 0, place_q, len(self.row_n) - 1))

    def _rows_of_text(self, ids: pa.Array) -> Tensor:
        assert self.text is not None
        key_q = _hashes(ids)
        row_q = torch.full((len(ids),), -1)
        asked_h = torch.arange(len(ids))
        place_h = self._find(key_q)
        while len(asked_h):
            found_h = place_h >= 0
            if not bool(found_h.all()):
                asked_h, place_h = asked_h[found_h], place_h[found_h]
            row_h = self.row_n.index_select(0, place_h)
            theirs = ids if len(asked_h) == len(ids) else ids.take(to_arrow(asked_h.numpy()))
            same = pc.equal(self.text.take(to_arrow(row_h.numpy())), theirs)
            if pc.all(same).as_py():
                row_q[asked_h] = row_h
                break
            # Of another id with the same hash: on to the next one that has it.
            same_h = torch.from_numpy(same.to_numpy(zero_copy_only=False))
            row_q[asked_h[same_h]] = row_h[same_h]
            asked_h, place_h = asked_h[~same_h], place_h[~same_h]
            place_h = self._find(key_q[asked_h], place_h)
        return row_q

    def _find(self, key_q: Tensor, after_q: Tensor | None = None) -> Tensor:
        """Return the first place of every key in its bucket, after another one if given; or -1."""
        bucket_q = _bucket(key_q, (len(self.start_b) - 1).bit_length() - 1)
        # index_select is several times as fast as indexing.
        end_q = self.start_b.index_select(0, bucket_q + 1)
        place_q = self.start_b.index_select(0, bucket_q) if after_q is None else after_q + 1
        # An empty bucket may begin past the last key, where one more stands.
        hit_q = (self.key_n.index_select(0, place_q) == key_q) & (place_q < end_q)
        found_q = torch.where(hit_q, place_q, -1)
        left_h = torch.nonzero(~hit_q & (place_q + 1 < end_q)).squeeze(1)
        place_h, end_h, key_h = (of.index_select(0, left_h) for of in (place_q, end_q, key_q))
        while len(left_h):
            place_h = place_h + 1
            hit_h = self.key_n.index_select(0, place_h) == key_h
            found_q[left_h[hit_h]] = place_h[hit_h]
            on_h = torch.nonzero(~hit_h & (place_h + 1 < end_h)).squeeze(1)
            left_h, place_h, end_h, key_h = (
                of.index_select(0, on_h) for of in (left_h, place_h, end_h, key_h)
            )
        return found_q


def _hashes(ids: pa.Array) -> Tensor:
    return torch.from_numpy(hash_ids(ids).astype(np.int64))


def _bucket(key_q: Tensor, bits: int) -> Tensor:
    mixed_q = (key_q ^ (key_q >> 30)) * _FIRST
    mixed_q = (mixed_q ^ (mixed_q >> 27)) * _SECOND
    return (mixed_q >> (64 - bits)) & ((1 << bits) - 1)
