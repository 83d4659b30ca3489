"""Which items are met by the same users: pairs counted out of core, partners drawn from them.

What the contrast of training learns from (see `semid.contrast`), and the encoder of behaviour (see
`semid.encoders.cooccurrence`). Nothing here knows networks.
Shapes: n items, e pairs, each in both directions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.database import fed, out_of_core
from semid.errors import SemidError, display_path
from semid.fit_config import ContrastConfig
from semid.interactions import (
    POSITION,
    TIMESTAMP,
    interaction_batches,
    interaction_columns,
    refuse_tied,
)
from semid.tables import ParquetTable

MEMORY_BYTES = 1 << 30  # DuckDB's; it spills to disk what does not fit


class Counting(Protocol):
    """Settings of which interactions count, and which of their pairs are kept."""

    @property
    def window(self) -> int:
        """Items of one user at most so many places apart are met together."""

    @property
    def exclude_last(self) -> int:
        """How many interactions at the end of every user's history are left out."""

    @property
    def before(self) -> str | int | float:
        """The timestamp from which on interactions are left out; empty for none."""

    @property
    def partners(self) -> int:
        """Most partners that an item keeps, those met most often."""


@dataclass(frozen=True)
class Cooccurrences:
    """Which items are met together, and how often.

    Attributes
    ----------
    row_e, partner_e : rows of two items that are met together, int64, sorted by both; a row has at
        most as many partners as the settings say
    times_e : how often, int64
    met_n : how often each item is met with any other, those that are no partners of it included
    facts : what was counted: ``interactions``, ``interactions_used``, ``users``, ``items``
    """

    row_e: npt.NDArray[np.int64]
    partner_e: npt.NDArray[np.int64]
    times_e: npt.NDArray[np.int64]
    met_n: npt.NDArray[np.int64]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Partners:
    """The partners of every training item, with how likely each is drawn.

    Attributes
    ----------
    partner_e : training rows, grouped by the row they are partners of
    reach_e : for every pair the number of its row plus the share of the row's draws that fall on it
        or on a pair before it
    has_n : which rows have partners, bool ``(n,)``
    facts : what was counted, for the model's metrics
    """

    partner_e: npt.NDArray[np.int64]
    reach_e: npt.NDArray[np.float64]
    has_n: npt.NDArray[np.bool_]
    facts: dict[str, Any] = field(default_factory=dict)

    def draw(self, row_n: npt.NDArray[np.int64], seed: Any) -> npt.NDArray[np.int64]:
        """Draw one partner for each of the rows, which must have some."""
        share_n = np.random.default_rng(seed).random(len(row_n))
        found = self.partner_e[np.searchsorted(self.reach_e, row_n + share_n, side="right")]
        return np.asarray(found, dtype=np.int64)


def count_partners(
    table: ParquetTable,
    ids: pa.Array,
    config: ContrastConfig,
    *,
    item_id: str = "item_id",
    folder: Path | None = None,
) -> Partners:
    """Count which items users met within `config.window` of each other.

    The last `config.exclude_last` interactions of every user, and all from `config.before` on, are
    left out first: they belong to the evaluation. A partner is drawn in proportion to how often
    the pair was met over the partner's popularity to the power of `config.popularity`.

    Parameters
    ----------
    table : interactions with columns user_id, `item_id`, and timestamp or position
    ids : ids of the training items, in the order of their rows
    config : see `semid.fit_config.ContrastConfig`
    item_id : name of the id column
    folder : where the disk has room for a copy of three columns; the system's when not given

    Raises
    ------
    SemidError
        When a column is missing, of another type or holds a null, no pair of items is left, or
        the disk is full.
    """
    met = count_cooccurrences(table, ids, config, item_id=item_id, folder=folder)
    return _weighted(met, met.times_e / met.met_n[met.partner_e] ** config.popularity)


def count_cooccurrences(
    table: ParquetTable,
    ids: pa.Array,
    config: Counting,
    *,
    item_id: str = "item_id",
    folder: Path | None = None,
) -> Cooccurrences:
    """Count how often items are met within `config.window` of each other, out of core.

    `ids` are those of the items that count, in the order of their rows; others keep their places.
    The rest is as of `count_partners`, and so are the errors.
    """
    with opened(table, ids, config, item_id, folder) as connection:
        facts = _count(connection, config)
        pairs = connection.sql(_PARTNERS.format(most=config.partners)).to_arrow_table()
        met = connection.sql(_MET).to_arrow_table()
    if not len(pairs):
        exclude_last, before = (_called(config, name) for name in ("exclude_last", "before"))
        raise SemidError(
            f"{display_path(table.name)} leaves no pair of items to learn from: of "
            f"{facts['interactions']:,} interactions {facts['interactions_used']:,} are used, with "
            f"{facts['items']:,} of the {len(ids):,} items; check that its ids are those of the "
            f"items, {exclude_last} and {before}"
        )
    met_n = np.zeros(len(ids), np.int64)
    met_n[met["row"].to_numpy()] = met["times"].to_numpy()
    row_e, partner_e, times_e = (column.to_numpy() for column in pairs.columns)
    return Cooccurrences(row_e, partner_e, times_e, met_n, facts)


