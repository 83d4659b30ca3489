"""The sections of a report that need no script: figures, worst items, all metrics, two tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote

from semid.diff_page import by_distance, counts, differing, lead, moves
from semid.pages import html_bars, html_list, html_table
from semid.report.verdict import spelled, spoken

# Shown elsewhere on the page.
_ELSEWHERE = ("findings", "gates", "levels", "baseline", "format_version")
# Lists of items, which are among the worst cases.
_OF_ITEMS = ("examples", "worst")
_MOST_SHOWN = 6


class Item(NamedTuple):
    """An item in a table: its id, its SID, its title if known, and a figure as text."""

    item_id: str
    sid: str
    title: str | None
    figure: str


class Collision(NamedTuple):
    """Items with one raw SID: its codes, how many, the cosine of a pair if known, and examples."""

    codes: str
    items: int
    cosine: float | None
    examples: list[Item]


class Fact(NamedTuple):
    """A figure of two tables: its name, its value in both, which is better, what chance gives."""

    name: str
    first: str
    second: str
    better: int | None = None
    chance: str = ""


def tiles(figures: Mapping[str, str]) -> str:
    """Lay out figures, each with its name below."""
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in figures.items()
    )
    return f'<div class="figures">{cells}</div>'


def section(anchor: str, title: str, *parts: str) -> str:
    """Put parts that are HTML under a heading; empty when all of them are."""
    body = "\n".join(filter(None, parts))
    if not body:
        return ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{body}\n</section>'


def note(text: str) -> str:
    """Lay out a remark."""
    return f'<p class="note">{escape(text)}</p>'


def worst_collisions(groups: Sequence[Collision]) -> str:
    """Lay out items with one raw SID.

    The raw codes lead nowhere: a policy may have moved the items, so each is a link of its own.
    """
    rows = "".join(
        f"<tr><td>{escape(group.codes)}</td><td>{group.items:,}</td>"
        f"<td>{'–' if group.cosine is None else f'{group.cosine:.2f}'}</td>"
        f'<td class="text">{_listed(group.examples, group.items)}</td></tr>\n'
        for group in groups
    )
    head = '<th>raw codes</th><th>items</th><th>cosine less mean</th><th class="text">such as</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def worst_items(items: Sequence[Item], figure: str) -> str:
    """Lay out items with a figure of each."""
    rows = "".join(
        f"<tr><td>{escape(item.sid)}</td><td>{escape(item.figure)}</td>"
        f'<td class="text">{_link(item)}</td></tr>\n'
        for item in items
    )
    head = f'<th>semantic ID</th><th>{escape(figure)}</th><th class="text">item</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _listed(items: Sequence[Item], count: int) -> str:
    shown = [_link(item) for item in items[:_MOST_SHOWN]]
    more = count - len(shown)
    return "<br>".join([*shown, *([f"… and {more:,} more"] if more > 0 else [])])


def _link(item: Item) -> str:
    name = item.title or item.item_id
    return f'<a href="#i={quote(item.item_id, safe="")}" dir="auto">{escape(name)}</a>'


def all_metrics(metrics: Mapping[str, Any]) -> str:
    """Lay out all that ``metrics.json`` holds: levels, then groups of figures."""
    baseline = metrics.get("baseline") or {}
    plain = {
        name: value
        for name, value in metrics.items()
        if name not in _ELSEWHERE and not isinstance(value, Mapping)
    }
    parts = [_group("whole", plain, baseline)]
    for name, levels in (("levels", metrics), ("levels of the baseline", baseline)):
        if levels.get("levels"):
            parts.append(_details(name, _records(levels["levels"], "level")))
    if metrics.get("embedded") == metrics.get("items"):
        metrics = {name: group for name, group in metrics.items() if name != "of_embedded"}
    for name, group in metrics.items():
        if name not in _ELSEWHERE and isinstance(group, Mapping):
            parts.append(_group(spelled(name), group, baseline.get(name)))
    return f'<div class="groups">{"".join(parts)}</div>'


def _records(records: Sequence[Mapping[str, Any]], row: str = "") -> str:
    """Lay out figures of several of a kind, a row each; it scrolls where it is too wide."""
    flat = [dict(_flat(record)) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    numbered = [f"{row} {place}" for place in range(len(flat))] if row else None
    table = [names] + [[spoken(record.get(name)) for name in names] for record in flat]
    if numbered is not None:
        table = [[first, *line] for first, line in zip(["", *numbered], table, strict=True)]
    return f'<div class="wide">{html_table(table)}</div>'


def _group(name: str, figures: Mapping[str, Any], beside: Any) -> str:
    rows = dict(_flat(figures))
    if not rows:
        return ""
    others = dict(_flat(beside)) if isinstance(beside, Mapping) else {}
    rows = {key: value for key, value in rows.items() if not key.endswith(_OF_ITEMS)}
    lists = {key: value for key, value in rows.items() if _is_records(value)}
    plain = {key: value for key, value in rows.items() if key not in lists}
    kept = {key for key in plain if key in others}
    table = [["", "value", *(["baseline"] if kept else [])]]
    for key, value in plain.items():
        table.append([key, spoken(value), *([spoken(others.get(key))] if kept else [])])
    parts = [html_table(table)] if plain else []
    parts += [f"<h4>{escape(key)}</h4>{_records(value)}" for key, value in lists.items()]
    return _details(name, "".join(parts))


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(o, Mapping) for o in value)


def _flat(figures: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{spelled(name)}: ")
        else:
            found.append((f"{before}{spelled(name)}", value))
    return found


def _details(name: str, body: str, *, is_open: bool = True) -> str:
    state = " open" if is_open else ""
    return f'<details class="group"{state}><summary>{escape(name)}</summary>{body}</details>'


def two_tables(summary: Mapping[str, Any], names: tuple[str, str], facts: Sequence[Fact]) -> str:
    """Lay out what `semid diff` finds between two tables, beside facts about each.

    Parameters
    ----------
    summary : of `semid.table_diff.TableDiff`
    names : what the two tables are called
    facts : figures of both
    """
    common = max(summary["common"], 1)
    size = max(common, summary["added"], summary["retired"])
    shares = [1.0, *(n / common for n in summary["changed"])]
    shares += [summary["added"] / size, summary["retired"] / size]
    parts = [
        f"<p>{escape(lead(summary))}</p>",
        _facts_table(names, facts),
        "<h3>What changed</h3>",
        html_bars(counts(summary), shares),
        "<h3>How many codes differ</h3>",
        html_bars(by_distance(summary), [n / common for n in summary["distances"]]),
    ]
    if summary["moves"]:
        table = html_table(moves(summary), prose=True)
        parts.append(_details("Prefixes that most items left", table, is_open=False))
    if differs := differing(summary):
        parts.append(html_list(differs))
    return "\n".join(parts)


def _facts_table(names: tuple[str, str], facts: Sequence[Fact]) -> str:
    has_chance = any(fact.chance for fact in facts)
    header = ["", *names, *(["by chance"] if has_chance else [])]
    rows = []
    for fact in facts:
        cells = [f"<td>{escape(fact.name)}</td>"]
        for place, value in enumerate((fact.first, fact.second)):
            marked = place == fact.better
            mark = '<small class="passed">better</small> ' if marked else ""
            cells.append(f"<td>{mark}{escape(value)}</td>")
        cells += [f"<td>{escape(fact.chance)}</td>"] if has_chance else []
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = f"<thead><tr>{head}</tr></thead><tbody>\n{''.join(rows)}</tbody>"
    return f'<table class="two">{body}</table>'
