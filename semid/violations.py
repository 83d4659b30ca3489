"""What breaks the contract of an ids table: counted, the first few kept, all of them written.

Nothing here knows what is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow

EXAMPLES = 3

SCHEMA = pa.schema(
    [
        pa.field("check", pa.string(), nullable=False),
        ("item_id", pa.string()),
        ("row", pa.int64()),
        pa.field("found", pa.string(), nullable=False),
        pa.field("expected", pa.string(), nullable=False),
    ]
)

Write = Callable[[pa.RecordBatch], object]


class Violations:
    """Counts violations, check by check, and passes them on.

    Parameters
    ----------
    write : takes record batches of `SCHEMA`: ``check``, ``item_id`` as text (null where the
        table itself is wrong), ``row`` in the table over all its files, ``found`` and ``expected``

    Attributes
    ----------
    counts : violations of every check that was made, in their order
    examples : the first few of each check that has some, as plain values
    """

    def __init__(self, write: Write = lambda _: None) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._write = write

    @property
    def total(self) -> int:
        """All violations."""
        return sum(self.counts.values())

    def made(self, *checks: str) -> None:
        """Say that checks are made, whether or not they find anything."""
        for check in checks:
            self.counts.setdefault(check, 0)

    def add(self, check: str, items: Any, rows: Any, found: Any, expected: Any) -> None:
        """Add violations of a check, each argument a column ``(n,)`` or one value for all.

        Nulls of `found` and `expected` are written as ``null``.
        """
        self.made(check)
        columns = [check, items, rows, found, expected]
        n = next((len(c) for c in columns if isinstance(c, pa.Array)), 1)
        if n == 0:
            return
        arrays = [_column(values, field, n) for values, field in zip(columns, SCHEMA, strict=True)]
        batch = pa.record_batch(arrays, schema=SCHEMA)
        self.counts[check] += n
        kept = self.examples.setdefault(check, [])
        kept += batch.select(SCHEMA.names[1:]).slice(0, EXAMPLES - len(kept)).to_pylist()
        self._write(batch)

    def add_rows(self, check: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Add batches with the columns ``item_id``, ``row``, ``found`` and ``expected``."""
        self.made(check)
        for batch in batches:
            self.add(check, *(batch.column(name) for name in SCHEMA.names[1:]))


def _column(values: Any, field: pa.Field, n: int) -> pa.Array:
    if not isinstance(values, pa.Array):
        values = pa.repeat(pa.scalar(values, field.type), n)
    values = values.cast(field.type)
    return values if field.nullable else pc.fill_null(values, "null")


def as_text(lists: pa.Array) -> pa.Array:
    """Spell lists of codes ``(n,)`` as text like ``41,7,203``; a null list stays null."""
    lists = lists.cast(pa.list_(lists.type.value_type))
    length_n = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    ends_n: npt.NDArray[np.int32] = np.concatenate([[0], np.cumsum(length_n)]).astype(np.int32)
    values = pc.fill_null(lists.flatten().cast(pa.string()), "null")
    texts = pc.binary_join(pa.ListArray.from_arrays(to_arrow(ends_n), values), ",")
    return pc.if_else(lists.is_null(), pa.scalar(None, pa.string()), texts)


def codes_text(codes_nl: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Spell codes ``(n, l)`` as text like ``41,7,203``."""
    width = codes_nl.shape[1]
    offsets = to_arrow(np.arange(0, codes_nl.size + 1, width, dtype=np.int32))
    values = to_arrow(np.ascontiguousarray(codes_nl, np.int64).reshape(-1))
    lists = pa.ListArray.from_arrays(offsets, values)
    return pc.binary_join(lists.cast(pa.list_(pa.string())), ",")
