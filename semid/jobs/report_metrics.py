"""The figures that `semid evaluate` wrote, read for a report of the table that they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semid.artifact import WEIGHTS
from semid.errors import SemidError, display_path
from semid.id_metadata import read_metadata
from semid.jobs.job import describe
from semid.manifests import read_manifest
from semid.tables import ParquetTable


def read_metrics(path: Path) -> dict[str, Any]:
    """Read ``metrics.json``.

    Raises
    ------
    SemidError
        When it is no file, or no JSON object.
    """
    if not path.is_file():
        raise SemidError(f"{display_path(path)} is not a file; semid evaluate writes metrics.json")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SemidError(
            f"{display_path(path)} cannot be read as JSON ({error}); semid evaluate writes it"
        ) from error
    if not isinstance(found, dict):
        raise SemidError(f"{display_path(path)} is no JSON object; semid evaluate writes one")
    return found


def refuse_other_table(
    path: Path, ids: ParquetTable, model: Path | None, header: dict[str, Any]
) -> None:
    """Raise `SemidError` when metrics are of another table or model, naming both.

    Told by what their manifest says of their inputs; without one, or where the file was changed
    since, by the number of items, the levels, the quantizer and the policy.

    Parameters
    ----------
    path : of ``metrics.json``
    ids : the table of the report
    model : its model, if that is given
    header : of the model; empty without one
    """
    figures = read_metrics(path)
    made_of = (read_manifest(path) or {}).get("inputs", {})
    here: dict[str, ParquetTable | Path] = {"ids": ids}
    here |= {} if model is None else {"model": model / WEIGHTS}
    known = {name: source for name, source in here.items() if name in made_of}
    for name, now in describe(known, made_of).items():
        then = made_of[name]
        if then["digest"] != now["digest"]:
            what = "ids table" if name == "ids" else "model"
            raise SemidError(
                f"{display_path(path)} is of the {what} {display_path(then['path'])} "
                f"({then['digest']}), the report of {display_path(now['path'])} "
                f"({now['digest']}); measure this one by semid evaluate"
            )
    if "ids" not in known:
        _refuse_other_facts(path, figures, ids, header)


def _refuse_other_facts(
    path: Path, figures: dict[str, Any], ids: ParquetTable, header: dict[str, Any]
) -> None:
    noted = read_metadata(ids).get("collisions") or {}
    levels = header.get("levels")
    here = {
        "items": ids.num_rows,
        "levels": None if levels is None else list(levels),
        "quantizer": header.get("kind"),
        "policy": noted.get("policy"),
    }
    there = {name: figures.get(name) for name in here}
    if isinstance(there["levels"], list):
        there["levels"] = [level.get("size") for level in there["levels"]]
    for name, now in here.items():
        if None not in (there[name], now) and there[name] != now:
            raise SemidError(
                f"{display_path(path)} is of a table whose {name} is {there[name]}, but that of "
                f"{display_path(ids.name)} is {now}; measure this one by semid evaluate"
            )
