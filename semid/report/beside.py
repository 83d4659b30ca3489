"""Two tables of a report side by side: their figures, codes by use, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semid.report.figures import code_usage
from semid.report.looking import Against, Found, Known
from semid.report.page import Plot, plots
from semid.report.sections import note, two_tables
from semid.report.subject import Subject

SIDES = {"train_error": "training items", "held_out_error": "held-out items"}


def beside(known: Known, found: Found) -> str:
    """Lay out both tables side by side; without another, say how to name one."""
    if known.against is None:
        return note("Another table side by side: name it by --against.")
    name, other, _ = known.against
    summary = other.table.diff(known.subject.table).summary()
    texts = found.held.texts
    titles = dict(zip(texts["ids"], texts.get("titles", ()), strict=False))
    for example in (one for move in summary["moves"] for one in move["examples"]):
        example["title"] = titles.get(str(example["item_id"]))
    shown = [
        Plot(f"Codes by use: {name}", "Both on one scale.", code_usage(subject.counts))
        for name, subject in ((name, other), (known.name, known.subject))
    ]
    top = max(max(trace.y) for plot in shown for trace in plot.figure.data)
    for plot in shown:
        plot.figure.update_yaxes(range=[0, 1.05 * top])
    return two_tables(summary, (name, known.name), _facts(known, known.against)) + plots(shown)


def _facts(known: Known, against: Against) -> list[tuple[str, str, str]]:
    """Return figures of both tables side by side; errors where one model assigned both."""
    tables = ((against.subject, against.metrics), (known.subject, known.metrics or {}))
    sides = [_figures(subject, errors) for subject, errors in tables]
    return [(name, value, sides[1].get(name, "–")) for name, value in sides[0].items()]


def _figures(subject: Subject, errors: Mapping[str, Any]) -> dict[str, str]:
    figures = subject.figures
    levels, collisions = figures["levels"], figures["collisions"]
    said = {
        "items": f"{len(subject):,}",
        "raw uniqueness": f"{figures['uniqueness']:.2%}",
        "items in collisions": f"{collisions['share_in_groups']:.2%}",
        "largest group": f"{collisions['largest_group']:,}",
        "used codes": " / ".join(f"{use['used']:,}" for use in levels),
        "perplexity": " / ".join(f"{use['perplexity']:.1f}" for use in levels),
    }
    for key, name in SIDES.items():
        if errors.get(key) is not None:
            said[f"error of {name}"] = f"{errors[key]:.3f}"
    return said
