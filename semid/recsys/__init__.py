"""What training code imports: IDs as tensors, embeddings of them, sequences of users.

Names are resolved when first used; torch, PyArrow and NumPy are enough for all but SentencePiece.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semid.recsys.embeddings import CodeEmbedding as CodeEmbedding
    from semid.recsys.embeddings import PrefixNgramEmbedding as PrefixNgramEmbedding

_HOME = {
    "CodeEmbedding": "semid.recsys.embeddings",
    "PrefixNgramEmbedding": "semid.recsys.embeddings",
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
