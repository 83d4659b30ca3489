"""What a report finds out: errors, worst items and groups, neighbours, places on a map.

What `semid evaluate` measures is taken from its figures, or by its functions. Shapes: n items
sorted by SID, m that the page holds, s of these that have an embedding, d dims, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.coded_items import CodedItems, Embedded
from semid.errors import SemidError
from semid.evaluation.passing import Decoder
from semid.evaluation.passing import look as pass_over
from semid.evaluation.structure import collisions, harm
from semid.ids import group_ids
from semid.metrics.alike import HARMFUL_COSINE
from semid.report.contents import MOST_ITEMS, NOBODY, Column, Held, held_rows
from semid.report.projection import place
from semid.report.subject import Subject, shortened, texts_of, whole_or_none

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

NEIGHBOURS = 6
WORST = 12
# Items of a group of the worst that are named.
EXAMPLES = 6
_PAIRS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Vectors:
    """The embeddings of items.

    Attributes
    ----------
    items : the items, in the order that `semid evaluate` takes them
    embeddings : of these, by their places
    place_n : the place of every row of the subject
    """

    items: CodedItems
    embeddings: Embedded
    place_n: Rows

    @property
    def there_n(self) -> npt.NDArray[np.bool_]:
        """Which rows of the subject have an embedding."""
        there_n: npt.NDArray[np.bool_] = np.isin(self.place_n, self.embeddings.items)
        return there_n


@dataclass(frozen=True)
class Known:
    """What a report is made of; what is None or empty was not given.

    Attributes
    ----------
    subject : the items, sorted by SID
    name : what the table is called
    facts : what is noted of it: ``quantizer``, ``policy``
    vectors : their embeddings
    model : what gave them their codes
    history : of the model's training
    columns : what to colour by
    texts : streams item ids and the columns with text
    text_names : what these are of: ``titles``, ``images``, ``urls``
    metrics : of `semid evaluate`; there with embeddings and a model
    against : another table, with its name
    on_rows : hears of every batch of embeddings how many there were
    """

    subject: Subject
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    vectors: Vectors | None = None
    model: Decoder | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    columns: tuple[Column, ...] = ()
    texts: Callable[[], Iterator[pa.RecordBatch]] = lambda: iter(())
    text_names: tuple[str, ...] = ()
    metrics: Mapping[str, Any] | None = None
    against: Against | None = None
    on_rows: Callable[[int], object] = lambda _: None


class Against(NamedTuple):
    """Another table: its name, its items, and what is known of its figures, as in metrics.json."""

    name: str
    subject: Subject
    metrics: Mapping[str, Any]


class Shared(NamedTuple):
    """Items that share a raw SID: how many in all, some of them as rows, and how alike two are."""

    items: int
    rows: list[int]
    cosine: float | None


@dataclass(frozen=True)
class Found:
    """What was found out.

    Attributes
    ----------
    error_n : relative squared error of every item, or None
    missing : items without an embedding; None without embeddings
    shared : items of one raw SID: pairs that are least alike, or else the largest groups
    harmful : what `semid.evaluation.structure.harm` says of the pairs that were looked at
    worst : the rows with the largest errors, and these
    held : what the page holds
    wanted : the rows that it must hold
    placed : how items are placed on the map; None without
    """

    error_n: Floats | None
    missing: int | None
    shared: list[Shared]
    harmful: Mapping[str, Any]
    worst: list[tuple[int, float]]
    held: Held
    wanted: Rows
    placed: str | None


def look(known: Known, *, projection: str) -> Found:
    """Find out all that can be from what is known.

    Raises
    ------
    SemidError
        When the metrics name an item that is not there.
    """
    subject, vectors = known.subject, known.vectors
    harmful = _harmful(known)
    shared = _largest_groups(subject) if harmful is None else _pairs(subject, harmful)
    worst = _worst(known)
    named = [row for one in shared for row in one.rows] + [row for row, _ in worst]
    wanted = np.unique(np.array(named, np.int64))
    held, placed = _held(known, held_rows(len(subject), MOST_ITEMS, wanted), projection)
    missing = None if vectors is None else int((~vectors.there_n).sum())
    return Found(_errors(known), missing, shared, harmful or {}, worst, held, wanted, placed)


def _errors(known: Known) -> Floats | None:
    """Return every item's error in the unit of the metrics: their mean is the training error."""
    if known.vectors is None or known.model is None or known.metrics is None:
        return None
    items = known.vectors.items
    watch = [lambda x_bd, _: known.on_rows(len(x_bd))]
    found = pass_over(items, known.vectors.embeddings, known.model, watchers=watch)
    if np.isnan(found.error_n).all():
        return None
    relative_n: Floats = found.error_n[known.vectors.place_n]
    return relative_n


def _worst(known: Known) -> list[tuple[int, float]]:
    worst = (known.metrics or {}).get("fidelity", {}).get("worst", [])[:WORST]
    rows = _rows_of(known.subject, [one["item"] for one in worst])
    return [(row, one["error"]) for row, one in zip(rows, worst, strict=True)]


