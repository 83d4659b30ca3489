"""The state of a training run in a file, to go on from exactly where it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from semid.errors import SemidError, display_path


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a network, those that its artifact leaves out included."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def save_checkpoint(
    path: Path,
    *,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    facts: dict[str, Any],
) -> None:
    """Write the state beside `path` and rename it; `facts` is anything that JSON holds."""
    state = {f"network.{name}": tensor for name, tensor in state_of(network).items()}
    state |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, slot in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": tensor for name, tensor in slot.items()}
    part = path.with_suffix(".writing")
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    save_file(tensors, part, {"facts": json.dumps(facts)})
    part.replace(path)


def load_checkpoint(
    path: Path, *, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Put a saved state back; return the best state and the facts that were saved with it.

    Raises
    ------
    SemidError
        When the file is damaged or of another run.
    """
    try:
        state = load_file(path)
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
        for name, tensor in state_of(network).items():
            tensor.data.copy_(state[f"network.{name}"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise SemidError(
            f"{display_path(path)} is damaged or of another run ({error}); remove it to begin again"
        ) from error
    best = {
        name.removeprefix("best."): tensor
        for name, tensor in state.items()
        if name.startswith("best.")
    }
    return best, facts
