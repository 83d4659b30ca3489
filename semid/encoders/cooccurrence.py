"""Behaviour to vectors: items that the same users meet are near each other.

Positive pointwise mutual information of how often items are met together, and its truncated SVD.
Knows nothing about files: `semid.cooccurrence` counts. Legend: n rows, m items that are met with
another, d dims, b bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.encoders.item_columns import STRING, read_column
from semid.encoders.pointwise_information import (
    context_vectors,
    positive_information,
    project,
    smoothed_share,
)
from semid.encoders.saved import SavedEncoder, restore_config, write_encoder
from semid.encoders.settings import DType, check_at_least, check_dtype
from semid.errors import SemidError
from semid.id_columns import id_column

if TYPE_CHECKING:
    from semid.cooccurrence import Cooccurrences

CHUNK_ROWS = 131_072


@dataclass(frozen=True)
class CooccurrenceConfig:
    """Settings of `CooccurrenceEncoder`.

    Attributes
    ----------
    item_id : name of the id column, by which vectors are looked up
    dim : width d of the embeddings
    window : items of one user that are at most this many places apart are met together
    exclude_last : interactions at the end of every user's history that are left out, because an
        evaluation uses them: 2 for the leave-one-out split into validation and test
    before : only interactions with an earlier timestamp are used; empty for all
    partners : most partners that an item keeps, those met most often
    smoothing : power of how often a partner is met that its expected share goes by; below 1, seldom
        partners count less
    dtype : "float32" or "float16"
    seed : of the randomised SVD
    """

    item_id: str = "item_id"
    dim: int = 128
    window: int = 3
    exclude_last: int = 2
    before: str | int | float = ""
    partners: int = 256
    smoothing: float = 0.75
    dtype: DType = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in ("dim", "window", "partners"):
            check_at_least(setting, getattr(self, setting), 1)
        for setting in ("exclude_last", "smoothing", "seed"):
            check_at_least(setting, getattr(self, setting), 0)
        check_dtype(self.dtype)


class CooccurrenceEncoder:
    """Item ids to the vectors of what users meet beside them.

    An item's vector is its row of positive pointwise mutual information, projected on the contexts
    that `fit` found and scaled to norm 1. Items without one are *cold*: they were met with no other
    item, or the dims say nothing of those that they were met with. They get the mean of the others,
    which is shorter than any of them and says nothing.

    Attributes
    ----------
    config : CooccurrenceConfig
    ids_ : the known items, as text; first those of the contexts, sorted, then those folded in
    vectors_ : theirs, those of cold ones 0, float32, ``(m, d)`` or longer by the items folded in
    contexts_ : right singular vectors over the roots of the singular values, float32, ``(m, d)``
    share_ : how likely each context is beside an item that says nothing, float64, ``(m,)``
    cold_ : the embedding of cold items, float32, ``(d,)``
    """

    ids_: Sequence[str]
    vectors_: np.ndarray
    contexts_: np.ndarray
    share_: np.ndarray
    cold_: np.ndarray

    def __init__(self, config: CooccurrenceConfig) -> None:
        self.config = config

    @property
    def columns(self) -> tuple[str, ...]:
        """The id column alone."""
        return (self.config.item_id,)

    @property
    def width(self) -> int:
        """Number of dims d of the embeddings."""
        return self.config.dim

    @property
    def fit_rows(self) -> int:
        """Always 0: no sample of items is fitted to, but pairs of all."""
        return 0

    @property
    def chunk_rows(self) -> int:
        """How many rows are worth a checkpoint of a job."""
        return CHUNK_ROWS

    def fit(self, items: pa.Table, met: Cooccurrences | None = None) -> Self:
        """Learn from all items and which of them are met together.

        The result does not depend on the order of the items, nor on those that are never met.
        Memory beside `met` is about 80 bytes a pair and 12 (d + 64) bytes an item that is met.

        Parameters
        ----------
        items : a table with the id column
        met : what `semid.cooccurrence.count_cooccurrences` found, with the rows of `items`

        Raises
        ------
        SemidError
            A missing column, `met` not given, or fewer items that are met, or fewer dimensions that
            they span, than `dim`.
        """
        ids = self._read_ids(items)
        if met is None:
            raise SemidError(
                "the encoder cooccurrence learns from interactions; count them by "
                "semid.cooccurrence.count_cooccurrences, or give semid embed --interactions"
            )
        row_m = np.flatnonzero(met.met_n)
        row_m = row_m[np.argsort(np.array([ids[row] for row in row_m], dtype=object))]
        if len(row_m) < self.config.dim:
            raise _too_wide(self.config.dim, f"{len(row_m)} items are met with another")
        share_m = smoothed_share(met.met_n[row_m], self.config.smoothing)
        information_mm = positive_information(met, row_m, row_m, share_m)
        contexts_md, rank = context_vectors(information_mm, self.config.dim, self.config.seed)
        if rank < self.config.dim:
            raise _too_wide(self.config.dim, f"the items that are met span {rank} dimensions")
        vectors_md = project(information_mm, contexts_md)
        warm = int(vectors_md.any(axis=1).sum())
        self.cold_ = (vectors_md.sum(axis=0, dtype=np.float64) / warm).astype(np.float32)
        self.ids_, self.vectors_ = [ids[row] for row in row_m], vectors_md
        self.contexts_, self.share_ = contexts_md, share_m
        return self

    def fold_in(self, ids: Sequence[str], met: Cooccurrences) -> CooccurrenceEncoder:
        """Return an encoder that knows more items, by what they are met with of the contexts.

        What it knew stays as it was, and so does what `save` writes: the same encoder. An item
        that meets what a known item met, as often, gets the vector of that item.

        Parameters
        ----------
        ids : items that are not known, as text
        met : what `semid.cooccurrence.count_cooccurrences` found, with rows of `context_ids` first
            and of `ids` after them

        Raises
        ------
        SemidError
            An encoder that is not fitted.
        """
        self._check_fitted()
        contexts = len(self.contexts_)
        row_n = contexts + np.arange(len(ids))
        information_nm = positive_information(met, row_n, np.arange(contexts), self.share_)
        vectors_nd = project(information_nm, self.contexts_)
        folded = CooccurrenceEncoder(self.config)
        folded.contexts_, folded.share_, folded.cold_ = self.contexts_, self.share_, self.cold_
        folded.ids_ = [*self.ids_, *ids]
        folded.vectors_ = np.concatenate([self.vectors_, vectors_nd])
        return folded

    @property
    def context_ids(self) -> Sequence[str]:
        """The items that vectors are made of, as text: those that `fit` learnt from."""
        self._check_fitted()
        return self.ids_[: len(self.contexts_)]

    def unknown(self, items: pa.Table | pa.RecordBatch) -> list[str]:
        """Return the ids, as text, of the items that were met with none when it was fitted."""
        self._check_fitted()
        return [id_ for id_ in self._read_ids(items) if id_ not in self._row_of]

    def is_cold(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Tell which items have no vector of their own, bool ``(n,)``."""
        return np.asarray(~self._look_up(items).any(axis=1))

    def encode(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Look every item up, shape ``(n, d)``.

        Raises
        ------
        SemidError
            A missing column, or an encoder that is not fitted.
        """
        x_nd = self._look_up(items)
        x_nd[~x_nd.any(axis=1)] = self.cold_
        return x_nd.astype(self.config.dtype, copy=False)

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` into `folder`.

        About 8 d + 30 bytes an item that is met: its vector, its context and its id.
        """
        known = [id_.encode() for id_ in self.context_ids]
        arrays: dict[str, np.ndarray] = {
            "ids": np.frombuffer(b"".join(known), np.uint8),
            "id_ends": np.cumsum([len(id_) for id_ in known], dtype=np.int64),
            "vectors": self.vectors_[: len(known)],
            "contexts": self.contexts_,
            "share": self.share_,
            "cold": self.cold_,
        }
        write_encoder(folder, kind="cooccurrence", config=self.config, learned={}, arrays=arrays)

    @classmethod
    def restore(cls, saved: SavedEncoder) -> Self:
        """Build the encoder that `save` wrote."""
        encoder = cls(restore_config(CooccurrenceConfig, saved.config))
        text_b, end_m = saved.arrays["ids"].tobytes(), saved.arrays["id_ends"].tolist()
        starts = [0, *end_m[:-1]]
        encoder.ids_ = [text_b[a:b].decode() for a, b in zip(starts, end_m, strict=True)]
        encoder.vectors_, encoder.contexts_ = saved.arrays["vectors"], saved.arrays["contexts"]
        encoder.share_, encoder.cold_ = saved.arrays["share"], saved.arrays["cold"]
        return encoder

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids_)}

    def _check_fitted(self) -> None:
        if not hasattr(self, "vectors_"):
            raise SemidError(
                "this co-occurrence encoder is not fitted; fit it on items and interactions first"
            )

    def _read_ids(self, items: pa.Table | pa.RecordBatch) -> list[str]:
        name = self.config.item_id
        ids: list[str] = pc.cast(id_column(read_column(items, name), name), STRING).to_pylist()
        return ids

    def _look_up(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Return the vectors of items, those of cold ones 0, float32, ``(n, d)``."""
        self._check_fitted()
        ids = self._read_ids(items)
        row_n = np.fromiter((self._row_of.get(id_, -1) for id_ in ids), np.int64, len(ids))
        x_nd = self.vectors_[row_n]
        x_nd[row_n < 0] = 0
        return x_nd


def _too_wide(dim: int, found: str) -> SemidError:
    return SemidError(
        f"dim={dim} is more than the interactions allow: {found}; lower dim or give more "
        "interactions"
    )
