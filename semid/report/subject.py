"""What a report is of: rows sorted by SID, measured as batches of embeddings and items come.

Knows arrays and batches, not paths. Shapes: n items sorted by SID, l levels, b of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow
from semid.errors import SemidError
from semid.evaluation.codes import code_figures
from semid.id_table import IdTable
from semid.ids import group_ids, pack_keys, prefixes
from semid.report.contents import MOST_LABELS, NO_VALUE, RARE, Column
from semid.report.tree import Prefixes, prefix_tree

Rows = npt.NDArray[np.int64]


class Subject:
    """An ids table, its rows sorted by SID, with what follows from codes alone.

    Parameters
    ----------
    table : of any order, at least one row
    levels : codewords per level; those that occur if not given

    Attributes
    ----------
    table_row_n : where each row stood in the table
    """

    def __init__(self, table: IdTable, levels: Sequence[int] | None = None) -> None:
        keys_nm = pack_keys(table.sids, [int(most) + 1 for most in table.sids.max(axis=0)])
        self.table_row_n = order_n = np.lexsort(keys_nm.T[::-1])
        self.table = replace(
            table,
            item_ids=table.item_ids.take(to_arrow(order_n)),
            codes=table.codes[order_n],
            sids=table.sids[order_n],
            distance=None,
            margin=None,
        )
        self.levels = tuple(levels or (int(most) + 1 for most in table.codes.max(axis=0)))

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def tree(self) -> list[Prefixes]:
        """The prefixes of the SIDs, without a suffix."""
        return prefix_tree(self.table.sids[:, : self.table.codes.shape[1]])

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What `semid evaluate` says of the codes alone."""
        return code_figures(self.table.codes, self.levels)

    @cached_property
    def sharing_n(self) -> Rows:
        """How many items have the raw SID of each row, itself included."""
        return group_ids(self.table.codes)[1]

    @property
    def group_sizes(self) -> Rows:
        """How many items each raw SID has, ``(g,)``, in the order of the raw SIDs."""
        return prefixes(self.table.codes, self.table.codes.shape[1])[1]

    @cached_property
    def counts(self) -> list[npt.NDArray[np.int64]]:
        """How often each codeword of a level is used by raw codes, ``(k,)`` for each level."""
        columns = zip(self.table.codes.T, self.levels, strict=True)
        return [np.bincount(code_n, minlength=size) for code_n, size in columns]

    def spelled(self, row: int) -> str:
        """Spell the SID of a row: ``41,7,203``."""
        return ",".join(map(str, self.table.sids[row].tolist()))

    def rows_of(self, ids: pa.Array) -> tuple[Rows, Rows]:
        """Return the places in a batch whose items the table has, and the rows of these."""
        row_b = self.table.rows_of(ids)
        place_b = np.flatnonzero(row_b >= 0)
        return place_b, row_b[place_b]


def column_of(
    subject: Subject, name: str, kind: pa.DataType, batches: Iterable[pa.RecordBatch]
) -> Column:
    """Gather a column of items, to colour by: numbers as they are, all else as labels.

    Parameters
    ----------
    subject : the items
    name, kind : the column's; of lists the first element counts, and the name says so
    batches : item ids and the column
    """
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        value_n = np.full(len(subject), np.nan)
        for batch in batches:
            place_b, row_b = subject.rows_of(batch.column(0))
            found = batch.column(1).cast(pa.float64(), safe=False).fill_null(float("nan"))
            value_n[row_b] = found.to_numpy(zero_copy_only=False)[place_b]
        return Column(name, np.where(np.isfinite(value_n), value_n, np.nan))
    label_n, labels = np.full(len(subject), NO_VALUE), dict[str, int]()
    for batch in batches:
        place_b, row_b = subject.rows_of(batch.column(0))
        coded = _texts(batch.column(1), name).dictionary_encode()
        known = [labels.setdefault(text, len(labels)) for text in coded.dictionary.to_pylist()]
        index_b = coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        label_n[row_b] = np.array([*known, NO_VALUE])[index_b][place_b]
    return _most_common(f"{name}, the first" if _is_list(kind) else name, label_n, list(labels))


def _most_common(name: str, label_n: Rows, labels: list[str]) -> Column:
    """Order labels by how many items have them; those of the fewest items are `RARE`."""
    count_k = np.bincount(label_n[label_n >= 0], minlength=len(labels))
    order_k = np.lexsort((np.array(labels, dtype=object), -count_k)) if labels else count_k
    kept_k = order_k[:MOST_LABELS]
    rank_k = np.full(len(labels) + 1, RARE)
    rank_k[-1] = NO_VALUE
    rank_k[kept_k] = np.arange(len(kept_k))
    return Column(name, rank_k[label_n], tuple(labels[place] for place in kept_k.tolist()))


def _texts(column: pa.Array, name: str) -> pa.Array:
    if _is_list(kind := column.type):
        empty = pc.equal(pc.list_value_length(column), 0)
        column = pc.list_element(pc.if_else(empty, pa.scalar(None, kind), column), 0)
    try:
        texts = column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise SemidError(
            f"the column '{name}' is of the type {kind}, which is neither numbers nor labels; "
            "colour by another"
        ) from error
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in lists)


def texts_of(
    subject: Subject,
    row_m: Rows,
    batches: Iterable[pa.RecordBatch],
    cuts: Sequence[Callable[[str], str]],
) -> list[list[str]]:
    """Gather text of some rows, ``(m,)`` for every column after the item ids; "" where unknown.

    Parameters
    ----------
    subject : the items
    row_m : which of them, ascending
    batches : item ids and columns
    cuts : for every column what makes its text short enough: `shortened` or `whole_or_none`
    """
    place_n = np.full(len(subject), -1)
    place_n[row_m] = np.arange(len(row_m))
    found: list[list[str]] | None = None
    for batch in batches:
        found = found or [[""] * len(row_m) for _ in batch.columns[1:]]
        place_b, row_b = subject.rows_of(batch.column(0))
        held_b = place_n[row_b] >= 0
        wanted, spot_b = to_arrow(place_b[held_b]), place_n[row_b[held_b]].tolist()
        for lines, column, cut in zip(found, batch.columns[1:], cuts, strict=True):
            for spot, value in zip(spot_b, column.take(wanted).to_pylist(), strict=True):
                lines[spot] = "" if value is None else cut(str(value))
    return found or []


def shortened(text: str, most: int = 160) -> str:
    """Return text of at most so many characters, ending in … where there were more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def whole_or_none(text: str, most: int = 1_000) -> str:
    """Return an address, or nothing for one of more characters: a part of it leads nowhere."""
    return text if len(text) <= most else ""
