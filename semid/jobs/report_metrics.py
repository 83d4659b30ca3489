"""The figures that `semid evaluate` wrote, read for a report of the table that they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from semid.artifact import WEIGHTS
from semid.errors import SemidError, display_path
from semid.id_metadata import read_metadata
from semid.jobs.evaluate import FORMAT_VERSION
from semid.jobs.job import describe
from semid.jobs.report_shape import first_wrong
from semid.manifests import read_manifest
from semid.tables import ParquetTable


@dataclass(frozen=True)
class Metrics:
    """What `semid evaluate` wrote, with all that a report reads.

    Attributes
    ----------
    path : of ``metrics.json``
    figures : what it holds
    """

    path: Path
    figures: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Metrics:
        """Read ``metrics.json``.

        Raises
        ------
        SemidError
            When it is no file, no JSON object, or not what this semid's `evaluate` writes.
        """
        shown = display_path(path)
        if not path.is_file():
            raise SemidError(f"{shown} is not a file; semid evaluate writes metrics.json")
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SemidError(
                f"{shown} cannot be read as JSON ({error}); semid evaluate writes it"
            ) from error
        if not isinstance(found, dict):
            raise SemidError(f"{shown} is no JSON object; semid evaluate writes one")
        wrong = first_wrong(found, FORMAT_VERSION)
        if wrong is not None:
            raise SemidError(
                f"{shown} is no metrics.json of semid evaluate: {_what_it_is(path) or wrong}; "
                "measure the table by semid evaluate, and give what that writes"
            )
        return cls(path, found)

    def refuse_other_table(
        self, ids: ParquetTable, model: Path | None, header: Mapping[str, Any]
    ) -> None:
        """Raise `SemidError` when the figures are of another table or model, naming both.

        Told by what their manifest says of their inputs; without one, or where the file was changed
        since, by the number of items, the levels, the quantizer and the policy.

        Parameters
        ----------
        ids : the table that they are to be of
        model : its model, if that is given
        header : of the model; empty without one
        """
        made_of = (read_manifest(self.path) or {}).get("inputs", {})
        here: dict[str, ParquetTable | Path] = {"ids": ids}
        here |= {} if model is None else {"model": model / WEIGHTS}
        known = {name: source for name, source in here.items() if name in made_of}
        for name, now in describe(known, made_of).items():
            then = made_of[name]
            if then["digest"] != now["digest"]:
                what = "ids table" if name == "ids" else "model"
                raise SemidError(
                    f"{display_path(self.path)} is of the {what} {display_path(then['path'])} "
                    f"({then['digest']}), the report of {display_path(now['path'])} "
                    f"({now['digest']}); measure this one by semid evaluate"
                )
        if "ids" not in known:
            levels = header.get("levels")
            noted = read_metadata(ids).get("collisions") or {}
            self._refuse(
                ids.name,
                {
                    "items": (self.figures["items"], ids.num_rows),
                    "levels": (
                        [level["size"] for level in self.figures["levels"]],
                        None if levels is None else list(levels),
                    ),
                    "quantizer": (self.figures.get("quantizer"), header.get("kind")),
                    "policy": (self.figures.get("policy"), noted.get("policy")),
                },
            )

    def refuse_other_codes(self, ids: ParquetTable, counted: Mapping[str, Any]) -> None:
        """Raise `SemidError` when codes that were counted are others than those of the figures.

        Parameters
        ----------
        ids : the table
        counted : what `semid.evaluation.codes.code_figures` says of it
        """
        there, here = (_of_codes(figures) for figures in (self.figures, counted))
        if isclose(there["uniqueness"], here["uniqueness"], rel_tol=1e-9):
            there["uniqueness"] = here["uniqueness"]
        self._refuse(ids.name, {name: (there[name], here[name]) for name in here})

    def _refuse(self, name: str, facts: Mapping[str, tuple[Any, Any]]) -> None:
        """Raise `SemidError` for the first fact that is known to differ between file and table."""
        for fact, (there, here) in facts.items():
            if None not in (there, here) and there != here:
                raise SemidError(
                    f"{display_path(self.path)} is of a table whose {fact} is {there}, but that of "
                    f"{display_path(name)} is {here}; measure this one by semid evaluate"
                )


def _of_codes(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "items": figures["items"],
        "used codes": [level["used"] for level in figures["levels"]],
        "uniqueness": figures["uniqueness"],
        "raw SIDs of several items": figures["collisions"]["groups"],
    }


def _what_it_is(path: Path) -> str | None:
    """Say which other command wrote a file, or the folder that it is a part of, if that is told."""
    if (command := _command(read_manifest(path))) is not None:
        return None if command == "evaluate" else f"semid {command} wrote it"
    folder = read_manifest(path.parent) or {}
    command = _command(folder) if path.name in folder.get("files", {}) else None
    if command is None:
        return None
    return f"it is a part of {display_path(path.parent)}, which semid {command} wrote"


def _command(manifest: Mapping[str, Any] | None) -> str | None:
    command: str | None = (manifest or {}).get("plan", {}).get("command")
    return command
