"""A pipeline: named steps in a TOML file, each one job, run in order and only where needed.

A step's keys are the parameters of its job; `command` says which, the step's name if left out.
Paths are relative to the working folder, and ``${NAME}`` in any text is an environment variable.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semid.collisions import POLICIES
from semid.config import parse_value, read_toml, refuse_unknown
from semid.drift_verdicts import Limits
from semid.encoders import SentenceTransformerEncoder
from semid.errors import GateError, SemidError, display_path
from semid.export import FORMATS, ID_TYPES
from semid.fit_config import FitConfig, require_contrast
from semid.gates import parse_gates
from semid.jobs.align import align
from semid.jobs.assign import assign, check_resources
from semid.jobs.compare import compare, compared_by
from semid.jobs.diff import check_limits, diff
from semid.jobs.drift import drift
from semid.jobs.embed import choose_encoder, embed, encoder_folder, require_interactions
from semid.jobs.evaluate import evaluate
from semid.jobs.export import export
from semid.jobs.gate_names import require_figure_names
from semid.jobs.importing import import_ids
from semid.jobs.job import Result, output_path, require_workers, table_path
from semid.jobs.join import join, require_joinable
from semid.jobs.named_tables import name_and_path
from semid.jobs.probe import probe, probed_by
from semid.jobs.report import check_request, report
from semid.jobs.train import check_requests, read_settings, train
from semid.jobs.verify import verify
from semid.report.projection import METHODS

COMMANDS: dict[str, Callable[..., Result]] = {
    "embed": embed,
    "join": join,
    "train": train,
    "align": align,
    "assign": assign,
    "export": export,
    "import": import_ids,
    "evaluate": evaluate,
    "compare": compare,
    "diff": diff,
    "verify": verify,
    "drift": drift,
    "report": report,
    "probe": probe,
}


def _table_figures(gates: Sequence[str] = ()) -> None:
    require_figure_names(gates, baseline=False)


# What refuses settings that cannot be, by command; those of train and embed depend on each other.
_CHECKS: dict[str, tuple[Callable[..., object], ...]] = {
    "join": (require_joinable,),
    "assign": (check_resources, _table_figures),
    "evaluate": (require_figure_names,),
    "compare": (compared_by,),
    "diff": (check_limits,),
    "verify": (check_resources,),
    "drift": (Limits, check_resources),
    "report": (check_request, parse_gates),
    "probe": (probed_by,),
}
_GIVEN_BY_RUN = ("overwrite", "show", "engine", "owner")
_TABLES = ("embed", "join", "assign", "import")
_CHOICES = {
    **{"collisions": POLICIES, "format": tuple(FORMATS)},
    **{"projection": METHODS, "id_type": ID_TYPES},
}
_INPUTS = (
    *("items", "embeddings", "interactions", "init_from", "model", "to", "ids", "old", "new"),
    *("metrics", "against", "against_metrics", "path"),
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Step:
    """One step of a pipeline: its name, the command it runs and that command's parameters."""

    name: str
    command: str
    parameters: dict[str, Any]


def read_pipeline(path: str | Path) -> list[Step]:
    """Read and check a pipeline without running it.

    Raises
    ------
    SemidError
        For an unknown command, key or setting (listing the valid ones), a missing parameter, an
        undefined environment variable, or two steps that write the same output.
    """
    shown = display_path(path)
    content = read_toml(path)
    _refuse_unknown(content, ("steps",), f"{shown}: unknown key")
    steps = content.get("steps")
    if not isinstance(steps, dict) or not steps:
        raise SemidError(f"{shown} has no steps; begin one with [steps.embed]")
    read = [_read_step(f"{shown}, step '{name}'", name, keys) for name, keys in steps.items()]
    writers: dict[str, str] = {}
    for step in read:
        output = os.path.normpath(step.parameters["output"])
        if output in writers:
            raise SemidError(
                f"{shown}: steps '{writers[output]}' and '{step.name}' both write {output}; "
                "give each its own output"
            )
        writers[output] = step.name
        _check_settings(step, f"{shown}, step '{step.name}'")
    return read


def _check_settings(step: Step, where: str) -> None:
    """Find a mistake in a late step before the hours that the steps before it take."""
    given = step.parameters
    try:
        if step.command == "train":
            _check_train(given)
        if step.command == "embed":
            _check_embed(given)
        for check in _CHECKS.get(step.command, ()):
            check(**_those_of(check, given))
        (table_path if step.command in _TABLES else output_path)(given["output"])
    except SemidError as error:
        raise SemidError(f"{where}: {error}") from error
    for key, valid in _CHOICES.items():
        if given.get(key, valid[0]) not in valid:
            raise SemidError(f"{where}: {key} = {given[key]!r} is none of {', '.join(valid)}")


def _check_embed(given: dict[str, Any]) -> None:
    name = given.get("encoder", "lsa")
    made = choose_encoder(name, given.get("settings", {}))
    # What is neither here yet nor one of semid's is made by a step before, perhaps.
    if not isinstance(made, SentenceTransformerEncoder):
        require_interactions(made, name, given="interactions" in given)
    require_workers(given.get("workers", 0), least=0)


