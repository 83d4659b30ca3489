"""Gates held against the names of the figures to come, before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semid.errors import SemidError, require_package
from semid.gates import Gate, require_names
from semid.jobs.context import Context

# What is told of the baseline's fit beside its figures.
OF_FIT = ("train_rows", "held_out_rows", "fitted_rows", "verdicts")
# What some figures need, as a user asks for it.
_ASKED_BY = {
    "met": "--interactions",
    "categories": "--items with --categories",
    "baseline": "--baseline, and a model that is not the baseline itself",
}


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
    header : of the model
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
    }
    for gate in asked:
        if (unknown := _unknown(gate, header, given)) is None:
            continue
        for part, option in _ASKED_BY.items():
            if not given[part] and _unknown(gate, header, given | {part: True}) is None:
                raise SemidError(f"the gate '{gate.text}' is on a figure that only {option} gives")
        raise unknown


def _unknown(gate: Gate, header: Mapping[str, Any], given: dict[str, bool]) -> SemidError | None:
    try:
        require_names(_expected(header, **given), [gate])
    except SemidError as error:
        return error
    return None


def _expected(header: Mapping[str, Any], *, met: bool, categories: bool, baseline: bool) -> Any:
    from semid.evaluation.names import expected_figures

    found = expected_figures(
        header["levels"], header["columns"], met=met, categories=categories, baseline=baseline
    )
    if baseline:
        found["baseline"] |= dict.fromkeys(OF_FIT)
    return {"format_version": None, **found}
