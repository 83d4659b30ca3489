"""The figures of `semid evaluate` as text: what is found, then a table, then the gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Paths of figures, what they are called, and in how many places they are shown.
_FIGURES = (
    ("uniqueness", "uniqueness", 4),
    ("collisions.uniqueness_ceiling", "uniqueness the embeddings allow", 4),
    ("collisions.share_in_groups", "items that share a raw ID", 4),
    ("collisions.harmful.share", "colliding pairs that are unlike", 4),
    ("held_out_error", "held-out error", 4),
    ("train_error", "training error", 4),
    ("structure.jaccard", "neighbours kept (Jaccard@k)", 4),
    ("structure.rank_biased_overlap", "rank-biased overlap", 4),
    ("structure.prefix_purity.0", "neighbours with the same first code", 4),
    ("structure.prefix_purity.1", "neighbours with the same two", 4),
    ("structure.categories.depths.0.purity", "category purity of first codes", 4),
    ("structure.categories.depths.1.purity", "category purity of two codes", 4),
    ("behaviour.prefix_recall.0", "steps that stay on the first code", 4),
    ("behaviour.hit_rate.embeddings", "next item near: embeddings", 4),
    ("behaviour.hit_rate.dequantised", "next item near: decoded codes", 4),
    ("change.moved", "items moved by the policy", 0),
)
# Where the standard error of a figure stands.
_ERRORS = {
    "structure.jaccard": "structure.standard_errors.jaccard",
    "structure.rank_biased_overlap": "structure.standard_errors.rank_biased_overlap",
    "structure.prefix_purity.0": "structure.standard_errors.prefix_purity.0",
    "structure.prefix_purity.1": "structure.standard_errors.prefix_purity.1",
    "behaviour.prefix_recall.0": "behaviour.standard_errors.prefix_recall.0",
    "behaviour.hit_rate.embeddings": "behaviour.hit_rate.standard_errors.embeddings",
    "behaviour.hit_rate.dequantised": "behaviour.hit_rate.standard_errors.dequantised",
}
_CHANCE = {
    "uniqueness": "uniqueness.random",
    "behaviour.hit_rate.dequantised": "behaviour.hit_rate",
    "structure.categories.depths.0.purity": "structure.purity.0",
    "structure.categories.depths.1.purity": "structure.purity.1",
}


# What is not looked at without being asked for.
_NEEDS = {
    "quantizer": "what codes decode to, and how levels were trained (--model)",
    "structure.categories": "categories (--categories, a column of --items)",
    "behaviour": "users' steps (--interactions)",
}


def rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table: the model, the baseline if there is one, and what chance gives."""
    columns = [metrics] + ([metrics["baseline"]] if "baseline" in metrics else [])
    found = [("", *(column["quantizer"] or "codes" for column in columns), "by chance")]
    found.append(("items", *(f"{column['items']:,}" for column in columns), ""))
    if len(columns) > 1 and metrics["embedded"] < metrics["items"]:
        # The baseline knows the items with embeddings alone: what stands beside it is of these.
        columns[0] = _of_embedded(metrics)
        found[1] = ("items with embeddings", *(f"{metrics['embedded']:,}" for _ in columns), "")
    for level, chance in enumerate(metrics["nulls"]["levels"]):
        used = [column["levels"][level] for column in columns]
        name, usual = f"level {level}", chance["perplexity_ratio"] * used[0]["size"]
        found += [
            (f"{name}: used codes", *(f"{u['used']:,} of {u['size']:,}" for u in used), ""),
            (f"{name}: perplexity", *(f"{u['perplexity']:.1f}" for u in used), f"{usual:.1f}"),
            (
                f"{name}: codes left per prefix",
                *(f"{u['branching']['effective']:.1f}" for u in used),
                "",
            ),
        ]
    for path, name, places in _FIGURES:
        is_error = path in ("held_out_error", "train_error") and metrics["fidelity"]["depths"]
        if _at(metrics, path) is None and not is_error:
            continue
        shown = [_shown(column, path, places) for column in columns]
        chance = _at(metrics["nulls"], _CHANCE.get(path, path))
        found.append((name, *shown, "" if chance is None else f"{chance:,.{places}f}"))
    return found


def _shown(figures: Mapping[str, Any], path: str, places: int) -> str:
    """Return a figure, and of one of a sample how far it may be off, 19 times of 20."""
    value, error = _at(figures, path), _at(figures, _ERRORS.get(path, ""))
    if value is None:
        return ""
    return f"{value:,.{places}f}" + ("" if error is None else f" ±{2 * error:.{places}f}")


def _of_embedded(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    like = metrics["of_embedded"]
    return {**metrics, **like, "collisions": {**metrics["collisions"], **like["collisions"]}}


def _at(figures: Any, path: str) -> float | None:
    for name in path.split("."):
        if isinstance(figures, Mapping):
            figures = figures.get(name)
        elif isinstance(figures, list) and int(name) < len(figures):
            figures = figures[int(name)]
        else:
            return None
    return figures if isinstance(figures, int | float) else None


def findings(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for every gate that failed and everything that is found, the worst first."""
    for one in metrics.get("gates", ()):
        if not one["passed"]:
            yield f"bad: {next(gates([one]))}"
    for one in metrics["findings"]:
        advice = f"; {one['advice']}" if one["advice"] else ""
        yield f"{one['severity']}: {one['about']}: {one['says']}{advice}"
    if not metrics["findings"]:
        yield "no figure is beyond the threshold of a finding (docs/evaluate.md has them)"
    if unseen := [said for path, said in _NEEDS.items() if not _there(metrics, path)]:
        yield f"not looked at: {', '.join(unseen)}"


def _there(metrics: Any, path: str) -> bool:
    for name in path.split("."):
        metrics = metrics.get(name) if isinstance(metrics, Mapping) else None
    return metrics is not None


def gates(judged: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for every gate, with its figure."""
    for one in judged:
        value = "not known" if one["value"] is None else f"{one['value']:.6g}"
        yield f"gate {'held' if one['passed'] else 'FAILED'}: {one['gate']} (it is {value})"
