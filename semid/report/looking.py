"""What a report finds out: errors, worst items and groups, neighbours, places on a map.

Two passes over the embeddings: one measures all items, one gathers those that the page holds.
Shapes: n items sorted by SID, m that the page holds, l levels, d dims, k neighbours of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.id_table import IdTable
from semid.report.contents import MOST_ITEMS, NOBODY, Column, Held, held_rows
from semid.report.measuring import Decode, Measuring
from semid.report.projection import place
from semid.report.subject import Subject, texts_of

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Embedded = Callable[[], Iterator[tuple[pa.Array, Floats]]]

NEIGHBOURS = 6
WORST = 12
# Items of a group of the worst that are named.
EXAMPLES = 6
MOST_CHARACTERS = 160
_PAIRS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Known:
    """What a report is made of; what is None or empty was not given.

    Attributes
    ----------
    subject : the items, sorted by SID
    name : what the table is called
    facts : what is noted of it: ``quantizer``, ``policy``
    width : d; 0 without embeddings
    embeddings : streams item ids and embeddings ``(b, d)``, in any order, as often as it is called
    decode : codes to embeddings, of the model
    holdout : the share of items that the model did not see
    history : of the model's training
    columns : what to colour by
    texts : streams item ids and the columns with text
    text_names : what these are of: ``titles``, ``images``, ``urls``
    metrics : of `semid evaluate`
    against, against_name : another table
    """

    subject: Subject
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    width: int = 0
    embeddings: Embedded = lambda: iter(())
    decode: Decode | None = None
    holdout: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    columns: tuple[Column, ...] = ()
    texts: Callable[[], Iterator[pa.RecordBatch]] = lambda: iter(())
    text_names: tuple[str, ...] = ()
    metrics: Mapping[str, Any] | None = None
    against: IdTable | None = None
    against_name: str = ""


@dataclass(frozen=True)
class Found:
    """What was found out.

    Attributes
    ----------
    errors : relative error after each level, of training and of held-out items; {} without a model
    error_n : relative squared error of every item, or None
    missing : items without an embedding; None without embeddings
    worst_groups : groups of one raw SID that are least alike, with their mean cosine
    worst_rows : the items with the largest errors, that first
    held : what the page holds
    placed : how items are placed on the map; None without
    """

    errors: dict[str, list[float | None]]
    error_n: Floats | None
    missing: int | None
    worst_groups: list[tuple[int, float]]
    worst_rows: list[int]
    held: Held
    wanted: Rows
    placed: str | None


def look(known: Known, *, projection: str) -> Found:
    """Find out all that can be from what is known."""
    subject = known.subject
    errors: dict[str, list[float | None]] = {}
    error_n, missing, groups = None, None, _largest_groups(subject)
    if known.width:
        measuring, held_out_n = _measured(known)
        errors = measuring.errors_by_level(held_out_n)
        error_nl = measuring.relative_errors()
        error_n = None if error_nl is None else error_nl[:, -1]
        missing = int((~measuring.embedded_n).sum())
        groups = _least_alike(measuring)
    worst_rows = [] if error_n is None else _worst(error_n)
    examples = [subject.groups.members(group)[:EXAMPLES] for group, _ in groups]
    wanted = np.unique(np.concatenate([np.array(worst_rows, np.int64), *examples]))
    held, placed = _held(known, held_rows(len(subject), MOST_ITEMS, wanted), projection)
    return Found(errors, error_n, missing, groups, worst_rows, held, wanted, placed)


def _worst(error_n: Floats) -> list[int]:
    order_n = np.argsort(-np.nan_to_num(error_n), kind="stable")
    return [int(row) for row in order_n[:WORST]]


def _measured(known: Known) -> tuple[Measuring, npt.NDArray[np.bool_]]:
    from semid.training_data import held_out

    subject = known.subject
    measuring = Measuring(
        subject.table.codes, subject.groups, width=known.width, decode=known.decode
    )
    held_out_n = np.zeros(len(subject), np.bool_)
    for ids, x_bd in known.embeddings():
        place_b, row_b = subject.rows_of(ids)
        if len(row_b):
            held_out_n[row_b] = held_out(ids.take(to_arrow(place_b)), known.holdout)
            measuring.add(row_b, x_bd[place_b], held_out_n[row_b])
    return measuring, held_out_n


def _least_alike(measuring: Measuring) -> list[tuple[int, float]]:
    group_g, cosine_g = measuring.alike()
    first = np.argsort(cosine_g, kind="stable")[:WORST]
    return [(int(group_g[place]), float(cosine_g[place])) for place in first]


def _largest_groups(subject: Subject) -> list[tuple[int, float]]:
    """Return the largest groups of one raw SID, of which nothing says how alike they are."""
    size_g = subject.groups.size_g
    first = np.argsort(-size_g, kind="stable")[:WORST]
    return [(int(group), float("nan")) for group in first if size_g[group] > 1]


def _held(known: Known, row_m: Rows, projection: str) -> tuple[Held, str | None]:
    subject = known.subject
    ids = subject.table.item_ids.take(to_arrow(row_m)).cast(pa.string()).to_pylist()
    lines = texts_of(subject, row_m, known.texts(), MOST_CHARACTERS)
    texts = {"ids": ids, **dict(zip(known.text_names, lines, strict=False))}
    if not known.width:
        return Held(row_m, texts), None
    x_md, there_m = _gathered(known, row_m)
    some = np.flatnonzero(there_m)
    if len(some) < 2:
        return Held(row_m, texts), None
    near_sk, alike_sk = neighbours(x_md[some])
    near_mk = np.full((len(row_m), near_sk.shape[1]), NOBODY, np.uint32)
    near_mk[some] = np.where(near_sk < 0, NOBODY, some[near_sk]).astype(np.uint32)
    alike_mk = np.zeros(near_mk.shape, np.uint8)
    alike_mk[some] = alike_sk
    place_s2, placed = place(x_md[some], projection)
    place_m2 = np.full((len(row_m), 2), 0.5, np.float32)
    place_m2[some] = place_s2
    return Held(row_m, texts, near_mk, alike_mk, place_m2), placed


def _gathered(known: Known, row_m: Rows) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the embeddings of some rows, ``(m, d)``, and which of them there are."""
    subject = known.subject
    x_md, there_m = np.zeros((len(row_m), known.width), np.float32), np.zeros(len(row_m), np.bool_)
    place_n = np.full(len(subject), -1)
    place_n[row_m] = np.arange(len(row_m))
    for ids, x_bd in known.embeddings():
        place_b, row_b = subject.rows_of(ids)
        spot_b = place_n[row_b]
        x_md[spot_b[spot_b >= 0]] = x_bd[place_b[spot_b >= 0]]
        there_m[spot_b[spot_b >= 0]] = True
    return x_md, there_m


def neighbours(x_md: Floats) -> tuple[Rows, npt.NDArray[np.uint8]]:
    """Return the nearest items of each, ``(m, k)``, -1 where there are no more, and the cosines.

    In squared distance, exact up to `semid.neighbours.EXACT_ROWS` items; cosines in hundredths,
    those below 0 as 0.
    """
    from semid.neighbours import near_rows

    near_mk = near_rows(x_md, min(NEIGHBOURS, len(x_md) - 1), seed=0)
    length_md = np.linalg.norm(x_md, axis=1, keepdims=True)
    unit_md = x_md / np.where(length_md > 0, length_md, 1)
    alike_mk = np.empty(near_mk.shape, np.uint8)
    for start in range(0, len(x_md), _PAIRS_AT_ONCE):
        near_bk = near_mk[start : start + _PAIRS_AT_ONCE]
        cosine_bk = np.einsum("bd,bkd->bk", unit_md[start : start + len(near_bk)], unit_md[near_bk])
        alike_mk[start : start + len(near_bk)] = (100 * cosine_bk.clip(0, 1)).round()
    return near_mk, alike_mk
