"""The folder an encoder is saved in: ``encoder.json`` beside ``encoder.safetensors``.

Knows nothing about what the encoders do with it. The JSON is written last and holds the checksum
of the tensors, so a half-written folder is never taken for a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from semid.errors import SemidError, display_path, first_few

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT_VERSION = 1
JSON_NAME = "encoder.json"
TENSORS_NAME = "encoder.safetensors"


@dataclass(frozen=True)
class SavedEncoder:
    """What a folder holds: the kind of encoder, its settings and what it learned."""

    kind: str
    config: dict[str, Any]
    learned: dict[str, Any]
    arrays: dict[str, np.ndarray]


def is_saved_encoder(folder: Path) -> bool:
    """Tell whether `folder` holds both files of a saved encoder."""
    return (folder / JSON_NAME).is_file() and (folder / TENSORS_NAME).is_file()


def write_encoder(
    folder: Path,
    *,
    kind: str,
    config: DataclassInstance,
    learned: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write both files into `folder`, made when missing; what was there is replaced at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    described = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "config": asdict(config),
        "learned": dict(learned),
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(folder / TENSORS_NAME, tensors)
    _replace(folder / JSON_NAME, text.encode())


def read_encoder(folder: Path) -> SavedEncoder:
    """Read what `write_encoder` wrote.

    Raises
    ------
    SemidError
        The folder is missing or incomplete, its files are damaged or do not belong together, or a
        newer semid wrote it.
    """
    if not is_saved_encoder(folder):
        absent = [name for name in (JSON_NAME, TENSORS_NAME) if not (folder / name).is_file()]
        raise SemidError(
            f"{display_path(folder)} holds no saved encoder: {' and '.join(absent)} missing; "
            f"fit and save one there, or name another folder"
        )
    try:
        described = json.loads((folder / JSON_NAME).read_bytes())
        version, sha256 = described["format_version"], described["tensors_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / JSON_NAME) from error
    if version != FORMAT_VERSION:
        raise SemidError(
            f"{display_path(folder / JSON_NAME)} has format_version {version}, this semid reads "
            f"{FORMAT_VERSION}; upgrade semid, or fit the encoder again"
        )
    tensors = (folder / TENSORS_NAME).read_bytes()
    if hashlib.sha256(tensors).hexdigest() != sha256:
        raise _damaged(folder / TENSORS_NAME)
    try:
        return SavedEncoder(
            described["kind"], described["config"], described["learned"], load(tensors)
        )
    except (KeyError, SafetensorError) as error:
        raise _damaged(folder) from error


ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def restore_config(config_class: type[ConfigT], saved: Mapping[str, Any]) -> ConfigT:
    """Build the settings from JSON, where tuples have become lists.

    Raises
    ------
    SemidError
        The saved settings have other names than `config_class`.
    """
    known = {field.name for field in fields(config_class)}
    if known != set(saved):
        raise SemidError(
            f"the saved {config_class.__name__} differs from this semid's in "
            f"{first_few([*sorted(known ^ set(saved))])}; fit the encoder again"
        )
    return config_class(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
        }
    )


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _damaged(path: Path) -> SemidError:
    return SemidError(
        f"{display_path(path)} is damaged or belongs to another save; fit and save the encoder "
        f"again, or copy the whole folder afresh"
    )
