"""How the models that judge IDs are trained: alike, whatever they read.

Shapes: e examples, b batch rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from semid.checkpoints import load_checkpoint, save_checkpoint
from semid.errors import SemidError
from semid.probe.settings import NetworkSettings
from semid.recsys.sequences import Batch, SidSequenceDataset

Rows = npt.NDArray[np.int64]

# Of so many batches at a time the examples are sorted by length, so that little is padding.
_SORTED = 50
_WARM_UP = 0.1
_SAVE_SECONDS = 60.0


class Recommender(Protocol):
    """What is trained: a `torch.nn.Module` with a loss."""

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the mean loss of a batch; a generator draws the dropout."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all weights."""
        ...


def fit(
    model: Recommender,
    dataset: SidSequenceDataset,
    settings: NetworkSettings,
    *,
    seed: int,
    precision: str = "auto",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, float], None] = lambda _, __: None,
) -> list[float]:
    """Train a model by AdamW, its learning rate in one cycle (Smith & Topin, arXiv 1708.07120).

    All that is drawn is drawn from the seed and the step. Histories of a batch are about as long
    as each other, which saves padding; batches come in random order.

    Parameters
    ----------
    model : on its device
    dataset : of training, its ``examples`` those that the model learns from
    settings : how to train
    seed : of dropout and of the order of examples
    precision : as of `semid.probe.settings.ProbeSettings`
    checkpoint : file to keep the state in, once a minute, and to go on from
    on_epoch : told the number of epochs that are done, and the mean loss of the last one

    Returns
    -------
    losses : the mean loss of every epoch

    Raises
    ------
    SemidError
        When the loss is no number, or the checkpoint is of another run.
    """
    network = model if isinstance(model, nn.Module) else nn.Module()
    device = next(model.parameters()).device
    optimizer = _optimizer(model, settings)
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        _, facts = load_checkpoint(checkpoint, network=network, optimizer=optimizer)
        losses = facts["losses"]
        on_epoch(len(losses), losses[-1])
    per_epoch = -(-len(dataset) // settings.batch)
    saved = time.monotonic()
    for epoch in range(len(losses), settings.epochs):
        total = torch.zeros((), device=device)
        batches = shuffled(dataset, settings.batch, np.random.default_rng([seed, epoch]))
        for number, rows in enumerate(batches):
            step = epoch * per_epoch + number
            rate = _share_of_rate(step / (settings.epochs * per_epoch)) * settings.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate
            chance = np.random.SeedSequence([seed, step]).generate_state(1)[0]
            generator = Generator(device).manual_seed(int(chance))
            batch = dataset.__getitems__(rows).to(device)
            optimizer.zero_grad()
            with autocast(precision, device):
                loss = model.loss(batch, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.detach()
        losses.append(float(total) / per_epoch)
        if not math.isfinite(losses[-1]):
            raise SemidError(
                f"the loss is {losses[-1]} after {epoch + 1} epochs; lower the learning_rate"
            )
        if checkpoint is not None and time.monotonic() - saved > _SAVE_SECONDS:
            facts = {"losses": losses}
            save_checkpoint(checkpoint, network=network, optimizer=optimizer, best={}, facts=facts)
            saved = time.monotonic()
        on_epoch(epoch + 1, losses[-1])
    return losses


def _optimizer(model: Recommender, settings: NetworkSettings) -> torch.optim.AdamW:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    norms = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)


def _share_of_rate(done: float) -> float:
    if done < _WARM_UP:
        return done / _WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a model computes in a precision."""
    dtype = dtype_of(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of a precision; ``auto`` is bfloat16 where a device multiplies in it."""
    if precision == "auto":
        precision = "bfloat16" if _multiplies_bfloat16(device) else "float32"
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch from 2.10 on
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def shuffled(
    dataset: SidSequenceDataset, batch: int, random: np.random.Generator
) -> Iterator[Rows]:
    """Yield the examples of batches in random order, those of a batch nearly of one length."""
    order_e, length_e = random.permutation(len(dataset)), dataset.lengths()
    batches = []
    for start in range(0, len(order_e), _SORTED * batch):
        some = order_e[start : start + _SORTED * batch]
        some = some[np.argsort(length_e[some], kind="stable")]
        batches += [some[at : at + batch] for at in range(0, len(some), batch)]
    for number in random.permutation(len(batches)):
        yield batches[number]


def of_one_length(dataset: SidSequenceDataset, batch: int) -> Iterator[Rows]:
    """Yield all examples in batches whose histories have one length, so that none has padding."""
    length_e = dataset.lengths()
    order_e = np.argsort(length_e, kind="stable")
    cuts = np.flatnonzero(np.diff(length_e[order_e])) + 1
    for run_e in np.split(order_e, cuts):
        for at in range(0, len(run_e), batch):
            yield run_e[at : at + batch]
