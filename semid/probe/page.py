"""A probe as Markdown and as one HTML page; summaries in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semid.pages import html_bars, html_list, html_page, html_table, markdown_table
from semid.probe.published import published_for
from semid.probe.summary import Difference, Spread

Summary = Mapping[str, Any]
Table = list[list[str]]

TITLES = {
    "generative": "Generative model: SIDs token by token",
    "sequential": "Sequential model: all items scored by their codes",
    "item-ids": "For reference: the sequential model with plain item ids",
}
_ALL = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")
_LAST = {"test": "last", "validation": "second last"}
_RANGED = ("recall@10", "ndcg@10")  # of which the range is said, too
_ONE_SEED = "how far seeds differ beside it, one seed does not say."
_GROUPS = ("head", "torso", "tail", "cold")


def overview(summaries: Sequence[Summary]) -> Table:
    """Lay out the figures over all targets, a header first."""
    header = ["table", *map(_named, _ALL), "to the first", "ratio", "seconds"]
    return [
        header,
        *(
            [
                s["table"] or "item ids",
                *(_figure(s["groups"]["all"][name], name in _RANGED) for name in _ALL),
                _difference(s["difference"]),
                "–" if s["ratio"] is None else f"{s['ratio']:.3f}",
                f"{s['seconds'].mean:,.0f}",
            ]
            for s in summaries
        ),
    ]


def by_group(summaries: Sequence[Summary]) -> Table:
    """Lay out the mean Recall@10 and NDCG@10 by how popular the target is, a header first."""
    header = ["table", *(f"{kind} {name}" for kind in ("R@10", "N@10") for name in _GROUPS)]
    return [
        header,
        *(
            [
                s["table"] or "item ids",
                *(_figure(s["groups"][group][name]) for name in _RANGED for group in _GROUPS),
            ]
            for s in summaries
        ),
    ]


def published(facts: Mapping[str, Any]) -> Table:
    """Lay out what is published of the same data, a header first; empty if nothing is known."""
    found = published_for(facts)
    # Whatever a paper did: a training that was cut is no model to hold against its figures.
    own = "; here settings of the preset were changed, see below" if facts["changed"] else ""
    header = ["published", "Recall@5", "NDCG@5", "Recall@10", "NDCG@10", "what differs"]
    rows = [
        [
            one.name,
            *("–" if value is None else f"{value:.4f}" for value in one[1:5]),
            one.differs + own,
        ]
        for one in found
    ]
    return [header, *rows] if rows else []


def lead(summaries: Sequence[Summary]) -> list[str]:
    """Say which table each model does best with, and how far the others are from the first."""
    said = []
    for model, own in _by_model(summaries).items():
        best, first = max(own, key=lambda s: s["groups"]["all"]["recall@10"].mean), own[0]
        others = [s for s in own if s is not best and s is not first]
        said.append(" ".join([_best(model, own, best), *_behind(first["table"], others)]))
    return said


def _best(model: str, own: Sequence[Summary], best: Summary) -> str:
    """Say which table a model does best with."""
    recall, first = best["groups"]["all"]["recall@10"].mean, own[0]
    if best["table"] is None:
        return f"Plain item ids have a Recall@10 of {recall:.4f}."
    if best is first:
        rest = f"{first['table']}{'; no table has more' if len(own) > 1 else ''}."
        return f"The {model} model has a Recall@10 of {recall:.4f} with {rest}"
    if not best["difference"].sure:
        return (
            f"With the {model} model no table is ahead of {first['table']} by more than the "
            f"choice of users may make: {best['table']} has {best['ratio']:.2f} times its "
            "Recall@10."
        )
    return (
        f"The {model} model does best with {best['table']}: a Recall@10 of {recall:.4f}, "
        f"{best['ratio']:.2f} times that with {first['table']}."
    )


def _behind(first: str, others: Sequence[Summary]) -> list[str]:
    """Say of other tables how far they are from the first, and whether users explain it."""
    apart = {s["table"]: s["difference"] for s in others}
    said = []
    for way, sign in (("ahead of", 1), ("behind", -1)):
        sure = [
            f"{table} ({d.mean:+.4f})" for table, d in apart.items() if d.sure and d.mean * sign > 0
        ]
        if sure:
            said.append(
                f"{way} {first} by more than the choice of users may make: {', '.join(sure)}"
            )
    if unsure := [table for table, d in apart.items() if not d.sure]:
        said.append(f"not told apart from {first} by these users: {', '.join(unsure)}")
    sentence = "; ".join(said)
    return [f"{sentence[0].upper()}{sentence[1:]}."] if said else []


def left_out(facts: Mapping[str, Any]) -> list[str]:
    """Say what of the interactions was not used, in a sentence; none if all were."""
    if not facts["unknown"]:
        return []
    used, unjudged = facts["interactions"] - facts["unknown"], facts["unjudged"]
    sentence = (
        f"{facts['unknown']:,} of the {facts['interactions']:,} interactions are of items without "
        f"an ID and were left out; {used:,}, of {facts['users']:,} users, were used"
    )
    if unjudged:
        sentence += (
            f"; {unjudged:,} {'user is' if unjudged == 1 else 'users are'} not judged, since their "
            f"{_LAST[facts['part']]} one, or all before it, was left out"
        )
    return [f"{sentence}."]


def notes(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> list[str]:
    """Say what the figures are, a sentence or two each."""
    counts = summaries[0]["groups"]
    targets = {group: round(figures["targets"].mean) for group, figures in counts.items()}
    recall = max(s["groups"]["all"]["recall@10"].mean for s in summaries)
    error = (recall * (1 - recall) / max(targets["all"], 1)) ** 0.5
    cold = f"{targets['cold']:,} of these have a cold item, which nobody met in training"
    several = facts["seeds"] > 1
    preset = f"preset {facts['preset']}"
    if facts["changed"]:
        preset += f" with {', '.join(facts['changed'])}, the preset's in brackets"
    return [
        f"{facts['items']:,} items, {facts['users']:,} users, {facts['interactions']:,} "
        f"interactions; {facts['seeds']} {'seeds' if several else 'seed'}, {preset}; on "
        f"{facts['machine']}.{' Mean (range) over seeds.' if several else ''}",
        f"Leave-one-out: {targets['all']:,} users are judged by their {_LAST[facts['part']]} "
        "interaction among all items, those that they met before included.",
        "Items that share a SID share its places: a figure is that of a random order among them.",
        f"Targets are {targets['head']:,} of the head (the tenth of the items that is met most), "
        f"{targets['torso']:,} of the torso (the next four tenths) and {targets['tail']:,} of the "
        f"tail; {cold}.",
        f"The largest Recall@10, {recall:.4f}, is that of {recall * targets['all']:,.0f} of these "
        f"users and has a standard error of {error:.4f} for the choice of users, who are the same "
        "for all tables.",
        f"R is recall, N NDCG. Weights: {_sizes(summaries)}.",
        "To the first: what the mean Recall@10 is more or less than the first table's, with the "
        "standard error of that over users, who are the same; "
        + ("seeds differ beside it, as the range says." if several else _ONE_SEED),
        "Seconds are those of one run: training and ranking."
        + (" Ranges are those of Recall@10 and NDCG@10 alone." if several else ""),
    ]


def markdown(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> str:
    """Write a probe as Markdown."""
    parts = ["# IDs judged by recommenders", " ".join([*lead(summaries), *left_out(facts)])]
    for model, own in _by_model(summaries).items():
        parts += [
            f"## {TITLES[model]}",
            markdown_table(overview(own)),
            markdown_table(by_group(own)),
        ]
    if beside := published(facts):
        parts += ["## Published", markdown_table(beside)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(summaries, facts))]) + "\n"


def html(summaries: Sequence[Summary], facts: Mapping[str, Any]) -> str:
    """Write a probe as one HTML page that loads nothing."""
    parts = [html_list([*lead(summaries), *left_out(facts)])]
    most = max(s["groups"]["all"]["recall@10"].mean for s in summaries) or 1.0
    scale = f"<p>Bars: the Recall@10, from 0 to {most:.4f}, which is the most of all models.</p>"
    for model, own in _by_model(summaries).items():
        shares = [s["groups"]["all"]["recall@10"].mean / most for s in own]
        parts += [f"<h2>{TITLES[model]}</h2>", scale, html_bars(overview(own), shares)]
        parts += ["<p>By how popular the target is:</p>", html_table(by_group(own))]
    if beside := published(facts):
        parts += ["<h2>Published</h2>", html_table(beside, prose=True)]
    parts += ["<h2>What the figures are</h2>", html_list(notes(summaries, facts))]
    return html_page("IDs judged by recommenders", parts)


def _by_model(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    found: dict[str, list[Summary]] = {}
    for summary in summaries:
        found.setdefault(summary["model"], []).append(summary)
    return found


def _sizes(summaries: Sequence[Summary]) -> str:
    """Say how large models are, which differ a little by the levels of a table."""
    own = {model: [s["parameters"] for s in some] for model, some in _by_model(summaries).items()}
    return ", ".join(f"{model} {max(sizes) / 1e6:.2f}M" for model, sizes in own.items())


def _named(name: str) -> str:
    measure, k = name.split("@")
    return f"{'N' if measure == 'ndcg' else 'R'}@{k}"


def _difference(found: Difference | None) -> str:
    return "–" if found is None else f"{found.mean:+.4f} ± {found.error:.4f}"


def _figure(found: Spread | None, ranged: bool = False) -> str:
    if found is None:
        return "–"
    mean, low, high = (f"{value:.4f}" for value in found)
    return mean if low == high or not ranged else f"{mean} ({low}–{high})"
