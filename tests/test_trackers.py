"""Trackers hear of every epoch once, resumed runs included; real packages, nothing sent."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_here

import semid
from semid import trackers
from semid.errors import SemidError
from semid.jobs.train import train
from semid.trackers import Tracker, tracking

TINY = {"levels": [8, 8], "training": {"epochs": 3}, "model": {"hidden": [16]}}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def epoch(number: int) -> dict[str, Any]:
    return {"epoch": number, "perplexity_0": 0.5 * number, "churn_0": None}


def events(folder: Path) -> list[tuple[int, float]]:
    """Steps and values of the perplexity in all event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars("perplexity_0")]


def test_an_epoch_is_reported_once() -> None:
    heard: list[Any] = []
    tracker = Tracker("t", lambda figures, at: heard.append((figures, at)), heard.append, epoch=2)
    for number in (1, 2, 3, 3, 4):
        tracker.on_epoch(epoch(number))
    assert heard == [({"perplexity_0": 1.5}, 3), ({"perplexity_0": 2.0}, 4)]


def test_a_tracker_that_fails_is_a_sentence() -> None:
    def fail(figures: dict[str, float], at: int) -> None:
        raise ConnectionError("no\nserver")

    with pytest.raises(SemidError) as caught:
        Tracker("mlflow", fail, fail).on_epoch(epoch(1))
    assert str(caught.value) == (
        "the tracker mlflow failed (ConnectionError: no server); mend that and run again to go "
        "on, or track without it"
    )


def test_an_unknown_or_missing_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SemidError, match="unknown tracker 'comet'; use one of tensorboard, wandb"):
        trackers.require_trackers(["comet"])
    if find_spec("mlflow") is None:
        with pytest.raises(SemidError, match=r"run: pip install 'semid\[mlflow\]'"):
            trackers.mlflow("run")


@needs("tensorboard")
def test_tensorboard_as_a_callback(tmp_path: Path) -> None:
    x_nd = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    tracker = trackers.tensorboard(tmp_path)
    config = {name: TINY[name] for name in ("training", "model")}
    model = semid.fit(x_nd, levels=(8, 8), config=config, callbacks=[tracker])
    tracker.close(True)
    expected = [
        (row["epoch"], float(np.float32(row["perplexity_0"]))) for row in model.history
    ]  # as events keep them
    assert events(tmp_path) == expected


@needs("tensorboard")
def test_a_stopped_training_reports_no_epoch_twice(tmp_path: Path, world: Path) -> None:
    given = str(world / "embeddings.parquet")
    stage = tmp_path / ".model.partial"

    def go() -> Any:
        output = str(tmp_path / "model")
        return train(given, output=output, settings=TINY, track=["tensorboard"])

    with pytest.MonkeyPatch.context() as patched:
        heard = Tracker.on_epoch

        def stop(self: Tracker, metrics: dict[str, Any]) -> None:
            heard(self, metrics)
            if metrics["epoch"] == 2:
                raise InterruptedError

        patched.setattr(Tracker, "on_epoch", stop)
        with pytest.raises(InterruptedError):
            go()
    with (stage / "history.jsonl").open("a") as lines:
        lines.write('{"epoch": 3, "perp\n')  # torn by the kill
    go()
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("model-2")
    assert [step for step, _ in events(run)] == [1, 2, 3]
    assert go().up_to_date
    assert len(list(run.iterdir())) == 2  # the stopped run's events and the resumed one's


@needs("mlflow")
def test_mlflow_goes_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    with tracking(["mlflow"], run="r", folder=tmp_path, settings=TINY) as (first,):
        first.on_epoch(epoch(1))
    with tracking(["mlflow"], run="r", folder=tmp_path, settings=TINY, after=1) as (again,):
        again.on_epoch(epoch(1))
        again.on_epoch(epoch(2))
    client = MlflowClient()
    where = client.get_experiment_by_name("semid")
    (run,) = client.search_runs([where.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "3"
    found = client.get_metric_history(run.info.run_id, "perplexity_0")
    assert [(metric.step, metric.value) for metric in found] == [(1, 0.5), (2, 1.0)]


@needs("wandb")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with tracking(["wandb"], run="r", folder=tmp_path, settings=TINY) as (tracker,):
        tracker.on_epoch(epoch(1))
        tracker.on_epoch(epoch(2))
    (file,) = tmp_path.rglob("run-r.wandb")
    assert file.stat().st_size > 0


def test_the_command_line_refuses_an_unknown_tracker(tmp_path: Path, world: Path) -> None:
    output = tmp_path / "model"
    done = run_here("train", world / "embeddings.parquet", "-o", output, "--track", "comet")
    assert done.error == "unknown tracker 'comet'; use one of tensorboard, wandb, mlflow"
    assert not output.exists()


def test_the_settings_of_a_run_are_named_with_dots() -> None:
    assert json.dumps(trackers._flat(TINY)) == (
        '{"levels": [8, 8], "training.epochs": 3, "model.hidden": [16]}'
    )
