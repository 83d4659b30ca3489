"""What training code imports: IDs as tensors, embeddings of them, sequences of users.

Names are resolved when first used; torch, PyArrow and NumPy are enough for all but SentencePiece.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semid.recsys.embeddings import CodeEmbedding as CodeEmbedding
    from semid.recsys.embeddings import PrefixNgramEmbedding as PrefixNgramEmbedding
    from semid.recsys.histories import LeaveOneOut as LeaveOneOut
    from semid.recsys.histories import Sequences as Sequences
    from semid.recsys.histories import TimeSplit as TimeSplit
    from semid.recsys.histories import read_sequences as read_sequences
    from semid.recsys.pieces import PieceEmbedding as PieceEmbedding
    from semid.recsys.pieces import SidPieces as SidPieces
    from semid.recsys.pieces import train_pieces as train_pieces
    from semid.recsys.sequences import SidSequenceDataset as SidSequenceDataset
    from semid.recsys.sequences import collate as collate
    from semid.recsys.sequences import flat_tokens as flat_tokens

_HOME = {
    "CodeEmbedding": "semid.recsys.embeddings",
    "LeaveOneOut": "semid.recsys.histories",
    "PieceEmbedding": "semid.recsys.pieces",
    "PrefixNgramEmbedding": "semid.recsys.embeddings",
    "Sequences": "semid.recsys.histories",
    "SidPieces": "semid.recsys.pieces",
    "SidSequenceDataset": "semid.recsys.sequences",
    "TimeSplit": "semid.recsys.histories",
    "collate": "semid.recsys.sequences",
    "flat_tokens": "semid.recsys.sequences",
    "read_sequences": "semid.recsys.histories",
    "train_pieces": "semid.recsys.pieces",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semid.recsys' has no attribute {name!r}")
    from semid.errors import require_package

    require_package("torch", extra="cpu", purpose="semid.recsys")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
