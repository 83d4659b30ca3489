"""Which device to compute on."""

from __future__ import annotations

import torch

from semid.errors import SemidError


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device called `name`; ``auto`` is a GPU when there is one, else the CPU.

    Raises
    ------
    SemidError
        When the name is unknown or the device is not there. Nothing falls back silently.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SemidError(
            f"unknown device {name!r}; use auto, cpu, cuda or cuda:<number>"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SemidError(
            f"device {name!r} was asked for but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs here; use --device cpu, or install the CUDA build "
            "of torch and its driver"
        )
    if device.type not in {"cpu", "cuda"}:
        raise SemidError(f"device {name!r} is not supported; use auto, cpu or cuda")
    return device
