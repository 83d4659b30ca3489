"""Items to embeddings: an Arrow batch in, a numpy array out.

Four encoders behind one protocol: `LsaEncoder` (text, fitted on the catalog, no download),
`FeaturesEncoder` (numbers, categories, dates, lists), `SentenceTransformerEncoder` (text, a
pretrained transformer) and `CooccurrenceEncoder` (what users meet together). Nothing here knows of
files of items, jobs or progress; importing it loads neither torch nor scikit-learn nor
sentence-transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from semid.encoders.cooccurrence import CooccurrenceConfig, CooccurrenceEncoder
from semid.encoders.features import FeaturesConfig, FeaturesEncoder
from semid.encoders.lsa import LsaConfig, LsaEncoder
from semid.encoders.saved import is_saved_encoder, read_encoder
from semid.encoders.sentence_transformers import (
    SentenceTransformerConfig,
    SentenceTransformerEncoder,
)
from semid.errors import SemidError, display_path

__all__ = [
    "CooccurrenceConfig",
    "CooccurrenceEncoder",
    "Encoder",
    "EncoderConfig",
    "FeaturesConfig",
    "FeaturesEncoder",
    "LsaConfig",
    "LsaEncoder",
    "SentenceTransformerConfig",
    "SentenceTransformerEncoder",
    "is_saved_encoder",
    "load_encoder",
    "make_encoder",
]


class Encoder(Protocol):
    """Turns items into embeddings; picklable, so that it can be sent to worker processes."""

    @property
    def config(self) -> EncoderConfig:
        """Its settings."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The item columns it reads."""
        ...

    @property
    def width(self) -> int:
        """Number of dims d of the embeddings; known after `fit` or `load_encoder`."""
        ...

    @property
    def fit_rows(self) -> int:
        """How many sampled rows `fit` wants; 0 when it needs no sample."""
        ...

    @property
    def chunk_rows(self) -> int:
        """How many rows are worth a checkpoint of a job: fewer for a slow encoder."""
        ...

    def fit(self, items: pa.Table) -> Self:
        """Learn from a sample that fits in memory."""
        ...

    def encode(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Embed every row, shape ``(n, d)``, float32 (float16 where asked for), row by row."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` into `folder`."""
        ...


EncoderConfig = LsaConfig | FeaturesConfig | SentenceTransformerConfig | CooccurrenceConfig


def make_encoder(config: EncoderConfig) -> Encoder:
    """Make the encoder that `config` describes, not fitted yet."""
    match config:
        case LsaConfig():
            return LsaEncoder(config)
        case FeaturesConfig():
            return FeaturesEncoder(config)
        case SentenceTransformerConfig():
            return SentenceTransformerEncoder(config)
        case CooccurrenceConfig():
            return CooccurrenceEncoder(config)


def load_encoder(folder: Path) -> Encoder:
    """Load the encoder that `save` wrote into `folder`.

    Raises
    ------
    SemidError
        The folder is missing, incomplete or damaged, from a newer semid, or of an unknown kind.
    """
    saved = read_encoder(folder)
    match saved.kind:
        case "lsa":
            return LsaEncoder.restore(saved)
        case "features":
            return FeaturesEncoder.restore(saved)
        case "sentence-transformer":
            return SentenceTransformerEncoder.restore(saved)
        case "cooccurrence":
            return CooccurrenceEncoder.restore(saved)
    raise SemidError(
        f"{display_path(folder)} holds an encoder of the unknown kind {saved.kind!r}; "
        f"upgrade semid, or fit the encoder again"
    )
