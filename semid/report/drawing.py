"""What all plots have in common: how they look, their lines, and the line of a limit.

Colours stand on white and on black alike; a page sets text and lines to its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semid.errors import require_package

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#4a7fc1", "#e0803a", "#4fa35f", "#c05a8e", "#8a6fc4", "#a58a3c", "#3fa3a3", "#c4564b")
GREY = "#8a8f98"


def new_figure(x_title: str, y_title: str) -> Figure:
    """Return a figure with nothing on it; raises `SemidError` where plotly is missing."""
    require_package("plotly", extra="report", purpose="a plot")
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(
        template="none",
        height=340,
        margin={"l": 60, "r": 12, "t": 12, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": GREY},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0},
        hovermode="closest",
    )
    axis = {"gridcolor": "rgba(128,128,128,.2)", "zeroline": False, "automargin": True}
    figure.update_xaxes(title=x_title, **axis)
    figure.update_yaxes(title=y_title, **axis)
    return figure


def add_line(figure: Figure, x: Any, y: Any, name: str, *, mode: str = "lines") -> None:
    """Draw a line in the next colour."""
    from plotly.graph_objects import Scatter

    style = {"color": COLOURS[len(figure.data) % len(COLOURS)], "width": 2}
    figure.add_trace(Scatter(x=x, y=y, name=name, mode=mode, line=style))


def add_limit(figure: Figure, y: float, name: str) -> None:
    """Draw a dotted line across, named at its right end."""
    figure.add_hline(y=y, line={"color": GREY, "dash": "dot", "width": 1.5})
    figure.add_annotation(
        x=1, y=y, xref="paper", text=name, showarrow=False, yshift=9, xanchor="right"
    )
