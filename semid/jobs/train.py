"""Embeddings to a model directory."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from semid.artifact import CONFIG, WEIGHTS, read_header, write_artifact
from semid.columns import id_type
from semid.config import as_plain, parse
from semid.embedding_columns import embedding_widths
from semid.errors import GateError, SemidError, display_path, require_package
from semid.fit_config import WITHOUT_CODES, FitConfig, require_contrast
from semid.jobs.encoding import encoder_fingerprint
from semid.jobs.job import Result, output_path, produce, require_unique_ids, require_widths
from semid.jobs.progress import TrainingBar, bar, say
from semid.manifests import Manifest
from semid.tables import ParquetTable, open_table
from semid.trackers import Tracker, require_trackers, tracking
from semid.training_on import settings_on
from semid.verdicts import missed

LINES = "history.jsonl"
CHECKPOINT = "checkpoint.safetensors"
RUN = ".run.txt"  # what trackers call the run


class JsonLines:
    """A training callback that appends every epoch to a file as a line of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_step(self, step: int, total: int) -> None:
        """Do nothing: steps are not recorded."""

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Append the epoch."""
        with self._path.open("a") as lines:
            lines.write(json.dumps(metrics) + "\n")


def train(
    embeddings: str,
    *,
    output: str,
    settings: dict[str, Any] | None = None,
    interactions: str | None = None,
    init_from: str | None = None,
    item_id: str = "item_id",
    device: str = "auto",
    strict: bool = False,
    track: Sequence[str] = (),
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Train a quantizer on an embeddings table.

    Parameters
    ----------
    embeddings : Parquet file, folder, glob or URI
    output : model directory to write
    settings : as `semid.fit_config.FitConfig`, such as ``{"levels": [256, 256], "seed": 1}``
    interactions : table of who met which item, for items met together to get like codes
    init_from : model directory to go on from: its network and codebooks, nothing of them drawn
        again, and its settings where `settings` leaves them out
    item_id : name of the id column, in both tables
    device : ``auto``, ``cpu`` or ``cuda``
    strict : refuse a model with a level below ``training.utilization_floor``: nothing is written
    track : trackers that hear of every epoch, of `semid.trackers.TRACKERS`
    overwrite : replace a model made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    GateError
        When `strict` and a level misses the floor; what stood at `output` stays.
    """
    target = output_path(output)
    config = read_settings(settings or {}, init_from, met=interactions is not None)
    check_requests(config, strict=strict, track=track)
    table = open_table(embeddings)
    met = None if interactions is None else open_table(interactions)
    embedding_widths(table, config.columns)
    if init_from is not None:
        require_widths(table, read_header(Path(init_from))["columns"], Path(init_from))
    id_type(table, item_id)
    require_contrast(config, given=met is not None)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="training")
        from semid.cooccurrence import count_partners
        from semid.devices import pick_device
        from semid.fitting import fit_data
        from semid.quantizer import load
        from semid.training_data import open_training_data, require_rows, training_ids

        pick_device(device)
        start = None if init_from is None else load(init_from)
        require_unique_ids(table, item_id, show=show)
        data = open_training_data(
            table,
            item_id,
            share=config.holdout,
            memory_bytes=int(config.memory_gib * 2**30),
            columns=config.columns,
        )
        try:
            require_rows(data, config.levels)
        except SemidError as error:
            raise SemidError(f"{display_path(embeddings)}: {error}") from error
        partners = None
        if met is not None:
            ids = training_ids(table, item_id, share=config.holdout)
            partners = count_partners(met, ids, config.contrast, item_id=item_id)
        checkpoint = stage / CHECKPOINT
        if checkpoint.exists():
            say("train: goes on from the checkpoint of the run before", show=show)
        with (
            bar("train", 1, "steps", show=show) as shown,
            _trackers(track, config, stage, target) as trackers,
        ):
            model = fit_data(
                data,
                config,
                start=start,
                partners=partners,
                device=device,
                # The lines first: what they hold is not tracked again after a crash.
                callbacks=[TrainingBar(shown), JsonLines(stage / LINES), *trackers],
                checkpoint=checkpoint,
            )
        if strict:
            _require_floor(model.metrics, config, target)
        folder = stage / "model"
        folder.mkdir(exist_ok=True)
        noted = {"encoder_fingerprint": encoder_fingerprint(table)}
        write_artifact(model.to_artifact(), folder, manifest | noted)
        if model.history:
            # Not the lines as they came: after a crash, some of these came twice.
            text = "".join(json.dumps(epoch) + "\n" for epoch in model.history)
            (folder / LINES).write_text(text)
        return folder, {"quantizer": model.kind, "width": model.width, **model.metrics}

    result = produce(
        "train",
        target,
        inputs=_inputs(table, met, init_from),
        settings={**as_plain(config), "item_id": item_id},
        build=build,
        # Trackers must not hear of an epoch twice, wherever the training begins again.
        resumes=(CHECKPOINT, *((LINES, RUN) if track else ())),
        overwrite=overwrite,
        owner=owner,
    )
    if strict:  # a model that was there already
        _require_floor(result.summary, config, target)
    return result


