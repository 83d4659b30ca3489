"""Items that some batch rows may not be given, as the nodes of a trie that are dead for them.

A node is dead for a row when all that is left below it is forbidden to the row: by as many items as
are left. Only the ancestors of forbidden items can be, so nothing here is as large as the trie.

Shapes: b batch rows, m items of a row, q states, w slots.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from semid.errors import SemidError
from semid.recsys.trie import Children, SidTrie

_NOWHERE = -2  # the parent of no dead node: neither a node nor the mark of none


class DeadNodes(NamedTuple):
    """For every depth the dead children of its nodes, ``(b, m)`` with an m of its own.

    parent : their parents, int64; -2 for none
    slot : in which slot of `Children` they stand, int64
    rows_bm : the rows of the table that are excluded, -1 for none
    """

    parent: tuple[Tensor, ...]
    slot: tuple[Tensor, ...]
    rows_bm: Tensor

    def batch_rows(self, states: int) -> Tensor:
        """Return the batch rows of states, of which each has as many, one row after the other.

        Raises
        ------
        SemidError
            When they cannot have as many.
        """
        batch = len(self.rows_bm)
        if states % batch:
            raise SemidError(
                f"there are {states} states for {batch} batch rows of excluded items; give as many "
                "for each"
            )
        return torch.arange(states, device=self.rows_bm.device) // (states // batch)


def require_rows(rows: Tensor, table_rows: int) -> None:
    """Raise `SemidError` unless excluded rows are numbers of a table's rows or -1, and no mask."""
    if rows.dtype == torch.bool or rows.is_floating_point():
        raise SemidError(
            f"excluded rows are of type {rows.dtype}; give the numbers of rows, as of a mask its "
            "nonzero()"
        )
    if not rows.numel():
        return
    for row in torch.stack(rows.aminmax()).tolist():
        if not -1 <= row < table_rows:
            raise SemidError(
                f"there is no row {row} to exclude; the table's go from 0 to {table_rows - 1:,}, "
                "and -1 stands for none: look ids up by SidLookup.rows"
            )


def dead_nodes(trie: SidTrie, rows_bm: Tensor, live_v: Tensor, live_n: Tensor | None) -> DeadNodes:
    """Find the dead nodes of batch rows; parameters and errors as of `excluding_by_row`.

    `live_v` and `live_n` say what is left without them: below every node, and which rows; None for
    all.
    """
    require_rows(rows_bm, len(trie.row_n))
    if rows_bm.ndim != 2:
        raise SemidError(f"excluded rows have shape {tuple(rows_bm.shape)}; expected (b, m)")
    last = trie.num_nodes
    rows_bm = rows_bm.to(trie.device)
    node_bm = _leaves(trie, rows_bm, live_n)
    parents, slots = [], []
    for depth in reversed(range(trie.depth)):
        some_bm = node_bm < last
        inside_bm = torch.where(some_bm, node_bm, 0)
        # Nodes ascend, so that equal ones are neighbours.
        count_bm = torch.searchsorted(node_bm, node_bm, right=True)
        count_bm -= torch.searchsorted(node_bm, node_bm)
        dead_bm = some_bm & (count_bm == live_v[inside_bm])
        parent_bm = torch.searchsorted(trie.first_v, inside_bm.int(), right=True) - 1
        is_dense = depth < len(trie.dense)
        first_bm = trie.first_v[parent_bm.clamp(min=0)]
        slot_bm = trie.code_v[inside_bm] if is_dense else inside_bm - first_bm
        parent, slot = _packed(parent_bm, slot_bm.long(), dead_bm)
        parents.append(parent)
        slots.append(slot)
        node_bm = torch.where(some_bm, parent_bm, last)
    spent_b = (node_bm == 0).sum(1) == live_v[0]
    if bool(spent_b.any()):
        row = int(spent_b.nonzero()[0])
        raise SemidError(f"batch row {row} excludes all items that are left; leave some")
    return DeadNodes(tuple(parents[::-1]), tuple(slots[::-1]), rows_bm)


def _leaves(trie: SidTrie, rows_bm: Tensor, live_n: Tensor | None) -> Tensor:
    """Return the leaves of items, ascending, each item counted once; v for none, ``(b, m)``."""
    rows_bm = rows_bm.sort(1).values
    some_bm = rows_bm >= 0
    some_bm[:, 1:] &= rows_bm[:, 1:] != rows_bm[:, :-1]
    inside_bm = rows_bm.clamp(min=0)
    if live_n is not None:
        some_bm &= live_n[inside_bm]
    leaf_bm = torch.where(some_bm, trie.leaf_n[inside_bm].long(), trie.num_nodes)
    return leaf_bm.sort(1).values


def _packed(parent_bm: Tensor, slot_bm: Tensor, dead_bm: Tensor) -> tuple[Tensor, Tensor]:
    """Keep what is dead, in as few columns as hold it."""
    most = int(dead_bm.sum(1).max()) if dead_bm.numel() else 0
    parent, order = torch.where(dead_bm, parent_bm, _NOWHERE).sort(1, descending=True)
    return parent[:, :most], slot_bm.gather(1, order)[:, :most]


def forbidden(
    dead: DeadNodes, found: Children, node: Tensor, depth: int, row: Tensor | None
) -> Tensor:
    """Return which children of states ``(…)`` are dead for their batch rows: bool ``(…, w)``."""
    parent_bm, slot_bm = dead.parent[depth], dead.slot[depth]
    node_q, width = node.reshape(-1), found.node.shape[-1]
    row = dead.batch_rows(len(node_q)) if row is None else row
    hit_qm = parent_bm[row.reshape(-1)] == node_q.unsqueeze(1)
    slot_qm = torch.where(hit_qm, slot_bm[row.reshape(-1)], width)
    mask_qw = torch.zeros(len(node_q), width + 1, dtype=torch.bool, device=node.device)
    mask = mask_qw.scatter_(1, slot_qm, True)[:, :width].view(found.node.shape)
    if found.repeats is None:
        return mask
    # Slots that repeat the last child share its fate.
    count = (~found.repeats).sum(-1, keepdim=True)
    slot = torch.arange(width, device=node.device).minimum(count - 1)
    return mask.gather(-1, slot.clamp(min=0))
