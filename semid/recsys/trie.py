"""The trie of a table's SIDs as flat arrays on a device, walked for many beams at once.

Nodes are numbered level by level, and within a level in the order of their prefixes. The children
of a node are then neighbours, and so are those of the next node: one array of first children says
where all of them are, a CSR matrix whose column of targets need not be kept. The first levels,
where nearly every code occurs, also have dense tables of children. That is the layout of STATIC (Su
et al., "Vectorizing the Trie", arXiv 2602.22647), whose kernel reads of every node as many slots as
the widest node of the level has, so that shapes never depend on the beams.

Shapes: n items, s levels, v nodes, f leaves, w slots, k codes, ``…`` any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from semid.devices import as_device
from semid.errors import SemidError
from semid.id_table import IdTable
from semid.recsys.arguments import require_tensor
from semid.recsys.levels import levels_of
from semid.recsys.trie_building import build

DENSE_ENTRIES = 1 << 20
"""A level has a dense table of children where that needs no more entries, of 4 bytes each."""

NARROW = 64
"""So many children are compared at once: a binary search is few steps, but many operations."""


class Children(NamedTuple):
    """The children of nodes, in as many slots as the widest node of their depth needs.

    code : the code of every slot, ``(…, w)``, int32
    node : the child, ``(…, w)``, int32, or -1 where there is none
    repeats : slots beyond a node's last child, which repeat it, ``(…, w)``; None in a dense level,
        whose slot c is that of code c
    """

    code: Tensor
    node: Tensor
    repeats: Tensor | None


class ItemRows(NamedTuple):
    """Rows of a table for each of q SIDs, of which the i-th has ``row_m[start_q[i]:start_q[i+1]]``.

    start_q : int64 from 0, ``(q + 1,)``
    row_m : int64, ascending for each SID, ``(m,)``
    """

    start_q: Tensor
    row_m: Tensor

    @property
    def first_q(self) -> Tensor:
        """The first row of each SID, -1 where it has none: int64 ``(q,)``."""
        some_m = torch.cat([self.row_m, self.row_m.new_full((1,), -1)])
        return torch.where(self.start_q.diff() > 0, some_m[self.start_q[:-1]], -1)


@dataclass(frozen=True, eq=False)
class SidTrie:
    """The trie of the SIDs of a table; `SidTrie.of` makes one.

    Attributes
    ----------
    levels : codes per level
    bases : the first node of every depth, and the number of nodes: ``0, 1, …, v``
    widths : the most children that a node has, for every depth but the last
    code_v : the last code of every node's prefix, -1 for the root, which is node 0; int32
    first_v : the first child of every inner node, and v; int32, ``(v - f + 1,)``
    row_n : rows of the table sorted by SID, int64
    start_f : where in them those of every leaf begin, and n; int64, ``(f + 1,)``
    dense : for the first depths the child of every node by code, or -1; int32, ``(nodes, k)``
    """

    levels: tuple[int, ...]
    bases: tuple[int, ...]
    widths: tuple[int, ...]
    code_v: Tensor
    first_v: Tensor
    row_n: Tensor
    start_f: Tensor
    dense: tuple[Tensor, ...] = ()

    @classmethod
    def of(
        cls,
        sids: Any,
        *,
        levels: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
        dense_entries: int = DENSE_ENTRIES,
    ) -> SidTrie:
        """Build the trie of SIDs, on the CPU.

        Parameters
        ----------
        sids : an ids table, or the codes of every item in its order, NumPy or torch, ``(n, s)``;
            items of equal ones share a leaf
        levels : codes per level; where not given those of the table, or one above the largest that
            occurs
        device : where to put the trie
        dense_entries : see `DENSE_ENTRIES`; 0 for no dense tables

        Raises
        ------
        SemidError
            When there are no SIDs, their lengths differ, a code is out of range, or the device is
            not there.
        """
        if isinstance(sids, IdTable):
            sids, levels = sids.sids, levels_of(sids) if levels is None else levels
        built = build(sids, levels)
        made = cls(
            built.levels,
            built.bases,
            built.widths,
            code_v=torch.from_numpy(built.code_v),
            first_v=torch.from_numpy(built.first_v),
            row_n=torch.from_numpy(built.row_n),
            start_f=torch.from_numpy(built.start_f),
        )
        return replace(made, dense=made._tables(dense_entries)).to(device)

    def _tables(self, entries: int) -> tuple[Tensor, ...]:
        tables: list[Tensor] = []
        for depth, size in enumerate(self.levels):
            low, high = self.bases[depth : depth + 2]
            if (high - low) * size > entries:
                break
            first_p = self.first_v[low : high + 1].long()
            child_c = torch.arange(int(first_p[0]), int(first_p[-1]))
            parent_c = torch.repeat_interleave(torch.arange(high - low), first_p.diff())
            table_pk = torch.full((high - low, size), -1, dtype=torch.int32)
            table_pk[parent_c, self.code_v[child_c].long()] = child_c.int()
            tables.append(table_pk)
        return tuple(tables)

    def to(self, device: str | torch.device) -> SidTrie:
        """Return the trie on another device."""
        device = as_device(device)
        moved = {
            name: getattr(self, name).to(device)
            for name in ("code_v", "first_v", "row_n", "start_f")
        }
        return replace(self, **moved, dense=tuple(table.to(device) for table in self.dense))

    @property
    def device(self) -> torch.device:
        """Where the trie lives."""
        return self.code_v.device

    def __repr__(self) -> str:
        sids = self.bases[-1] - self.bases[-2]
        items = f"{len(self.row_n):,} items, {sids:,} SIDs"
        return f"SidTrie({items}, levels={self.levels}, {self.device})"

    @property
    def depth(self) -> int:
        """How many codes a SID has: s."""
        return len(self.levels)

    @property
    def num_nodes(self) -> int:
        """How many prefixes there are, the empty one included: v."""
        return self.bases[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the trie takes."""
        arrays = (self.code_v, self.first_v, self.row_n, self.start_f, *self.dense)
        return sum(array.nbytes for array in arrays)

    def children(self, node: Tensor, depth: int) -> Children:
        """Return the children of nodes ``(…)`` of one depth, or of none (-1), which has none."""
        none = node.unsqueeze(-1) < 0
        if depth < len(self.dense):
            table_pk = self.dense[depth]
            place = (node - self.bases[depth]).clamp_(min=0)
            child = table_pk[place.long()].masked_fill_(none, -1)
            code_k = torch.arange(self.levels[depth], dtype=torch.int32, device=self.device)
            return Children(code_k.expand(child.shape), child, None)
        # In the place of none stands a node of this depth, whose codes have tokens.
        inside = node.clamp(min=self.bases[depth]).long()
        start, last = self.first_v[inside].unsqueeze(-1), self.first_v[inside + 1].unsqueeze(-1) - 1
        slot_w = torch.arange(self.widths[depth], dtype=torch.int32, device=self.device)
        reach = start + slot_w
        repeats = reach > last
        child = torch.minimum(reach, last, out=reach)
        code = self.code_v.index_select(0, child.view(-1)).view(child.shape)
        return Children(code, child.masked_fill_(none, -1), repeats)

    def advance(self, node: Tensor, code: Tensor, depth: int) -> Tensor:
        """Return the children of nodes ``(…)`` of one depth by their codes ``(…)``.

        int64; -1 where there is none, where the code is none of the level's, or from -1. A look-up
        in a dense level; else a comparison with all children, or where they may be many a binary
        search among them.
        """
        if depth < len(self.dense):
            alive = (node >= 0) & (code >= 0) & (code < self.levels[depth])
            place = (node.long() - self.bases[depth]).clamp_(min=0)
            child = self.dense[depth][place, code.clamp(0, self.levels[depth] - 1).long()]
            return torch.where(alive, child.long(), -1)
        if self.widths[depth] <= NARROW:
            found = self.children(node, depth)
            is_asked = found.code == code.unsqueeze(-1)
            return torch.where(is_asked, found.node, -1).amax(-1).long()
        return self._searched(node, code, depth)

    def _searched(self, node: Tensor, code: Tensor, depth: int) -> Tensor:
        inside = node.clamp(min=self.bases[depth]).long()
        low, stop = self.first_v[inside].long(), self.first_v[inside + 1].long()
        high, last = stop, self.num_nodes - 1
        for _ in range(self.widths[depth].bit_length()):
            middle = (low + high) >> 1
            # Past the last child of all there is nothing to read.
            below = (self.code_v[middle.clamp(max=last)] < code) & (middle < high)
            low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
        found = (node >= 0) & (low < stop) & (self.code_v[low.clamp(max=last)] == code)
        return torch.where(found, low, -1)

    def walk(self, codes: Tensor) -> Tensor:
        """Return the nodes of prefixes ``(…, d)``, d from 0 to s: int64 ``(…)``, -1 for no such."""
        require_tensor("codes", codes)
        if codes.shape[-1] > self.depth:
            raise SemidError(
                f"prefixes have {codes.shape[-1]} codes but the trie's SIDs have {self.depth}"
            )
        codes = codes.to(self.device)
        node = torch.zeros(codes.shape[:-1], dtype=torch.int64, device=self.device)
        for depth in range(codes.shape[-1]):
            node = self.advance(node, codes[..., depth], depth)
        return node

    def rows(self, leaf_q: Tensor) -> ItemRows:
        """Return the rows that have the SIDs of leaves ``(q,)``; other nodes, and -1, have none."""
        place = (leaf_q - self.bases[-2]).clamp(min=0)
        begin, end = self.start_f[place], self.start_f[place + 1]
        count_q = torch.where(leaf_q >= self.bases[-2], end - begin, 0)
        start_q = torch.cat([count_q.new_zeros(1), count_q.cumsum(0)])
        shift_m = torch.repeat_interleave(begin - start_q[:-1], count_q)
        return ItemRows(
            start_q, self.row_n[torch.arange(len(shift_m), device=self.device) + shift_m]
        )

    @cached_property
    def leaf_n(self) -> Tensor:
        """The leaf of every row of the table, int32; made when first asked for."""
        leaf_n = torch.arange(self.bases[-2], self.bases[-1], dtype=torch.int32, device=self.device)
        found = torch.empty(len(self.row_n), dtype=torch.int32, device=self.device)
        found[self.row_n] = torch.repeat_interleave(leaf_n, self.start_f.diff())
        return found

    @cached_property
    def size_v(self) -> Tensor:
        """How many rows are below every node, int32; made when first asked for."""
        return self.summed(torch.ones_like(self.row_n)).int()

    def summed(self, value_n: Tensor) -> Tensor:
        """Return the sums of integers of rows ``(n,)`` below every node: int64 ``(v,)``.

        One pass over rows and nodes.
        """
        before = torch.cat([value_n.new_zeros(1, dtype=torch.int64), value_n[self.row_n].cumsum(0)])
        begin_p = self.start_f
        sums = [before[begin_p].diff()]
        for depth in reversed(range(self.depth)):
            low, high = self.bases[depth : depth + 2]
            first_p = self.first_v[low : high + 1].long() - self.bases[depth + 1]
            begin_p = begin_p[first_p]
            sums.append(before[begin_p].diff())
        return torch.cat(sums[::-1])
