"""What training code imports: IDs as tensors, embeddings, sequences of users, valid decoding.

Public names are resolved when first used: ``import semid.recsys`` loads neither torch nor
transformers. Torch, pyarrow and NumPy are enough for all but Hugging Face and SentencePiece.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semid.recsys.constraint import SidConstraint as SidConstraint
    from semid.recsys.decoding import beam_search as beam_search
    from semid.recsys.embeddings import CodeEmbedding as CodeEmbedding
    from semid.recsys.embeddings import PrefixNgramEmbedding as PrefixNgramEmbedding
    from semid.recsys.histories import LeaveOneOut as LeaveOneOut
    from semid.recsys.histories import Sequences as Sequences
    from semid.recsys.histories import TimeSplit as TimeSplit
    from semid.recsys.histories import read_sequences as read_sequences
    from semid.recsys.hugging_face import SidLogitsProcessor as SidLogitsProcessor
    from semid.recsys.hugging_face import add_tokens as add_tokens
    from semid.recsys.lookup import SidLookup as SidLookup
    from semid.recsys.pieces import PieceEmbedding as PieceEmbedding
    from semid.recsys.pieces import SidPieces as SidPieces
    from semid.recsys.pieces import train_pieces as train_pieces
    from semid.recsys.sequences import SidSequenceDataset as SidSequenceDataset
    from semid.recsys.sequences import collate as collate
    from semid.recsys.token_embeddings import codebooks_of as codebooks_of
    from semid.recsys.trie import SidTrie as SidTrie
    from semid.recsys.vocabulary import SidVocabulary as SidVocabulary

_HOME = {
    "CodeEmbedding": "semid.recsys.embeddings",
    "LeaveOneOut": "semid.recsys.histories",
    "PieceEmbedding": "semid.recsys.pieces",
    "PrefixNgramEmbedding": "semid.recsys.embeddings",
    "Sequences": "semid.recsys.histories",
    "SidConstraint": "semid.recsys.constraint",
    "SidLogitsProcessor": "semid.recsys.hugging_face",
    "SidLookup": "semid.recsys.lookup",
    "SidPieces": "semid.recsys.pieces",
    "SidSequenceDataset": "semid.recsys.sequences",
    "SidTrie": "semid.recsys.trie",
    "SidVocabulary": "semid.recsys.vocabulary",
    "TimeSplit": "semid.recsys.histories",
    "add_tokens": "semid.recsys.hugging_face",
    "beam_search": "semid.recsys.decoding",
    "codebooks_of": "semid.recsys.token_embeddings",
    "collate": "semid.recsys.sequences",
    "read_sequences": "semid.recsys.histories",
    "train_pieces": "semid.recsys.pieces",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semid.recsys' has no attribute {name!r}")
    from semid.errors import require_package

    require_package("torch", extra="recsys", purpose=f"semid.recsys.{name}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
