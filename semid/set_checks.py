"""The half of verifying an ids table that looks at rows together: repeats, tombstones, codes anew.

DuckDB groups and joins on disk what does not fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.collisions.settings import UNIQUE
from semid.database import fed
from semid.id_columns import CODES, DISTANCE, MARGIN, code_matrix
from semid.ids import pack_keys, unpack_keys
from semid.row_checks import Contract, Mask, check_rows, require_types
from semid.tables import open_table
from semid.tombstones import GONE, REASON
from semid.violations import Violations, codes_text

Rows = Iterable[pa.RecordBatch]

# How far a distance, and a margin, may be from the one that is measured again: other machines add
# up float32 in another order. Relative; for distances to their mean too, since that much rounding
# stays when one is all but zero, and for margins to 1, since they are relative themselves.
TOLERANCE = 1e-3


class SetChecks:
    """An ids table in DuckDB: row, item, whether codes and SID are in range, and both as keys.

    Parameters
    ----------
    connection : an empty database
    folder : for what queries find
    rules : what the rows must keep to
    violations : where to add what does not
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        rules: Contract,
        violations: Violations,
    ) -> None:
        self._connection, self._folder = connection, folder
        self._rules, self._violations = rules, violations
        self._keys = {
            "c": _keys("c", rules.levels),
            "s": _keys("s", rules.sid_sizes),
            "r": _keys("r", rules.sid_sizes),
        }

    def load_rows(self, name: str, rows: Rows, *, about: str = "") -> int:
        """Check rows one by one and load them; returns how many there are."""

        def keyed() -> Iterator[pa.RecordBatch]:
            row = 0
            for batch in rows:
                if row == 0:
                    require_types(batch.schema)
                yield self._keyed(batch, row, about)
                row += batch.num_rows

        return self._load(name, keyed())

    def _keyed(self, batch: pa.RecordBatch, row: int, about: str) -> pa.RecordBatch:
        found = check_rows(batch, self._rules, self._violations, first_row=row, about=about)
        columns = {
            "row": to_arrow(np.arange(row, row + batch.num_rows)),
            "item": _items(batch.column(self._rules.item_id)),
            "c_ok": to_arrow(found.codes_ok_n.astype(np.int8)),
            "s_ok": to_arrow(found.sids_ok_n.astype(np.int8)),
            "moved": _moved(batch),
        }
        keyed = [
            ("c", found.codes_nl, found.codes_ok_n, self._rules.levels),
            ("s", found.sids_ns, found.sids_ok_n, self._rules.sid_sizes),
        ]
        if self._rules.policy == "reassign":  # what the raw codes are as a SID
            more = np.zeros((len(batch), len(self._rules.sid_sizes) - len(self._rules.levels)))
            raw_ns = np.concatenate([found.codes_nl, more.astype(np.int64)], axis=1)
            keyed.append(("r", raw_ns, found.codes_ok_n, self._rules.sid_sizes))
        for letter, codes_nl, ok_n, sizes in keyed:
            keys_nm = pack_keys(np.where(ok_n[:, None], codes_nl, 0), sizes)
            columns |= dict(zip(self._keys[letter], map(to_arrow, keys_nm.T), strict=True))
        return pa.RecordBatch.from_pydict(columns | _floats(batch))

    def _load(self, name: str, batches: Iterator[pa.RecordBatch]) -> int:
        first = next(batches, None)
        if first is None:
            return 0
        with fed(self._connection, "incoming", first.schema, chain([first], batches)):
            self._ask(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        return int(self._ask(f"SELECT count(*) FROM {name}")[0][0])

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return all that a query finds, which is little, so that its result is done with."""
        return self._connection.execute(query).fetchall()  # type: ignore[no-any-return]

    def _select(self, query: str) -> Iterator[pa.RecordBatch]:
        """Stream what a query finds; by way of a file, so that memory stays bounded."""
        path = self._folder / "found.parquet"
        self._connection.sql(query).write_parquet(str(path))
        table = open_table(path, allow_empty=True)
        yield from table.batches(table.schema.names)

    def find_repeated(self, name: str, *, about: str = "") -> None:
        """Find items, and SIDs under a policy that makes them unique, that occur again."""
        kinds = [("item_id", ["item"], "item IS NOT NULL AND moved = 0", "once")]
        if self._rules.policy in UNIQUE:
            kinds.append(("sid", self._keys["s"], "s_ok = 1", "a SID of its own"))
        for what, columns, where, expected in kinds:
            listed = ", ".join(columns)
            found = self._select(f"""
                SELECT item, row, first, {", ".join(self._keys["s"])}
                FROM {name} JOIN (
                    SELECT {listed}, min(row) AS first FROM {name} WHERE {where}
                    GROUP BY {listed} HAVING count(*) > 1
                ) USING ({listed}) WHERE {where} AND row > first ORDER BY row
            """)
            self._add(f"{about}repeated {what}", what, found, "as in row", expected)

    def find_returned(self) -> None:
        """Find retired items that are live, and retired SIDs that a live item has.

        An item that was moved left its SID only.
        """
        kinds = [("item_id", ["item"], "gone.moved = 0", "live or retired")]
        if self._rules.policy in UNIQUE:
            good = "live.s_ok = 1 AND gone.s_ok = 1"
            kinds.append(("sid", self._keys["s"], good, "a SID that no retired item had"))
        for what, columns, where, expected in kinds:
            on = " AND ".join(f"live.{c} = gone.{c}" for c in columns)
            keys = ", ".join(f"live.{key}" for key in self._keys["s"])
            found = self._select(f"""
                SELECT live.item, live.row, min(gone.row) AS first, {keys}
                FROM live JOIN gone ON {on} WHERE {where} GROUP BY ALL ORDER BY live.row
            """)
            self._add(f"retired {what} is live", what, found, "retired in row", expected)

    def find_needless(self, *, retired: bool) -> dict[str, int]:
        """Find items that reassignment moved though nobody else, live or retired, has their raw ID.

        One item of every raw SID keeps it, and a SID that was left is remembered until another item
        has it, but not forever: a table that goes on may have forgotten, and is only counted.
        """
        raw, sid = self._keys["r"], self._keys["s"]
        held = " UNION ALL ".join(
            f"SELECT {', '.join(sid)} FROM {name} WHERE s_ok = 1"
            for name in ("live", *(["gone"] if retired else []))
        )
        other = " OR ".join(f"{r} <> {s}" for r, s in zip(raw, sid, strict=True))
        on = " AND ".join(f"live.{r} = held.{s}" for r, s in zip(raw, sid, strict=True))
        query = f"""
            SELECT item, row, {", ".join(sid)}, {", ".join(raw)}
            FROM live ANTI JOIN ({held}) held ON {on}
            WHERE c_ok = 1 AND s_ok = 1 AND ({other}) ORDER BY row
        """
        if self._rules.goes_on:
            ((count,),) = self._ask(f"SELECT count(*) FROM ({query})")
            return {"moved_from_forgotten": count} if count else {}
        self._violations.made("needless move")
        for batch in self._select(query):
            found = self._text(batch, "s", self._rules.sid_sizes)
            expected = self._text(batch, "r", self._rules.sid_sizes)
            self._violations.add("needless move", batch["item"], batch["row"], found, expected)
        return {}

    def _add(
        self, check: str, what: str, found: Iterator[pa.RecordBatch], where: str, expected: str
    ) -> None:
        self._violations.made(check)
        for batch in found:
            value = batch.column("item").cast(pa.string())
            if what == "sid":
                value = self._text(batch, "s", self._rules.sid_sizes)
            texts = pc.binary_join_element_wise(value, where, batch["first"].cast(pa.string()), " ")
            self._violations.add(check, batch["item"], batch["row"], texts, expected)

    def _text(self, batch: pa.RecordBatch, before: str, sizes: tuple[int, ...]) -> pa.Array:
        keys_nm = np.stack([to_numpy(batch.column(key)) for key in _keys(before, sizes)], axis=1)
        return codes_text(unpack_keys(keys_nm, sizes))

    def compare(self, again: Rows, drifted: Rows) -> dict[str, int]:
        """Compare codes, distances and margins of live rows with those made anew; count rows."""
        floats = self._load_again(again)
        drifted_items = (
            pa.record_batch([_items(batch.column(self._rules.item_id))], names=["item"])
            for batch in drifted
        )
        if not self._load("drifted", drifted_items):
            self._ask("CREATE TABLE IF NOT EXISTS drifted AS SELECT item FROM live LIMIT 0")
        counts = self._ask("""
            SELECT count(*) FILTER (again.item IS NOT NULL AND live.row IS NOT NULL),
                   count(*) FILTER (again.item IS NULL), count(*) FILTER (live.row IS NULL)
            FROM live FULL JOIN again ON live.item = again.item
        """)[0]
        names = ("compared", "not_in_embeddings", "only_in_embeddings")
        facts = dict(zip(names, counts, strict=True)) | {"excused": 0, "outdated": 0}
        # What a row that was kept says of its distance may have been true once.
        strict = [] if self._rules.goes_on else floats
        self._violations.made("codes", *strict)
        for batch in self._select(_differing(self._keys["c"], floats)):
            excused_n = to_numpy(batch.column("excused")) == 1
            other_n = to_numpy(batch.column("other_codes")) == 1
            facts["excused"] += int((excused_n & other_n).sum())
            if self._rules.goes_on:
                facts["outdated"] += int((~excused_n & ~other_n).sum())
            self._add_differing(batch, ~excused_n & other_n, ~excused_n & ~other_n, strict)
        return facts

    def _load_again(self, again: Rows) -> list[str]:
        """Load what was made anew; returns the floats that live rows have too."""
        sizes = self._rules.levels

        def keyed() -> Iterator[pa.RecordBatch]:
            for batch in again:
                codes_nl = code_matrix(batch.column(CODES), CODES, width=len(sizes))
                keys = map(to_arrow, pack_keys(codes_nl, sizes).T)
                columns = {"item": _items(batch.column(self._rules.item_id))}
                columns |= dict(zip(self._keys["c"], keys, strict=True))
                yield pa.RecordBatch.from_pydict(columns | _floats(batch))

        self._load("again", keyed())
        columns = [
            {name for name, *_ in self._ask(f"DESCRIBE {table}")} for table in ("live", "again")
        ]
        return [name for name in (DISTANCE, MARGIN) if all(name in there for there in columns)]

    def _add_differing(
        self, batch: pa.RecordBatch, codes_n: Mask, floats_n: Mask, floats: list[str]
    ) -> None:
        sizes = self._rules.levels

        def add(check: str, wrong_n: Mask, found: pa.Array, expected: pa.Array) -> None:
            rows = to_arrow(np.flatnonzero(wrong_n))
            where = (batch.column("item").take(rows), batch.column("row").take(rows))
            self._violations.add(check, *where, found.take(rows), expected.take(rows))

        add("codes", codes_n, self._text(batch, "c", sizes), self._text(batch, "a", sizes))
        for name in floats:
            wrong_n = floats_n & (to_numpy(batch.column(f"other_{name}")) == 1)
            add(name, wrong_n, batch.column(name), batch.column(f"again_{name}"))


def _differing(keys: list[str], floats: list[str]) -> str:
    """Return the query for live rows that differ from what was made anew, and in what."""
    other = " OR ".join(f"live.{key} <> again.{key}" for key in keys)
    flags, columns = {"other_codes": other}, [f"live.{key} AS {key}" for key in keys]
    columns += [f"again.{key} AS a{m}" for m, key in enumerate(keys)]
    for name in floats:
        here, there = f"live.{name}", f"again.{name}"
        scale = f"least({here}, {there}) + 1"
        if name == DISTANCE:
            scale = f"greatest({here}, {there}) + (SELECT avg({name}) FROM again)"
        # NaN is a violation of the row alone.
        flags[f"other_{name}"] = (
            f"{here} IS NOT NULL AND NOT isnan({here}) AND {here} <> {there} "
            f"AND abs({here} - {there}) > {TOLERANCE} * ({scale})"
        )
        columns += [f"{here} AS {name}", f"{there} AS again_{name}"]
    columns += [f"CAST({flag} AS TINYINT) AS {name}" for name, flag in flags.items()]
    return f"""
        SELECT live.row, live.item, CAST(drifted.item IS NOT NULL AS TINYINT) AS excused,
               {", ".join(columns)}
        FROM live JOIN again ON live.item = again.item
        LEFT JOIN (SELECT DISTINCT item FROM drifted) drifted ON live.item = drifted.item
        WHERE live.c_ok = 1 AND ({" OR ".join(f"({flag})" for flag in flags.values())})
        ORDER BY live.row
    """


def _keys(before: str, sizes: tuple[int, ...]) -> list[str]:
    """Name the columns that codes of these sizes are packed into."""
    columns = pack_keys(np.zeros((0, len(sizes)), np.int64), sizes).shape[1]
    return [f"{before}{m}" for m in range(columns)]


def _items(items: pa.Array) -> pa.Array:
    return items.cast(pa.int64() if pa.types.is_integer(items.type) else pa.string())


def _moved(batch: pa.RecordBatch) -> pa.Array:
    """Return 1 for retired rows whose items were given other SIDs, else 0, ``(n,)``."""
    if REASON not in batch.schema.names:
        return to_arrow(np.zeros(len(batch), dtype=np.int8))
    return pc.fill_null(pc.not_equal(batch.column(REASON), GONE), False).cast(pa.int8())


def _floats(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    there = [name for name in (DISTANCE, MARGIN) if name in batch.schema.names]
    return {name: batch.column(name).cast(pa.float32()) for name in there}
