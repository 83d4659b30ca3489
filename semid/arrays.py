"""Numbers from NumPy to Arrow and back, without a copy, and a little text.

Arrow's own ways load pandas first, which takes a third of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def to_arrow(values_n: npt.NDArray[Any]) -> pa.Array:
    """Return integers or floats ``(n,)``, which must not change later, as an Arrow array."""
    values_n = np.ascontiguousarray(values_n)
    assert values_n.ndim == 1
    assert values_n.dtype.kind in "iuf"
    assert values_n.dtype.isnative
    buffers = [None, pa.py_buffer(values_n)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values_n.dtype), len(values_n), buffers)


def to_numpy(values: pa.Array) -> npt.NDArray[Any]:
    """Return an Arrow array of numbers, none of them null, as ``(n,)``, read-only."""
    return np.from_dlpack(values)


def strings_to_arrow(values: Sequence[str]) -> pa.Array:
    """Return text as an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    offset_n = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    buffers = [pa.py_buffer(offset_n), pa.py_buffer(b"".join(encoded))]
    return pa.StringArray.from_buffers(len(encoded), *buffers)
