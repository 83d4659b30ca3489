"""SIDs by the million, as sorted words: which of others are among them, and at which place.

Shapes: n SIDs that are known, q that are asked for, s levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import MAX_CODES, pack_keys

Sids = npt.NDArray[np.int32]


class SidSet:
    """SIDs of one length, 8 bytes for every two levels of each, and 8 for its place.

    Parameters
    ----------
    parts : SIDs ``(n, s)`` in parts, in the order of their places
    """

    def __init__(self, parts: Iterable[Sids]) -> None:
        words = [_words(part_ns) for part_ns in parts if len(part_ns)]
        word_n = np.concatenate(words) if words else np.empty(0, np.int64)
        self._place_n = np.argsort(word_n, kind="stable")
        self._word_n = word_n[self._place_n]

    def places(self, sids_qs: Sids) -> npt.NDArray[np.int64]:
        """Return the first place of every SID, ``(q,)``; -1 for those that are not there."""
        found_q = np.full(len(sids_qs), -1, np.int64)
        if len(self._word_n) and len(sids_qs):
            word_q = _words(sids_qs)
            at_q = np.minimum(np.searchsorted(self._word_n, word_q), len(self._word_n) - 1)
            same_q = self._word_n[at_q] == word_q
            found_q[same_q] = self._place_n[at_q[same_q]]
        return found_q


def _words(sids_ns: Sids) -> npt.NDArray[Any]:
    """Turn SIDs into single values, equal where they are."""
    keys_nm = pack_keys(sids_ns, [MAX_CODES] * sids_ns.shape[1])
    if keys_nm.shape[1] == 1:
        return keys_nm[:, 0]
    big = np.ascontiguousarray(keys_nm.astype(">i8"))
    return big.view(f"S{8 * keys_nm.shape[1]}")[:, 0]
