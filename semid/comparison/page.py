"""A comparison as Markdown and as one HTML page; summaries in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semid.comparison.scatter import Point, scatter
from semid.comparison.summary import Spread, error_side
from semid.pages import html_list, html_page, html_table, markdown_table

Summary = Mapping[str, Any]
Table = list[list[str]]
# Figures with levels, and their digits.
_BY_LEVEL = (
    *(("perplexity", 0), ("utilization", 3), ("held_out_error", 3), ("train_error", 3)),
    *(("held_out_cosine", 3), ("train_cosine", 3), ("prefix_purity", 3)),
)
_SIDE = {"held_out": "held-out", "train": "training"}


def overview(summaries: Sequence[Summary]) -> Table:
    """Lay out the figures of all levels together, a header first."""
    header = ["quantizer", "levels", "held-out error", "training error", "held-out cosine"]
    header += ["training cosine", "raw uniqueness", "seconds", "peak MiB"]
    rows = [
        [
            f"{s['quantizer']} ★" if s["best"] else s["quantizer"],
            "/".join(map(str, s["levels"])) or "none",
            *(
                _figure(s[key][-1], 4)
                for key in ("held_out_error", "train_error", "held_out_cosine", "train_cosine")
            ),
            _figure(s["raw_uniqueness"], 4),
            _figure(s["seconds"], 1),
            _figure(s["peak_mib"], 0),
        ]
        for s in summaries
    ]
    return [header, *rows]


def by_level(summaries: Sequence[Summary]) -> Table:
    """Lay out the medians level by level, a header first; errors are those of each prefix."""
    header = ["quantizer", "perplexity", "utilization", "held-out error", "training error"]
    header += ["held-out cosine", "training cosine", "10-NN with the same prefix"]
    figures: tuple[tuple[str, int], ...] = _BY_LEVEL
    if any(s["step_purity"] for s in summaries):
        header += ["steps within a prefix"]
        figures += (("step_purity", 3),)
    return [
        header,
        *(
            [s["quantizer"], *(_medians(s[key], digits) for key, digits in figures)]
            for s in summaries
        ),
    ]


def _figure(found: Spread | None, digits: int) -> str:
    if found is None:
        return "–"
    middle, low, high = (f"{value:,.{digits}f}" for value in found)
    return middle if low == high else f"{middle} ({low}–{high})"


def _medians(found: Sequence[Spread | None], digits: int) -> str:
    said = ("–" if spread is None else f"{spread.median:,.{digits}f}" for spread in found)
    return " / ".join(said) or "–"


def notes(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> list[str]:
    """Say what the figures are, a sentence or two each."""
    side = _SIDE[error_side(summaries)]
    steps = [
        f"Steps are {facts['steps']:,} of users from one item to the next that the contrast left "
        "out (other users may have met the same two items): the share between items with the same "
        "first code, the same first two, …",
    ]
    return [
        f"{facts['items']:,} items of {facts['width']} dimensions, {facts['held_out_rows']:,} of "
        f"them held out; {facts['seeds']} {'seed' if facts['seeds'] == 1 else 'seeds'}. Median "
        "(range) over seeds.",
        f"★: no other quantizer has both a lower {side} error and a higher uniqueness.",
        "Errors are squared errors over the squared deviation from the training items' mean; the "
        "cosine is that of an item and its reconstruction. Uniqueness is distinct codes over "
        "items.",
        f"Neighbours are exact, of {facts['queries']:,} items drawn with a fixed seed: the share "
        "of an item's 10 nearest with the same first code, the same first two, …",
        "Seconds are those of the fit; the peak is the fitting process's, with its libraries and "
        "embeddings. Random codes are the null.",
        *(steps if facts["steps"] else []),
    ]


def markdown(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> str:
    """Write a comparison as Markdown."""
    parts = ["# Quantizers side by side", markdown_table(overview(summaries))]
    parts += ["By level and prefix, medians:", markdown_table(by_level(summaries))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(summaries, facts))]) + "\n"


def html(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> str:
    """Write a comparison as one HTML page that loads nothing."""
    return html_page(
        "Quantizers side by side",
        [
            "<p>Filled: no other quantizer is better both ways. Right and down is worse.</p>",
            plot(summaries),
            "<h2>Overview</h2>",
            html_table(overview(summaries)),
            "<h2>By level and prefix (medians)</h2>",
            html_table(by_level(summaries)),
            "<h2>What the figures are</h2>",
            html_list(notes(summaries, facts)),
        ],
    )


def plot(summaries: Sequence[Summary]) -> str:
    """Draw error against uniqueness as SVG; empty when nothing has codes."""
    side = error_side(summaries)
    points = []
    for s in summaries:
        error, unique = s[f"{side}_error"][-1], s["raw_uniqueness"]
        if error is not None and unique is not None:
            spans = error[1:], unique[1:]
            points.append(Point(s["quantizer"], error.median, unique.median, *spans, s["best"]))
    if not points:
        return ""
    return scatter(points, x_label=f"{_SIDE[side]} error", y_label="raw uniqueness")
