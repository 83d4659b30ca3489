"""Trackers that a training run reports its epochs to: TensorBoard, Weights & Biases, MLflow.

Each function opens a run and returns a callback for ``semid.fit(callbacks=[…])``. The packages are
extras, loaded when used, and read their own settings from the environment: ``WANDB_MODE``,
``WANDB_PROJECT``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME`` and the like.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semid.errors import SemidError, require_package

TRACKERS = ("tensorboard", "wandb", "mlflow")
PROJECT = "semid"


@dataclass
class Tracker:
    """A training callback that reports every epoch once.

    Attributes
    ----------
    name : one of `TRACKERS`
    write : takes figures by name, and their epoch
    close : ends the run; hears whether training came to its end
    epoch : the last that was reported; earlier ones are left out
    """

    name: str
    write: Callable[[dict[str, float], int], object]
    close: Callable[[bool], object]
    epoch: int = 0

    def on_step(self, step: int, total: int) -> None:
        """Do nothing: steps are not tracked."""

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Report the epoch, unless it was reported before."""
        if metrics["epoch"] <= self.epoch:
            return
        self.epoch = metrics["epoch"]
        figures = {
            key: float(value)
            for key, value in metrics.items()
            if key != "epoch" and isinstance(value, int | float)
        }
        with _said(self.name):
            self.write(figures, self.epoch)


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Turn what goes wrong inside a tracker into a sentence."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        raise SemidError(
            f"the tracker {name} failed ({type(error).__name__}: {reason}); mend that and run "
            "again to go on, or track without it"
        ) from error


def require_trackers(names: Sequence[str]) -> None:
    """Raise `SemidError` for a name that is no tracker, or one whose package is missing."""
    for name in names:
        if name not in TRACKERS:
            raise SemidError(f"unknown tracker {name!r}; use one of {', '.join(TRACKERS)}")
        require_package(name, extra=name, purpose=f"tracking with {name}")


def tensorboard(folder: str | Path, settings: Mapping[str, Any] | None = None) -> Tracker:
    """Report to event files in a folder; `settings` are shown as text.

    Raises
    ------
    SemidError
        When the package is missing or the folder cannot be written.
    """
    require_trackers(["tensorboard"])
    with _said("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter(str(folder))
        rows = "".join(f"| {key} | {value} |\n" for key, value in _flat(settings or {}).items())
        writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", 0)

    def write(figures: dict[str, float], epoch: int) -> None:
        for key, value in figures.items():
            writer.add_scalar(key, value, epoch)
        writer.flush()

    return Tracker("tensorboard", write, lambda _: writer.close())


def wandb(run: str, settings: Mapping[str, Any] | None = None) -> Tracker:
    """Report to the Weights & Biases run with the id `run`, going on with it where it exists.

    Raises
    ------
    SemidError
        When the package is missing or the run cannot be opened.
    """
    require_trackers(["wandb"])
    with _said("wandb"):
        import wandb as package

        project = os.environ.get("WANDB_PROJECT", PROJECT)
        config = _flat(settings or {})
        opened = package.init(project=project, id=run, name=run, resume="allow", config=config)
    return Tracker(
        "wandb",
        lambda figures, epoch: opened.log(figures, step=epoch),
        lambda finished: opened.finish(exit_code=0 if finished else 1),
    )


def mlflow(run: str, settings: Mapping[str, Any] | None = None) -> Tracker:
    """Report to the MLflow run called `run`, going on with it where it exists.

    Raises
    ------
    SemidError
        When the package is missing or the run cannot be opened.
    """
    require_trackers(["mlflow"])
    with _said("mlflow"):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else client.create_experiment(name)
        before = client.search_runs([where], f"attributes.run_name = '{run}'")
        opened = (before[0] if before else client.create_run(where, run_name=run)).info.run_id
        params = [Param(key, str(value)) for key, value in _flat(settings or {}).items()]
        client.log_batch(opened, params=params)

    def write(figures: dict[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        client.log_batch(opened, [Metric(key, value, now, epoch) for key, value in figures.items()])

    def close(finished: bool) -> None:
        client.set_terminated(opened, "FINISHED" if finished else "KILLED")

    return Tracker("mlflow", write, close)


@contextmanager
def tracking(
    names: Sequence[str],
    *,
    run: str,
    folder: Path,
    settings: Mapping[str, Any],
    after: int = 0,
) -> Iterator[list[Tracker]]:
    """Open trackers by name and close them in the end.

    Parameters
    ----------
    names : of `TRACKERS`
    run : what the run is called everywhere; the same name goes on with it
    folder : where TensorBoard's folders stand
    settings : shown with the run
    after : the last epoch that was reported before
    """
    opened: list[Tracker] = []
    finished = False
    try:
        for name in dict.fromkeys(names):
            match name:
                case "tensorboard":
                    tracker = tensorboard(folder / run, settings)
                case "wandb":
                    tracker = wandb(run, settings)
                case _:
                    tracker = mlflow(run, settings)
            tracker.epoch = after
            opened.append(tracker)
        yield opened
        finished = True
    finally:
        for tracker in opened:
            tracker.close(finished)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Name nested settings with dots."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found |= _flat(value, f"{before}{key}.") if inner else {before + key: value}
    return found
