"""Two ids tables held against each other, item by item, out of core.

DuckDB joins the tables by item id and keeps the pairs on disk; every figure is a query over them.
This file knows nothing of paths in or pages out.

The *distance* of two SIDs is the number of positions at which they differ; a position that only
one of them has counts as different. Moving by a suffix is thus a distance of 1, and every item of
a table with a suffix is at least 1 from itself in a table without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.database import fed, out_of_core
from semid.errors import SemidError

MOST_PREFIXES = 10
"""How many prefixes of each length are named."""
MOST_EXAMPLES = 3
"""How many items of each of them."""
PREFIX_DEPTHS = (1, 2)

ROW_GROUP_ROWS = 16_384

SidBatches = Iterator[tuple[pa.Array, npt.NDArray[np.int32]]]


@dataclass(frozen=True)
class Side:
    """One of the two tables.

    Attributes
    ----------
    name : what messages call it
    id_type : string or int64
    width : length of its SIDs
    batches : item ids ``(b,)``, each id once in all, and SIDs ``(b, width)``; read once
    metadata : what the job that wrote the table noted in it
    """

    name: str
    id_type: pa.DataType
    width: int
    batches: SidBatches
    metadata: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what says how its SIDs came about; None where nothing was noted."""
        noted = self.metadata.get("summary") or {}
        return {
            "policy": noted.get("policy"),
            "levels": noted.get("levels"),
            "sid_length": self.width,
            "model_fingerprint": self.metadata.get("model_fingerprint"),
        }


