"""What the explorer of a report holds: the tree of prefixes, and items with what is known of them.

Every figure of a prefix is of all its items. Of large catalogs the page holds a part of the items,
spread evenly over the SIDs. Shapes: n items sorted by SID, m that the page holds, p prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid.report.packing import pack, rounded, smallest
from semid.report.tree import Prefixes, means, most_frequent

MOST_ITEMS = 100_000
MOST_PREFIXES = 150_000
"""Of one depth; the tree ends before the first depth with more."""
MOST_BYTES = 9_000_000
"""Of what is packed, as text; the script of the plots takes 5 MB beside it."""
LEAST_ITEMS = 20_000
"""Items that the page holds before anything but the longest prefixes is left out for them."""
LEAST_DEPTHS = 3
"""Codes of the prefixes that are left out only when items and colours are."""
MOST_LABELS = 60
NOBODY = 0xFFFFFFFF
NO_VALUE, RARE = -1, -2
"""In place of a label: there is none; there is one, but not among those that are told apart."""

Rows = npt.NDArray[np.int64]
TreeArrays = dict[tuple[int, int], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Column:
    """What prefixes and items may be coloured by: a number or a label of every item.

    Attributes
    ----------
    name : what it is called
    value_n : numbers, NaN where there is none; or the places of labels, `NO_VALUE` or `RARE`
    labels : the labels, most frequent first; None for numbers
    """

    name: str
    value_n: npt.NDArray[Any]
    labels: tuple[str, ...] | None = None

    @cached_property
    def missing_n(self) -> npt.NDArray[np.bool_]:
        """Which items have no value."""
        value_n = self.value_n
        missing_n: npt.NDArray[np.bool_]
        missing_n = np.isnan(value_n) if self.labels is None else value_n == NO_VALUE
        return missing_n

    @property
    def facts(self) -> dict[str, Any]:
        """What the page's script is told of it."""
        told: dict[str, Any] = {"name": self.name, "missing": int(self.missing_n.sum())}
        if self.labels is None:
            return told | {"kind": "number"}
        rare = bool((self.value_n == RARE).any())
        return told | {"kind": "label", "labels": self.labels, "rare": rare}


@dataclass(frozen=True)
class Held:
    """The items that the page holds.

    Attributes
    ----------
    row_m : their rows among all, ascending
    texts : ``ids`` and, where there are any, ``titles``, ``images`` and ``urls``, each ``(m,)``
    near_mk : the items nearest to each, as places among the m, `NOBODY` where there are no more
    alike_mk : the cosine with each of these, in hundredths
    place_m2 : where they stand on the map, in the unit square
    recall : what share of the nearest are that, of a sample
    """

    row_m: Rows
    texts: dict[str, list[str]]
    near_mk: npt.NDArray[np.uint32] | None = None
    alike_mk: npt.NDArray[np.uint8] | None = None
    place_m2: npt.NDArray[np.float32] | None = None
    recall: float = 1.0

    def kept(self, keep_m: npt.NDArray[np.bool_]) -> Held:
        """Return some of the items; neighbours that are not among them are left out."""
        place_m = np.where(keep_m, np.cumsum(keep_m) - 1, NOBODY).astype(np.uint32)
        near_mk = None
        if self.near_mk is not None:
            near_mk = np.append(place_m, np.uint32(NOBODY))[
                np.minimum(self.near_mk[keep_m], len(place_m))
            ]
        return replace(
            self,
            row_m=self.row_m[keep_m],
            texts={
                name: [line for line, keep in zip(lines, keep_m.tolist(), strict=True) if keep]
                for name, lines in self.texts.items()
            },
            near_mk=near_mk,
            alike_mk=None if self.alike_mk is None else self.alike_mk[keep_m],
            place_m2=None if self.place_m2 is None else self.place_m2[keep_m],
        )


def held_rows(n: int, most: int, wanted: Rows) -> Rows:
    """Choose at most about `most` of n rows, evenly spread, with those that are wanted."""
    spread = np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.int64)
    return np.union1d(spread, wanted)


class Contents(NamedTuple):
    """What is packed, what was left out of it, a sentence each, and how many items it has."""

    text: str
    left_out: list[str]
    items: int


@dataclass(frozen=True)
class _Content:
    """What is to be packed, and what of it can be left out."""

    sids_ns: npt.NDArray[np.int32]
    tree: TreeArrays
    depth: int
    columns: Sequence[Column]
    held: Held
    wanted: Rows

    def thinned(self, share: float) -> _Content | None:
        """Leave out what is missed least; None when there is nothing left but what is wanted.

        Prefixes longer than three codes, the longest first; items, down to `LEAST_ITEMS`; columns
        to colour by, the last first; prefixes longer than one code; items, down to those wanted.

        Parameters
        ----------
        share : what may be kept of what there is, by its size
        """
        items = len(self.held.row_m)
        if self.depth > LEAST_DEPTHS:
            return replace(self, depth=self.depth - 1)
        if items > max(LEAST_ITEMS, len(self.wanted)):
            return self._of(max(int(items * min(0.9, 0.9 * share)), LEAST_ITEMS))
        if self.columns:
            return replace(self, columns=self.columns[:-1])
        if self.depth > 1:
            return replace(self, depth=self.depth - 1)
        return self._of(items // 2) if items > len(self.wanted) else None

    def _of(self, items: int) -> _Content:
        """Keep so many items, evenly spread, with those that are wanted."""
        row_m = self.held.row_m
        keep_m = np.isin(row_m, self.wanted)
        free = np.flatnonzero(~keep_m)
        spread = np.linspace(0, len(free) - 1, max(items - int(keep_m.sum()), 0))
        keep_m[free[spread.round().astype(np.int64)]] = True
        return replace(self, held=self.held.kept(keep_m))


def contents(
    sids_ns: npt.NDArray[np.int32],
    tree: Sequence[Prefixes],
    columns: Sequence[Column],
    held: Held,
    wanted: Rows,
    *,
    most_bytes: int = MOST_BYTES,
) -> Contents:
    """Pack what the explorer holds.

    Parameters
    ----------
    sids_ns : SIDs of all items, sorted
    tree : their prefixes
    columns : what they may be coloured by; the first is shown
    held : the items that the page is to hold
    wanted : rows that it must hold
    most_bytes : what it may take; prefixes, items and columns are left out until it does
    """
    depths = [p for p in tree if len(p) <= MOST_PREFIXES] or list(tree[:1])
    arrays = _tree_arrays(depths, columns)
    content = _Content(sids_ns, arrays, len(depths), columns, held, wanted)
    text = _packed(content)
    while len(text) > most_bytes:
        fewer = content.thinned(most_bytes / len(text))
        if fewer is None:
            break
        content, text = fewer, _packed(fewer)
    return Contents(text, _left_out(content, tree, columns), len(content.held.row_m))


def _left_out(content: _Content, tree: Sequence[Prefixes], columns: Sequence[Column]) -> list[str]:
    n, notes, depth = len(content.sids_ns), [], content.depth
    if depth < len(tree):
        notes.append(
            f"The tree ends after {depth} of {len(tree)} codes: there are {len(tree[depth]):,} "
            f"prefixes of {depth + 1}."
        )
    if len(content.columns) < len(columns):
        names = ", ".join(column.name for column in columns[len(content.columns) :])
        notes.append(f"There was no room to colour by {names}.")
    if (held := len(content.held.row_m)) < n:
        notes.append(
            f"Of {n:,} items the page holds {held:,}, spread evenly over the semantic "
            "IDs, with all that its tables name. Sizes and colours of prefixes are of all items; "
            "lists, search, neighbours and the map are of those it holds."
        )
    return notes


def _packed(content: _Content) -> str:
    sids_ns, held, depth = content.sids_ns, content.held, content.depth
    arrays = {
        "row": held.row_m.astype(np.uint32),
        "sid": smallest(sids_ns[held.row_m].reshape(-1)),
    }
    for (at, place), found in content.tree.items():
        if at <= depth and place < len(content.columns):
            arrays |= found
    del arrays[f"children_{depth}"]
    for place, column in enumerate(content.columns):
        arrays[f"item_{place}"] = _values(column, column.value_n[held.row_m])
    if held.near_mk is not None and held.alike_mk is not None:
        arrays |= {"near": held.near_mk.reshape(-1), "alike": held.alike_mk.reshape(-1)}
    if held.place_m2 is not None:
        for name, place_m in zip(("map_x", "map_y"), held.place_m2.T, strict=True):
            arrays[name] = (65_535 * place_m).astype(np.uint16)
    facts = {
        "items": len(sids_ns),
        "depths": depth,
        "sid_length": sids_ns.shape[1],
        "neighbours": 0 if held.near_mk is None else held.near_mk.shape[1],
        "neighbours_said": _of_neighbours(len(sids_ns), held),
        "columns": [column.facts for column in content.columns],
    }
    return pack(arrays, held.texts, facts)


def _of_neighbours(n: int, held: Held) -> str:
    """Say what the neighbours are not: of all items, or exact; empty when they are both."""
    said = []
    if len(held.row_m) < n:
        said.append("among the items that the page holds")
    if held.recall < 1:
        said.append(f"approximate: {held.recall:.0%} of a sample's are right")
    return ", ".join(said)


def _tree_arrays(tree: Sequence[Prefixes], columns: Sequence[Column]) -> TreeArrays:
    """Return the arrays of every depth, and of every column at it; those of codes at place -1."""
    found: TreeArrays = {}
    for depth, prefixes in enumerate(tree, start=1):
        found[depth, -1] = {
            f"code_{depth}": smallest(prefixes.code_p),
            f"size_{depth}": smallest(prefixes.size_p),
            f"children_{depth}": smallest(prefixes.children_p),
        }
        for place, column in enumerate(columns):
            name = f"{place}_{depth}"
            if column.labels is None:
                found[depth, place] = {f"value_{name}": rounded(means(column.value_n, prefixes))}
            else:
                label_p, share_p = most_frequent(column.value_n, prefixes)
                found[depth, place] = {
                    f"value_{name}": _values(column, label_p),
                    f"share_{name}": (255 * share_p).round().astype(np.uint8),
                }
            if column.missing_n.any():
                missing_p = np.add.reduceat(column.missing_n.astype(np.int64), prefixes.start_p)
                found[depth, place][f"missing_{name}"] = smallest(missing_p)
    return found


def _values(column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if column.labels is None:
        return rounded(values)
    # No value and a rare one are the two places after the labels.
    return smallest(np.where(values < 0, len(column.labels) - 1 - values, values))
