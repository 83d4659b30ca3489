"""From what is known of a table to the page: figures, sections, explorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semid import __version__
from semid.evaluation.findings import Finding
from semid.evaluation.structure import PAIRS
from semid.report.beside import SIDES, beside
from semid.report.contents import MOST_BYTES, Column, contents
from semid.report.figures import (
    code_usage,
    collision_sizes,
    error_by_level,
    training_losses,
    training_perplexity,
)
from semid.report.looking import Found, Known, look
from semid.report.page import Plot, explorer, image_sources, navigation, page, plots
from semid.report.sections import (
    Collision,
    Item,
    all_metrics,
    note,
    section,
    tiles,
    worst_collisions,
    worst_items,
)
from semid.report.verdict import (
    NOTHING,
    NOTHING_IN_CODES,
    findings_of,
    gates_html,
    of_gates,
    own_findings,
    spelled,
    verdict_html,
)

MOST_PAGE_BYTES = 15_000_000
# For sentences on what was left out.
_NOTES_BYTES = 10_000
# What the curves of a training's loss are.
_TERMS = {
    "reconstruction_loss": "what decoding misses of an embedding",
    "commitment_loss": "how far latents are from their codewords",
    "codebook_loss": "how far codewords are from their latents",
    "diversity_loss": "how unevenly codewords are used",
    "uniformity_loss": "what latents lack to being spread evenly, which tells alike items apart",
    "kl_loss": "how far latents are from a normal distribution",
    "contrast_loss": "how badly items that the same users meet are told from others",
    "held_out_error": "what decoding misses of items that are not trained on, over their variance",
}
_METRICS = "--model and --embeddings show what more there is to find"


def build_page(
    known: Known, *, projection: str = "tsne", most_bytes: int = MOST_PAGE_BYTES
) -> tuple[str, dict[str, Any]]:
    """Return the page, of at most so many bytes, and a summary of it."""
    found = look(known, projection=projection)
    findings = _findings(known)
    images = image_sources(found.held.texts.get("images", ()))
    tree, map_ = explorer(images=images, placed=found.placed)
    sections = {
        "verdict": ("Verdict", _verdict(known, findings)),
        "plots": ("Codes and errors", _plots(known)),
        "tree": ("ID tree", "".join(map(note, _absent(known, found))) + tree),
        "map": ("Map", map_),
        "worst": ("Worst cases", _worst(known, found)),
        "tables": ("Two tables", beside(known, found)),
        "metrics": ("All figures", all_metrics(known.metrics) if known.metrics else ""),
    }
    shown = {anchor: (name, body) for anchor, (name, body) in sections.items() if body}

    def html(packed: str, left_out: Sequence[str]) -> str:
        said = {"tree": "".join(map(note, left_out))}
        parts = [
            note(_about(known)),
            navigation({anchor: name for anchor, (name, _) in shown.items()}),
            *(section(at, name, said.get(at, "") + body) for at, (name, body) in shown.items()),
        ]
        return page(f"Semantic IDs: {known.name}", parts, packed, images)

    room = most_bytes - len(html("", ()).encode()) - _NOTES_BYTES
    subject = known.subject
    filled = contents(
        *(subject.table.sids, subject.tree, _columns(known, found), found.held, found.wanted),
        most_bytes=min(MOST_BYTES, room),
    )
    worst = findings[0].says if findings else _nothing(known)
    summary = {"items": len(subject), "items_held": filled.items, "verdict": worst}
    return html(filled.text, filled.left_out), summary


def _about(known: Known) -> str:
    subject = known.subject
    said = [f"{len(subject):,} items", f"codes of {' × '.join(f'{k:,}' for k in subject.levels)}"]
    said += [f"{name} {value}" for name, value in known.facts.items() if value]
    return f"{', '.join(said)}. Written by semid {__version__}."


def _findings(known: Known) -> list[Finding]:
    """Return what is amiss, the worst first: gates that failed, then what figures say."""
    if known.metrics is None:
        return own_findings(known.subject.figures)
    return of_gates(known.metrics.get("gates", [])) + findings_of(known.metrics)


def _nothing(known: Known) -> str:
    return NOTHING_IN_CODES if known.metrics is None else NOTHING


def _verdict(known: Known, findings: list[Finding]) -> str:
    metrics = known.metrics or {}
    codes = metrics if "collisions" in metrics else known.subject.figures
    figures = {
        "raw uniqueness": f"{codes['uniqueness']:.1%}",
        "items in collisions": f"{codes['collisions']['share_in_groups']:.1%}",
        "largest group of one raw SID": f"{codes['collisions']['largest_group']:,}",
    }
    for level, use in enumerate(codes["levels"]):
        figures[f"level {level}: effective of {use['size']:,} codes"] = f"{use['perplexity']:.0f}"
    for key, name in SIDES.items():
        if metrics.get(key) is not None:
            figures[f"error of {name}"] = f"{metrics[key]:.3f}"
    gates = gates_html(metrics.get("gates") or [])
    unknown = note(f"Judged by codes alone: {_METRICS}.") if known.metrics is None else ""
    return "".join(
        [
            verdict_html(findings, unknown, nothing=_nothing(known)),
            f"<h3>Gates</h3>{gates}" if gates else "",
            tiles(figures),
        ]
    )


def _errors(known: Known) -> dict[str, list[float | None]]:
    """Return the errors after each level, of training and of held-out items, where known."""
    depths = (known.metrics or {}).get("fidelity", {}).get("depths", [])
    found = {name: [depth.get(key) for depth in depths] for key, name in SIDES.items()}
    return {name: error_l for name, error_l in found.items() if any(error_l)}


def _plots(known: Known) -> str:
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
            collision_sizes(subject.group_sizes),
        ),
    ]
    notes = []
    if errors := _errors(known):
        says = "What is left of the variance after each level; held-out items tell the truth."
        shown.append(Plot("Error by level", says, error_by_level(errors)))
    else:
        notes.append("Errors by level: give the model and its --embeddings.")
    if known.history:
        says = "It should rise and stay; a level that falls has decayed."
        shown.append(Plot("Perplexity over training", says, training_perplexity(known.history)))
        shown.append(
            Plot("Loss over training", _of_losses(known.history), training_losses(known.history))
        )
    elif known.model is None:
        notes.append("Perplexity and loss over training: give the --model.")
    else:
        notes.append("This model was fitted in one go: it has no history of epochs.")
    if known.against is None:
        notes.append("Another table side by side: name it by --against.")
    return plots(shown) + "".join(map(note, notes))


def _of_losses(history: Sequence[Mapping[str, Any]]) -> str:
    """Say what the curves of a training's loss should do, and what each of them is."""
    there = {name for row in history for name, value in row.items() if value}
    said = ["They should fall and settle; the codebooks start after the autoencoder's warm-up."]
    terms = [
        f"{spelled(name.removesuffix('_loss'))}, {_TERMS[name]}" for name in _TERMS if name in there
    ]
    return " ".join([*said, f"{'; '.join(terms).capitalize()}."] if terms else said)


