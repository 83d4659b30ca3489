"""Collisions: raw SIDs to the SIDs of a table under a policy.

Sorting and grouping is done by DuckDB, out of core; what moves is merged into the rows as these
stream past again. The outcome depends on the set of rows alone, not on their order, batches or
threads. Nothing here knows how codes came about nor where the rows are written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from semid.arrays import to_numpy
from semid.collisions import counting, streams
from semid.collisions.crowds import rank
from semid.collisions.merging import Moved, Raw, Sids, Suffixed, merged
from semid.collisions.overflow import overflow_suffixes
from semid.collisions.settings import POLICIES as POLICIES
from semid.collisions.settings import CollisionConfig as CollisionConfig
from semid.collisions.settings import CollisionReport as CollisionReport
from semid.collisions.settings import require_room
from semid.collisions.space import Space as Space
from semid.collisions.streams import RowBatches
from semid.collisions.suffix import Streams, Suffixes, write_suffixes
from semid.database import out_of_core
from semid.errors import SemidError, first_few
from semid.id_columns import CODES, DISTANCE
from semid.streams import Batches

if TYPE_CHECKING:
    from semid.collisions.moves import Moves


class Silent:
    """A progress bar that shows nothing."""

    def update(self, n: int) -> object:
        """Do nothing."""

    def set_postfix_str(self, s: str, refresh: bool = True) -> object:
        """Do nothing."""


Progress = Callable[[str, int], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Resources:
    """What resolving may use.

    Attributes
    ----------
    temp_dir : an existing folder for what does not fit in memory; its space is given back once the
        resolved rows are read to the end or closed
    memory_bytes : DuckDB's budget; batches in flight come on top
    threads : DuckDB's threads; as many as there are cores when not given
    progress : opens a bar of a name and a number of items
    """

    temp_dir: Path
    memory_bytes: int = 1 << 30
    threads: int | None = None
    progress: Progress = lambda what, total: nullcontext(Silent())


@dataclass(frozen=True)
class Surroundings:
    """What the rows at hand meet.

    Attributes
    ----------
    levels : K of every level, where known: keys become narrower and codes are checked against it
    space : the model's, for policies that move items by what it costs
    previous : rows of the table that these join, with ``codes`` and ``sid``, none of which changes
    retired : rows whose ``sid`` may not be given away
    order : ``item_id`` and ``value`` of the column that suffixes go by
    """

    levels: Sequence[int] | None = None
    space: Space | None = None
    previous: Batches | None = None
    retired: Batches | None = None
    order: Batches | None = None

    @property
    def held(self) -> Iterator[pa.RecordBatch] | None:
        """The rows whose SIDs are held."""
        sources = [source for source in (self.previous, self.retired) if source is not None]
        return chain.from_iterable(source() for source in sources) if sources else None


@dataclass(frozen=True)
class Resolved:
    """Rows with SIDs, and what there is to say of them.

    Attributes
    ----------
    report : on the raw SIDs of all rows, previous ones too
    facts : what the policy did
    rows : the same rows in the same order with a column ``sid`` after ``codes``
    """

    report: CollisionReport
    facts: dict[str, Any]
    rows: Iterator[pa.RecordBatch]


def resolve(
    batches: Batches,
    config: CollisionConfig,
    resources: Resources,
    around: Surroundings | None = None,
    *,
    item_id: str = "item_id",
) -> Resolved:
    """Give every item a SID under a policy and report the collisions.

    ``suffix`` appends one level to every raw SID: the item's rank by `CollisionConfig.suffix_order`
    among the items with that raw SID, so 0 for an item alone. ``reassign`` moves items that share a
    raw SID to free ones; see `semid.collisions.reassign`. ``sinkhorn`` spreads them over the last
    level as LC-Rec does. ``none`` takes the raw codes.

    Parameters
    ----------
    batches : streams the rows in table order, alike every time it is called; column ``codes``, a
        column of unique item ids (not checked here), and any others, which pass through
    item_id : the name of the item id column

    Raises
    ------
    SemidError
        When columns are missing or malformed, there are more items than SIDs or more suffixes than
        `config` allows, an item finds no free SID, or memory or disk run out.
    """
    around = around or Surroundings()
    folder = tempfile.TemporaryDirectory(prefix="collisions-", dir=resources.temp_dir)
    try:
        with _database(resources, Path(folder.name)) as connection:
            task = _Task(batches, config, resources, around, item_id, Path(folder.name), connection)
            sids, report, facts = task.run()
        return Resolved(report, facts, merged(batches(), sids, task.rows, folder))
    except BaseException:
        folder.cleanup()
        raise


def count(
    batches: Batches, resources: Resources, levels: Sequence[int] | None = None
) -> CollisionReport:
    """Report on the raw SIDs of rows with ``codes``; raises as `resolve`."""
    with (
        tempfile.TemporaryDirectory(prefix="counting-", dir=resources.temp_dir) as folder,
        _database(resources, Path(folder)) as connection,
    ):
        return counting.of_rows(connection, streams.raw_keys(batches(), levels))


def _database(
    resources: Resources, folder: Path
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    settings = {} if resources.threads is None else {"threads": str(resources.threads)}
    return out_of_core(
        "resolving collisions",
        folder,
        memory_bytes=resources.memory_bytes,
        relief="allow more with --memory",
        preserve_insertion_order="false",
        **settings,
    )


@dataclass
class _Task:
    """One resolution, inside its database."""

    batches: Batches
    config: CollisionConfig
    resources: Resources
    around: Surroundings
    item_id: str
    folder: Path
    connection: duckdb.DuckDBPyConnection
    rows: int = field(default=0, init=False)
    error: float = field(default=0.0, init=False)  # squared, of all rows

    def run(self) -> tuple[Sids, CollisionReport, dict[str, Any]]:
        match self.config.policy:
            case "none":
                return Raw(), self._count(self._counted()), {}
            case "suffix":
                return self._suffixed()
        return self._moved()

    def _counted(self) -> RowBatches:
        """Stream the rows, counting them."""
        for batch in filter(len, self.batches()):
            self.rows += len(batch)
            if DISTANCE in batch.schema.names:
                distance_n = to_numpy(batch.column(DISTANCE))
                self.error += float(distance_n.sum(dtype=np.float64))
            yield batch
        if not self.rows:
            raise SemidError(
                "there are no rows to give semantic IDs to; check the job that made them"
            )

    def _count(self, batches: RowBatches) -> CollisionReport:
        """Report on these rows and the previous ones."""
        before = self.around.previous
        rows = batches if before is None else chain(before(), batches)
        return counting.of_rows(self.connection, streams.raw_keys(rows, self.around.levels))

    def _keyed(self, *, split: bool = False) -> RowBatches:
        return streams.keyed(self._counted(), self.item_id, self.around.levels, split=split)

    def _suffixed(self) -> tuple[Sids, CollisionReport, dict[str, Any]]:
        path, around = self.folder / "suffixes.parquet", self.around
        rows, order = around.held, None if around.order is None else around.order()
        held = None if rows is None else streams.held_suffixes(rows, around.levels)
        write_suffixes(self.connection, path, Streams(self._keyed(), held, order), self.config)
        self._require_width(path)
        if rows is None:
            report = counting.of_suffixes(self.rows, path)
        else:
            report = self._count(self.batches())
        return Suffixed(Suffixes(path).take), report, {}

    def _require_width(self, path: Path) -> None:
        """Refuse suffixes beyond the width of their level."""
        width = self.config.max_suffix
        query = f"SELECT count(*) FROM read_parquet(?) WHERE rank >= {width}"
        if not width or self.connection.execute(query, [str(path)]).fetchall() == [(0,)]:
            return
        suffixes, beyond = Suffixes(path), []
        for _, codes_nl, start in streams.coded(self.batches(), CODES, None):
            over_n = suffixes.take(start, len(codes_nl)) >= width
            beyond.append(np.unique(codes_nl[over_n], axis=0))
        shown = np.unique(np.concatenate(beyond), axis=0).tolist()
        raise SemidError(
            f"{len(shown)} raw IDs have more than {width} items, which is all that a suffix below "
            f"{width} tells apart: {first_few([tuple(raw) for raw in shown])}; allow more with "
            "--max-suffix, or use --collisions reassign"
        )

    def _moved(self) -> tuple[Sids, CollisionReport, dict[str, Any]]:
        space = self.around.space
        if space is None:
            raise SemidError(
                f"the collision policy {self.config.policy} asks what a move costs; give the "
                "model's space"
            )
        ranked = self.folder / "ranked.parquet"
        held = self.around.held
        taken = None if held is None else streams.held_entries(held, space.levels)
        rank(self.connection, ranked, self._keyed(split=True), taken)
        if held is None:
            report = counting.of_crowds(ranked, space.levels)
        else:
            report = self._count(self.batches())
        retired = self.around.retired
        unused = 0 if retired is None else sum(map(len, retired()))
        require_room(space.levels, report.items, self.config, held=unused)
        # They load SciPy, which takes a while.
        from semid.collisions.balanced import spread
        from semid.collisions.reassign import reassign

        find = reassign if self.config.policy == "reassign" else spread
        moves = find(ranked, space, self.folder, progress=self.resources.progress)
        share = moves.facts["added_squared_error"] / self.error if self.error else None
        facts = moves.facts | {"added_error_share": share}
        return Moved(moves, self._overflow(moves)), report, facts

    def _overflow(self, moves: Moves) -> Any:
        if self.config.overflow == "suffix":
            return overflow_suffixes(moves.unplaced.raw_ul, self.around.held)
        if unplaced := len(moves.unplaced.row_u):
            raise SemidError(
                f"{unplaced:,} of {self.rows:,} items find no free ID near theirs; "
                "number them with --overflow suffix, or train a model with more codewords"
            )
        return None
