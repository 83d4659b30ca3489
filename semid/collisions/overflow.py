"""Suffixes for the few items that reassignment finds no free SID for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.collisions.copies import place_among
from semid.collisions.streams import Codes, coded
from semid.id_columns import SID
from semid.ids import group_ids


def overflow_suffixes(
    raw_ul: Codes, held: Iterator[pa.RecordBatch] | None
) -> npt.NDArray[np.int32]:
    """Return numbers of items within their raw SID, from 1 and beyond what is held: ``(u,)``.

    One item without a suffix, 0, has the raw SID itself. Items of a raw SID come by their ids.
    """
    numbered = [np.empty((0, raw_ul.shape[1] + 1), np.int32)]
    for _, sid_ns, _ in coded(held or iter(()), SID, None):
        numbered.append(sid_ns[sid_ns[:, -1] > 0])
    held_hs = np.concatenate(numbered)
    group_n, _ = group_ids(np.concatenate([raw_ul, held_hs[:, :-1]]))
    most_g = np.zeros(group_n.max(initial=-1) + 1, dtype=np.int32)
    np.maximum.at(most_g, group_n[len(raw_ul) :], held_hs[:, -1])
    return (most_g[group_n[: len(raw_ul)]] + 1 + place_among(group_n[: len(raw_ul)])).astype(
        np.int32
    )