@contextmanager
def opened(
    table: ParquetTable,
    ids: pa.Array,
    config: Counting,
    item_id: str,
    folder: Path | None,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the interactions, ``met``, and the items' rows, ``catalog``."""
    names = _columns(table, item_id, config)
    with (
        tempfile.TemporaryDirectory(prefix="interactions-", dir=folder) as own,
        out_of_core(
            f"counting {display_path(table.name)}",
            Path(own),
            memory_bytes=memory_bytes,
            relief="give fewer interactions",
            file="pairs.duckdb",
        ) as connection,
    ):
        _load(connection, table, names)
        if names[-1] == POSITION:
            refuse_tied(connection, table, "user")
        rows = pa.table({"id": pc.cast(ids, pa.string()), "row": np.arange(len(ids))})
        connection.register("catalog", rows)
        try:
            yield connection
        except duckdb.ConversionException as error:
            raise SemidError(
                f"{_called(config, 'before')} is {config.before!r}, which is no {TIMESTAMP} of "
                "the interactions; write it as the column does, for example 2025-06-30 or "
                "'2025-06-30 12:00:00'"
            ) from error


def early(connection: duckdb.DuckDBPyConnection, config: Counting) -> str:
    """Return the condition, in SQL, that an interaction of ``met`` is early enough."""
    if config.before == "":
        return "true"
    found = connection.execute("SELECT typeof(place) FROM met LIMIT 1").fetchall()
    moment = str(config.before).replace("'", "''")
    return f"place < CAST('{moment}' AS {found[0][0] if found else 'TIMESTAMP'})"


def _weighted(met: Cooccurrences, weight_e: npt.NDArray[np.float64]) -> Partners:
    row_e, n = met.row_e, len(met.met_n)
    total_n = np.bincount(row_e, weight_e, minlength=n)
    first_e = np.flatnonzero(np.diff(row_e, prepend=-1))  # where a row's pairs begin
    upto_e = np.cumsum(weight_e)
    before_e = np.repeat(upto_e[first_e] - weight_e[first_e], np.diff([*first_e, len(row_e)]))
    reach_e = row_e + (upto_e - before_e) / total_n[row_e]
    last_e = np.append(first_e[1:], len(row_e)) - 1
    reach_e[last_e] = row_e[last_e] + 1  # whatever rounding did
    has_n = total_n > 0
    facts = {**met.facts, "pairs": len(row_e) // 2, "items_with_partners": int(has_n.sum())}
    return Partners(met.partner_e, reach_e, has_n, facts)


def _called(config: Counting, name: str) -> str:
    """Return what a setting is called where the user gave it."""
    return f"contrast.{name}" if isinstance(config, ContrastConfig) else name


def _columns(table: ParquetTable, item_id: str, config: Counting) -> list[str]:
    names = interaction_columns(table, item_id)
    if config.before != "" and names[-1] != TIMESTAMP:
        raise SemidError(
            f"{_called(config, 'before')} is {config.before!r} but {display_path(table.name)} has "
            f"no column {TIMESTAMP!r}; use {_called(config, 'exclude_last')}"
        )
    return names


def _load(connection: duckdb.DuckDBPyConnection, table: ParquetTable, names: Sequence[str]) -> None:
    def renamed() -> Iterator[pa.RecordBatch]:
        for batch in interaction_batches(table, names):
            yield pa.record_batch(batch.columns, schema=schema)

    kinds = [table.schema.field(name).type for name in names]
    schema = pa.schema(list(zip(("user", "id", "place"), kinds, strict=True)))
    with fed(connection, "raw", schema, renamed()):
        connection.execute(
            'CREATE TABLE met AS SELECT "user", CAST(id AS VARCHAR) AS id, place FROM raw'
        )


def _count(connection: duckdb.DuckDBPyConnection, config: Counting) -> dict[str, Any]:
    """Make the table ``pairs`` (row, partner, times) and return what it rests on."""
    before = early(connection, config)
    connection.execute(_KEPT.format(before=before, exclude=config.exclude_last))
    ahead = " UNION ALL ".join(_AHEAD.format(step=step + 1) for step in range(config.window))
    connection.execute(_PAIRS.format(ahead=ahead))
    counted = connection.execute(_FACTS).fetchall()[0]
    return dict(zip(("interactions", "interactions_used", "users", "items"), counted, strict=True))


# What may be learnt from. At the same place: by id, so that runs agree. Items that are not trained
# on keep their places and have no row.
_KEPT = """
    CREATE TABLE kept AS SELECT "user", place, id, row FROM (
        SELECT *, row_number() OVER (PARTITION BY "user" ORDER BY place DESC, id DESC) AS from_end
        FROM met WHERE {before}
    ) LEFT JOIN catalog USING (id) WHERE from_end > {exclude}
"""
_AHEAD = """
    SELECT row, lead(row, {step}) OVER (PARTITION BY "user" ORDER BY place, id) AS partner FROM kept
"""
_PAIRS = """
    CREATE TABLE pairs AS
    WITH ahead AS ({ahead}), apart AS (SELECT * FROM ahead WHERE row <> partner)
    SELECT row, partner, count(*) AS times
    FROM (SELECT row, partner FROM apart UNION ALL SELECT partner, row FROM apart)
    GROUP BY row, partner
"""
_FACTS = """
    SELECT (SELECT count(*) FROM met), count(*), count(DISTINCT "user"), count(DISTINCT row)
    FROM kept
"""
_PARTNERS = """
    SELECT row, partner, times FROM pairs
    QUALIFY row_number() OVER (PARTITION BY row ORDER BY times DESC, partner) <= {most}
    ORDER BY row, partner
"""
_MET = "SELECT row, sum(times)::BIGINT AS times FROM pairs GROUP BY row"
