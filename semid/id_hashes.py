"""Item ids to 32-bit hashes, a column at a time.

The hash is written into indexes on disk, so that it must never change: it is neither Python's nor
DuckDB's. Who looks an id up by it compares the id itself, too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_numpy

_GOLDEN = 0x9E3779B97F4A7C15


def hash_ids(ids: pa.Array) -> npt.NDArray[np.uint32]:
    """Hash strings or int64, none of them null, shape ``(n,)``.

    Strings by a multilinear hash of their bytes (Lemire and Kaser, "Strongly universal string
    hashing is fast", 2014), then as integers by the finaliser of SplitMix64 (Steele, Lea and
    Flood, 2014), of which the upper half is kept.
    """
    if pa.types.is_integer(ids.type):
        return _upper(to_numpy(ids).view(np.uint64))
    wide = np.int64 if pa.types.is_large_string(ids.type) else np.int32
    _, offsets, data = ids.buffers()
    offset_n = np.frombuffer(offsets, wide)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    start, length_n = int(offset_n[0]), np.diff(offset_n)
    total = int(offset_n[-1]) - start
    byte_b = np.frombuffer(data, np.uint8, total, start) if total else np.empty(0, np.uint8)
    place_b = np.arange(total) - np.repeat(offset_n[:-1] - start, length_n)
    weight_w = _weights(int(length_n.max(initial=0)) + 1)
    # A zero byte must count, and so must the length.
    term_b = (byte_b.astype(np.uint64) + np.uint64(1)) * weight_w[place_b]
    sum_b = np.concatenate([np.zeros(1, np.uint64), np.cumsum(term_b, dtype=np.uint64)])
    return _upper(sum_b[offset_n[1:] - start] - sum_b[offset_n[:-1] - start])


def _weights(count: int) -> npt.NDArray[np.uint64]:
    """Return odd numbers that look random, the same for every place whatever the `count`."""
    return _mixed(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)) | np.uint64(1)


def _upper(value_n: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    return (_mixed(value_n + np.uint64(_GOLDEN)) >> np.uint64(32)).astype(np.uint32)


def _mixed(value_n: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value_n = (value_n ^ (value_n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_n = (value_n ^ (value_n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_n ^ (value_n >> np.uint64(31))
