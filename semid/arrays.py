"""Numbers from NumPy to Arrow and back, without a copy.

Arrow's own ways load pandas first, which takes a third of a second.
"""

from __future__ import annotations

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
