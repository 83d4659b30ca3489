"""Fresh items held against an ids table: how their codes are used, how well, and on which prefixes.

DuckDB joins and groups out of core. Identifiers drift when items come that the codebooks were not
fitted to, or when known items change (Feng et al., Drift-Aware Continual Tokenization for
Generative Recommendation, arXiv 2603.29705); what is measured here shows either without training
anything. Shapes: n items, l levels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from semid.arrays import to_arrow
from semid.database import fed, out_of_core
from semid.id_columns import CODES, DISTANCE, code_matrix, id_column
from semid.ids import validate_codes
from semid.metrics.drift import occupancy
from semid.tables import ParquetTable
from semid.training_data import held_out

# Held-out items of the table that are enough to say how unseen items fare; else all of them are
# asked, though codebooks suit those that they were fitted to better.
LEAST_HELD_OUT = 100


@dataclass(frozen=True)
class Coded:
    """Items with their codes.

    Attributes
    ----------
    batches : item id (unique), ``codes`` and ``distance``
    where : the table that they come from, for messages
    """

    batches: Iterable[pa.RecordBatch]
    where: ParquetTable | None = None


def measure_drift(
    table: Coded,
    fresh: Coded,
    *,
    levels: Sequence[int],
    item_id: str = "item_id",
    holdout: float = 0.0,
    temp_dir: Path | None = None,
    memory_bytes: int = 1 << 30,
) -> dict[str, Any]:
    """Measure how fresh items differ from those of a table that the same model gave codes.

    Parameters
    ----------
    table, fresh : items with raw codes and distances of one model; `IdTable.to_arrow` has them
    levels : codewords per level
    item_id : name of the id column
    holdout : the share of the items, by a hash of their ids, that the model was not fitted to
    temp_dir : an existing folder for what does not fit in memory; the system's if not given
    memory_bytes : DuckDB's budget; batches in flight come on top

    Returns
    -------
    figures : plain values. ``items``: how many of the table, fresh, known (in both) and new.
        ``levels``: for each a `semid.metrics.drift.Occupancy` with its shift. ``prefixes``: for
        each depth the share of fresh, known and new items whose prefix the table has,
        ``table_support``, the share of its own (held-out) items that share theirs with another,
        and the share of the distinct fresh prefixes that are new. ``error``: mean distances, and
        ``ratio``, that of fresh items over ``expected``: for known items their own in the table,
        for new ones that of its held-out items; ``noise``, three standard errors of the ratio.
        ``changed``: the share of known items whose first codes changed, for each depth.

    Raises
    ------
    SemidError
        When a code is not in range or a column is malformed, or memory or disk run out.
    """
    with (
        tempfile.TemporaryDirectory(prefix="drift-", dir=temp_dir) as folder,
        out_of_core(
            "measuring drift",
            Path(folder),
            memory_bytes=memory_bytes,
            relief="allow more with --memory",
            file="drift.duckdb",
            preserve_insertion_order="false",
        ) as connection,
    ):
        database = _Database(connection, levels, item_id)
        before = database.load("live", table, holdout)
        now = database.load("incoming", fresh, 0.0)
        database.match()
        shifts = [occupancy(b, f) for b, f in zip(before, now, strict=True)]
        used = [
            {
                "size": size,
                **found._asdict(),
                "shift": found.shift,
                "movers": [mover._asdict() for mover in found.movers],
            }
            for size, found in zip(levels, shifts, strict=True)
        ]
        items, error, changed = database.errors()
        prefixes = [database.prefix(depth) for depth in range(1, len(levels) + 1)]
    return {
        "items": items,
        "levels": used,
        "prefixes": prefixes,
        "error": error,
        "changed": changed,
    }


class _Database:
    """Table and fresh items in DuckDB: item, the code of every level, distance."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, levels: Sequence[int], item_id: str
    ) -> None:
        self._connection, self._levels, self._item_id = connection, tuple(levels), item_id
        self._codes = [f"c{level}" for level in range(len(levels))]

    def load(self, name: str, coded: Coded, holdout: float) -> list[Any]:
        """Load items; returns how often every code is used, level by level ``(k,)``."""
        counts = [np.zeros(size, np.int64) for size in self._levels]

        def rows() -> Iterator[pa.RecordBatch]:
            row = 0
            for batch in coded.batches:
                at = "row {}".format if coded.where is None else coded.where.locator(row)
                codes_nl = code_matrix(batch.column(CODES), CODES, width=len(self._levels), at=at)
                validate_codes(codes_nl, self._levels, at=at)
                for level, count_k in enumerate(counts):
                    count_k += np.bincount(codes_nl[:, level], minlength=len(count_k))
                items = id_column(batch.column(self._item_id), self._item_id, at=at)
                held_n = held_out(items, holdout) if holdout else np.zeros(len(items), np.bool_)
                columns = {"item": items, DISTANCE: batch.column(DISTANCE).cast(pa.float64())}
                columns |= dict(zip(self._codes, map(to_arrow, codes_nl.T), strict=True))
                columns["held"] = to_arrow(held_n.astype(np.int8))
                yield pa.RecordBatch.from_pydict(columns)
                row += len(items)

        batches = rows()
        first = next(batches)
        with fed(self._connection, "given", first.schema, chain([first], batches)):
            self._ask(f"CREATE TABLE {name} AS SELECT * FROM given")
        return counts

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return all that a query finds, which is little, so that its result is done with."""
        return self._connection.execute(query).fetchall()  # type: ignore[no-any-return]

    def match(self) -> None:
        """Say of every fresh item whether it is known, and how many codes it has kept."""
        kept = " ".join(
            f"WHEN live.{code} <> incoming.{code} THEN {level}"
            for level, code in enumerate(self._codes)
        )
        self._ask(f"""
            CREATE TABLE fresh AS
            SELECT incoming.*, live.item IS NOT NULL AS known, live.{DISTANCE} AS before,
                   CASE WHEN live.item IS NULL THEN NULL {kept} ELSE {len(self._codes)} END AS kept
            FROM incoming LEFT JOIN live ON live.item = incoming.item
        """)
        self._ask("DROP TABLE incoming")

    def errors(self) -> tuple[dict[str, int], dict[str, Any], list[float]]:
        """Return counts of items, mean distances, and what share of known items changed codes."""
        (table,) = self._ask(_sums("live", DISTANCE))
        (held,) = self._ask(_sums("live", DISTANCE) + " WHERE held = 1")
        new, *kept = (
            self._ask(f"{_sums('fresh', DISTANCE, 'before')} WHERE {where}")[0]
            for where in ("NOT known", *(f"kept = {d}" for d in range(len(self._codes) + 1)))
        )
        known = [sum(column) for column in zip(*kept, strict=True)]
        unseen = held if held[0] >= LEAST_HELD_OUT else table
        fresh_items = known[0] + new[0]
        usual = unseen[1] / unseen[0]
        expected = (known[3] + new[0] * usual) / fresh_items
        fresh_error = (known[1] + new[1]) / fresh_items
        spread = max(unseen[2] / unseen[0] - usual**2, 0.0)
        standard_error = sqrt(spread * (1 / fresh_items + 1 / unseen[0]))
        error = {
            "table": _mean(table),
            "table_held_out": _mean(held),
            "fresh": fresh_error,
            "known": _mean(known),
            "known_before": known[3] / known[0] if known[0] else None,
            "new": _mean(new),
            "expected": expected,
            "ratio": fresh_error / expected if expected else None,
            "noise": 3 * standard_error / expected if expected else None,
        }
        items = {"table": table[0], "fresh": fresh_items, "known": known[0], "new": new[0]}
        lost = np.cumsum([count for count, *_ in kept[:-1]]).tolist() if known[0] else []
        return items, error, [count / known[0] for count in lost]

    def prefix(self, depth: int) -> dict[str, Any]:
        """Return what share of the items stand on prefixes of length `depth` that the table has."""
        codes = ", ".join(self._codes[:depth])
        self._ask(f"""
            CREATE OR REPLACE TABLE there AS
            SELECT {codes}, count(*) AS n FROM live GROUP BY {codes}
        """)
        own = f"SELECT count(*), count(*) FILTER (n > 1) FROM live JOIN there USING ({codes})"
        ((items, shared),) = self._ask(f"{own} WHERE held = 1")
        if items < LEAST_HELD_OUT:
            ((items, shared),) = self._ask(own)
        counts = self._ask(f"""
            SELECT known, count(*), count(n) FROM fresh LEFT JOIN there USING ({codes})
            GROUP BY known
        """)
        ((distinct, lacking),) = self._ask(f"""
            SELECT count(*), count(*) FILTER (n IS NULL)
            FROM (SELECT DISTINCT {codes} FROM fresh) LEFT JOIN there USING ({codes})
        """)
        of = {known: found / count for known, count, found in counts}
        support = sum(found for *_, found in counts) / sum(count for _, count, _ in counts)
        return {
            "depth": depth,
            "table_support": shared / items,
            "table_support_of": items,
            "support": support,
            "known_support": of.get(True),
            "new_support": of.get(False),
            "new_prefix_rate": lacking / distinct,
        }


def _sums(table: str, *columns: str) -> str:
    """Return the query for rows, sum and sum of squares; sums that lose nothing to their order."""
    sums = (f"coalesce(fsum({c}), 0.0), coalesce(fsum({c} * {c}), 0.0)" for c in columns)
    return f"SELECT count(*), {', '.join(sums)} FROM {table}"


def _mean(sums: Sequence[Any]) -> float | None:
    return sums[1] / sums[0] if sums[0] else None
