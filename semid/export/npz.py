"""NumPy archive: ``item_ids`` (unicode or int64), ``codes`` and ``sids`` (int32); no pickles.

``numpy.load(path)`` reads it. Every member is streamed into the archive in a pass of its own.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError, display_path
from semid.export.source import Request, Source
from semid.id_table import IdTable

MEMBERS = ("item_ids", "codes", "sids")
PASSES = 1 + len(MEMBERS)  # the first for the longest id

_INT32 = np.dtype("<i4")


def write(source: Source, path: Path) -> None:
    """Write an ids table; unicode item ids are as wide as the longest.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables, or an item id ends in a NUL character,
        which NumPy's strings cannot hold; names the row.
    """
    rows, ids = source.rows, _id_dtype(source)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        item_ids = (part.item_ids.to_numpy(zero_copy_only=False) for part in source.parts())
        _write_member(archive, "item_ids", ids, (rows,), item_ids)
        codes = (part.codes for part in source.parts())
        _write_member(archive, "codes", _INT32, (rows, source.levels), codes)
        sids = (part.sids for part in source.parts())
        _write_member(archive, "sids", _INT32, (rows, source.sid_length), sids)


def _id_dtype(source: Source) -> np.dtype[Any]:
    """Return int64, or unicode as wide as the longest id."""
    width, row = 1, 0
    for part in source.parts():
        if pa.types.is_integer(part.item_ids.type):
            width = 0
            continue
        ends_n = pc.ends_with(part.item_ids, "\0").to_numpy(zero_copy_only=False)
        if ends_n.any():
            raise SemidError(
                f"{source.locate(row + int(ends_n.argmax()))}: the item id ends in a NUL "
                "character, which NumPy strings drop; export to another format"
            )
        width = max(width, pc.max(pc.utf8_length(part.item_ids)).as_py())
        row += len(part)
    return np.dtype(f"<U{width}" if width else "<i8")


def _write_member(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    arrays: Iterator[npt.NDArray[Any]],
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for array in arrays:
            member.write(array.astype(dtype, copy=False).tobytes())


def read(path: Path, request: Request) -> IdTable:
    """Read what `write` wrote, which says how many levels it has.

    Raises
    ------
    SemidError
        When the file is not such an archive, or its arrays are not a table of IDs.
    """
    if not zipfile.is_zipfile(path):  # of other files NumPy says that they may be pickles
        raise SemidError(f"{display_path(path)} is no archive of NumPy; check path and format")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            item_ids, codes_nl, sids_ns = (archive[name] for name in MEMBERS)
    except (
        KeyError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise SemidError(
            f"{display_path(path)} is not an archive of {', '.join(MEMBERS)} ({error}); "
            "export it again"
        ) from error
    return IdTable.from_arrays(item_ids, codes_nl, sids_ns)
