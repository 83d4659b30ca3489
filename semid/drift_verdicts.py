"""Whether fresh items ask for a new model, and why: figures in, sentences out.

Each limit stands with its reason. Small samples are not judged by chance: a finding needs three
standard errors, or more than any random draw from the table shows, on top of its limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from semid.errors import SemidError
from semid.explained import another_encoder


@dataclass(frozen=True)
class Limits:
    """From where on a retrain is due.

    Attributes
    ----------
    max_error_ratio : quantisation error over the expected one. Unseen items of the same kind stay
        within a few per cent, since items held out of training are what is expected; a quarter
        more undoes what the last of three levels brings
    min_support : share of the new items whose prefix the table has, over the share of the table's
        own items that share theirs with another: 1 when new items fall where items are. Of all
        prefixes but the whole codes, which items had better not share; deliveries of one kind of
        items keep three quarters of it, kinds that the model never saw a half
    max_shift : Jensen-Shannon divergence beyond chance in bits, level by level; 0.1 is what comes
        of a fifth of the items on codes that the table does not use. Worth a sentence, but no
        retrain by itself: a delivery of one kind of items has several times as much
    max_changed : share of the known items with another first code; of so many the IDs that are
        live no longer say what they are
    """

    max_error_ratio: float = 1.25
    min_support: float = 0.75
    max_shift: float = 0.1
    max_changed: float = 0.1

    def __post_init__(self) -> None:
        bounds = {"max_error_ratio": 1.0, "min_support": 0.0, "max_shift": 0.0, "max_changed": 0.0}
        for name, least in bounds.items():
            value = getattr(self, name)
            most = float("inf") if name == "max_error_ratio" else 1.0
            if not least <= value <= most:
                raise SemidError(
                    f"{name} is {value}; it must be at least {least:g}"
                    + ("" if most > 1 else " and at most 1")
                )


@dataclass(frozen=True)
class Finding:
    """Something beyond its limit.

    Attributes
    ----------
    about : ``encoder``, ``error``, ``support``, ``changed`` or ``level 0`` and so on
    sentence : what, with its figures
    excess : how many times the limit
    due : whether it is a reason for a retrain, or only worth knowing
    """

    about: str
    sentence: str
    excess: float
    due: bool = True


def judge_drift(figures: Mapping[str, Any], limits: Limits) -> list[Finding]:
    """Return what is beyond its limit, reasons for a retrain first, the worst of them first.

    Parameters
    ----------
    figures : as `semid.drift.measure_drift`; beside them, where known, ``explained``, the share of
        the variance of fresh embeddings that codes give back, and ``explained_before``, of the
        model's own items
    limits : from where on a retrain is due
    """
    found = [
        *_error(figures["error"], limits.max_error_ratio),
        *_support(figures["prefixes"], figures["items"]["new"], limits.min_support),
        *_shifts(figures["levels"], limits.max_shift),
        *_changed(figures["changed"], figures["items"]["known"], limits.max_changed),
    ]
    found.sort(key=lambda finding: (not finding.due, -finding.excess))
    return [*_encoder(figures), *found]


def judged(figures: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return figures with what they say: ``verdict``, ``retrain_due`` and ``findings``."""
    findings = judge_drift(figures, limits)
    return {
        "verdict": verdict(findings, figures),
        "retrain_due": any(finding.due for finding in findings),
        "findings": [asdict(finding) for finding in findings],
        **figures,
    }


def verdict(findings: list[Finding], figures: Mapping[str, Any]) -> str:
    """Say in one sentence whether a retrain is due, and why."""
    reasons = [finding for finding in findings if finding.due]
    if not reasons:
        ratio, fresh = figures["error"]["ratio"], figures["items"]["fresh"]
        error = "" if ratio is None else f": their error is {ratio:.2f} times the expected one"
        return f"no retrain is due for these {fresh:,} items{error}"
    first, *others = reasons
    more = f" (the first of {len(reasons)} reasons)" if others else ""
    if first.about == "encoder":
        return f"check the encoder before a retrain: {first.sentence}"
    return f"a retrain is due because {first.sentence}{more}"


def _encoder(figures: Mapping[str, Any]) -> list[Finding]:
    now, before = figures.get("explained"), figures.get("explained_before")
    sentence = another_encoder(now, before, figures["items"]["fresh"])
    if sentence is None or now is None or before is None:
        return []
    return [Finding("encoder", sentence, before / max(now, 0.01))]


def _error(error: Mapping[str, Any], limit: float) -> list[Finding]:
    ratio = error["ratio"]
    if ratio is None or ratio <= limit or ratio - 1 <= error["noise"]:
        return []
    return [
        Finding(
            "error",
            f"fresh items have {ratio:.2f} times the expected quantisation error "
            f"({error['fresh']:.4g} where {error['expected']:.4g} is expected; limit {limit:g})",
            ratio / limit,
        )
    ]


def _support(prefixes: list[Mapping[str, Any]], new: int, limit: float) -> list[Finding]:
    found = []
    for at in prefixes[: max(len(prefixes) - 1, 1)]:
        now, usual = at["new_support"], at["table_support"]
        if now is None or now >= limit * usual:
            continue
        if usual - now <= 3 * sqrt(usual * (1 - usual) * (1 / new + 1 / at["table_support_of"])):
            continue
        codes = "code" if at["depth"] == 1 else f"{at['depth']} codes"
        found.append(
            Finding(
                "support",
                f"{now:.1%} of the new items begin with {'a ' if at['depth'] == 1 else ''}{codes} "
                f"that the table has, where {usual:.1%} of its own items share theirs with another "
                f"(limit {limit:g} of that)",
                limit * usual / max(now, 1e-3),
            )
        )
    return sorted(found, key=lambda finding: -finding.excess)[:1]


def _shifts(levels: list[Mapping[str, Any]], limit: float) -> list[Finding]:
    found = []
    for level, used in enumerate(levels):
        if used["shift"] <= limit:
            continue
        mover = used["movers"][0]
        found.append(
            Finding(
                f"level {level}",
                f"level {level} is used differently: {used['divergence']:.2f} bits of divergence "
                f"where chance makes {used['divergence_by_chance']:.2f} (limit {limit:g}); code "
                f"{mover['code']} went from {mover['before']:.1%} to {mover['now']:.1%} of the "
                "items",
                used["shift"] / max(limit, 1e-3),
                due=False,
            )
        )
    return found


def _changed(changed: list[float], known: int, limit: float) -> list[Finding]:
    if not changed or changed[0] <= limit + 3 * sqrt(limit * (1 - limit) / known):
        return []
    return [
        Finding(
            "changed",
            f"{changed[0]:.1%} of the {known:,} items that the table knows have another first code "
            f"now (limit {limit:.0%})",
            changed[0] / max(limit, 1e-3),
        )
    ]
