"""Figures as text for a terminal: values in, a string out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semid.diff_page import by_distance, counts, differing, lead, moves, spelled
from semid.metrics_table import findings, gates, rows

_VERIFIED = (
    *("rows", "retired", "compared", "not_in_embeddings", "only_in_embeddings"),
    *("excused", "outdated", "moved_from_forgotten"),
)

_USE = ("divergence", "divergence_by_chance", "variation", "perplexity_now", "perplexity_before")
_SUPPORT = ("support", "known_support", "new_support", "table_support", "new_prefix_rate")


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Lay out the figures of `semid evaluate`: findings, the worst first, the table, the gates."""
    lines = [*(f"- {line}" for line in findings(metrics)), "", aligned(rows(metrics))]
    return "\n".join([*lines, *gates(metrics.get("gates", ()))])


def gated_facts(summary: Mapping[str, Any]) -> str:
    """Lay out the summary of `semid assign` or `report`: facts, then the gates."""
    facts = {name: value for name, value in summary.items() if name != "gates"}
    return "\n".join([describe(facts), *gates(summary.get("gates", ()))])


def diff_table(summary: Mapping[str, Any]) -> str:
    """Lay out the summary of `semid diff`."""
    parts = [aligned(counts(summary)), aligned(by_distance(summary))]
    for depth in sorted({len(move["prefix"]) for move in summary["moves"]}):
        of_depth = [move for move in summary["moves"] if len(move["prefix"]) == depth]
        parts.append(aligned(moves({**summary, "moves": of_depth}, briefly=True), left=5))
    parts.append("\n".join([*differing(summary), lead(summary)]))
    return "\n\n".join(parts)


def probe_table(summary: Mapping[str, Any]) -> str:
    """Lay out the summary of `semid probe`; one seed has no range."""
    ranged = summary["seeds"] > 1
    header = ["model", "table", "Recall@10", *(["range"] if ranged else []), "NDCG@10"]
    lines = [
        [
            *(one["model"], one["table"] or "–", f"{one['recall@10']:.4f}"),
            *(["–".join(f"{end:.4f}" for end in one["range"])] if ranged else []),
            f"{one['ndcg@10']:.4f}",
            *("–" if one["ratio"] is None else f"{one['ratio']:.3f}", f"{one['seconds']:,.0f}"),
        ]
        for one in summary["probed"]
    ]
    table = aligned([[*header, "ratio", "seconds"], *lines], left=2)
    return "\n".join([table, "", *summary["lead"]])


def found_items(found: Mapping[str, Any]) -> str:
    """Lay out what `semid lookup` found."""
    items: Sequence[Mapping[str, Any]] = found["items"]
    if "prefix" in found:
        prefix, follow = spelled(found["prefix"]), found["next_codes"]
        more = f", {follow:,} next codes" if follow else ""
        lines = [f"prefix {prefix}: {found['count']:,} items{more}", *map(_in_short, items)]
    elif items or "sid" not in found:
        lines = list(map(_in_full, items))
    else:
        lines = [f"no item has the SID {spelled(found['sid'])}"]
    rest = found.get("count", 0) - sum(item["state"] == "live" for item in items)
    return "\n".join([*lines, f"  … and {rest:,} more"] if rest > 0 else lines)


def _in_short(item: Mapping[str, Any]) -> str:
    title = item.get("title")
    return f"  {spelled(item['sid'])}  {item['item_id']}{'' if title is None else f'  {title}'}"


def _in_full(item: Mapping[str, Any]) -> str:
    name = str(item["item_id"])
    if item["state"] == "absent":
        return f"{name}: not in the table"
    title = item.get("title")
    if item["state"] != "live":
        now = f", it is {spelled(item['sid_now'])} now" if "sid_now" in item else ""
        was = f"{name}: {item['state']} at {item['retired_at']}; its SID was {spelled(item['sid'])}"
        return f"{was}{now}" if title is None else f"{was}{now}\n  {title}"
    sid, sharing = item["sid"], item["sharing"]
    shared = (f"{spelled(sid[: d + 1])}: {count:,}" for d, count in enumerate(sharing))
    return "\n".join(
        [
            f"{name}: {spelled(sid)}",
            *([] if title is None else [f"  {title}"]),
            f"  raw codes {spelled(item['codes'])}",
            f"  items with the prefix {'; '.join(shared)}",
        ]
    )


def verification(summary: Mapping[str, Any]) -> str:
    """Lay out what `semid verify` found: every check with its violations, and the first of them."""
    facts = {
        "table": summary["table"],
        **{
            name.replace("_", " "): summary[name]
            for name in (*_VERIFIED, "policy", "levels")
            if summary.get(name) is not None
        },
    }
    lines = [describe(facts)]
    width = max(map(len, summary["checks"]))
    for check, count in summary["checks"].items():
        lines.append(f"  {check.ljust(width)}  {f'{count:,} wrong' if count else 'ok'}")
        for one in summary["examples"].get(check, []):
            item = "" if one["item_id"] is None else f", item {one['item_id']}"
            place = "" if one["at"] is None else f"{one['at']}{item}: "
            lines.append(f"    {place}{one['found']}, expected {one['expected']}")
    return "\n".join([*lines, *(f"not checked: {what}" for what in summary["not_checked"])])