@dataclass(frozen=True)
class Move:
    """An old prefix that items left.

    Attributes
    ----------
    prefix : its codes
    items : items of both tables that had it
    left : those of them that have another prefix of that length now
    to, to_items : the new prefix of most that left, and of how many
    examples : the first by item id that left: ``item_id``, ``old_sid``, ``new_sid``
    """

    prefix: list[int]
    items: int
    left: int
    to: list[int]
    to_items: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class TableDiff:
    """What became of the items of an old table in a new one.

    Attributes
    ----------
    added, retired : items of the new table only, of the old one only
    common : items of both
    changed : for d = 1, 2, … up to the longer SID, the common items whose first d codes changed
    distances : common items at the distances 0, 1, …; see the module for what it counts
    moves : the prefixes of lengths 1 and 2 that most items left, by length, most first
    differs : facts in which the tables differ, as [old, new]
    """

    added: int
    retired: int
    common: int
    changed: list[int]
    distances: list[int]
    moves: list[Move]
    differs: dict[str, list[Any]]

    @property
    def churn(self) -> float | None:
        """The share of the common items whose SID changed; None when there are none."""
        return self.changed[-1] / self.common if self.common else None

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain values, `churn` first."""
        return {"churn": self.churn, **asdict(self)}


def diff_tables(
    old: Side,
    new: Side,
    *,
    folder: Path,
    changes: Path | None = None,
    item_id: str = "item_id",
    memory_bytes: int = 1 << 30,
) -> TableDiff:
    """Compare two tables item by item.

    Parameters
    ----------
    old, new : the tables; of any policy, number of levels or model
    folder : an existing folder for the pairs, about as large as the two tables
    changes : Parquet file to write, if any, one row for every item that was added, retired or
        changed, by item id: the id, ``change``, ``old_sid``, ``new_sid``, ``first_level`` (the
        first that differs, from 0) and ``distance``; null where there is nothing to say
    item_id : the name of the item id column in `changes`
    memory_bytes : DuckDB's budget

    Raises
    ------
    SemidError
        When the ids of one are strings and of the other integers, for what the batches raise, or
        when memory or disk run out.
    """
    if pa.types.is_integer(old.id_type) != pa.types.is_integer(new.id_type):
        raise SemidError(
            f"the item ids of {old.name} are {old.id_type} but those of {new.name} are "
            f"{new.id_type}; cast one of them, or no item is in both"
        )
    widths = old.width, new.width
    with out_of_core(
        "comparing the tables",
        folder,
        memory_bytes=memory_bytes,
        relief="allow more with --memory",
        file="pairs.duckdb",
    ) as connection:
        _pair(connection, old, new)
        if changes is not None:
            rows = connection.sql(_changed_rows(widths, item_id))
            rows.write_parquet(str(changes), compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return _measured(connection, old, new)


def _pair(connection: duckdb.DuckDBPyConnection, old: Side, new: Side) -> None:
    """Make the table ``pairs``: the item id, its old codes o0, o1, … and its new ones n0, n1, …."""
    schemas = [_schema(side, letter) for side, letter in ((old, "o"), (new, "n"))]
    with (
        fed(connection, "old", schemas[0], _columns(old, schemas[0])),
        fed(connection, "new", schemas[1], _columns(new, schemas[1])),
    ):
        connection.execute(_pairing((old.width, new.width)))


def _schema(side: Side, letter: str) -> pa.Schema:
    codes = [(f"{letter}{level}", pa.int32()) for level in range(side.width)]
    return pa.schema([("item_id", side.id_type), *codes])


def _columns(side: Side, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for ids, sids_ns in side.batches:
        codes = [to_arrow(code_n) for code_n in sids_ns.T]
        yield pa.record_batch([ids.cast(side.id_type), *codes], schema=schema)


def _pairing(widths: tuple[int, int]) -> str:
    shared, longest = min(widths), max(widths)
    differ = [f"o{level} <> n{level}" for level in range(shared)]
    differ += ["true"] * (longest - shared)
    first = " ".join(f"WHEN {d} THEN {level}" for level, d in enumerate(differ))
    distance = " + ".join(f"CAST({d} AS INTEGER)" for d in differ)
    # A row that is there has a code at level 0.
    return f"""
        CREATE TABLE pairs AS SELECT
            item_id,
            CASE WHEN o0 IS NULL THEN 'added' WHEN n0 IS NULL THEN 'retired'
                WHEN {" OR ".join(differ)} THEN 'changed' ELSE 'kept' END AS change,
            CASE WHEN o0 IS NULL OR n0 IS NULL THEN NULL {first} END AS first_level,
            CASE WHEN o0 IS NULL OR n0 IS NULL THEN NULL ELSE {distance} END AS distance,
            {_named("o", widths[0])}, {_named("n", widths[1])}
        FROM old FULL JOIN new USING (item_id)
    """


def _named(letter: str, width: int) -> str:
    return ", ".join(f"{letter}{level}" for level in range(width))


def _changed_rows(widths: tuple[int, int], item_id: str) -> str:
    name = item_id.replace('"', '""')
    return f"""
        SELECT item_id AS "{name}", change,
            CASE WHEN o0 IS NOT NULL THEN [{_named("o", widths[0])}] END AS old_sid,
            CASE WHEN n0 IS NOT NULL THEN [{_named("n", widths[1])}] END AS new_sid,
            first_level, distance
        FROM pairs WHERE change <> 'kept' ORDER BY item_id
    """


def _measured(connection: duckdb.DuckDBPyConnection, old: Side, new: Side) -> TableDiff:
    shared, longest = min(old.width, new.width), max(old.width, new.width)
    counts = dict(connection.execute("SELECT change, count(*) FROM pairs GROUP BY ALL").fetchall())
    changed, distances = [0] * longest, [0] * (longest + 1)
    for first, distance, items in connection.execute(
        "SELECT first_level, distance, count(*) FROM pairs WHERE distance IS NOT NULL GROUP BY ALL"
    ).fetchall():
        distances[distance] += items
        for level in range(longest if first is None else first, longest):
            changed[level] += items
    before, after = old.facts(), new.facts()
    return TableDiff(
        added=counts.get("added", 0),
        retired=counts.get("retired", 0),
        common=sum(distances),
        changed=changed,
        distances=distances,
        moves=[
            move
            for depth in PREFIX_DEPTHS
            if depth <= shared
            for move in _moves(connection, depth, (old.width, new.width))
        ],
        differs={
            name: [before[name], after[name]] for name in before if before[name] != after[name]
        },
    )


def _moves(
    connection: duckdb.DuckDBPyConnection, depth: int, widths: tuple[int, int]
) -> list[Move]:
    old, new = _named("o", depth), _named("n", depth)
    moved = f"({old}) <> ({new})" if depth > 1 else "o0 <> n0"
    found = connection.execute(f"""
        WITH flows AS (
            SELECT {old}, {new}, count(*) AS items, {moved} AS moved
            FROM pairs WHERE distance IS NOT NULL GROUP BY ALL
        )
        SELECT [{old}], [{new}], items,
            CAST(sum(items) OVER own AS BIGINT),
            CAST(sum(if(moved, items, 0)) OVER own AS BIGINT) AS gone
        FROM flows WINDOW own AS (PARTITION BY {old})
        QUALIFY moved AND row_number() OVER (
            PARTITION BY {old} ORDER BY moved DESC, items DESC, {new}) = 1
        ORDER BY gone DESC, {old} LIMIT {MOST_PREFIXES}
    """).fetchall()
    shown = _examples(connection, [prefix for prefix, *_ in found], depth, widths)
    return [
        Move(prefix, items, left, to, to_items, shown[tuple(prefix)])
        for prefix, to, to_items, items, left in found
    ]


def _examples(
    connection: duckdb.DuckDBPyConnection,
    prefixes: Sequence[list[int]],
    depth: int,
    widths: tuple[int, int],
) -> dict[tuple[int, ...], list[dict[str, Any]]]:
    """Return the first items by id that left each prefix."""
    shown: dict[tuple[int, ...], list[dict[str, Any]]] = {tuple(p): [] for p in prefixes}
    if not shown:
        return shown
    wanted = ", ".join(f"({', '.join(map(str, prefix))})" for prefix in prefixes)
    old = _named("o", depth)
    for item, before, after in connection.execute(f"""
        SELECT item_id, [{_named("o", widths[0])}], [{_named("n", widths[1])}]
        FROM pairs SEMI JOIN (VALUES {wanted}) AS wanted ({old}) USING ({old})
        WHERE first_level < {depth}
        QUALIFY row_number() OVER (PARTITION BY {old} ORDER BY item_id) <= {MOST_EXAMPLES}
        ORDER BY item_id
    """).fetchall():
        row = {"item_id": item, "old_sid": before, "new_sid": after}
        shown[tuple(before[:depth])].append(row)
    return shown
