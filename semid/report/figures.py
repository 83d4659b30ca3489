"""The report's plots: figures in, none shown. In a notebook each is a line.

Colours stand on white and on black alike; a page sets text and lines to its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.errors import require_package

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#4a7fc1", "#e0803a", "#4fa35f", "#c05a8e", "#8a6fc4", "#a58a3c", "#3fa3a3", "#c4564b")
_GREY = "#8a8f98"
# Points of a line beyond which the eye sees no more.
_MOST_POINTS = 1_024


def code_usage(counts: Sequence[npt.NDArray[np.integer]]) -> Figure:
    """Draw the codes of every level sorted by use, beside the line of uniform use.

    Parameters
    ----------
    counts : how often each codeword of a level is used, ``(k,)`` for each level
    """
    figure = _figure("share of the codebook", "use, 1 = uniform")
    for place, count_k in enumerate(counts):
        sorted_k = np.sort(count_k)[::-1] * (len(count_k) / max(count_k.sum(), 1))
        rank_m = _thinned(len(count_k))
        _line(figure, (rank_m + 0.5) / len(count_k), sorted_k[rank_m], f"level {place}")
    figure.add_hline(y=1, line={"color": _GREY, "dash": "dot", "width": 1.5})
    figure.add_annotation(
        x=1, y=1, xref="paper", text="uniform", showarrow=False, yshift=9, xanchor="right"
    )
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    figure.update_yaxes(rangemode="tozero")
    return figure


def training_perplexity(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the perplexity of every level over the epochs of a training.

    Parameters
    ----------
    history : a row of metrics per epoch, as `Quantizer.history` or ``history.csv`` has them
    """
    figure = _figure("epoch", "perplexity")
    _curves(figure, history, "perplexity_", "level ")
    figure.update_yaxes(rangemode="tozero")
    return figure


def training_losses(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the terms of the loss and the held-out error over the epochs of a training.

    Parameters
    ----------
    history : as for `training_perplexity`
    """
    figure = _figure("epoch", "weighted loss, error (log)")
    _curves(figure, history, "_loss", "")
    _curves(figure, history, "_error", " error")
    figure.update_yaxes(type="log")
    return figure


def _curves(figure: Figure, history: Sequence[Mapping[str, Any]], part: str, said: str) -> None:
    """Draw the columns of a history that begin or end with `part`, for which the legend has it."""
    columns = dict.fromkeys(name for row in history for name in row)
    for name in columns:
        if not (name.startswith(part) or name.endswith(part)):
            continue
        known = [(row["epoch"], row[name]) for row in history if _is_number(row.get(name))]
        if known:
            epochs, values = zip(*known, strict=True)
            _line(figure, epochs, values, name.replace(part, said).replace("_", " "))


def error_by_level(errors: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw what is left of the variance after the first levels, one by one.

    Parameters
    ----------
    errors : relative squared error after each level, for every kind of items
    """
    figure = _figure("levels decoded", "relative squared error")
    for name, error_l in errors.items():
        _line(figure, list(range(1, len(error_l) + 1)), list(error_l), name, mode="lines+markers")
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure


def collision_sizes(size_g: npt.NDArray[np.integer], name: str = "groups") -> Figure:
    """Draw how many groups of items have one raw SID, by how many items they have.

    Parameters
    ----------
    size_g : the items of every distinct raw SID, ``(g,)``; 1 for those of one item
    """
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.graph_objects import Bar

    figure = _figure("items with one raw SID", "raw SIDs (log)")
    size_b, count_b = np.unique(size_g, return_counts=True)
    share_b = size_b * count_b / max(int(size_g.sum()), 1)
    figure.add_trace(
        Bar(
            x=[f"{size:,}" for size in size_b.tolist()],
            y=count_b,
            name=name,
            marker_color=COLOURS[0],
            customdata=share_b,
            hovertemplate="%{y:,} raw SIDs of %{x} items, %{customdata:.2%} of all items"
            "<extra></extra>",
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="log")
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
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.graph_objects import Scattergl

    figure = _figure("", "")
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
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.graph_objects import Treemap

    from semid.ids import prefixes

    names, parents, sizes = ["all"], [""], [len(codes_nl)]
    for length in range(1, depth + 1):
        prefix_pd, size_p = prefixes(codes_nl, length)
        for prefix, size in zip(prefix_pd.tolist(), size_p.tolist(), strict=True):
            names.append(",".join(map(str, prefix)))
            parents.append(",".join(map(str, prefix[:-1])) or "all")
            sizes.append(size)
    figure = _figure("", "")
    figure.add_trace(
        Treemap(ids=names, labels=names, parents=parents, values=sizes, branchvalues="total")
    )
    return figure


def _figure(x_title: str, y_title: str) -> Figure:
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.graph_objects import Figure

    figure = _style(Figure())
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title)
    return figure


def _style(figure: Figure) -> Figure:
    figure.update_layout(
        template="none",
        height=340,
        margin={"l": 60, "r": 12, "t": 12, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": _GREY},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    return figure


def _line(figure: Figure, x: Any, y: Any, name: str, *, mode: str = "lines") -> None:
    from plotly.graph_objects import Scatter

    style = {"color": COLOURS[len(figure.data) % len(COLOURS)], "width": 2}
    figure.add_trace(Scatter(x=x, y=y, name=name, mode=mode, line=style))


def _thinned(rows: int) -> npt.NDArray[np.int64]:
    """Return at most `_MOST_POINTS` of so many rows, the first and the last among them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_POINTS)).round().astype(np.int64))


def _hues(code_n: npt.NDArray[np.integer]) -> list[str]:
    """Return a colour for every code; codes that follow each other are far apart (golden angle)."""
    return [f"hsl({137.508 * code % 360:.0f},55%,52%)" for code in code_n.tolist()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