def drift(summary: Mapping[str, Any]) -> str:
    """Lay out what `semid drift` measured, with the verdict and the findings below it."""
    items, error = summary["items"], summary["error"]
    used = [
        ("", "divergence", "by chance", "variation", "perplexity", "before"),
        *((f"level {level}", *_figures(of, _USE)) for level, of in enumerate(summary["levels"])),
    ]
    there = [
        ("prefixes that the table has", "fresh", "known", "new", "table's own", "new prefixes"),
        *((f"depth {of['depth']}", *_figures(of, _SUPPORT)) for of in summary["prefixes"]),
    ]
    lines = [", ".join(f"{name} {count:,}" for name, count in items.items())]
    lines += ["", aligned(used), "", aligned(there), ""]
    for name in ("ratio", "fresh", "expected", "known", "known_before", "new", "table_held_out"):
        if error[name] is not None:
            lines.append(f"quantisation error, {name.replace('_', ' ')}: {error[name]:.4g}")
    for name in ("explained", "explained_before"):
        if summary[name] is not None:
            lines.append(f"{name.replace('_', ' ')}: {summary[name]:.1%} of the variance")
    if summary["changed"]:
        shares = ", ".join(f"{share:.1%}" for share in summary["changed"])
        lines.append(f"known items whose first codes changed, by depth: {shares}")
    lines += ["", *(f"- {finding['sentence']}" for finding in summary["findings"])]
    return "\n".join([*lines, summary["verdict"]])


def _figures(of: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("-" if of[name] is None else f"{of[name]:.3f}" for name in names)


def plan_table(summary: Mapping[str, Any]) -> str:
    """Lay out the plan of `semid plan`: a row for each candidate, then what to do."""
    facts, spectrum, advice = (summary[n] for n in ("catalog", "spectrum", "recommendation"))
    looked = "all of them" if facts["counted"] else f"a sample of {facts['sample']:,}"
    lines = [
        f"{facts['items']:,} items x {facts['width']:,} dims; {facts['distinct']:,} embeddings "
        f"differ (uniqueness at most {facts['highest_uniqueness']:.1%}, up to "
        f"{facts['most_copied']:,} copies of one), fitted to and measured on {looked}",
        f"effective rank {spectrum['effective_rank']:.0f}, participation ratio "
        f"{spectrum['participation_ratio']:.0f}, "
        + ", ".join(
            f"{share:.0%} of the variance on {axes} {'axis' if axes == '1' else 'axes'}"
            for axes, share in spectrum["variance_of_first"].items()
        ),
    ]
    rows = [
        (
            *("levels", "", "bits", "raw uniqueness", "range", "error", "Gaussian", "largest"),
            *("fit", "rqvae", "memory"),
        ),
        *(_planned(one, one["levels"] == advice["levels"]) for one in summary["candidates"]),
    ]
    lines += ["", aligned(rows, left=2), ""]
    lines += [
        f"not tried, for the time it takes: --levels {','.join(map(str, levels))}"
        for levels in summary["left_out"]
    ]
    lines += [f"- {sentence}" for sentence in (advice["reason"], *advice["steps"], summary["note"])]
    if advice["levels"]:
        lines.append(f"semid train … --levels {','.join(map(str, advice['levels']))}")
    return "\n".join(lines)


def _planned(one: Mapping[str, Any], chosen: bool) -> tuple[str, ...]:
    low, high = one["uniqueness_range"]
    least, most = one["largest_group"]
    errors = ("-" if one[n] is None else f"{one[n]:.3f}" for n in ("error", "gaussian_error"))
    return (
        ",".join(map(str, one["levels"])),
        "recommended" if chosen else one["verdict"],
        f"{one['bits']:.0f}",
        f"{one['uniqueness']:.4f}",
        f"{low:.3f}-{high:.3f}",
        *errors,
        f"{least:,}" if least == most else f"{least:,}-{most:,}",
        *(_duration(one[f"{name}_seconds"]) for name in ("fit", "rqvae")),
        f"{max(one['fit_bytes'], one['rqvae_bytes']) / 2**30:.1f} GiB",
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Lay out rows of text in columns, a header first; the column `left` ends ragged, if any."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place in (0, left - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def describe(facts: Mapping[str, Any], indent: str = "") -> str:
    """Lay out nested values as ``name: value`` lines."""
    lines = []
    for name, value in facts.items():
        label = f"{indent}{name}:"
        if isinstance(value, Mapping) and value:
            lines += [label, describe(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(label)
            lines += [f"{indent}  {number}: {_inline(row)}" for number, row in enumerate(value)]
        else:
            lines.append(f"{label} {_plain(value)}")
    return "\n".join(lines)


def _inline(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in row.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and not value:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


# How the figures of a command are laid out; those of the others are described.
TABLES = {
    "evaluate": metrics_table,
    "assign": gated_facts,
    "report": gated_facts,
    "diff": diff_table,
    "verify": verification,
    "drift": drift,
    "plan": plan_table,
    "probe": probe_table,
}
