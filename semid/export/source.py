"""What an export is made from, what an import is told, and the note that goes along.

The note is what the ids table's own metadata says, and under ``export`` how many levels are codes
and what the item id column is called: what a format itself does not say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.id_metadata import METADATA_KEY, metadata_of
from semid.id_reading import id_batches
from semid.id_table import IdTable
from semid.tables import ParquetTable

OnRows = Callable[[int], object]

BATCH_ROWS = 65_536
_EXPORT = "export"
# Policies whose SIDs do not begin with the raw codes, so that these are lost where SIDs alone are.
_MOVES = ("reassign", "sinkhorn")


@dataclass(frozen=True)
class Source:
    """An ids table, of files or in memory, that can be passed over again and again.

    Attributes
    ----------
    batches : begins a pass: checked tables of at most `BATCH_ROWS` rows, all alike
    rows : how many there are
    levels, sid_length : L, and L or L+1
    id_type : of the item ids
    item_id : name of the id column
    metadata : what the table's metadata says
    locate : names a row for a message
    width : how many codes the format spells at every level; None for any number
    """

    batches: Callable[[], Iterator[IdTable]]
    rows: int
    levels: int
    sid_length: int
    id_type: pa.DataType
    item_id: str
    metadata: Mapping[str, Any]
    locate: Callable[[int], str]
    width: int | None = None

    @property
    def has_suffix(self) -> bool:
        """Whether SIDs have a level more than codes."""
        return self.sid_length > self.levels

    @property
    def note(self) -> str:
        """The note as JSON."""
        facts = {"levels": self.levels, "sid_length": self.sid_length, "item_id": self.item_id}
        return json.dumps({**self.metadata, _EXPORT: facts})

    def parts(self) -> Iterator[IdTable]:
        """Pass over the table.

        Raises
        ------
        SemidError
            For the first row with a code that the format has no place for, or when the table breaks
            the contract of ids tables.
        """
        row = 0
        for part in self.batches():
            if self.width is not None and part.sids.max() >= self.width:
                self._refuse(part, row, self.width)
            yield part
            row += len(part)

    def _refuse(self, part: IdTable, first_row: int, width: int) -> None:
        row, level = (int(place) for place in np.argwhere(part.sids >= width)[0])
        code, is_suffix = part.sids[row, level], level == self.levels
        advice = (
            f"assign with --max-suffix {width} or --collisions reassign"
            if is_suffix
            else "train fewer codewords a level"
        )
        raise SemidError(
            f"{self.locate(first_row + row)}: the {'suffix' if is_suffix else 'code'} {code} at "
            f"level {level} is beyond the {width:,} codes that the format has at every level; "
            f"{advice}, or raise --width where the consumer's setting is raised too"
        )


def of_table(table: ParquetTable, *, item_id: str = "item_id", on_rows: OnRows) -> Source:
    """Make a source of an ids table's files; `on_rows` hears of every batch of every pass.

    Raises
    ------
    SemidError
        When the table has no rows, or its first row breaks the contract of ids tables.
    """
    first = next(id_batches(table, item_id=item_id, rows=1), None)
    if first is None:
        raise SemidError(f"{display_path(table.name)} has no rows; check the job that wrote it")

    def batches() -> Iterator[IdTable]:
        return id_batches(table, item_id=item_id, rows=BATCH_ROWS, on_rows=on_rows)

    return _source(first, batches, table.num_rows, table.locate)


def of_ids(ids: IdTable, *, on_rows: OnRows) -> Source:
    """Make a source of a table in memory."""

    def batches() -> Iterator[IdTable]:
        for start in range(0, len(ids), BATCH_ROWS):
            span = slice(start, start + BATCH_ROWS)
            yield IdTable(ids.item_ids[span], ids.codes[span], ids.sids[span])
            on_rows(len(ids.item_ids[span]))

    return _source(ids, batches, len(ids), "row {}".format)


def _source(
    first: IdTable,
    batches: Callable[[], Iterator[IdTable]],
    rows: int,
    locate: Callable[[int], str],
) -> Source:
    return Source(
        batches,
        rows,
        first.codes.shape[1],
        first.sids.shape[1],
        first.item_ids.type,
        first.item_id,
        first.metadata,
        locate,
    )


class Request(NamedTuple):
    """What the user says of a file to read.

    levels : L; where neither this nor a note says, every format has a rule of its own
    items : file with the item id of every row number, for the formats that number items
    """

    levels: int | None = None
    items: Path | None = None


class Note(NamedTuple):
    """The note found with a file: L, the length of SIDs and the id column, if it has them."""

    levels: int | None = None
    sid_length: int | None = None
    item_id: str = "item_id"
    metadata: Mapping[str, Any] = {}


def read_note(schema: pa.Schema, path: Path) -> Note:
    """Return the note in the metadata of a Parquet file; raises `SemidError` for a broken one."""
    return note_of(metadata_of(schema, display_path(path)))


def parse_note(text: str | bytes | None, path: Path) -> Note:
    """Return a note from its JSON, an empty one for None; raises `SemidError` for a broken one."""
    if text is None:
        return Note()
    return read_note(pa.schema([]).with_metadata({METADATA_KEY: text}), path)


def note_of(metadata: dict[str, Any]) -> Note:
    """Take a note apart."""
    facts = metadata.get(_EXPORT)
    if not isinstance(facts, dict):
        return Note(metadata=metadata)
    rest = {name: fact for name, fact in metadata.items() if name != _EXPORT}
    item_id = facts.get("item_id", "item_id")
    return Note(facts.get("levels"), facts.get("sid_length"), item_id, rest)


def table_of_sids(
    item_ids: Any,
    sids_ns: npt.NDArray[np.integer[Any]],
    request: Request,
    note: Note,
    *,
    suffix: bool = False,
) -> IdTable:
    """Make a table of SIDs ``(n, s)`` whose first codes stand for the raw ones.

    L is what the note says, else what the request says, else s, or s-1 if by the custom of the
    format the last digit is a `suffix`. Where the policy moved items, the codes are not those that
    the model gave, so the table does not claim to be the model's.

    Raises
    ------
    SemidError
        As `IdTable.from_arrays`.
    """
    custom = sids_ns.shape[1] - (suffix and sids_ns.shape[1] > 1)
    levels = note.levels or request.levels or custom
    metadata = dict(note.metadata)
    if (metadata.get("summary") or {}).get("policy") in _MOVES:
        metadata.pop("model_fingerprint", None)
    return IdTable.from_arrays(
        item_ids, sids_ns[:, :levels], sids_ns, metadata=metadata, item_id=note.item_id
    )
