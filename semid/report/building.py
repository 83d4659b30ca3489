"""From what is known of a table to the page: figures, sections, explorer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from semid import __version__
from semid.evaluation.findings import Finding
from semid.report.contents import Column, contents
from semid.report.figures import (
    code_usage,
    collision_sizes,
    error_by_level,
    training_losses,
    training_perplexity,
)
from semid.report.looking import EXAMPLES, Found, Known, look
from semid.report.page import Plot, explorer, navigation, page, plots
from semid.report.sections import (
    Collision,
    Item,
    all_metrics,
    note,
    section,
    tiles,
    two_tables,
    worst_collisions,
    worst_items,
)
from semid.report.subject import Subject
from semid.report.verdict import findings_of, gates_html, own_findings, verdict_html

_METRICS = "--model and --embeddings show what more there is to find"


def build_page(known: Known, *, projection: str = "tsne") -> tuple[str, dict[str, Any]]:
    """Return the page and a summary of it."""
    found = look(known, projection=projection)
    findings = _findings(known)
    packed, thinned = contents(
        known.subject.table.sids,
        known.subject.tree,
        _columns(known, found),
        found.held,
        found.wanted,
    )
    tree, map_ = explorer(images=_image_hosts(found), placed=found.placed)
    sections = {
        "verdict": ("Verdict", _verdict(known, found, findings)),
        "plots": ("Codes and errors", _plots(known, found)),
        "tree": ("ID tree", "".join(map(note, [*thinned, *_absent(known, found)])) + tree),
        "map": ("Map", map_),
        "worst": ("Worst cases", _worst(known, found)),
        "tables": ("Two tables", _two(known, found)),
        "metrics": ("All figures", all_metrics(known.metrics) if known.metrics else ""),
    }
    shown = {anchor: (name, body) for anchor, (name, body) in sections.items() if body}
    title = f"Semantic IDs: {known.name}"
    html = page(
        title,
        [
            note(_about(known)),
            navigation({anchor: name for anchor, (name, _) in shown.items()}),
            *(section(anchor, name, body) for anchor, (name, body) in shown.items()),
        ],
        packed,
    )
    worst = findings[0].says if findings else "nothing that was looked at is amiss"
    held = len(found.held.row_m)
    return html, {"items": len(known.subject), "items_held": held, "verdict": worst}


def _about(known: Known) -> str:
    subject = known.subject
    said = [f"{len(subject):,} items", f"codes of {' × '.join(f'{k:,}' for k in subject.levels)}"]
    said += [f"{name} {value}" for name, value in known.facts.items() if value]
    return f"{', '.join(said)}. Written by semid {__version__}."


def _findings(known: Known) -> list[Finding]:
    if known.metrics is not None and "findings" in known.metrics:
        return findings_of(known.metrics)
    subject = known.subject
    used = [use._asdict() for use in subject.used]
    largest = int(subject.groups.size_g.max())
    return own_findings(used, subject.uniqueness, largest)


def _verdict(known: Known, found: Found, findings: list[Finding]) -> str:
    subject, metrics = known.subject, known.metrics or {}
    figures = {
        "raw uniqueness": f"{subject.uniqueness:.1%}",
        "items in collisions": f"{subject.in_collisions:.1%}",
        "largest group of one raw SID": f"{int(subject.groups.size_g.max()):,}",
    }
    figures |= {
        f"level {level}: effective of {use.size:,} codes": f"{use.perplexity:.0f}"
        for level, use in enumerate(subject.used)
    }
    for side, error_l in found.errors.items():
        if error_l[-1] is not None:
            figures[f"error of {side}"] = f"{error_l[-1]:.3f}"
    gates = gates_html(metrics.get("gates") or [])
    return "".join(
        [
            verdict_html(findings, note(f"Judged by codes alone: {_METRICS}."))
            if known.metrics is None
            else verdict_html(findings, ""),
            f"<h3>Gates</h3>{gates}" if gates else "",
            tiles(figures),
        ]
    )


def _plots(known: Known, found: Found) -> str:
    subject = known.subject
    shown = [
        Plot(
            "Codes by use",
            "Each level's codewords, the most used first; a level on the dotted line uses all "
            "alike, one that falls to 0 has codes to spare.",
            code_usage(subject.counts),
        ),
        Plot(
            "Items per raw SID",
            "Bars beyond 1 are collisions, which a policy has to resolve.",
            collision_sizes(subject.groups.size_g),
        ),
    ]
    notes = []
    if found.errors:
        says = "What is left of the variance after each level; held-out items tell the truth."
        shown.append(Plot("Error by level", says, error_by_level(found.errors)))
    else:
        notes.append("Errors by level: give the model and its --embeddings.")
    if known.history:
        says = "It should rise and stay; a level that falls has decayed."
        shown.append(Plot("Perplexity over training", says, training_perplexity(known.history)))
        says = "They should fall and settle; the codebooks start after the autoencoder's warm-up."
        shown.append(Plot("Loss over training", says, training_losses(known.history)))
    elif known.decode is None:
        notes.append("Perplexity and loss over training: give the --model.")
    else:
        notes.append("This model was fitted in one go: it has no history of epochs.")
    return plots(shown) + "".join(map(note, notes))


def _columns(known: Known, found: Found) -> list[Column]:
    subject = known.subject
    columns = list(known.columns)
    if found.error_n is not None:
        columns.append(Column("error", found.error_n.astype(np.float64)))
    groups = subject.groups
    shared_n = (groups.size_g[groups.group_n] > 1).astype(np.float64)
    return [*columns, Column("share in collisions", shared_n)]


def _absent(known: Known, found: Found) -> list[str]:
    """Say what the explorer lacks, and what would show it."""
    said = []
    if not known.text_names:
        said.append("Titles, images and categories: give the --items.")
    elif not known.columns:
        said.append("To colour by category, price or popularity: name columns by --color-by.")
    if found.missing is None:
        said.append("Neighbours, errors and the map: give the --embeddings.")
    elif found.missing:
        said.append(f"{found.missing:,} items have no embedding, so no error and no neighbours.")
    return said


def _image_hosts(found: Found) -> str | None:
    """Name where images would be loaded from; None when there are none."""
    hosts = {urlsplit(image).netloc for image in found.held.texts.get("images", ())} - {""}
    if not hosts:
        return None
    shown = sorted(hosts)[:3]
    return ", ".join(shown) + (" and others" if len(hosts) > len(shown) else "")


def _worst(known: Known, found: Found) -> str:
    subject, parts = known.subject, []
    items = _Items(known, found)
    groups = [
        Collision(
            ",".join(map(str, subject.table.codes[members[0]].tolist())),
            len(members),
            cosine,
            [items.at(int(row), "") for row in members[:EXAMPLES]],
        )
        for group, cosine in found.worst_groups
        for members in [subject.groups.members(group)]
    ]
    if groups:
        parts.append("<h3>Collisions of items that are least alike</h3>")
        parts.append(note("Items with one raw SID, by the mean cosine of their pairs."))
        parts.append(worst_collisions(groups))
    if found.error_n is not None:
        parts.append("<h3>Items that their codes describe worst</h3>")
        parts.append(note("Squared error over the items' mean squared deviation from their mean."))
        error_n = found.error_n
        rows = [items.at(row, f"{error_n[row]:.2f}") for row in found.worst_rows]
        parts.append(worst_items(rows, "error"))
    else:
        parts.append(note("Worst reconstructions: give the model and its --embeddings."))
    return "".join(parts)


class _Items:
    """Names of the items that the page holds."""

    def __init__(self, known: Known, found: Found) -> None:
        self._subject, self._held = known.subject, found.held

    def at(self, row: int, figure: str) -> Item:
        place = int(np.searchsorted(self._held.row_m, row))
        titles = self._held.texts.get("titles")
        return Item(
            self._held.texts["ids"][place],
            self._subject.spelled(row),
            titles[place] if titles else None,
            figure,
        )


def _two(known: Known, found: Found) -> str:
    if known.against is None:
        return note("Another table side by side: name it by --against.")
    other = Subject(known.against)
    summary = other.table.diff(known.subject.table).summary()
    texts = found.held.texts
    titles = dict(zip(texts["ids"], texts.get("titles", ()), strict=False))
    for example in (one for move in summary["moves"] for one in move["examples"]):
        example["title"] = titles.get(str(example["item_id"]))
    pairs = zip(_facts(other).items(), _facts(known.subject).values(), strict=False)
    facts = [(name, before, after) for (name, before), after in pairs]
    beside = [
        Plot(f"Codes by use: {name}", "Both on one scale.", code_usage(subject.counts))
        for name, subject in ((known.against_name, other), (known.name, known.subject))
    ]
    top = max(max(trace.y) for plot in beside for trace in plot.figure.data)
    for plot in beside:
        plot.figure.update_yaxes(range=[0, 1.05 * top])
    return two_tables(summary, (known.against_name, known.name), facts) + plots(beside)


def _facts(subject: Subject) -> Mapping[str, str]:
    size_g = subject.groups.size_g
    return {
        "items": f"{len(subject):,}",
        "raw uniqueness": f"{subject.uniqueness:.2%}",
        "items in collisions": f"{subject.in_collisions:.2%}",
        "largest group": f"{int(size_g.max()):,}",
        "used codes": " / ".join(f"{use.used:,}" for use in subject.used),
        "perplexity": " / ".join(f"{use.perplexity:.1f}" for use in subject.used),
    }
