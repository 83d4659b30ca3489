"""What training code imports: IDs as tensors, tokens, and decoding that ends in items that exist.

Public names are resolved when first used: ``import semid.recsys`` loads neither torch nor
transformers. All but what is for Hugging Face needs torch, pyarrow and NumPy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semid.recsys.constraint import SidConstraint as SidConstraint
    from semid.recsys.decoding import beam_search as beam_search
    from semid.recsys.hugging_face import SidLogitsProcessor as SidLogitsProcessor
    from semid.recsys.hugging_face import add_tokens as add_tokens
    from semid.recsys.lookup import SidLookup as SidLookup
    from semid.recsys.trie import SidTrie as SidTrie
    from semid.recsys.vocabulary import SidVocabulary as SidVocabulary

_HOME = {
    "SidConstraint": "semid.recsys.constraint",
    "SidLogitsProcessor": "semid.recsys.hugging_face",
    "SidLookup": "semid.recsys.lookup",
    "SidTrie": "semid.recsys.trie",
    "SidVocabulary": "semid.recsys.vocabulary",
    "add_tokens": "semid.recsys.hugging_face",
    "beam_search": "semid.recsys.decoding",
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
