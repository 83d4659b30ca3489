"""Parquet tables: open, check, stream in batches.

A table is one file, a folder of part files, a glob or a URI that Arrow's file systems open. Rows
are numbered from 0 over all files in the sorted order of their names; messages name the file and
the row inside it. Columns that are dictionaries, as pandas writes categories, count as what they
stand for. Nothing here holds more than a few batches in memory.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from semid.errors import SemidError, display_path, first_few
from semid.versions import CURRENT, VERSION, named, refuse_to_guess, version_number

# What to do about a missing column of semid's own.
_HINTS = {
    "embedding": "; name the ones with the embeddings by --columns",
    "codes": "; semid assign makes an ids table",
    "sid": "; semid assign makes an ids table",
    "item_id": "; name the one with the ids by --item-id",
    "user_id": "; rename the one with the users",
}


@dataclass(frozen=True)
class ParquetTable:
    """An opened table: its files, schema and row counts, but none of its rows.

    Attributes
    ----------
    name : the path as the user gave it, for messages
    files : paths inside `filesystem`, in row order
    row_groups : for every file the row counts of its row groups
    """

    name: str
    files: tuple[str, ...]
    filesystem: pafs.FileSystem
    schema: pa.Schema
    row_groups: tuple[tuple[int, ...], ...]

    @property
    def num_rows(self) -> int:
        """Rows over all files."""
        return sum(map(sum, self.row_groups))

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine's file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def locate(self, row: int) -> str:
        """Name a row for a message: ``items.parquet, row 17`` (rows counted from 0 in the file)."""
        for file, groups in zip(self.files, self.row_groups, strict=True):
            if row < sum(groups):
                return f"{display_path(file)}, row {row}"
            row -= sum(groups)
        raise IndexError(row)

    def locator(self, first_row: int) -> Callable[[int], str]:
        """Return what names the rows of a batch that begins at `first_row`."""
        return lambda row: self.locate(first_row + row)

    def require(self, columns: Iterable[str]) -> None:
        """Raise `SemidError` naming columns that are missing (and those there), or there twice."""
        columns, names = list(columns), self.schema.names
        missing = [column for column in columns if column not in names]
        if missing:
            raise SemidError(
                f"{display_path(self.name)} has no column {first_few([repr(c) for c in missing])}; "
                f"its columns are {', '.join(names)}{_HINTS.get(missing[0], '')}"
            )
        for column in columns:
            if names.count(column) > 1:
                raise SemidError(
                    f"{display_path(self.name)} has the column '{column}' {names.count(column)} "
                    "times; rename the others"
                )

    def chunks(self, rows: int) -> list[tuple[int, int]]:
        """Cut the table into row ranges of about `rows`, at row-group borders where there are any.

        Row groups are gathered up to `rows`; a larger one is cut inside.
        """
        cuts, start, stop = [0], 0, 0
        for size in (size for groups in self.row_groups for size in groups):
            if stop > start and stop + size - start > rows:
                cuts.append(stop)
                start = stop
            stop += size
            while stop - start > rows:
                start += rows
                cuts.append(start)
        if stop > cuts[-1]:
            cuts.append(stop)
        return list(pairwise(cuts))

    def batches(
        self, columns: Sequence[str], *, rows: int = 16_384, start: int = 0, stop: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream the rows ``start:stop`` of `columns`, in order, at most `rows` at a time.

        Row groups outside the range are never read; memory is bounded by the batch, whatever the
        size of a row group.
        """
        stop = self.num_rows if stop is None else stop
        first = 0
        for file, groups in zip(self.files, self.row_groups, strict=True):
            ends = list(accumulate(groups, initial=first))
            wanted = [g for g in range(len(groups)) if ends[g] < stop and ends[g + 1] > start]
            if wanted:
                yield from self._file_batches(
                    file, list(columns), wanted, rows, ends[wanted[0]], (start, stop)
                )
            first = ends[-1]

    def _file_batches(
        self,
        file: str,
        columns: list[str],
        wanted: list[int],
        rows: int,
        at: int,
        span: tuple[int, int],
    ) -> Iterator[pa.RecordBatch]:
        with damage_explained(file):
            # A read buffer keeps a column chunk of a huge row group from being loaded whole. Small,
            # it stays in the cache; large, it spares remote file systems requests.
            buffer = 1 << (16 if self.is_local else 20)
            with pq.ParquetFile(
                file, filesystem=self.filesystem, buffer_size=buffer, pre_buffer=False
            ) as parquet:
                for batch in parquet.iter_batches(rows, row_groups=wanted, columns=columns):
                    skip, keep = max(span[0] - at, 0), min(span[1] - at, batch.num_rows)
                    if keep > skip:
                        yield _decoded(batch.slice(skip, keep - skip))
                    at += batch.num_rows
                    if at >= span[1]:
                        return


