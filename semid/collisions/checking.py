"""No two items may share an ID: looked at once more, in what was written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.database import fed, out_of_core
from semid.ids import MAX_CODES, pack_keys, unpack_keys

Codes = npt.NDArray[np.int32]


def repeated(
    sids: Iterator[Codes], levels: Sequence[int], folder: Path, memory_bytes: int = 1 << 30
) -> tuple[int, ...] | None:
    """Return the least SID that two rows have, or None.

    Parameters
    ----------
    sids : streams SIDs ``(n, s)``, as long as `levels` or longer
    folder : an existing folder for what does not fit in memory
    memory_bytes : DuckDB's budget

    Raises
    ------
    SemidError
        When memory or disk run out.
    """
    if (first := next(sids, None)) is None:
        return None
    sizes = [*levels, *([MAX_CODES] * (first.shape[1] - len(levels)))]
    rows = (_keyed(sid_ns, sizes) for sid_ns in chain([first], sids))
    start = next(rows)
    keys = ", ".join(start.schema.names)
    with (
        tempfile.TemporaryDirectory(prefix="checking-", dir=folder) as place,
        out_of_core(
            "looking for repeated IDs",
            Path(place),
            memory_bytes=memory_bytes,
            relief="allow more with --memory",
            preserve_insertion_order="false",
        ) as connection,
        fed(connection, "sids", start.schema, chain([start], rows)),
    ):
        found = connection.execute(
            f"SELECT {keys} FROM sids GROUP BY {keys} HAVING count(*) > 1 ORDER BY {keys} LIMIT 1"
        ).fetchall()
    return tuple(unpack_keys(np.array(found), sizes)[0].tolist()) if found else None


def _keyed(sid_ns: Codes, sizes: Sequence[int]) -> pa.RecordBatch:
    columns = {f"key_{q}": to_arrow(key_n) for q, key_n in enumerate(pack_keys(sid_ns, sizes).T)}
    return pa.record_batch(list(columns.values()), names=list(columns))