def _check_train(given: dict[str, Any]) -> None:
    settings, model = given.get("settings", {}), given.get("init_from")
    if model is not None and not Path(model).exists():  # a step before makes it, perhaps
        refuse_unknown(FitConfig, settings, where="train")
        return
    met = "interactions" in given
    config = read_settings(settings, model, met=met)
    require_contrast(config, given=met)
    check_requests(config, strict=given.get("strict", False), track=given.get("track", []))


def _those_of(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in inspect.signature(function).parameters if key in given}


def _read_step(where: str, name: str, keys: Any) -> Step:
    if not isinstance(keys, dict):
        raise SemidError(f"{where} must be a table of settings, not {keys!r}")
    keys = _expand(keys, where)
    command = keys.pop("command", name)
    if command not in COMMANDS:
        raise SemidError(
            f"{where}: unknown command {command!r}; use one of {', '.join(COMMANDS)}, "
            "as the step's name or as its 'command'"
        )
    parameters = inspect.signature(COMMANDS[command]).parameters
    valid = [name for name in parameters if name not in _GIVEN_BY_RUN]
    _refuse_unknown(keys, ("command", *valid), f"{where}: unknown key")
    for key in valid:
        # What prints its figures elsewhere must write them here, where nobody looks on.
        needed = parameters[key].default is inspect.Parameter.empty or key == "output"
        if needed and key not in keys:
            raise SemidError(f"{where}: '{key}' is missing; {command} needs it")
    types = typing.get_type_hints(COMMANDS[command])
    given = {
        key: parse_value(types[key], value, where=where, key=key) for key, value in keys.items()
    }
    return Step(name, command, given)


def _refuse_unknown(keys: dict[str, Any], valid: tuple[str, ...], what: str) -> None:
    for key in keys:
        if key not in valid:
            raise SemidError(f"{what} '{key}'; the valid ones are {', '.join(valid)}")


def _expand(value: Any, where: str) -> Any:
    """Replace ``${NAME}`` in all strings."""
    if isinstance(value, dict):
        return {key: _expand(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in os.environ:
            raise SemidError(
                f"{where}: the environment variable {name} is not set; run it as "
                f"{name}=… semid run …"
            )
        return os.environ[name]

    return _VARIABLE.sub(look_up, value)


def run(
    pipeline: str | Path,
    *,
    item_id: str | None = None,
    overwrite: bool = False,
    show: bool = False,
) -> Iterator[tuple[Step, Result]]:
    """Run a pipeline's steps in order, yielding each with its result as it ends.

    A step whose inputs, settings and semid version are unchanged is skipped. What the pipeline
    made before is replaced when they changed; what it did not make is refused unless `overwrite`.
    `item_id` names the id column of the steps that do not name one.

    Raises
    ------
    SemidError
        Before the first step for what can be seen in the file, else from a step; `GateError` after
        a step whose output is there but misses what was asked of it.
    """
    steps = read_pipeline(pipeline)
    _refuse_missing_inputs(steps, display_path(pipeline))
    for step in steps:
        where = f"{display_path(pipeline)}, step '{step.name}'"
        # Seen from the output, so that a folder that holds both may be moved.
        beside = Path(step.parameters["output"]).resolve().parent
        owner = f"{os.path.relpath(Path(pipeline).resolve(), beside)}#{step.name}"
        named = ({} if item_id is None else {"item_id": item_id}) | step.parameters
        try:
            result = COMMANDS[step.command](**named, overwrite=overwrite, owner=owner, show=show)
        except SemidError as error:
            kind = GateError if isinstance(error, GateError) else SemidError
            raise kind(f"{where}: {error}") from error
        yield step, result
        if result.failure is not None:
            raise GateError(f"{where}: {result.failure}")


def _input_paths(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the inputs of a step by their keys; of several, those without and with a name."""
    for key in _INPUTS:
        value = given.get(key)
        if isinstance(value, str) and key != "items":
            yield key, value
        elif isinstance(value, list | tuple):
            yield from ((key, name_and_path(one)[1]) for one in value)


def _refuse_missing_inputs(steps: list[Step], shown: str) -> None:
    """Find a mistyped path before an hour of training, not after."""
    writers = {os.path.normpath(step.parameters["output"]): step.name for step in steps}
    made: set[str] = set()
    for step in steps:
        for key, path in _input_paths(step.parameters):
            if os.path.normpath(path) in made:
                continue
            if (later := writers.get(os.path.normpath(path))) is not None:
                raise SemidError(
                    f"{shown}, step '{step.name}': {key} = {path!r} is made by the step "
                    f"'{later}' that comes later; put '{later}' before '{step.name}'"
                )
            if not Path(path).exists() and not any(mark in path for mark in "*?[:"):
                raise SemidError(
                    f"{shown}, step '{step.name}': {key} = {path!r} does not exist and no step "
                    "before makes it; check the path"
                )
        output = step.parameters["output"]
        made |= {os.path.normpath(output), os.path.normpath(encoder_folder(Path(output)))}
