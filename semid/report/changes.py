"""The plots of IDs over time: churn between tables, drift night by night, codes used otherwise.

Figures are returned, not shown. Shapes: k codewords of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.drift_verdicts import Limits
from semid.report.drawing import add_limit, add_line, new_figure
from semid.report.figures import shares_by_prefix

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Counts = npt.NDArray[np.integer]

# Codes of a level beyond which the eye sees no more.
_MOST_CODES = 1_000
# What a limit or a support of nothing counts as.
_LEAST = 1e-3


def churn_by_level(diffs: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the share of the items in both tables whose first codes changed, code by code.

    Parameters
    ----------
    diffs : for every pair of tables what `semid.jobs.diff.diff` or `TableDiff.summary` says of it
    """
    changed = {
        name: [count / diff["common"] if diff["common"] else None for count in diff["changed"]]
        for name, diff in diffs.items()
    }
    figure = shares_by_prefix(changed)
    figure.update_yaxes(title="items whose first codes changed")
    return figure


def drift_over_time(
    drifts: Mapping[str, Mapping[str, Any]], limits: Limits | None = None
) -> Figure:
    """Draw the drift of delivery after delivery, each figure in multiples of its limit.

    Above 1 error and support ask for a retrain; the shift of codes alone does not. A delivery
    without new items has no support.

    Parameters
    ----------
    drifts : for every delivery, in order, what `semid.jobs.drift.drift` says of it
    limits : from where on a retrain is due; the default ones if not given
    """
    figure = new_figure("delivery", "times the limit")
    found = [_over_limits(one, limits or Limits()) for one in drifts.values()]
    for name in found[0] if found else ():
        values = [one[name] for one in found]
        if any(value is not None for value in values):
            add_line(figure, list(drifts), values, name, mode="lines+markers")
    add_limit(figure, 1, "limit")
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _over_limits(drift: Mapping[str, Any], limits: Limits) -> dict[str, float | None]:
    """Return how many times its limit each figure is; None for what a delivery does not have."""
    ratio, changed = drift["error"]["ratio"], drift["changed"]
    depths = drift["prefixes"][: max(len(drift["prefixes"]) - 1, 1)]  # as `judge_drift` has it
    supports = [
        limits.min_support * one["table_support"] / max(one["new_support"], _LEAST)
        for one in depths
        if one["new_support"] is not None
    ]
    return {
        "error": None if ratio is None else ratio / limits.max_error_ratio,
        "support of new items": max(supports, default=None),
        "first codes changed": changed[0] / max(limits.max_changed, _LEAST) if changed else None,
        "shift of codes": max(
            level["shift"] / max(limits.max_shift, _LEAST) for level in drift["levels"]
        ),
    }


def code_shift(table_k: Counts, fresh_k: Counts) -> Figure:
    """Draw how a level's codes are used by fresh items, beside how the table uses them.

    Parameters
    ----------
    table_k, fresh_k : how often each codeword is used, ``(k,)``, the two sums above 0; the codes
        that the table uses most are drawn, and a thousand of them at most
    """
    figure = new_figure("code, the most used of the table first", "share of the items")
    order_k = np.argsort(-table_k, kind="stable")[:_MOST_CODES]
    ranks = np.arange(len(order_k))
    for count_k, name, mode in (
        (fresh_k, "fresh items", "markers"),
        (table_k, "table", "lines"),
    ):
        add_line(figure, ranks, count_k[order_k] / count_k.sum(), name, mode=mode)
    figure.data[0].update(text=[f"code {code}" for code in order_k.tolist()], marker={"size": 5})
    figure.update_yaxes(rangemode="tozero", tickformat=".1%")
    return figure
