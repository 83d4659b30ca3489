"""The plots to choose by: levels before a training, quantizers after; error against uniqueness.

Right and down is worse, as on the page of a comparison. Figures are returned, not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from semid.comparison.summary import Spread, error_side
from semid.report.drawing import COLOURS, add_limit, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Where names stand, so that those of two series at one place do not cover each other.
_SIDES = ("top right", "bottom right", "top left", "bottom left")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


class _Place(NamedTuple):
    """Where something stands, with its range; what it is called; whether it is filled."""

    error: Spread
    uniqueness: Spread
    name: str
    filled: bool


def planned_levels(plan: Mapping[str, Any]) -> Figure:
    """Draw what `semid plan` predicts of each candidate, with the goal and what it recommends.

    Parameters
    ----------
    plan : what `semid.jobs.plan.plan` says; uniqueness with its likely range, a series for each
        number of levels, named by their codewords, the recommended levels filled
    """
    figure = new_figure("predicted relative squared error", "predicted raw uniqueness")
    advice = plan["recommendation"]
    lengths = sorted({len(one["levels"]) for one in plan["candidates"]})
    for place, length in enumerate(lengths):
        own = [one for one in plan["candidates"] if len(one["levels"]) == length]
        places = [
            _Place(
                Spread(one["error"], one["error"], one["error"]),
                Spread(one["uniqueness"], *one["uniqueness_range"]),
                _sizes(one["levels"]),
                one["levels"] == advice["levels"],
            )
            for one in own
            if one["error"] is not None
        ]
        _series(figure, f"{length} {'level' if length == 1 else 'levels'}", places, place)
        figure.data[-1].update(mode="markers+text", textposition=_SIDES[place % len(_SIDES)])
    add_limit(figure, advice["goal"], "goal")
    figure.update_yaxes(tickformat=".0%")
    return figure


def _sizes(levels: Sequence[int]) -> str:
    """Spell codewords per level, once if they are the same at each."""
    return ",".join(map(str, levels if len(set(levels)) > 1 else levels[:1]))


def quantizer_tradeoff(summaries: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw error against uniqueness of the quantizers of a comparison, with their ranges.

    Parameters
    ----------
    summaries : of `semid.comparison.summary.summarise`; what no other quantizer beats both ways is
        filled, what has no codes is left out
    """
    side = error_side(summaries)
    named = {"held_out": "held-out", "train": "training"}[side]
    figure = new_figure(f"{named} relative squared error", "raw uniqueness")
    place = 0
    for one in summaries:
        error, unique = one[f"{side}_error"][-1], one["raw_uniqueness"]
        if error is not None and unique is not None:
            name = one["quantizer"]
            _series(figure, name, [_Place(error, unique, name, one["best"])], place)
            place += 1
    figure.update_yaxes(tickformat=".0%")
    return figure


def _series(figure: Figure, name: str, places: Iterable[_Place], number: int) -> None:
    """Draw points of one colour and symbol, their ranges as bars."""
    from plotly.graph_objects import Scatter

    there = sorted(places)
    colour = COLOURS[number % len(COLOURS)]
    symbol = _SYMBOLS[number % len(_SYMBOLS)]
    figure.add_trace(
        Scatter(
            x=[one.error.median for one in there],
            y=[one.uniqueness.median for one in there],
            error_x=_bars([one.error for one in there], colour),
            error_y=_bars([one.uniqueness for one in there], colour),
            name=name,
            mode="markers",
            marker={
                "color": colour,
                "size": 10,
                "symbol": [symbol if one.filled else f"{symbol}-open" for one in there],
            },
            text=[one.name for one in there],
            hovertemplate="%{text}: error %{x:.3f}, uniqueness %{y:.1%}",
        )
    )


def _bars(ranges: Sequence[Spread], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [one.high - one.median for one in ranges],
        "arrayminus": [one.median - one.low for one in ranges],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }
