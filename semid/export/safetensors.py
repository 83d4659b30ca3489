"""safetensors: ``codes`` ``(n, L)`` and ``sids`` ``(n, L or L+1)``, int32, and the item ids.

Integer ids are ``item_ids`` (int64). The format has no text: string ids are ``item_id_bytes``
(uint8), the UTF-8 of all of them, and ``item_id_offsets`` (int64, ``(n+1,)``), where each begins
and the last ends. The note is the metadata entry ``semid``. Every tensor is streamed into the file
in a pass of its own: a length, a JSON header, and the tensors one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError, display_path
from semid.export.source import Note, Request, Source, parse_note
from semid.export.text import raw
from semid.id_metadata import METADATA_KEY
from semid.id_table import IdTable

PASSES = 5  # the first for the length of the text
CODES, SIDS = "codes", "sids"
INTEGERS, BYTES, OFFSETS = "item_ids", "item_id_bytes", "item_id_offsets"

_SIZES = {"U8": 1, "I32": 4, "I64": 8}


def write(source: Source, path: Path) -> None:
    """Write the file; raises `SemidError` as `Source.parts`."""
    rows, is_integer = source.rows, pa.types.is_integer(source.id_type)
    tensors: dict[str, tuple[str, list[int], Iterator[npt.NDArray[Any]]]] = {
        CODES: ("I32", [rows, source.levels], (part.codes for part in source.parts())),
        SIDS: ("I32", [rows, source.sid_length], (part.sids for part in source.parts())),
    }
    # The largest first, so that each begins at a multiple of its size.
    if is_integer:
        ids = (part.item_ids.to_numpy() for part in source.parts())
        tensors = {INTEGERS: ("I64", [rows], ids), **tensors}
    else:
        length = sum(_length(part) for part in source.parts())
        text = (raw(part.item_ids.cast(pa.string())) for part in source.parts())
        tensors = {OFFSETS: ("I64", [rows + 1], _offsets(source)), **tensors}
        tensors[BYTES] = ("U8", [length], text)
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY.decode(): source.note}}
    at = 0
    for name, (kind, shape, _) in tensors.items():
        end = at + _SIZES[kind] * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for _, _, arrays in tensors.values():
            for array in arrays:
                file.write(np.ascontiguousarray(array).tobytes())


def _length(part: IdTable) -> int:
    return int(pc.sum(pc.binary_length(part.item_ids)).as_py())


def _offsets(source: Source) -> Iterator[npt.NDArray[np.int64]]:
    end = np.zeros(1, np.int64)
    yield end
    for part in source.parts():
        offset_n = end[-1] + np.cumsum(pc.binary_length(part.item_ids).to_numpy(), dtype=np.int64)
        yield offset_n
        end = offset_n


def read(path: Path, request: Request) -> IdTable:
    """Read the file.

    Raises
    ------
    SemidError
        When it is not of safetensors, or lacks a tensor.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            note = parse_note((file.metadata() or {}).get(METADATA_KEY.decode()), path)
            there = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        codes_nl, sids_ns = there[CODES], there[SIDS]
        ids = there[INTEGERS] if INTEGERS in there else _texts(there[BYTES], there[OFFSETS])
    except (SafetensorError, KeyError, OSError, pa.ArrowInvalid) as error:
        raise SemidError(
            f"{display_path(path)} is not a safetensors file of {CODES}, {SIDS} and item ids "
            f"({error}); export it again"
        ) from error
    return _table(ids, codes_nl, sids_ns, note)


def _texts(bytes_b: npt.NDArray[np.uint8], offset_m: npt.NDArray[np.int64]) -> pa.Array:
    if offset_m.ndim != 1 or not len(offset_m) or (np.diff(offset_m) < 0).any():
        raise pa.ArrowInvalid(f"{OFFSETS} do not ascend")
    if offset_m[0] < 0 or offset_m[-1] > len(bytes_b):
        raise pa.ArrowInvalid(f"{OFFSETS} go beyond {BYTES}")
    buffers = [None, pa.py_buffer(offset_m.astype(np.int64)), pa.py_buffer(bytes_b)]
    ids = pa.Array.from_buffers(pa.large_string(), len(offset_m) - 1, buffers)
    ids.validate(full=True)
    return ids


def _table(ids: Any, codes_nl: Any, sids_ns: Any, note: Note) -> IdTable:
    return IdTable.from_arrays(ids, codes_nl, sids_ns, metadata=note.metadata, item_id=note.item_id)
