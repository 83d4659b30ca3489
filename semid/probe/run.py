"""One run of a probe, in a process of its own: an ids table and a seed in, figures out.

Every run has the same items in the same order, the same users and the same targets; only codes and
seed differ. Shapes: n items, s codes of a SID, q targets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Generator

from semid.arrays import to_numpy
from semid.devices import dtype_of, pick_device
from semid.id_reading import read_ids
from semid.metrics.ranking import recall_at
from semid.probe.fitting import fit
from semid.probe.generative import GenerativeModel
from semid.probe.judging import Ranks, constraint_of, figures, generated, scored
from semid.probe.sequential import SequentialModel
from semid.probe.settings import ProbeSettings, network_of
from semid.recsys.histories import Sequences, read_sequences
from semid.recsys.levels import levels_of
from semid.recsys.sequences import SidSequenceDataset

Codes = npt.NDArray[np.int64]
Progress = Callable[[float, str], None]
_TOLD = 8  # times an epoch; a power of two, whose fractions add up exactly


@dataclass(frozen=True)
class Protocol:
    """What all runs have in common.

    Attributes
    ----------
    interactions : table of who met which item
    item_id : name of the id column of all tables
    settings : of models and training
    part : which interactions are the targets, ``test`` or ``validation``
    device : as of `semid.devices.pick_device`
    """

    interactions: str
    item_id: str
    settings: ProbeSettings
    part: str
    device: str


def _silent(steps: float, sentence: str) -> None:
    """Tell nobody."""


def run(
    model: str,
    ids: str,
    seed: int,
    protocol: Protocol,
    *,
    checkpoint: Path | None = None,
    on_progress: Progress = _silent,
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """Train one model on one table and rank all targets.

    Parameters
    ----------
    model : of `semid.probe.settings.MODELS`
    ids : the table; of ``item-ids`` only its items count
    seed : of weights, dropout and order
    protocol : see there
    checkpoint : file to keep the state of training in
    on_progress : told how many more steps are done, epochs or the ranking, and where it is

    Returns
    -------
    row, recall_q : what `probe.parquet` holds of the run; the Recall@10 of every target, which are
        the same and in the same order for all runs

    Raises
    ------
    SemidError
        When a table cannot be read, or nobody has an interaction to train on or to be judged by.
    """
    item_ids, codes_ns, levels = read_codes(model, ids, protocol.item_id)
    sequences = read_sequences(protocol.interactions, item_ids, item_id=protocol.item_id)
    trained, fit_seconds = train(
        model,
        codes_ns,
        levels,
        sequences,
        seed,
        protocol,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    began = time.perf_counter()
    ranks = _ranks(model, trained, codes_ns, sequences, protocol, on_progress)
    rank_seconds = time.perf_counter() - began
    row = {
        "seed": seed,
        "items": len(item_ids),
        "users": len(sequences),
        "interactions": sequences.interactions,
        "parameters": sum(weight.numel() for weight in trained.parameters()),
        "distinct_sids": len(np.unique(codes_ns, axis=0)),
        "machine": _machine(trained.device, protocol.settings.precision),
        "fit_seconds": fit_seconds,
        "rank_seconds": rank_seconds,
        "groups": figures(ranks, sequences.met()),
    }
    return row, recall_at(ranks.before, ranks.tied, 10)


def read_codes(model: str, ids: str, item_id: str) -> tuple[pa.Array, Codes, tuple[int, ...]]:
    """Return ids in their order as text, the codes that a model reads, and codes per level."""
    table = read_ids(ids, item_id)
    order_n = to_numpy(pc.array_sort_indices(table.item_ids.cast(pa.large_string())))
    item_ids = table.item_ids.take(pa.array(order_n))
    if model == "item-ids":
        return item_ids, np.arange(len(order_n))[:, None], (len(order_n),)
    return item_ids, np.asarray(table.sids, np.int64)[order_n], levels_of(table)


def train(
    model: str,
    codes_ns: Codes,
    levels: tuple[int, ...],
    sequences: Sequences,
    seed: int,
    protocol: Protocol,
    *,
    checkpoint: Path | None = None,
    on_progress: Progress = _silent,
) -> tuple[GenerativeModel | SequentialModel, float]:
    """Train one model; returns it and the seconds that took.

    `codes_ns` are in the order of the ids that `sequences` were read with.
    """
    device, chance = pick_device(protocol.device), Generator().manual_seed(seed)
    is_generative = model == "generative"
    settings = network_of(protocol.settings, model)
    network: GenerativeModel | SequentialModel
    if is_generative:
        network = GenerativeModel(levels, settings, chance)
    else:
        network = SequentialModel(torch.from_numpy(codes_ns), levels, settings, chance)
    network = network.to(device)
    done, last = 0.0, ""

    def hear(epochs: float) -> None:
        nonlocal done
        if (now := math.floor(epochs * _TOLD) / _TOLD) > done:
            on_progress(now - done, f"{now:.1f} of {settings.epochs} epochs{last}")
            done = now

    def hear_loss(epochs: int, loss: float) -> None:
        nonlocal last
        last = f", loss {loss:.3f}"

    fitted = fit(
        network,
        _dataset(sequences, codes_ns, "training", settings.max_items),
        settings,
        seed=seed,
        precision=protocol.settings.precision,
        checkpoint=checkpoint,
        on_step=hear,
        on_epoch=hear_loss,
    )
    return network, fitted.seconds


def _dataset(sequences: Sequences, codes_ns: Codes, part: Any, most: int) -> SidSequenceDataset:
    return SidSequenceDataset(
        sequences, codes_ns, part, examples="chunks", max_items=most, padding=-1
    )


def _ranks(
    model: str,
    trained: GenerativeModel | SequentialModel,
    codes_ns: Codes,
    sequences: Sequences,
    protocol: Protocol,
    on_progress: Progress,
) -> Ranks:
    settings = protocol.settings
    most = network_of(settings, model).max_items
    dataset = _dataset(sequences, codes_ns, protocol.part, most)

    done = 0

    def hear(targets: int) -> None:
        nonlocal done
        done += targets
        on_progress(done == len(dataset), f"{done:,} of {len(dataset):,} targets ranked")

    if isinstance(trained, SequentialModel):
        return scored(trained, dataset, on_batch=hear)
    constraint = constraint_of(trained, codes_ns)
    beams, precision = settings.beams, settings.precision
    return generated(trained, dataset, constraint, beams=beams, precision=precision, on_batch=hear)


def _machine(device: torch.device, precision: str) -> str:
    """Describe what a run was made on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    threads = torch.get_num_threads()
    many = f" with {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else ""
    kind = str(dtype_of(precision, device)).removeprefix("torch.")
    return f"{name}{many} in {kind}"
