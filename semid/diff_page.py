"""What changed between two ids tables, for people: as tables of text and as one HTML page.

Takes the summary of `semid.table_diff.TableDiff`, whose examples may have titles.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from semid.pages import html_bars, html_list, html_page, html_table

Summary = Mapping[str, Any]
Table = list[list[str]]
_FACTS = {
    "policy": "the collision policy",
    "levels": "the codewords per level",
    "sid_length": "the length of their SIDs",
    "model_fingerprint": "the model",
}


def lead(summary: Summary) -> str:
    """Say the churn in a sentence."""
    churn, common = summary["churn"], summary["common"]
    if churn is None:
        return "No item is in both tables."
    return f"{churn:.2%} of the {common:,} items in both tables have another semantic ID now."


def counts(summary: Summary) -> Table:
    """Lay out how many items each table has and how many changed, a header first."""
    common, changed = summary["common"], summary["changed"]
    rows = [
        ["in both", f"{common:,}", ""],
        *([_changed(depth, len(changed)), *_share(n, common)] for depth, n in _depths(changed)),
        ["added", f"{summary['added']:,}", ""],
        ["retired", f"{summary['retired']:,}", ""],
    ]
    return [["", "items", "share of both"], *rows]


def by_distance(summary: Summary) -> Table:
    """Lay out how many codes of the items in both differ, a header first."""
    common = summary["common"]
    rows = [[str(d), *_share(n, common)] for d, n in enumerate(summary["distances"])]
    return [["codes that differ", "items", "share of both"], *rows]


def moves(summary: Summary, *, briefly: bool = False) -> Table:
    """Lay out the prefixes that most items left, a header first.

    `briefly`, of the examples only the item ids.
    """
    rows = [
        [
            spelled(move["prefix"]),
            f"{move['left']:,} of {move['items']:,}",
            f"{move['left'] / move['items']:.1%}",
            f"{spelled(move['to'])} ({move['to_items']:,})",
            ", ".join(str(example["item_id"]) for example in move["examples"])
            if briefly
            else "; ".join(map(_example, move["examples"])),
        ]
        for move in summary["moves"]
    ]
    return [["old prefix", "left it", "share", "most to", "such as"], *rows]


def differing(summary: Summary) -> list[str]:
    """Say in what the tables differ as a whole, a sentence for each fact."""
    return [
        f"The tables differ in {_FACTS[name]}: {_said(old)} and {_said(new)}."
        for name, (old, new) in summary["differs"].items()
    ]


def notes(summary: Summary) -> list[str]:
    """Say in what the tables differ and what the figures are, a sentence each."""
    return [
        *differing(summary),
        "Churn is the share of the items in both tables whose whole SID changed; the items whose "
        "first codes changed are among those whose longer prefixes did.",
        "Codes that differ are counted place by place; a place that only one of the SIDs has "
        "counts as different.",
        "Items left a prefix when they had it and now have another one of that length.",
    ]


def html(summary: Summary) -> str:
    """Write the page; it loads nothing."""
    common = summary["common"]
    shares = [1.0 if common else 0.0, *(n / max(common, 1) for n in summary["changed"])]
    size = max(common, summary["added"], summary["retired"], 1)
    shares += [summary["added"] / size, summary["retired"] / size]
    parts = [f"<p>{escape(lead(summary))}</p>", html_bars(counts(summary), shares)]
    of_both = [n / max(common, 1) for n in summary["distances"]]
    parts += ["<h2>How many codes differ</h2>", html_bars(by_distance(summary), of_both)]
    if summary["moves"]:
        parts += ["<h2>Prefixes that most items left</h2>", html_table(moves(summary), prose=True)]
    parts += ["<h2>What the figures are</h2>", html_list(notes(summary))]
    return html_page("Changes of semantic IDs", parts)


def spelled(codes: list[int]) -> str:
    """Spell a SID or a prefix as commands take it: ``41,7,203``."""
    return ",".join(map(str, codes))


def _changed(depth: int, depths: int) -> str:
    if depth == depths:
        return f"whole SID changed ({depths} codes)"
    return "first code changed" if depth == 1 else f"first {depth} codes changed"


def _depths(changed: list[int]) -> list[tuple[int, int]]:
    return list(enumerate(changed, start=1))


def _share(count: int, common: int) -> list[str]:
    return [f"{count:,}", f"{count / common:.2%}" if common else "–"]


def _example(example: Mapping[str, Any]) -> str:
    title = example.get("title")
    name = f"{example['item_id']}{'' if title is None else f' {_short(str(title))}'}"
    return f"{name}: {spelled(example['old_sid'])} → {spelled(example['new_sid'])}"


def _short(title: str) -> str:
    return title if len(title) <= 60 else title[:59] + "…"


def _said(fact: Any) -> str:
    return spelled(fact) if isinstance(fact, list) else "none noted" if fact is None else str(fact)