@contextmanager
def damage_explained(file: str) -> Iterator[None]:
    """Turn what reading the rows of `file` raises into a sentence."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        if isinstance(error, SemidError):
            raise
        raise SemidError(
            f"{display_path(file)} is damaged and cannot be read ({_first_line(error)}); "
            "write it again"
        ) from error


def open_table(path: str | Path, *, allow_empty: bool = False) -> ParquetTable:
    """Open a Parquet file, a folder of part files, a glob or a URI, reading only its footers.

    Folders are searched recursively for ``*.parquet``; names that begin with ``_`` or ``.`` are
    left out. Of a store with versions, the one that its file ``CURRENT`` names is opened.

    Raises
    ------
    SemidError
        When nothing is there, a file is not Parquet or is truncated, the files' schemas differ, or
        the table has no rows (unless `allow_empty`).
    """
    name = str(path)
    schema: pa.Schema | None = None
    row_groups = []
    with _explained(name):
        filesystem, files = _resolve(name)
    for file in files:
        with _explained(file):
            metadata = _footer(filesystem, file)
        found = _decoded_schema(metadata.schema.to_arrow_schema())
        if schema is not None and not found.equals(schema):
            raise SemidError(_schema_difference(files[0], schema, file, found))
        schema = schema or found
        row_groups.append(
            tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
        )
    assert schema is not None
    table = ParquetTable(name, tuple(files), filesystem, schema, tuple(row_groups))
    if table.num_rows == 0 and not allow_empty:
        raise SemidError(f"{display_path(name)} has no rows; check the job that wrote it")
    return table


def _decoded_schema(schema: pa.Schema) -> pa.Schema:
    for place, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(place, field.with_type(field.type.value_type))
    return schema


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    if not any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
        return batch
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.record_batch(columns, schema=_decoded_schema(batch.schema))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what file systems raise into a sentence about `name`."""
    try:
        yield
    except PermissionError as error:
        raise SemidError(
            f"no permission to read {display_path(name)}; change its permissions, or ask its owner"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise SemidError(
            f"{display_path(name)} cannot be opened ({_first_line(error)}); check the path"
        ) from error


def _resolve(name: str) -> tuple[pafs.FileSystem, list[str]]:
    if not name:
        raise SemidError("the path of a table is empty; name a file, a folder, a glob or a URI")
    if "://" in name:
        filesystem, base = pafs.FileSystem.from_uri(name)
    elif glob.has_magic(name) and not Path(name).exists():
        files = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
        if not files:
            raise SemidError(f"no file matches {name}; check the pattern (quoted from the shell?)")
        return pafs.LocalFileSystem(), files
    else:
        filesystem, base = pafs.LocalFileSystem(), name
    info = filesystem.get_file_info(base)
    if info.type == pafs.FileType.NotFound:
        raise SemidError(f"{display_path(name)} does not exist; check the path")
    if info.type == pafs.FileType.File:
        return filesystem, [base]
    base = _current(filesystem, base)
    found = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    for entry in found:
        if entry.base_name == CURRENT:
            store = display_path(str(PurePosixPath(entry.path).parent))
            raise SemidError(
                f"{display_path(name)} is no table but holds the store {store}; name that"
            )
    files = sorted(
        entry.path
        for entry in found
        if entry.type == pafs.FileType.File
        and entry.path.endswith(".parquet")
        and not any(
            p.startswith(("_", ".")) for p in PurePosixPath(entry.path).relative_to(base).parts
        )
    )
    if not files:
        raise _no_parts(name, found)
    return filesystem, files


def _no_parts(name: str, found: Sequence[pafs.FileInfo]) -> SemidError:
    if any(PurePosixPath(entry.path).name == "model.safetensors" for entry in found):
        return SemidError(
            f"{display_path(name)} is a model directory, not a table; name what it assigned"
        )
    return SemidError(f"the folder {display_path(name)} holds no .parquet files; check the path")


def _current(filesystem: pafs.FileSystem, folder: str) -> str:
    """Return the folder of a store's current version; any other folder is its own."""
    base, content = folder.rstrip("/"), None
    pointer = f"{base}/{CURRENT}"
    if filesystem.get_file_info(pointer).type == pafs.FileType.File:
        with filesystem.open_input_file(pointer) as source:
            content = source.read(64).decode("utf-8", "replace")
    # Listed after that is read: it may name a version that was added in between.
    inside = filesystem.get_file_info(pafs.FileSelector(base))
    names = (PurePosixPath(entry.path).name for entry in inside)
    there = sorted(filter(VERSION.fullmatch, names), key=version_number)
    if content is not None:
        return f"{base}/{named(base, content, there)}"
    refuse_to_guess(base, there)
    return folder


def _footer(filesystem: pafs.FileSystem, file: str) -> pq.FileMetaData:
    with filesystem.open_input_file(file) as source:
        head = source.read(4)
        try:
            return pq.read_metadata(source)
        except (pa.ArrowInvalid, OSError) as error:
            shown, size = display_path(file), source.size()
            if not size:
                raise SemidError(f"{shown} is an empty file; write or copy it again") from error
            if head == b"PAR1":
                raise SemidError(
                    f"{shown} is truncated: it begins as Parquet but its footer is missing "
                    f"after {size:,} bytes; write or copy it again"
                ) from error
            raise SemidError(
                f"{shown} is not a Parquet file (its first bytes are {head!r}); name the table "
                "itself, or convert it, for example with pandas.DataFrame.to_parquet"
            ) from error


def _schema_difference(first: str, expected: pa.Schema, other: str, found: pa.Schema) -> str:
    for field in expected:
        if field.name not in found.names or not found.field(field.name).equals(field):
            there = _kind(found.field(field.name)) if field.name in found.names else "missing"
            return (
                f"the parts disagree on column '{field.name}': {_kind(field)} in "
                f"{display_path(first)}, {there} in {display_path(other)}; write them alike"
            )
    extra = [name for name in found.names if name not in expected.names]
    return (
        f"{display_path(other)} has columns that {display_path(first)} lacks "
        f"({first_few(list(extra))}) or in another order; write the parts alike"
    )


def _kind(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ' not null'}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
