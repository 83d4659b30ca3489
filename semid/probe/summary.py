"""What came of the runs of a probe: mean and range over seeds, and how far from the first table.

Shapes: q targets, the same and in the same order for every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]

SURE = 2.0
"""Standard errors beyond which a difference is not put down to the choice of users."""


class Spread(NamedTuple):
    """Mean, least and largest value over seeds."""

    mean: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Summarise one figure over seeds; None where there is none."""
    there = [value for value in values if value is not None]
    return Spread(fmean(there), min(there), max(there)) if there else None


class Difference(NamedTuple):
    """Mean Recall@10 less the first table's, and its standard error over users, who are the same.

    Recalls of a user are averaged over seeds first: two tables may still differ by the few seeds
    that there are, whose range says how much.
    """

    mean: float
    error: float

    @property
    def sure(self) -> bool:
        """Tell whether it is more than `SURE` standard errors."""
        return abs(self.mean) > SURE * self.error


def difference(here: Sequence[Row], first: Sequence[Row]) -> Difference:
    """Hold the runs of one table against those of another, by their ``recall_q``."""
    apart_q = np.mean([row["recall_q"] for row in here], 0)
    apart_q = apart_q - np.mean([row["recall_q"] for row in first], 0)
    error = float(apart_q.std(ddof=1)) / len(apart_q) ** 0.5 if len(apart_q) > 1 else float("nan")
    return Difference(float(apart_q.mean()), error)


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one summary per model and table, in the order of the rows.

    Parameters
    ----------
    rows : as of `semid.probe.run.run`, with ``table`` and ``model``; ``item-ids`` has no table;
        with ``recall_q``, the Recall@10 of every target

    Returns
    -------
    summaries : ``model``, ``table``, ``seeds`` (how many), ``parameters``, a `Spread` of
        ``seconds``, for every group a `Spread` of each figure in ``groups``, and ``ratio``: the
        mean Recall@10 over that of the first table with this model, and ``difference``, a
        `Difference`; both None for item ids, the latter for the first table, too
    """
    summaries: list[dict[str, Any]] = []
    for model, table in dict.fromkeys((row["model"], row["table"]) for row in rows):
        own = [row for row in rows if (row["model"], row["table"]) == (model, table)]
        groups: dict[str, dict[str, Any]] = {
            group: {name: spread([row["groups"][group][name] for row in own]) for name in figures}
            for group, figures in own[0]["groups"].items()
        }
        first_table = next(row["table"] for row in rows if row["model"] == model)
        first = [row for row in rows if (row["model"], row["table"]) == (model, first_table)]
        base = fmean(row["groups"]["all"]["recall@10"] for row in first)
        here = groups["all"]["recall@10"].mean
        summaries.append(
            {
                "model": model,
                "table": table,
                "seeds": len(own),
                "parameters": own[0]["parameters"],
                "seconds": spread([row["fit_seconds"] + row["rank_seconds"] for row in own]),
                "groups": groups,
                "ratio": here / base if table and base else None,
                "difference": None if table == first_table else difference(own, first),
            }
        )
    return summaries
