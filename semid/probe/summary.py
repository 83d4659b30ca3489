"""What came of the runs of a probe: mean and range over seeds, and the ratio to the first table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Spread(NamedTuple):
    """Mean, least and largest value over seeds."""

    mean: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Summarise one figure over seeds; None where there is none."""
    there = [value for value in values if value is not None]
    return Spread(fmean(there), min(there), max(there)) if there else None


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one summary per model and table, in the order of the rows.

    Parameters
    ----------
    rows : as of `semid.probe.run.run`, with ``table`` and ``model``; ``item-ids`` has no table

    Returns
    -------
    summaries : ``model``, ``table``, ``seeds`` (how many), ``parameters``, a `Spread` of
        ``seconds``, for every group a `Spread` of each figure in ``groups``, and ``ratio``: the
        mean Recall@10 over that of the first table with this model, None for item ids
    """
    summaries: list[dict[str, Any]] = []
    for model, table in dict.fromkeys((row["model"], row["table"]) for row in rows):
        own = [row for row in rows if (row["model"], row["table"]) == (model, table)]
        groups: dict[str, dict[str, Any]] = {
            group: {name: spread([row["groups"][group][name] for row in own]) for name in figures}
            for group, figures in own[0]["groups"].items()
        }
        first = next((s for s in summaries if s["model"] == model), {"groups": groups})
        base, here = (one["all"]["recall@10"].mean for one in (first["groups"], groups))
        summaries.append(
            {
                "model": model,
                "table": table,
                "seeds": len(own),
                "parameters": own[0]["parameters"],
                "seconds": spread([row["fit_seconds"] + row["rank_seconds"] for row in own]),
                "groups": groups,
                "ratio": here / base if table and base else None,
            }
        )
    return summaries
