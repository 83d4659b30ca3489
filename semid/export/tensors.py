"""Matrices of IDs in files of torch and NumPy, without a pickle of anything but a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError, display_path, require_package


def file_in(path: Path, name: str) -> Path:
    """Return `path`, or the file of that name if it is a folder; raises `SemidError` without."""
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise SemidError(f"the folder {display_path(path)} holds no {name}; name the file")
    return file


def save_tensor(values: npt.NDArray[np.int64], path: Path) -> None:
    """Write an array as a tensor, in the order of its rows."""
    import torch

    torch.save(torch.from_numpy(values), path)


def load_tensor(path: Path) -> npt.NDArray[Any]:
    """Read a matrix of integers that torch wrote; nothing else is unpickled.

    Raises
    ------
    SemidError
        When torch is missing, or the file holds anything else.
    """
    require_package("torch", extra="cpu", purpose=f"reading {display_path(path)}")
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything for what it did not write
        raise SemidError(
            f"{display_path(path)} is not a tensor that torch wrote ({type(error).__name__}); "
            "export it again"
        ) from error
    if not isinstance(found, torch.Tensor):
        raise SemidError(
            f"{display_path(path)} holds a {type(found).__name__}, not a tensor; save the tensor "
            "alone"
        )
    return _matrix(found.numpy(), path)


def load_array(path: Path) -> npt.NDArray[Any]:
    """Read a matrix of integers that NumPy wrote; raises `SemidError` for anything else."""
    try:
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SemidError(
            f"{display_path(path)} is not an array that NumPy wrote ({error}); export it again"
        ) from error
    return _matrix(found, path)


def _matrix(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "iu":
        raise SemidError(
            f"{display_path(path)} has shape {values.shape} and type {values.dtype}; expected a "
            "matrix of integers, as many rows or columns as items"
        )
    return values
