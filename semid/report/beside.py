"""Two tables of a report side by side: their figures, codes by use, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import hypot, isfinite
from typing import Any, NamedTuple

from semid.report.figures import code_usage
from semid.report.looking import Against, Found, Known
from semid.report.page import Plot, plots
from semid.report.sections import Fact, note, two_tables

SIDES = {"train_error": "training items", "held_out_error": "held-out items"}


class _Figure(NamedTuple):
    """A figure of ``metrics.json`` to set side by side.

    path : where it stands, keys and places joined with dots
    name, spelling : how it is called and written
    better : 1 where more is better, -1 where less is, 0 where neither
    chance : where under ``nulls`` it says what chance gives
    alike : what must be equal in both tables for the figures to be compared
    most : the most that there can be, of figures that prefixes of many items raise: of these the
        better is the one that has more of what chance leaves
    error : where the standard error of a sampled figure stands: none is better than one that is
        within two of them
    """

    path: str
    name: str
    spelling: str
    better: int = 0
    chance: str = ""
    alike: tuple[str, ...] = ()
    most: float | None = None
    error: str = ""


def _figures(levels: int) -> Iterator[_Figure]:
    """Yield what is compared of codes of so many levels, in the order of the page."""
    yield _Figure("items", "items", ",")
    yield _Figure("uniqueness", "raw uniqueness", ".2%", 1, "uniqueness.random")
    yield _Figure("collisions.share_in_groups", "items in collisions", ".2%", -1)
    yield _Figure("collisions.largest_group", "largest group", ",", -1)
    unlike, name = "collisions.harmful", "items that collide with one unlike them"
    yield _Figure(f"{unlike}.share_of_items", name, ".2%", -1, alike=(f"{unlike}.threshold",))
    for key, name in SIDES.items():
        yield _Figure(key, f"error of {name}", ".3f", -1)
    near, kept, shared = ("structure.k",), "structure.jaccard", "structure.common_prefix"
    errors = "structure.standard_errors"
    name = "neighbours kept (Jaccard)"
    yield _Figure(kept, name, ".1%", 1, kept, near, error=f"{errors}.jaccard")
    name, error = f"first codes shared with neighbours, of {levels}", f"{errors}.common_prefix"
    yield _Figure(shared, name, ".2f", 1, shared, near, levels, error)
    of = ("structure.categories.column", "structure.categories.items")
    for depth, codes in enumerate(("first codes", "two codes")):
        path, chance = f"structure.categories.depths.{depth}.purity", f"structure.purity.{depth}"
        yield _Figure(path, f"category purity of {codes}", ".1%", 1, chance, of, 1)
    users = ("behaviour.interactions", "behaviour.of_other_items")
    path = "behaviour.prefix_recall.0"
    error = "behaviour.standard_errors.prefix_recall.0"
    yield _Figure(path, "steps that stay on the first code", ".1%", 1, path, users, 1, error)
    alike, chance = (*users, "behaviour.hit_rate.k"), "behaviour.hit_rate"
    for key, name, better in (("embeddings", "embeddings", 0), ("dequantised", "decoded codes", 1)):
        path, error = f"{chance}.{key}", f"{chance}.standard_errors.{key}"
        name = f"next item near: {name}"
        yield _Figure(path, name, ".2%", better, chance, alike, error=error)


def beside(known: Known, found: Found) -> str:
    """Lay out both tables side by side; empty without another."""
    if known.against is None:
        return ""
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
    facts, said = _facts(known, known.against)
    told = note(said) if said else ""
    return told + two_tables(summary, (name, known.name), facts) + plots(shown)


def _facts(known: Known, against: Against) -> tuple[list[Fact], str]:
    """Return the figures that both tables have, and a sentence on what is not among them."""
    subjects, metrics = (against.subject, known.subject), (against.metrics, known.metrics or {})
    sides = [{**of.figures, **more} for of, more in zip(subjects, metrics, strict=True)]
    left_out, facts = list[str](), list[Fact]()
    for figure in _figures(max(len(of.levels) for of in subjects)):
        values = [_number(side, figure.path) for side in sides]
        if None in values:
            continue
        if any(_at(sides[0], path) != _at(sides[1], path) for path in figure.alike):
            left_out.append(figure.name)
        else:
            chances = [_number(side.get("nulls"), figure.chance) for side in sides]
            errors = [_number(side, figure.error) for side in sides]
            facts.append(_fact(figure, values, chances, errors))
    facts += [
        Fact(name, _by_level(sides[0], key, spelling), _by_level(sides[1], key, spelling))
        for key, name, spelling in (
            ("used", "used codes", ","),
            ("perplexity", "perplexity", ".1f"),
        )
    ]
    return facts, _said(known, against, left_out)


def _fact(
    figure: _Figure, values: Sequence[Any], chances: Sequence[Any], errors: Sequence[Any]
) -> Fact:
    first, second = (format(value, figure.spelling) for value in values)
    better, judged = None, _judged(figure, values, chances)
    far = None in errors or abs(values[1] - values[0]) > 2 * hypot(*errors)
    if figure.better and judged is not None and first != second and far:
        better = int(figure.better * (judged[1] - judged[0]) > 0)
    by_chance = dict.fromkeys(format(c, figure.spelling) for c in chances if c is not None)
    return Fact(figure.name, first, second, better, " / ".join(by_chance))


def _judged(
    figure: _Figure, values: Sequence[Any], chances: Sequence[Any]
) -> Sequence[float] | None:
    """Return what says which is better; None where chance is to be told off, and is not known."""
    if figure.most is None:
        return values
    if None in chances or figure.most in chances:
        return None
    return [(v - c) / (figure.most - c) for v, c in zip(values, chances, strict=True)]


def _by_level(side: Mapping[str, Any], key: str, spelling: str) -> str:
    return " / ".join(format(use[key], spelling) for use in side["levels"])


def _said(known: Known, against: Against, left_out: Sequence[str]) -> str:
    """Say which figures are not compared, and what would show them."""
    said = []
    if known.metrics is None:
        said.append("More figures side by side: give --metrics, and --against-metrics.")
    elif "structure" not in against.metrics:
        said.append("More figures side by side: give --against-metrics.")
    if left_out:
        said.append(
            "Not of the same neighbours, categories or users, hence left out: "
            f"{', '.join(left_out)}."
        )
    return " ".join(said)


def _number(figures: Any, path: str) -> Any:
    """Return the number at a path, or None where there is none."""
    found = _at(figures, path)
    return found if isinstance(found, int | float) and isfinite(found) else None


def _at(figures: Any, path: str) -> Any:
    """Return what stands at a path, or None where nothing does."""
    for name in path.split("."):
        if isinstance(figures, Mapping):
            figures = figures.get(name)
        elif isinstance(figures, list) and name.isdigit() and int(name) < len(figures):
            figures = figures[int(name)]
        else:
            return None
    return figures