def _columns(known: Known, found: Found) -> list[Column]:
    subject = known.subject
    columns = list(known.columns)
    if found.error_n is not None:
        columns.append(Column("error", found.error_n.astype(np.float64)))
    shared_n = (subject.sharing_n > 1).astype(np.float64)
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


def _worst(known: Known, found: Found) -> str:
    subject, parts = known.subject, []
    items = _Items(known, found)
    groups = [
        Collision(
            ",".join(map(str, subject.table.codes[one.rows[0]].tolist())),
            one.items,
            one.cosine,
            [items.at(row, "") for row in one.rows],
        )
        for one in found.shared
    ]
    if groups or found.harmful:
        parts.append(f"<h3>{_collisions_title(found)}</h3>")
        parts.append(note(_compared(found)))
    if groups:
        parts.append(worst_collisions(groups))
    if found.worst:
        parts.append("<h3>Items that their codes describe worst</h3>")
        parts.append(
            note(
                "Squared error in the catalog's unit: its mean over training items is their error."
            )
        )
        rows = [items.at(row, f"{error:.2f}") for row, error in found.worst]
        parts.append(worst_items(rows, "error"))
    elif known.metrics is None:
        parts.append(note("Worst reconstructions: give the model and its --embeddings."))
    return "".join(parts)


def _collisions_title(found: Found) -> str:
    return "Collisions of items that are least alike" if found.harmful else "Largest collisions"


def _compared(found: Found) -> str:
    """Say which pairs of items were compared, and what came out."""
    if not found.harmful:
        return "Items with one raw SID; how alike they are is known with --embeddings."
    pairs, share = found.harmful["pairs"], found.harmful["share"]
    if not pairs:
        return "No two items with an embedding have one raw SID."
    few = ", a sample by the hashes of their ids" if pairs >= PAIRS else ""
    return (
        f"Each item that collides was compared with one other of its raw SID, {pairs:,} pairs in "
        f"all{few}: {share:.1%} have a cosine, less the catalog's mean, below "
        f"{found.harmful['threshold']:g}. The least alike:"
    )


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
