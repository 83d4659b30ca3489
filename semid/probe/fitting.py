"""How the models that judge IDs are trained: alike, whatever they read.

Shapes: e examples, b batch rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from semid.checkpoints import load_checkpoint, save_checkpoint
from semid.devices import autocast, dtype_of
from semid.errors import SemidError, display_path
from semid.manifests import fingerprint
from semid.probe.settings import NetworkSettings
from semid.recsys.sequences import Batch, SidSequenceDataset

Rows = npt.NDArray[np.int64]

# Of so many batches at a time the examples are sorted by length, so that little is padding.
_SORTED = 50
_WARM_UP = 0.1
_SAVE_SECONDS = 60.0


@runtime_checkable
class Recommender(Protocol):
    """What is trained: a `torch.nn.Module` with a loss."""

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the mean loss of a batch; a generator draws the dropout."""
        ...


class Fitted(NamedTuple):
    """What came of a training.

    losses : the mean loss of every epoch
    seconds : that it took, those before an interruption included
    """

    losses: list[float]
    seconds: float


@dataclass
class _Reached:
    """Where a training is: what a checkpoint holds beside the tensors.

    `batches` of the epoch under way are done, of losses that add up to `total`.
    """

    losses: list[float] = field(default_factory=list)
    batches: int = 0
    total: float = 0.0
    seconds: float = 0.0


def fit(
    model: Recommender,
    dataset: SidSequenceDataset,
    settings: NetworkSettings,
    *,
    seed: int,
    precision: str = "auto",
    checkpoint: Path | None = None,
    on_step: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[int, float], None] = lambda _, __: None,
) -> Fitted:
    """Train a model by AdamW, its learning rate in one cycle (Smith & Topin, arXiv 1708.07120).

    All that is drawn is drawn from the seed, the epoch and the batch: a training that goes on from
    a checkpoint ends as one that was never interrupted. Batches are those of `shuffled`.

    Parameters
    ----------
    model : a `torch.nn.Module` on its device
    dataset : of training, its ``examples`` those that the model learns from
    settings : how to train
    seed : of dropout and of the order of examples
    precision : as of `semid.probe.settings.ProbeSettings`
    checkpoint : file to keep the state in, once a minute, and to go on from
    on_step : told after every batch how many epochs are done, a fraction
    on_epoch : told the number of epochs that are done, and the mean loss of the last one

    Raises
    ------
    SemidError
        When the model is no module with a loss, the loss is no number, or the checkpoint is damaged
        or of another run.
    """
    if not (isinstance(model, nn.Module) and isinstance(model, Recommender)):
        raise SemidError(
            f"the model is a {type(model).__name__}; give a torch.nn.Module with a method "
            "loss(batch, generator)"
        )
    device = next(model.parameters()).device
    optimizer = _optimizer(model, settings)
    run = fingerprint([seed, asdict(settings), str(dtype_of(precision, device)), len(dataset)])
    reached = _Reached()
    if checkpoint is not None and checkpoint.exists():
        reached = _go_on(checkpoint, model, optimizer, run)
    saved = time.monotonic()
    began = saved - reached.seconds
    for epoch in range(len(reached.losses), settings.epochs):
        batches = shuffled(dataset, settings.batch, np.random.default_rng([seed, epoch]))
        total = torch.tensor(reached.total, device=device)
        for number in range(reached.batches, len(batches)):
            done = (epoch + number / len(batches)) / settings.epochs
            chance = np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0]
            batch = dataset.__getitems__(batches[number]).to(device)
            with autocast(precision, device):
                loss = model.loss(batch, Generator(device).manual_seed(int(chance)))
            _step(loss, model, optimizer, _share_of_rate(done) * settings.learning_rate)
            total += loss.detach()
            if checkpoint is not None and (now := time.monotonic()) - saved > _SAVE_SECONDS:
                reached = _Reached(reached.losses, number + 1, float(total), now - began)
                _save(checkpoint, model, optimizer, run, reached)
                saved = time.monotonic()
            on_step(epoch + (number + 1) / len(batches))
        reached = _Reached([*reached.losses, float(total) / len(batches)])
        if not math.isfinite(reached.losses[-1]):
            raise SemidError(
                f"the loss is {reached.losses[-1]} after {epoch + 1} epochs; lower the "
                "learning_rate"
            )
        on_epoch(epoch + 1, reached.losses[-1])
    return Fitted(reached.losses, time.monotonic() - began)


def _save(
    checkpoint: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: str,
    reached: _Reached,
) -> None:
    facts = {"run": run, **asdict(reached)}
    save_checkpoint(checkpoint, network=network, optimizer=optimizer, best={}, facts=facts)


def _go_on(
    checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, run: str
) -> _Reached:
    _, facts = load_checkpoint(checkpoint, network=network, optimizer=optimizer)
    if facts.pop("run", None) != run:
        raise SemidError(
            f"{display_path(checkpoint)} is of another run (its seed, settings, precision or data "
            "differ); remove it to begin again"
        )
    return _Reached(**facts)


def _step(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _optimizer(model: nn.Module, settings: NetworkSettings) -> torch.optim.AdamW:
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


def shuffled(dataset: SidSequenceDataset, batch: int, random: np.random.Generator) -> list[Rows]:
    """Return the examples of batches in random order, those of a batch nearly of one length.

    Every batch has about as many targets, those of `batch` mean examples: the loss is their mean,
    so that all targets weigh the same and memory is bounded. An example of ``shifted`` or
    ``chunks`` has one at every place, others have one.
    """
    length_e = dataset.lengths()
    at_every_place = dataset.examples in ("shifted", "chunks")
    target_e = length_e if at_every_place else np.ones_like(length_e)
    most = batch * float(target_e.mean())
    batches = []
    order_e = random.permutation(len(dataset))
    for some in np.array_split(order_e, -(-len(dataset) // (_SORTED * batch))):
        some = some[np.argsort(length_e[some], kind="stable")]
        end_e = np.cumsum(target_e[some])
        cuts = math.ceil(end_e[-1] / most)
        at = np.searchsorted(end_e, end_e[-1] * np.arange(1, cuts) / cuts, "right")
        batches += [rows for rows in np.split(some, at) if len(rows)]
    return [batches[number] for number in random.permutation(len(batches))]


def of_one_length(dataset: SidSequenceDataset, batch: int) -> Iterator[Rows]:
    """Yield all examples in batches whose histories have one length, so that none has padding."""
    length_e = dataset.lengths()
    order_e = np.argsort(length_e, kind="stable")
    cuts = np.flatnonzero(np.diff(length_e[order_e])) + 1
    for run_e in np.split(order_e, cuts):
        for at in range(0, len(run_e), batch):
            yield run_e[at : at + batch]
