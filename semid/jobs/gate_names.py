"""Gates held against the names of the figures to come, before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from semid.errors import SemidError, require_package
from semid.evaluation.findings import SEVERITIES
from semid.gates import Gate, parse_gates, require_names
from semid.jobs.context import Context

# What is told of the baseline's fit beside its figures.
OF_FIT = ("train_rows", "held_out_rows", "fitted_rows")
# What some figures need, as a user asks for it.
_ASKED_BY = {
    "met": "--interactions",
    "categories": "--items with --categories",
    "model": "--model",
    "baseline": "the baseline of semid evaluate, beside a model that is not one itself,",
}
# As many levels as anybody has, for gates on a model that is not there yet.
_ANY_LEVELS = (2,) * 16
_COLUMNS = re.compile(r"(^|\.)columns\.")


def refuse_unknown_figures(
    asked: Sequence[Gate],
    header: Mapping[str, Any],
    context: Context | None = None,
    *,
    baseline: bool = False,
) -> None:
    """Raise `SemidError` for a gate on a figure that will not be there.

    It says what else would have to be given for the figure, or which names are near.

    Parameters
    ----------
    asked : gates
    header : of the model; of a kind that is None where it is not known
    context : what is given beside embeddings and model
    baseline : whether there will be one
    """
    if not asked:
        return
    require_package("torch", extra="cpu", purpose="evaluating")
    given = {
        "met": context is not None and context.interactions is not None,
        "categories": context is not None and context.categories is not None,
        "baseline": baseline,
        "model": header["kind"] is not None,
    }
    _refuse(header, asked, given)


def _refuse(header: Mapping[str, Any], asked: Sequence[Gate], given: dict[str, bool]) -> None:
    for gate in asked:
        if (unknown := _unknown(gate, header, given)) is None:
            continue
        for part, option in _ASKED_BY.items():
            if not given[part] and _unknown(gate, header, given | {part: True}) is None:
                raise SemidError(f"the gate '{gate.text}' is on a figure that only {option} gives")
        raise unknown


def require_figure_names(
    gates: Sequence[str] = (),
    interactions: str | None = None,
    categories: str | None = None,
    baseline: bool = True,
) -> None:
    """Raise `SemidError` for a gate that names no figure of any model, before there is one.

    Parameters
    ----------
    gates, interactions, categories, baseline : as a job is given them
    """
    asked = [gate for gate in parse_gates(gates) if not _COLUMNS.search(gate.path)]
    given = {"met": interactions is not None, "categories": categories is not None}
    given |= {"baseline": baseline, "model": True}
    _refuse({"levels": _ANY_LEVELS, "columns": {"": 2}}, asked, given)


def _unknown(gate: Gate, header: Mapping[str, Any], given: dict[str, bool]) -> SemidError | None:
    try:
        require_names(_expected(header, **given), [gate])
    except SemidError as error:
        return error
    return None


def _expected(header: Mapping[str, Any], **given: bool) -> Any:
    from semid.evaluation.names import expected_figures

    found = expected_figures(header["levels"], header["columns"], **given)
    if given["baseline"]:
        found["baseline"] |= dict.fromkeys(OF_FIT)
    return {"format_version": None, **found, "severities": dict.fromkeys(SEVERITIES)}
