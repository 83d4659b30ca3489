"""Arrays and text as one string that a page holds: gzip in base64, with what is where in front."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# What JavaScript has typed arrays of.
_KINDS = {"u1", "u2", "u4", "i4", "f4"}
_ALIGNED = 8
_BREAKS = re.compile("[\n\r\u2028\u2029]")


def pack(
    arrays: Mapping[str, npt.NDArray[Any]],
    texts: Mapping[str, Sequence[str]],
    facts: Mapping[str, Any],
) -> str:
    """Return arrays, lists of text and plain facts as gzip in base64.

    Unpacked, it is the length of a JSON header (uint32, little endian), the header, and the
    arrays at multiples of 8 bytes: the header's ``arrays`` tells of each its type, place and
    length, ``texts`` of each its place and bytes (UTF-8, a line each), ``facts`` the facts.
    Line breaks inside a text become spaces.

    Parameters
    ----------
    arrays : of unsigned integers of up to 32 bits, int32 or float32
    texts : lists of text
    facts : what JSON can hold
    """
    parts: list[bytes] = []
    header: dict[str, Any] = {"arrays": {}, "texts": {}, "facts": facts}
    place = 0

    def add(content: bytes) -> int:
        nonlocal place
        start = place
        parts.append(content + bytes(-len(content) % _ALIGNED))
        place += len(parts[-1])
        return start

    for name, values in arrays.items():
        kind = values.dtype.str[1:]
        assert kind in _KINDS, f"{name} is {values.dtype}"
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        header["arrays"][name] = [kind, add(little.tobytes()), values.size]
    for name, lines in texts.items():
        content = "\n".join(map(_one_line, lines)).encode("utf-8", "replace")
        header["texts"][name] = [add(content), len(content), len(lines)]
    head = json.dumps(header, ensure_ascii=True, allow_nan=False).encode()
    head += b" " * (-(len(head) + 4) % _ALIGNED)
    whole = b"".join([len(head).to_bytes(4, "little"), head, *parts])
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode("ascii")


def smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers from 0 in the smallest type that holds them."""
    most = int(values.max(initial=0))
    return values.astype(np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.uint32)


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return floats to about three digits, NaN too: what is dropped need not be stored."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 11)) & np.uint32(0xFFFFF000)).view(np.float32)


def _one_line(text: str) -> str:
    return " ".join(text.split()) if _BREAKS.search(text) else text
