"""Embeddings to a model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semid.columns import embedding_width, id_type
from semid.config import as_plain, parse
from semid.errors import SemidError, display_path, require_package
from semid.fit_config import FitConfig, require_contrast
from semid.jobs.job import Result, output_path, produce, require_unique_ids
from semid.jobs.progress import TrainingBar, bar
from semid.manifests import Manifest
from semid.tables import open_table


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
    item_id: str = "item_id",
    device: str = "auto",
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
    item_id : name of the id column, in both tables
    device : ``auto``, ``cpu`` or ``cuda``
    overwrite : replace a model made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    target = output_path(output)
    config = parse(FitConfig, settings or {}, where="train")
    table = open_table(embeddings)
    met = None if interactions is None else open_table(interactions)
    embedding_width(table)
    id_type(table, item_id)
    require_contrast(config, given=met is not None)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="training")
        from semid.artifact import write_artifact
        from semid.cooccurrence import count_partners
        from semid.devices import pick_device
        from semid.fitting import fit_data
        from semid.training_data import open_training_data, require_rows, training_ids

        pick_device(device)
        require_unique_ids(table, item_id, show=show)
        data = open_training_data(
            table,
            item_id,
            share=config.holdout,
            memory_bytes=int(config.memory_gib * 2**30),
        )
        try:
            require_rows(data, config.levels)
        except SemidError as error:
            raise SemidError(f"{display_path(embeddings)}: {error}") from error
        partners = None
        if met is not None:
            ids = training_ids(table, item_id, share=config.holdout)
            partners = count_partners(met, ids, config.contrast, item_id=item_id)
        lines = stage / "history.jsonl"
        with bar("train", 1, "steps", show=show) as shown:
            model = fit_data(
                data,
                config,
                partners=partners,
                device=device,
                callbacks=[TrainingBar(shown), JsonLines(lines)],
                checkpoint=stage / "checkpoint.safetensors",
            )
        folder = stage / "model"
        folder.mkdir(exist_ok=True)
        write_artifact(model.to_artifact(), folder, manifest)
        if model.history:
            # Not the lines as they came: after a crash, some of these came twice.
            text = "".join(json.dumps(epoch) + "\n" for epoch in model.history)
            (folder / "history.jsonl").write_text(text)
        return folder, {"quantizer": model.kind, "width": model.width, **model.metrics}

    return produce(
        "train",
        target,
        inputs={"embeddings": table} | ({} if met is None else {"interactions": met}),
        settings={**as_plain(config), "item_id": item_id},
        build=build,
        overwrite=overwrite,
        owner=owner,
    )
