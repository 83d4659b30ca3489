"""Item ids to codes and SIDs, and SIDs to items, as tensors on any device.

    lookup = SidLookup.load("ids/", device="cuda")
    lookup.sids(item_ids)    # (…, s), -1 for items that the table lacks
    lookup.tokens(item_ids, vocabulary)    # the same as tokens, in one look-up

The table is read into memory: some 60 bytes an item, the text of string ids, and for tokens 4 bytes
for each of a SID and every vocabulary that is used. Nothing is written. A lookup may be sent to the
workers of a `DataLoader`: tensors go through shared memory, and a worker that is spawned has the
table that its parent read, whatever was published since. Keep it on the CPU there.

Shapes: n items, l levels of raw codes, s of SIDs, q queries, ``…`` any.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from semid.arrays import to_arrow
from semid.devices import as_device
from semid.errors import SemidError
from semid.id_reading import read_ids
from semid.id_table import IdTable
from semid.recsys.item_index import ItemIndex
from semid.recsys.levels import levels_of
from semid.recsys.trie import ItemRows, SidTrie
from semid.recsys.vocabulary import SidVocabulary

UNKNOWN = -1
"""Row and code of an item or SID that the table lacks."""


@dataclass(frozen=True, eq=False)
class SidLookup:
    """The codes and SIDs of a table's items; `SidLookup.load` or `SidLookup.of` makes one.

    Attributes
    ----------
    item_ids : strings or int64, in the order of the table's rows, ``(n,)``
    levels : codes per level of a SID: the codewords that the table notes of its model, or one above
        the largest code that occurs; of a suffix always the latter
    codes_nl : raw codes, int32
    sids_ns : SIDs, int32
    index : where items are
    """

    item_ids: pa.Array
    levels: tuple[int, ...]
    codes_nl: Tensor
    sids_ns: Tensor
    index: ItemIndex
    # Of every vocabulary that was asked for: tokens of all rows, then those of an unknown item.
    _tokens: dict[SidVocabulary, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str | torch.device = "cpu", item_id: str = "item_id"
    ) -> SidLookup:
        """Read a table: a file, a folder of parts, a store, a glob or a URI.

        Raises
        ------
        SemidError
            As `semid.read_ids`, or when the device is not there.
        """
        return cls.of(read_ids(path, item_id), device=device)

    @classmethod
    def of(cls, table: IdTable, *, device: str | torch.device = "cpu") -> SidLookup:
        """Make the lookup of a table in memory; `load` reads one from a path."""
        if not isinstance(table, IdTable):
            raise SemidError(
                f"a lookup is asked for of {type(table).__name__}; give an IdTable, or its path to "
                "SidLookup.load"
            )
        codes_nl, sids_ns = (
            torch.from_numpy(np.array(codes, np.int32)) for codes in (table.codes, table.sids)
        )
        index = ItemIndex.of(table.item_ids, table.item_id)
        made = cls(table.item_ids, levels_of(table), codes_nl, sids_ns, index)
        return made.to(device)

    def to(self, device: str | torch.device) -> SidLookup:
        """Return the lookup on another device; string ids are looked up on the CPU all the same."""
        device = as_device(device)
        return replace(
            self,
            codes_nl=self.codes_nl.to(device),
            sids_ns=self.sids_ns.to(device),
            index=self.index.to(device),
        )

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.sids_ns.device

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        return f"SidLookup({len(self):,} items, levels={self.levels}, {self.device})"

    def rows(self, item_ids: Any) -> Tensor:
        """Return the rows of items in the table: int64, -1 for those that it lacks.

        Parameters
        ----------
        item_ids : a NumPy array or, of integers, a tensor, of any shape, such as padded histories
            ``(b, t)`` whose padding is no item's id; or a list, an Arrow array or a column of
            pandas, categories among them, ``(q,)``

        Raises
        ------
        SemidError
            When the ids are of another type than the table's, one is null, or they are nested lists
            or a single id.
        """
        return self.index.rows(item_ids).to(self.device)

    def codes(self, item_ids: Any) -> Tensor:
        """Return the raw codes of items, as `rows` takes them: int64 ``(…, l)``, -1 for unknown."""
        return _taken(self.codes_nl, self.rows(item_ids))

    def sids(self, item_ids: Any) -> Tensor:
        """Return the SIDs of items, as `rows` takes them: int64 ``(…, s)``, -1 for unknown."""
        return _taken(self.sids_ns, self.rows(item_ids))

    def tokens(self, item_ids: Any, vocabulary: SidVocabulary) -> Tensor:
        """Return the tokens of items, as `rows` takes them: int64 ``(…, s)``.

        They are ``vocabulary.tokens(lookup.sids(item_ids))``, from a table that is made at the
        first call with a vocabulary.

        Raises
        ------
        SemidError
            As `rows`; when a SID of the table does not fit the vocabulary; when an item is unknown
            and the vocabulary has no such token.
        """
        token_ms = self._token_table(vocabulary)
        row = self.rows(item_ids)
        if "unknown" not in vocabulary.special and bool((row < 0).any()):
            raise SemidError(
                f"{int((row < 0).sum()):,} of the {row.numel():,} item ids are unknown, and the "
                "vocabulary has no token for them; leave them out, or give it 'unknown' among "
                "its special tokens"
            )
        found = token_ms.index_select(0, torch.where(row < 0, len(self), row).reshape(-1))
        return found.long().view(*row.shape, token_ms.shape[1])

    def _token_table(self, vocabulary: SidVocabulary) -> Tensor:
        if not isinstance(vocabulary, SidVocabulary):
            raise SemidError(
                f"tokens are asked for in a {type(vocabulary).__name__}; give a SidVocabulary"
            )
        if vocabulary not in self._tokens:
            token_ns = vocabulary.tokens(self.sids_ns).int()
            unknown = vocabulary.unknown if "unknown" in vocabulary.special else UNKNOWN
            last = token_ns.new_full((1, token_ns.shape[1]), unknown)
            self._tokens[vocabulary] = torch.cat([token_ns, last])
        return self._tokens[vocabulary]

    @cached_property
    def trie(self) -> SidTrie:
        """The trie of the table's SIDs, on this device; made when first asked for."""
        return SidTrie.of(self.sids_ns, levels=self.levels, device=self.device)

    def rows_of_sids(self, sids: Any) -> ItemRows:
        """Return the rows that have SIDs ``(q, s)``: none, one, or several that share it.

        Item ids are ``lookup.ids(found.row_m)``.

        Raises
        ------
        SemidError
            When `sids` are not of the length of the table's, or no integers.
        """
        sids_qs = torch.as_tensor(sids)
        if sids_qs.ndim != 2 or sids_qs.shape[1] != len(self.levels):
            raise SemidError(
                f"the SIDs have shape {tuple(sids_qs.shape)}; expected (q, {len(self.levels)})"
            )
        if sids_qs.is_floating_point():
            raise SemidError(f"the SIDs are of type {sids_qs.dtype}; give integers")
        return self.trie.rows(self.trie.walk(sids_qs))

    def ids(self, row_m: Any) -> pa.Array:
        """Return the item ids of rows ``(m,)``; null for -1.

        Raises
        ------
        SemidError
            When a row is none of the table's, or rows have another shape.
        """
        asked = np.ascontiguousarray(torch.as_tensor(row_m).cpu().numpy())
        if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
            raise SemidError(
                f"rows have shape {asked.shape} and type {asked.dtype}; expected integers (m,)"
            )
        if (asked >= 0).all() and asked.max(initial=-1) < len(self):
            return self.item_ids.take(to_arrow(asked.astype(np.int64, copy=False)))
        wrong = asked[(asked < -1) | (asked >= len(self))]
        if len(wrong):
            raise SemidError(
                f"there is no row {wrong[0]}; the table's go from 0 to {len(self) - 1:,}, and -1 "
                "stands for none"
            )
        known = pa.array([row if row >= 0 else None for row in asked.tolist()], pa.int64())
        return self.item_ids.take(known)


def _taken(codes_nl: Tensor, row: Tensor) -> Tensor:
    found = codes_nl.index_select(0, row.clamp(min=0).reshape(-1)).long()
    found = found.view(*row.shape, codes_nl.shape[1])
    return found.masked_fill_(row.unsqueeze(-1) < 0, UNKNOWN)
