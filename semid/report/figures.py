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


def code_usage(counts: Sequence[npt.NDArray[np.integer]], names: Sequence[str] = ()) -> Figure:
    """Draw the codes of every level sorted by use, beside the line of uniform use.

    Parameters
    ----------
    counts : how often each codeword of a level is used, ``(k,)`` for each level
    names : what the levels are called; ``level 0``, … if not given
    """
    figure = _figure("codewords, the most used first (share of the codebook)", "use, 1 = uniform")
    for place, count_k in enumerate(counts):
        sorted_k = np.sort(count_k)[::-1] * (len(count_k) / max(count_k.sum(), 1))
        rank_m = _thinned(len(count_k))
        name = names[place] if names else f"level {place}"
        _line(figure, (rank_m + 0.5) / len(count_k), sorted_k[rank_m], name, place)
    figure.add_hline(y=1, line={"color": _GREY, "dash": "dot", "width": 1.5})
    figure.add_annotation(
        x=1, y=1, xref="paper", text="uniform", showarrow=False, yshift=9, xanchor="right"
    )
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    return figure


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the perplexity of every level, and the losses, over the epochs of a training.

    Parameters
    ----------
    history : a row of metrics per epoch, as `Quantizer.history` or ``history.csv`` has them
    """
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.subplots import make_subplots

    columns = {name: None for row in history for name in row}
    perplexities = [name for name in columns if "perplexity" in name]
    losses = [name for name in columns if "loss" in name or "error" in name]
    figure = make_subplots(rows=1, cols=2, subplot_titles=("perplexity", "losses and errors"))
    _style(figure)
    for side, names in enumerate((perplexities, losses), start=1):
        for place, name in enumerate(names):
            known = [(row["epoch"], row[name]) for row in history if _is_number(row.get(name))]
            if known:
                epochs, values = zip(*known, strict=True)
                spot = {"row": 1, "col": side}
                _line(figure, epochs, values, _spelled(name), place, spot, dash=side == 2)
    figure.update_xaxes(title="epoch")
    if losses:
        figure.update_yaxes(type="log", row=1, col=2)
    return figure


def error_by_level(errors: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw what is left of the variance after one level, two, …

    Parameters
    ----------
    errors : relative squared error after each level, for every kind of items
    """
    figure = _figure("levels decoded", "relative squared error")
    for place, (name, error_l) in enumerate(errors.items()):
        depth_l = list(range(1, len(error_l) + 1))
        _line(figure, depth_l, list(error_l), name, place, mode="lines+markers")
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
        height=320,
        margin={"l": 60, "r": 12, "t": 30, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": _GREY},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    return figure


def _line(
    figure: Figure,
    x: Any,
    y: Any,
    name: str,
    place: int,
    spot: Mapping[str, int] | None = None,
    *,
    mode: str = "lines",
    dash: bool = False,
) -> None:
    from plotly.graph_objects import Scatter

    style = {"color": COLOURS[place % len(COLOURS)], "width": 2, "dash": "dash" if dash else None}
    trace = Scatter(x=x, y=y, name=name, mode=mode, line=style)
    figure.add_trace(trace, **(spot or {}))


def _thinned(rows: int) -> npt.NDArray[np.int64]:
    """Return at most `_MOST_POINTS` of so many rows, the first and the last among them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_POINTS)).round().astype(np.int64))


def _hues(code_n: npt.NDArray[np.integer]) -> list[str]:
    """Return a colour for every code; codes that follow each other are far apart (golden angle)."""
    return [f"hsl({137.508 * code % 360:.0f},55%,52%)" for code in code_n.tolist()]


def _spelled(name: str) -> str:
    return name.replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
