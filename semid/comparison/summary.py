"""What came of the runs: median and range over seeds, and who is beaten by nobody.

Rows are those of `semid.comparison.run.run_entry`, as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

Row = Mapping[str, Any]
# Figures that are lists over levels or prefixes, and plain ones.
PER_LEVEL = (
    *("train_error", "held_out_error", "train_cosine", "held_out_cosine"),
    *("utilization", "perplexity", "prefix_purity", "step_purity"),
)
PLAIN = ("raw_uniqueness", "seconds", "peak_mib")


class Spread(NamedTuple):
    """Median, least and largest value over seeds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Summarise one figure over seeds; None where a run does not have it."""
    there = [value for value in values if value is not None]
    return Spread(median(there), min(there), max(there)) if there else None


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one summary per quantizer, in the order of the rows.

    Each has ``quantizer``, ``levels``, ``seeds`` (how many), a `Spread` for every plain figure, a
    list of them for every figure with levels, and ``best``: whether no other quantizer has both a
    lower error and a higher uniqueness, and its error is below 1.
    """
    summaries = []
    for name in dict.fromkeys(row["quantizer"] for row in rows):
        own = [row for row in rows if row["quantizer"] == name]
        summary: dict[str, Any] = {
            "quantizer": name,
            "levels": own[0]["levels"],
            "seeds": len(own),
        }
        summary |= {key: spread([row[key] for row in own]) for key in PLAIN}
        for key in PER_LEVEL:
            over = zip(*(row[key] for row in own), strict=True)
            summary[key] = [spread(values) for values in over]
        summaries.append(summary)
    points = [point(summary) for summary in summaries]
    placed = [p for p in points if p is not None]
    for summary, at in zip(summaries, points, strict=True):
        # An error of 1 is that of no codes at all, such as random ones have.
        summary["best"] = at is not None and at[0] < 1 and not_dominated(at, placed)
    return summaries


def error_side(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return which error quantizers are ranked by: ``held_out`` where items are held out."""
    held = all(s["held_out_error"][-1] is not None for s in summaries)
    return "held_out" if held else "train"


def point(summary: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the medians of error and uniqueness; None for a model without codes."""
    error = summary[f"{error_side([summary])}_error"][-1]
    unique = summary["raw_uniqueness"]
    return None if error is None or unique is None else (error.median, unique.median)


def not_dominated(at: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Tell whether no other (error, uniqueness) is as good on both and better on one."""
    error, unique = at
    return not any(e <= error and u >= unique and (e, u) != at for e, u in others)
