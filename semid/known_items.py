"""Which fresh rows a table knows already, and how far their embeddings moved since.

Shapes: n fresh rows, m of them with other codes than the table has, l levels, z latent dims.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.collisions import Resources, Space
from semid.collisions.streams import keyed
from semid.database import fed, out_of_core
from semid.id_columns import DISTANCE, SID, code_matrix
from semid.ids import unpack_keys
from semid.streams import Batches
from semid.tombstones import GONE, REASON

Codes = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Fresh rows held against a table.

    known_n : rows whose item the table has, or gets back
    row_m : rows whose codes are not those that the table has
    kept_ml, fresh_ml : both codes
    place_m : their rows in the table, or their places among the retired rows
    back_m : which of these items come back
    back : places among the retired rows of items that come back
    """

    known_n: npt.NDArray[np.bool_]
    row_m: Integers
    kept_ml: Codes
    fresh_ml: Codes
    place_m: Integers
    back_m: npt.NDArray[np.bool_]
    back: Integers


def compare(
    fresh: Batches,
    rows: Batches,
    held: Batches,
    levels: Sequence[int],
    resources: Resources,
    item_id: str,
) -> Comparison:
    """Look fresh rows up by their item ids in a table's rows, and in retired ones.

    Raises
    ------
    SemidError
        When a row is malformed, or memory or disk run out.
    """
    total = sum(len(batch) for batch in fresh())
    with (
        tempfile.TemporaryDirectory(prefix="known-", dir=resources.temp_dir) as folder,
        out_of_core(
            "looking for the items in the table before",
            Path(folder),
            memory_bytes=resources.memory_bytes,
            relief="allow more with --memory",
        ) as connection,
    ):
        keys = _load(connection, "fresh", keyed(fresh(), item_id, levels))
        known = "SEMI JOIN fresh USING (item_id)"
        _load(connection, "there", keyed(rows(), item_id, levels), known)
        _load(connection, "gone", _gone(held(), item_id, levels), known)
        named = ", ".join(keys)
        both = ", ".join(f"known.{key}, fresh.{key} AS fresh_{key}" for key in keys)
        connection.execute(f"""
            CREATE VIEW joined AS SELECT fresh.row, place, back, {both} FROM fresh JOIN (
                SELECT item_id, row AS place, 0 AS back, {named} FROM there
                UNION ALL SELECT item_id, row, 1, {named} FROM gone
            ) known USING (item_id)
        """)
        # Of those that are as they were, only that they are known.
        known_n = np.zeros(total, dtype=np.bool_)
        for batch in connection.sql("SELECT row FROM joined").to_arrow_reader(1 << 20):
            known_n[to_numpy(batch.column(0))] = True
        other = " OR ".join(f"{key} <> fresh_{key}" for key in keys)
        changed = connection.sql(f"SELECT * FROM joined WHERE {other} ORDER BY row")
        there, now, row_m, place_m, back_m = _columns(changed.to_arrow_table(), keys)
        back = connection.sql("SELECT place FROM joined WHERE back = 1 ORDER BY place")
        place_b = to_numpy(back.to_arrow_table()["place"].combine_chunks())
    kept_ml, fresh_ml = unpack_keys(there, levels), unpack_keys(now, levels)
    return Comparison(known_n, row_m, kept_ml, fresh_ml, place_m, back_m == 1, place_b)


def _columns(joined: pa.Table, keys: Sequence[str]) -> tuple[Integers, ...]:
    """Return both keys, the rows, their places, and who is back."""

    def column(name: str) -> Integers:
        values: Integers = to_numpy(joined[name].combine_chunks())
        return values

    there, now = (np.stack([column(f"{of}{key}") for key in keys], 1) for of in ("", "fresh_"))
    return there, now, column("row"), column("place"), column("back")


def _load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    batches: Iterator[pa.RecordBatch],
    only: str = "",
) -> list[str]:
    """Make a table of a stream, or of `only` some of it; returns its columns of keys."""
    first = next(batches, None)
    if first is None:
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM fresh LIMIT 0")
        return []
    with fed(connection, "stream", first.schema, chain([first], batches)):
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM stream {only}")
    return [column for column in first.schema.names if column.startswith("key_")]


def _gone(
    batches: Iterator[pa.RecordBatch], item_id: str, levels: Sequence[int]
) -> Iterator[pa.RecordBatch]:
    """Yield the numbered retired rows of items that were retired themselves."""
    row = 0
    for batch in batches:
        rows = to_arrow(np.arange(row, row + len(batch)))
        row += len(batch)
        for numbered in keyed(iter([batch]), item_id, levels):
            place = numbered.schema.get_field_index("row")
            gone = numbered.set_column(place, "row", rows)
            yield gone.filter(pc.equal(batch.column(REASON), GONE))


class Drift(NamedTuple):
    """How changed items fare with the IDs that they keep.

    drift_m : how much worse these describe them than their fresh codes, over the mean squared error
        of the table; infinite where that is 0
    at_home_m : whose ID is just their fresh codes, though the codes before were others
    """

    drift_m: npt.NDArray[np.float64]
    at_home_m: npt.NDArray[np.bool_]


def drift(found: Comparison, space: Space, rows: Batches, held: Batches) -> Drift:
    """Hold changed items against their IDs; `rows` and `held` are as of `compare`."""
    if not len(found.row_m):
        return Drift(np.empty(0), np.empty(0, np.bool_))
    # An ID says what its codewords are, of which the raw codes before may be others.
    sid_ml, mean = _kept_sids(found, rows, held)
    parts, start = [], 0
    for latent_bz in space.latents(found.row_m):
        span = slice(start, start + len(latent_bz))
        kept_b = space.error(latent_bz, sid_ml[span])
        fresh_b = space.error(latent_bz, found.fresh_ml[span])
        with np.errstate(over="ignore"):
            parts.append((kept_b - fresh_b) / max(mean, np.finfo(np.float64).tiny))
        start = span.stop
    return Drift(np.concatenate(parts), (sid_ml == found.fresh_ml).all(axis=1))


def _kept_sids(found: Comparison, rows: Batches, held: Batches) -> tuple[Codes, float]:
    """Return the SIDs of changed items, less a suffix, and the mean squared error of the table."""
    sid_ml = np.empty_like(found.kept_ml)
    total, n = 0.0, 0
    for back, source in ((False, rows), (True, held)):
        which_p = np.flatnonzero(found.back_m == back)
        which_p = which_p[np.argsort(found.place_m[which_p])]
        place_p, start = found.place_m[which_p], 0
        for batch in source():
            here = slice(*np.searchsorted(place_p, (start, start + len(batch))))
            sids = batch.column(SID).take(to_arrow(place_p[here] - start))
            if len(sids):
                sid_ml[which_p[here]] = code_matrix(sids, SID)[:, : sid_ml.shape[1]]
            start += len(batch)
            if not back:
                total += float(to_numpy(batch.column(DISTANCE)).sum(dtype=np.float64))
                n += len(batch)
    return sid_ml, total / max(n, 1)