def _harmful(known: Known) -> dict[str, Any] | None:
    """Return pairs that collide and are not alike, by rows; None where nothing is known."""
    subject, vectors = known.subject, known.vectors
    if known.metrics is not None:
        found = known.metrics.get("collisions", {}).get("harmful")
        if found is None:
            return None
        pairs = [
            {**one, "items": _rows_of(subject, one["items"])} for one in found["examples"][:WORST]
        ]
        return {**found, "examples": pairs}
    if vectors is None:
        return None
    there = vectors.embeddings.items
    found, _ = harm(
        collisions(vectors.items.codes_nl[there], seed=0),
        np.empty((0, 2), np.int64),
        lambda place_m: vectors.embeddings.take(there[place_m]),
        _mean(vectors.embeddings),
        threshold=HARMFUL_COSINE,
    )
    row_n = np.argsort(vectors.place_n)
    pairs = [
        {**one, "items": row_n[there[one["items"]]].tolist()} for one in found["examples"][:WORST]
    ]
    return {**found, "examples": pairs}


def _mean(embeddings: Embedded) -> Floats:
    """Return the mean of all items' embeddings."""
    sums = [(x_bd.sum(0, dtype=np.float64), len(x_bd)) for x_bd, _ in embeddings.stream()]
    total_d, n = (sum(part) for part in zip(*sums, strict=True))
    mean_d: Floats = (total_d / n).astype(np.float32)
    return mean_d


def _rows_of(subject: Subject, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the rows of items that metrics name."""
    kind = subject.table.item_ids.type
    names = [one["item_id"] for one in items]
    rows: list[int] = []
    try:
        if names:
            rows = subject.table.rows_of(pa.array(names).cast(kind)).tolist()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # ids of another type
        rows = [-1]
    if -1 in rows:
        raise SemidError(
            f"the metrics name the item {names[rows.index(-1)]!r}, which the ids table has not: "
            "they are of another table; measure this one by semid evaluate"
        )
    return rows


def _pairs(subject: Subject, harmful: Mapping[str, Any]) -> list[Shared]:
    return [
        Shared(int(subject.sharing_n[one["items"][0]]), one["items"], one["cosine"])
        for one in harmful["examples"]
    ]


def _largest_groups(subject: Subject) -> list[Shared]:
    """Return the largest groups of one raw SID, of which nothing says how alike they are."""
    group_n, size_n = group_ids(subject.table.codes)
    # The first row of every group, the largest groups first.
    row_g = np.unique(group_n, return_index=True)[1]
    most = row_g[np.argsort(-size_n[row_g], kind="stable")[:WORST]]
    return [
        Shared(int(size_n[row]), np.flatnonzero(group_n == group_n[row])[:EXAMPLES].tolist(), None)
        for row in most.tolist()
        if size_n[row] > 1
    ]


def _held(known: Known, row_m: Rows, projection: str) -> tuple[Held, str | None]:

    subject, vectors = known.subject, known.vectors
    ids = subject.table.item_ids.take(to_arrow(row_m)).cast(pa.string()).to_pylist()
    cuts = [shortened if name == "titles" else whole_or_none for name in known.text_names]
    lines = texts_of(subject, row_m, known.texts(), cuts)
    texts = {"ids": ids, **dict(zip(known.text_names, lines, strict=False))}
    some = np.flatnonzero(vectors.there_n[row_m]) if vectors is not None else np.empty(0, np.int64)
    if vectors is None or len(some) < 2:
        return Held(row_m, texts), None
    x_sd = vectors.embeddings.take(vectors.place_n[row_m[some]])
    near_sk, alike_sk, recall = neighbours(x_sd)
    near_mk = np.full((len(row_m), near_sk.shape[1]), NOBODY, np.uint32)
    near_mk[some] = np.where(near_sk < 0, NOBODY, some[near_sk]).astype(np.uint32)
    alike_mk = np.zeros(near_mk.shape, np.uint8)
    alike_mk[some] = alike_sk
    place_s2, placed = place(x_sd, projection)
    place_m2 = np.full((len(row_m), 2), 0.5, np.float32)
    place_m2[some] = place_s2
    return Held(row_m, texts, near_mk, alike_mk, place_m2, recall), placed


def neighbours(x_md: Floats) -> tuple[Rows, npt.NDArray[np.uint8], float]:
    """Return the nearest items of each, ``(m, k)``, -1 where there are no more, and the cosines.

    In squared distance, as `semid.neighbours.nearest_of_all`, with the share that is right; cosines
    in hundredths, those below 0 as 0.
    """
    from semid.neighbours import nearest_of_all

    near_mk, recall = nearest_of_all(x_md, min(NEIGHBOURS, len(x_md) - 1), seed=0)
    length_md = np.linalg.norm(x_md, axis=1, keepdims=True)
    unit_md = x_md / np.where(length_md > 0, length_md, 1)
    alike_mk = np.empty(near_mk.shape, np.uint8)
    for start in range(0, len(x_md), _PAIRS_AT_ONCE):
        near_bk = near_mk[start : start + _PAIRS_AT_ONCE]
        cosine_bk = np.einsum("bd,bkd->bk", unit_md[start : start + len(near_bk)], unit_md[near_bk])
        alike_mk[start : start + len(near_bk)] = (100 * cosine_bk.clip(0, 1)).round()
    return near_mk, alike_mk, recall