def read_settings(settings: dict[str, Any], init_from: str | None, *, met: bool) -> FitConfig:
    """Read the settings of a training, of which those of a model to go on from are the rest.

    `met` says whether there is an interactions table.

    Raises
    ------
    SemidError
        For bad settings, or some that would make another model than `init_from`.
    """
    if init_from is None:
        return parse(FitConfig, settings, where="train")
    header = read_header(Path(init_from))
    return settings_on(
        {**header["config"], "quantizer": header["kind"]},
        settings,
        where="train",
        called=display_path(init_from),
        interactions=met,
    )


def _inputs(
    table: ParquetTable, met: ParquetTable | None, init_from: str | None
) -> dict[str, ParquetTable | Path]:
    inputs: dict[str, ParquetTable | Path] = {"embeddings": table}
    if met is not None:
        inputs["interactions"] = met
    if init_from is not None:
        folder = Path(init_from)
        inputs |= {"init model": folder / WEIGHTS, "init model config": folder / CONFIG}
    return inputs


def check_requests(config: FitConfig, *, strict: bool, track: Sequence[str]) -> None:
    """Raise `SemidError` for a strictness without codes, or a tracker that is not there."""
    if strict and config.quantizer in WITHOUT_CODES:
        raise SemidError(
            f"strict asks for evenly used codes, but a {config.quantizer} has none; leave it out"
        )
    require_trackers(track)


def _require_floor(metrics: Mapping[str, Any], config: FitConfig, output: Path) -> None:
    below = missed(metrics, config)
    if not below:
        return
    names = [f"level {level}" for level in below] + ["data"]
    said = [f"{name}: {metrics['verdicts'][name]}" for name in names if name in metrics["verdicts"]]
    raise GateError(
        f"{'; '.join(said)}; strict was asked for, so {display_path(output)} was not written"
    )


def _trackers(
    names: Sequence[str], config: FitConfig, stage: Path, output: Path
) -> AbstractContextManager[list[Tracker]]:
    """Open the trackers of a run, or go on with those of a run that was stopped."""
    note, lines = stage / RUN, stage / LINES
    if not note.exists():
        note.write_text(f"{output.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    return tracking(
        names,
        run=note.read_text(),
        folder=output.parent / "runs",
        settings=as_plain(config),
        after=_last_epoch(lines),
    )


def _last_epoch(lines: Path) -> int:
    """Return the last epoch that a file of JSON lines holds; a kill may have torn a line."""
    last = 0
    for line in lines.read_text().splitlines() if lines.exists() else []:
        with suppress(ValueError):
            last = max(last, int(json.loads(line)["epoch"]))
    return last
