"""The model directory: readable without torch, written whole or not at all.

``config.json`` (kind, width, settings), ``model.safetensors`` (all that encoding needs),
``history.csv``, ``metrics.json`` and ``manifest.json`` (fingerprints, versions, seed).
"""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from semid import __version__
from semid.errors import SemidError, display_path
from semid.manifests import MANIFEST, digest, fingerprint, write_json
from semid.outputs import publish, staging

FORMAT_VERSION = 1
CONFIG, WEIGHTS, HISTORY, METRICS = (
    "config.json",
    "model.safetensors",
    "history.csv",
    "metrics.json",
)
FILES = (CONFIG, WEIGHTS, HISTORY, METRICS, MANIFEST)

_HEADER = {
    "format_version": int,
    "kind": str,
    "width": int,
    "columns": dict,
    "levels": list,
    "config": dict,
}


@dataclass(frozen=True)
class Artifact:
    """What a model directory holds.

    Attributes
    ----------
    kind : which quantizer
    widths : of the embedding columns, by name
    levels : codewords per level
    config : the settings of the fit
    weights : name to array
    history : one row per epoch
    metrics : measured at the end of the fit
    """

    kind: str
    widths: Mapping[str, int]
    levels: tuple[int, ...]
    config: dict[str, Any]
    weights: dict[str, npt.NDArray[Any]]
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "width": sum(self.widths.values()),
            "columns": dict(self.widths),
            "levels": list(self.levels),
            "config": self.config,
        }


def write_artifact(artifact: Artifact, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the files of a model directory into an existing folder; not atomic by itself."""
    write_json(folder / CONFIG, artifact.header)
    (folder / WEIGHTS).write_bytes(_weights(artifact))
    _write_history(artifact.history, folder / HISTORY)
    write_json(folder / METRICS, artifact.metrics)
    facts = {
        "semid": __version__,
        "model_fingerprint": model_fingerprint(folder),
        "config_fingerprint": fingerprint(artifact.header),
        "seed": artifact.config.get("seed"),
        "versions": _versions(),
    }
    write_json(folder / MANIFEST, facts | dict(manifest))


def save_artifact(artifact: Artifact, folder: Path, *, overwrite: bool = False) -> None:
    """Write a model directory in one step; where this very model stands there, it stays as it is.

    Raises
    ------
    SemidError
        When something else stands there, which only `overwrite` lets another model replace, or the
        folder cannot be written.
    """
    foreign = folder.is_dir() and not (folder / CONFIG).exists() and any(folder.iterdir())
    if foreign or folder.is_file():
        raise SemidError(f"{display_path(folder)} exists and is not a model; choose another folder")
    if (folder / CONFIG).exists() and not overwrite:
        if all((folder / name).exists() for name in FILES) and model_fingerprint(
            folder
        ) == artifact_fingerprint(artifact):
            return
        raise SemidError(
            f"{display_path(folder)} holds another model; choose another folder, or replace it "
            "with overwrite=True"
        )
    with staging(folder, {"save": artifact.header}) as stage:
        staged = stage / "model"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        write_artifact(artifact, staged, {})
        publish(staged, folder)


def artifact_fingerprint(artifact: Artifact) -> str:
    """Return what `model_fingerprint` will say of the artifact's folder."""
    return fingerprint([xxhash.xxh3_128_hexdigest(_weights(artifact)), artifact.header])


def _weights(artifact: Artifact) -> bytes:
    return save(dict(sorted(artifact.weights.items())))


def _write_history(history: list[dict[str, Any]], path: Path) -> None:
    text = io.StringIO()
    if history:
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    path.write_text(text.getvalue())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "faiss-cpu", "faiss-gpu", "numpy", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def model_fingerprint(folder: Path) -> str:
    """Return 16 hex digits that identify what a model encodes: its weights and its shape."""
    return fingerprint([digest(folder / WEIGHTS), read_json(folder / CONFIG)])


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model directory.

    Raises
    ------
    SemidError
        When it is not a JSON object.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(path, f"it holds a {type(found).__name__}, not an object")
    return found


def _damaged(path: Path, reason: str) -> SemidError:
    return SemidError(
        f"{display_path(path)} is damaged ({reason}); copy the model again or train it again"
    )


def read_artifact(folder: Path) -> Artifact:
    """Read a model directory.

    Raises
    ------
    SemidError
        When the folder is missing or incomplete, its format is newer than this semid reads, or a
        file is damaged.
    """
    header = read_header(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise _damaged(folder / WEIGHTS, str(error)) from error
    try:
        rows = list(csv.DictReader((folder / HISTORY).read_text().splitlines()))
        history = [{key: _number(value) for key, value in row.items()} for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        raise _damaged(folder / HISTORY, str(error)) from error
    return Artifact(
        header["kind"],
        header["columns"],
        tuple(header["levels"]),
        header["config"],
        weights,
        history,
        read_json(folder / METRICS),
    )


def refuse_changed(folder: Path) -> None:
    """Raise `SemidError` when a model directory does not hold what its manifest says of it."""
    noted = read_json(folder / MANIFEST).get("model_fingerprint")
    if noted not in (None, model_fingerprint(folder)):
        raise SemidError(
            f"{display_path(folder)} is damaged ({WEIGHTS} or {CONFIG} changed since the model was "
            "written); copy the model again or train it again"
        )


def read_header(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a model directory after checking that the folder is whole.

    Raises
    ------
    SemidError
        As `read_artifact`.
    """
    shown = display_path(folder)
    if not folder.is_dir():
        there = "is a file, not a model directory" if folder.exists() else "does not exist"
        raise SemidError(f"the model {shown} {there}; semid train writes one")
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise SemidError(
            f"the model directory {shown} is incomplete: {', '.join(missing)} missing; "
            "copy it again or train it again"
        )
    header = read_json(folder / CONFIG)
    found = header.get("format_version")
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise SemidError(
            f"the model {shown} has format {found} but semid {__version__} reads up to format "
            f"{FORMAT_VERSION}; upgrade semid"
        )
    for key, kind in _HEADER.items():
        if not isinstance(header.get(key), kind):
            raise _damaged(folder / CONFIG, f"its {key} is {header.get(key)!r}")
    if header["width"] < 1:
        raise _damaged(folder / CONFIG, f"its width is {header['width']}")
    widths = list(header["columns"].values())
    sizes = all(isinstance(width, int) and width > 0 for width in widths)
    if not sizes or sum(widths) != header["width"]:
        raise _damaged(folder / CONFIG, f"its columns are {header['columns']!r}")
    if not all(isinstance(size, int) for size in header["levels"]):
        raise _damaged(folder / CONFIG, f"its levels are {header['levels']!r}")
    return header


def _number(text: str) -> Any:
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text else value


def as_numpy(tensors: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Turn a state dict of torch tensors into contiguous arrays."""
    return {name: np.ascontiguousarray(t.detach().cpu().numpy()) for name, t in tensors.items()}
