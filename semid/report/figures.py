"""The plots of one table and its model: arrays in, a figure out, not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.report.drawing import COLOURS, GREY, add_limit, add_line, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Points of a line beyond which the eye sees no more.
_MOST_POINTS = 1_024


def code_usage(counts: Sequence[npt.NDArray[np.integer]]) -> Figure:
    """Draw the codes of every level sorted by use, beside the line of uniform use.

    Parameters
    ----------
    counts : how often each codeword of a level is used, ``(k,)`` for each level
    """
    figure = new_figure("share of the codebook", "use, 1 = uniform")
    for place, count_k in enumerate(counts):
        sorted_k = np.sort(count_k)[::-1] * (len(count_k) / max(count_k.sum(), 1))
        rank_m = _thinned(len(count_k))
        add_line(figure, (rank_m + 0.5) / len(count_k), sorted_k[rank_m], f"level {place}")
    add_limit(figure, 1, "uniform")
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    figure.update_yaxes(rangemode="tozero")
    return figure


def training_perplexity(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the perplexity of every level over the epochs of a training.

    Parameters
    ----------
    history : a row of metrics per epoch, as `Quantizer.history` or ``history.csv`` has them
    """
    figure = new_figure("epoch", "perplexity")
    _curves(figure, history, "perplexity_", "level ")
    figure.update_yaxes(rangemode="tozero")
    return figure


def training_losses(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the terms of the loss and the held-out error over the epochs of a training.

    Parameters
    ----------
    history : as for `training_perplexity`
    """
    figure = new_figure("epoch", "weighted loss, error (log)")
    _curves(figure, history, "_loss", "")
    _curves(figure, history, "_error", " error")
    figure.update_yaxes(type="log", exponentformat="power")
    coded = [row["epoch"] for row in history if row.get("used_0")]
    if coded and coded[0] > history[0]["epoch"]:
        # Before, the autoencoder warms up without codes, hence the jump.
        figure.add_vline(
            x=coded[0],
            line={"color": GREY, "dash": "dot", "width": 1.5},
            annotation={"text": "codes begin", "xanchor": "left", "y": 0, "yanchor": "bottom"},
        )
    return figure


def _curves(figure: Figure, history: Sequence[Mapping[str, Any]], part: str, said: str) -> None:
    """Draw the columns of a history that begin or end with `part`, for which the legend has it."""
    columns = dict.fromkeys(name for row in history for name in row)
    for name in columns:
        if not (name.startswith(part) or name.endswith(part)):
            continue
        known = [(row["epoch"], row[name]) for row in history if _is_there(row.get(name))]
        if known:
            epochs, values = zip(*known, strict=True)
            add_line(figure, epochs, values, name.replace(part, said).replace("_", " "))


def error_by_level(errors: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw what is left of the variance after the first levels, one by one.

    Parameters
    ----------
    errors : relative squared error after each level, for every kind of items
    """
    figure = new_figure("levels decoded", "relative squared error")
    for name, error_l in errors.items():
        depths = list(range(1, len(error_l) + 1))
        add_line(figure, depths, list(error_l), name, mode="lines+markers")
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure


def shares_by_prefix(shares: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw shares that are told of the first code, the first two, …, such as prefix purity.

    Parameters
    ----------
    shares : from 0 to 1, one for every length of prefix, for everything that is to be compared
    """
    figure = new_figure("first codes", "share")
    for name, share_l in shares.items():
        depths = list(range(1, len(share_l) + 1))
        add_line(figure, depths, list(share_l), name, mode="lines+markers")
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure


def collision_sizes(size_g: npt.NDArray[np.integer], name: str = "groups") -> Figure:
    """Draw how many groups of items have one raw SID, by how many items they have.

    Parameters
    ----------
    size_g : the items of every distinct raw SID, ``(g,)``; 1 for those of one item
    """
    figure = new_figure("items with one raw SID", "raw SIDs (log)")
    from plotly.graph_objects import Bar

    size_b, count_b = np.unique(size_g, return_counts=True)
    share_b = size_b * count_b / max(int(size_g.sum()), 1)
    figure.add_trace(
        Bar(
            x=size_b,
            y=count_b,
            name=name,
            marker_color=COLOURS[0],
            customdata=share_b,
            hovertemplate="%{y:,} raw SIDs of %{x} items, %{customdata:.2%} of all items"
            "<extra></extra>",
        )
    )
    figure.update_xaxes(dtick=1 if size_b[-1] <= 20 else None, tickformat=",")
    # Bars of a log axis begin where it does: below 1, so that a single large group is seen.
    top = max(float(np.log10(count_b.max())), 0.5)
    figure.update_yaxes(type="log", range=[np.log10(0.5), 1.05 * top], dtick=1, tickformat=",")
    return figure


def item_map(
    place_n2: npt.NDArray[np.floating], first_n: npt.NDArray[np.integer], names: Sequence[str] = ()
) -> Figure:
    """Draw items in two dimensions, coloured by their first code.

    Parameters
    ----------
    place_n2 : where items stand, as `semid.report.projection.place` finds
    first_n : the first code of each
    names : what hovering tells of each
    """
    figure = new_figure("", "")
    from plotly.graph_objects import Scattergl

    figure.add_trace(
        Scattergl(
            x=place_n2[:, 0],
            y=place_n2[:, 1],
            mode="markers",
            marker={"size": 4, "color": _hues(first_n), "opacity": 0.7},
            text=[f"{code}: {name}" for code, name in zip(first_n, names, strict=True)]
            if len(names)
            else first_n,
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    return figure


def prefix_treemap(codes_nl: npt.NDArray[np.integer], depth: int = 2) -> Figure:
    """Draw the prefixes of codes as areas, as large as they have items; a click goes into one.

    Parameters
    ----------
    codes_nl : ``(n, l)``
    depth : the longest prefixes; thousands of them make it slow
    """
    figure = new_figure("", "")
    from plotly.graph_objects import Treemap

    from semid.ids import prefixes

    names, parents, sizes = ["all"], [""], [len(codes_nl)]
    for length in range(1, depth + 1):
        prefix_pd, size_p = prefixes(codes_nl, length)
        for prefix, size in zip(prefix_pd.tolist(), size_p.tolist(), strict=True):
            names.append(",".join(map(str, prefix)))
            parents.append(",".join(map(str, prefix[:-1])) or "all")
            sizes.append(size)
    figure.add_trace(
        Treemap(ids=names, labels=names, parents=parents, values=sizes, branchvalues="total")
    )
    return figure


def _thinned(rows: int) -> npt.NDArray[np.int64]:
    """Return at most `_MOST_POINTS` of so many rows, the first and the last among them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_POINTS)).round().astype(np.int64))


def _hues(code_n: npt.NDArray[np.integer]) -> list[str]:
    """Return a colour for every code; codes that follow each other are far apart (golden angle)."""
    return [f"hsl({137.508 * code % 360:.0f},55%,52%)" for code in code_n.tolist()]


def _is_there(value: Any) -> bool:
    """Tell whether a value is known and above 0, as all are once an epoch has codes."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
