"""What the explorer of a report holds: the tree of prefixes, and items with what is known of them.

Every figure of a prefix is of all its items. Of large catalogs the page holds a part of the items,
spread evenly over the SIDs. Shapes: n items sorted by SID, m that the page holds, p prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.report.packing import pack, rounded, smallest
from semid.report.tree import Prefixes, means, most_frequent

MOST_ITEMS = 100_000
MOST_PREFIXES = 150_000
"""Of one depth; the tree ends before the first depth with more."""
MOST_BYTES = 9_000_000
"""Of what is packed, as text; the script of the plots takes 5 MB beside it."""
MOST_LABELS = 60
NOBODY = 0xFFFFFFFF

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """What prefixes and items may be coloured by: a number or a label of every item.

    Attributes
    ----------
    name : what it is called
    value_n : numbers, NaN where unknown; or the places of labels, -1 where unknown
    labels : the labels, most frequent first; None for numbers
    """

    name: str
    value_n: npt.NDArray[Any]
    labels: tuple[str, ...] | None = None


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
    """

    row_m: Rows
    texts: dict[str, list[str]]
    near_mk: npt.NDArray[np.uint32] | None = None
    alike_mk: npt.NDArray[np.uint8] | None = None
    place_m2: npt.NDArray[np.float32] | None = None

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


def contents(
    sids_ns: npt.NDArray[np.int32],
    tree: Sequence[Prefixes],
    columns: Sequence[Column],
    held: Held,
    wanted: Rows,
    *,
    most_bytes: int = MOST_BYTES,
) -> tuple[str, list[str]]:
    """Pack what the explorer holds; returns it and what was left out, a sentence each.

    Parameters
    ----------
    sids_ns : SIDs of all items, sorted
    tree : their prefixes
    columns : what they may be coloured by; the first is shown
    held : the items that the page is to hold
    wanted : rows that it must hold
    most_bytes : what it may take; items are thinned until it does
    """
    n, notes = len(sids_ns), []
    depths = [p for p in tree if len(p) <= MOST_PREFIXES] or list(tree[:1])
    if len(depths) < len(tree):
        notes.append(
            f"The tree ends after {len(depths)} of {len(tree)} codes: there are "
            f"{len(tree[len(depths)]):,} prefixes of {len(depths) + 1}."
        )
    fixed = _tree_arrays(depths, columns)
    text = _packed(sids_ns, depths, columns, held, fixed)
    while len(text) > most_bytes and len(held.row_m) > 2 * len(wanted) + 1_000:
        m = len(held.row_m)
        keep = max(int(m * min(0.9, 0.9 * most_bytes / len(text))), 1)
        keep_m = np.isin(held.row_m, wanted)
        keep_m[np.linspace(0, m - 1, keep).round().astype(np.int64)] = True
        held = held.kept(keep_m)
        text = _packed(sids_ns, depths, columns, held, fixed)
    if len(held.row_m) < n:
        notes.append(
            f"Of {n:,} items the page holds {len(held.row_m):,}, spread evenly over the semantic "
            "IDs, with all that its tables name. Sizes and colours of prefixes are of all items; "
            "lists, search, neighbours and the map are of those it holds."
        )
    return text, notes


def _packed(
    sids_ns: npt.NDArray[np.int32],
    depths: Sequence[Prefixes],
    columns: Sequence[Column],
    held: Held,
    fixed: dict[str, npt.NDArray[Any]],
) -> str:
    arrays = fixed | {
        "row": held.row_m.astype(np.uint32),
        "sid": smallest(sids_ns[held.row_m].reshape(-1)),
    }
    for place, column in enumerate(columns):
        arrays[f"item_{place}"] = _values(column, column.value_n[held.row_m])
    if held.near_mk is not None and held.alike_mk is not None:
        arrays |= {"near": held.near_mk.reshape(-1), "alike": held.alike_mk.reshape(-1)}
    if held.place_m2 is not None:
        for name, place_m in zip(("map_x", "map_y"), held.place_m2.T, strict=True):
            arrays[name] = (65_535 * place_m).astype(np.uint16)
    facts = {
        "items": len(sids_ns),
        "depths": len(depths),
        "sid_length": sids_ns.shape[1],
        "neighbours": 0 if held.near_mk is None else held.near_mk.shape[1],
        "columns": [
            {"name": c.name, "kind": "number"}
            if c.labels is None
            else {"name": c.name, "kind": "label", "labels": c.labels}
            for c in columns
        ],
    }
    return pack(arrays, held.texts, facts)


def _tree_arrays(
    depths: Sequence[Prefixes], columns: Sequence[Column]
) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for depth, prefixes in enumerate(depths, start=1):
        arrays[f"code_{depth}"] = smallest(prefixes.code_p)
        arrays[f"size_{depth}"] = smallest(prefixes.size_p)
        last = depth == len(depths)
        children_p = np.zeros_like(prefixes.size_p) if last else prefixes.children_p
        arrays[f"children_{depth}"] = smallest(children_p)
        for place, column in enumerate(columns):
            name = f"{place}_{depth}"
            if column.labels is None:
                arrays[f"value_{name}"] = rounded(means(column.value_n, prefixes))
            else:
                label_p, share_p = most_frequent(column.value_n, prefixes)
                arrays[f"value_{name}"] = _values(column, label_p)
                arrays[f"share_{name}"] = (255 * share_p).round().astype(np.uint8)
    return arrays


def _values(column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if column.labels is None:
        return rounded(values)
    return smallest(np.where(values < 0, len(column.labels), values))
