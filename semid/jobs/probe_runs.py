"""The runs of a probe: what each is known by, where it is kept, and what processes make it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semid import __version__
from semid.config import as_plain
from semid.errors import SemidError
from semid.jobs.processes import end_with_parent, in_processes
from semid.jobs.progress import Bar, bar
from semid.manifests import fingerprint, read_manifest, write_json
from semid.probe import PROTOCOL

if TYPE_CHECKING:
    from semid.probe.run import Protocol

REFERENCE = "item-ids"
RUNS = "runs"
_EVERY_SECONDS, _JOIN_SECONDS = 0.2, 2.0
_RANK_STEPS = 1  # of the bar; every epoch is one, too


@dataclass(frozen=True)
class Run:
    """One run: a model, a table with its name (none for the reference), a seed; and its file."""

    model: str
    name: str | None
    ids: str
    seed: int
    file: str
    steps: int


def runs_of(
    tables: Mapping[str, str],
    models: Sequence[str],
    seeds: int,
    protocol: Protocol,
    digests: Mapping[str, str],
) -> list[Run]:
    """Return all runs; a run's file is called for all that makes it what it is, and nothing else.

    Parameters
    ----------
    tables : paths of ids tables by their names
    models : of `semid.probe.settings.MODELS`
    seeds : runs of each model on each table
    protocol : of all runs, its device one that is there
    digests : of the interactions as ``interactions``, of every table as ``ids NAME``, and of the
        item ids in any order as ``items``, which is all that the reference reads of a table
    """
    import torch

    from semid.devices import dtype_of, pick_device

    device = pick_device(protocol.device)
    made_by = [PROTOCOL, __version__, torch.__version__, device.type]
    asked_of = [digests["interactions"], protocol.item_id, protocol.part]
    first = next(iter(tables))
    found = []
    for seed in range(protocol.settings.seed, protocol.settings.seed + seeds):
        for model in models:
            own = as_plain(protocol.settings)
            own = {"precision": own["precision"], "network": own[model.replace("-", "_")]} | (
                {"beams": own["beams"]} if model == "generative" else {}
            )
            own["precision"] = str(dtype_of(protocol.settings.precision, device))
            for name in [first] if model == REFERENCE else tables:
                source = digests["items" if model == REFERENCE else f"ids {name}"]
                file = fingerprint([*made_by, *asked_of, model, source, own, seed])
                shown = None if model == REFERENCE else name
                steps = own["network"]["epochs"] + _RANK_STEPS
                found.append(Run(model, shown, tables[name], seed, file, steps))
    return found


def take_over(published: Path, folder: Path) -> None:
    """Copy all runs of a probe that stands whole at `published`."""
    plan = (read_manifest(published) or {}).get("plan", {})
    if plan.get("command") == "probe":
        copy_runs(published / RUNS, folder)


def copy_runs(source: Path, folder: Path) -> None:
    """Copy finished runs; a row is never half there, and comes after what goes with it."""
    for made in sorted(source.glob("*.json")):
        for name in (made.with_suffix(".npy").name, made.name):
            writing = folder / f"{name}.writing"
            shutil.copyfile(source / name, writing)
            writing.replace(folder / name)


def read_run(folder: Path, run: Run) -> dict[str, Any]:
    """Return a finished run's row, and the recall of every target as its ``recall_q``."""
    row: dict[str, Any] = json.loads((folder / f"{run.file}.json").read_text("utf-8"))
    return row | {"recall_q": np.load(folder / f"{run.file}.npy", allow_pickle=False)}


def make(
    runs: Iterable[Run], folder: Path, protocol: Protocol, *, workers: int, show: bool
) -> None:
    """Make the runs that are not in `folder`, in processes that say where they are.

    Raises
    ------
    SemidError
        When a run cannot be made, or its process is ended; those that are finished stay.
    """
    distinct = {run.file: run for run in runs}.values()  # tables of equal contents have one
    missing = [run for run in distinct if not (folder / f"{run.file}.json").exists()]
    workers = max(1, min(workers, len(missing)))
    context = multiprocessing.get_context("spawn")
    told, devices = context.SimpleQueue(), context.SimpleQueue()
    for device in devices_of(protocol.device, workers):
        devices.put(device)
    threads = max(1, _cores() // workers) if workers > 1 else None
    with bar("probe", sum(run.steps for run in distinct), "steps", show=show) as shown:
        shown.update(sum(run.steps for run in distinct) - sum(run.steps for run in missing))
        with listening(told, shown):
            done = in_processes(
                _run,
                [(run, folder, protocol) for run in missing],
                workers=workers,
                start=_start,
                start_with=(told, devices, threads),
                ended="the process of a run",
            )
            for _ in done:
                pass


def _cores() -> int:
    """Return how many cores this process may use, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices_of(asked: str, workers: int, gpus: int | None = None) -> list[str]:
    """Return the device of every process: of several GPUs one after the other, if none is named.

    `gpus` is how many there are; as torch sees them when not given.
    """
    if gpus is None:
        import torch

        gpus = torch.cuda.device_count()
    if asked not in ("auto", "cuda") or gpus < 2:
        return [asked] * workers
    return [f"cuda:{number % gpus}" for number in range(workers)]


@contextmanager
def listening(told: Any, shown: Bar) -> Iterator[None]:
    """Move a bar by the steps and sentences that processes put into a queue, meanwhile."""
    over = threading.Event()

    def hear() -> None:
        while not told.empty():
            steps, sentence = told.get()
            shown.set_postfix_str(sentence, refresh=False)
            shown.update(steps)

    def listen() -> None:
        # Not by a last message: a process that is killed while it tells keeps the others waiting.
        while not over.wait(_EVERY_SECONDS):
            hear()
        hear()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN_SECONDS)


_told: Any = None  # of a spawned process, set once
_device = ""


def _start(told: Any, devices: Any, threads: int | None) -> None:
    global _told, _device
    end_with_parent()
    if threads is not None:  # torch is not loaded yet and reads this when it is
        os.environ["OMP_NUM_THREADS"] = str(threads)
    _told, _device = told, devices.get()


def _run(made: Run, folder: Path, protocol: Protocol) -> None:
    from semid.probe.run import run

    label = ", ".join(filter(None, [made.name, made.model, f"seed {made.seed}"]))

    def tell(steps: float, sentence: str) -> None:
        _told.put((steps, f"{label}: {sentence}"))

    checkpoint, here = folder / f"{made.file}.safetensors", replace(protocol, device=_device)
    with memory_told(made.model):
        row, recall_q = run(
            made.model, made.ids, made.seed, here, checkpoint=checkpoint, on_progress=tell
        )
    np.save(folder / f"{made.file}.npy", recall_q.astype(np.float32), allow_pickle=False)
    writing = folder / f"{made.file}.writing"
    write_json(writing, {"model": made.model, **row})
    writing.replace(folder / f"{made.file}.json")  # which says that the run is finished
    checkpoint.unlink(missing_ok=True)


@contextmanager
def memory_told(model: str) -> Iterator[None]:
    """Turn a GPU's lack of memory in a run of a model into the `SemidError` a user needs."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        batch = f"{model.replace('-', '_')}.batch"
        raise SemidError(
            f"the GPU has too little memory for a run of the {model} model; what is finished is "
            f"kept: run it again with fewer --workers, a smaller {batch} or --preset tiny"
        ) from error
