"""semid: semantic IDs for recommender systems, from an item catalog to a table of stable codes.

Public names are resolved when first used, so that ``import semid`` loads neither torch, faiss nor
pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from semid.errors import SemidError as SemidError
    from semid.fitting import fit as fit
    from semid.id_reading import read_ids as read_ids
    from semid.id_table import IdTable as IdTable
    from semid.quantizer import Quantizer as Quantizer
    from semid.quantizer import load as load

_HOME = {
    "IdTable": "semid.id_table",
    "Quantizer": "semid.quantizer",
    "SemidError": "semid.errors",
    "fit": "semid.fitting",
    "load": "semid.quantizer",
    "read_ids": "semid.id_reading",
}

__all__ = ["IdTable", "Quantizer", "SemidError", "__version__", "fit", "load", "read_ids"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semid' has no attribute {name!r}")
    _require_torch(_HOME[name])
    return getattr(import_module(_HOME[name]), name)


def _require_torch(module: str) -> None:
    """Name the extra before an import fails deep inside."""
    from semid.errors import require_package

    if module in {"semid.fitting", "semid.quantizer"}:
        require_package("torch", extra="cpu", purpose="the quantizer")


def __dir__() -> list[str]:
    return __all__
