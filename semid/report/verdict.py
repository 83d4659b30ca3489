"""The verdict that a report opens with: findings and gates of `semid evaluate`, or its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from semid.evaluation.findings import OFTEN_SHARED, RUINED, SHARED, Finding
from semid.fit_config import TrainingConfig
from semid.gates import Judged, sentence

# Findings that are seen without asking for more.
_AT_ONCE = 4

NOTHING = "nothing that was looked at is amiss"
NOTHING_IN_CODES = (
    "nothing is amiss in the codes' use and in how many items share them, which is all that was "
    "looked at"
)

_GRADES = {"bad": "bad", "warning": "warn"}


def findings_of(metrics: Mapping[str, Any]) -> list[Finding]:
    """Read the findings of ``metrics.json``, the worst first."""
    fields = Finding._fields
    return [Finding(*(str(one.get(f, "")) for f in fields)) for one in metrics.get("findings", ())]


def own_findings(figures: Mapping[str, Any]) -> list[Finding]:
    """Judge codes alone, of a table without its model, by the limits of `semid evaluate`.

    Parameters
    ----------
    figures : of `semid.evaluation.codes.code_figures`

    Returns
    -------
    found : the worst first; empty when all is well
    """
    found: list[tuple[bool, float, Finding]] = []
    floor = TrainingConfig().utilization_floor
    for level, use in enumerate(figures["levels"]):
        ratio = use["perplexity_ratio"]
        if ratio < floor:
            says = (
                f"level {level} uses {use['perplexity']:.0f} of {use['size']:,} codes effectively"
                f" ({use['dead']:,} are never used)"
            )
            advice = "take fewer codewords there, or semid compare other quantizers"
            severity = "bad" if ratio < RUINED else "warning"
            one = Finding(severity, f"level {level}", says, advice)
            found.append((severity != "bad", ratio / floor, one))
    unique, largest = figures["uniqueness"], figures["collisions"]["largest_group"]
    if 1 - unique > SHARED:
        says = f"raw codes tell {unique:.1%} of the items apart; up to {largest:,} share one"
        advice = "look at the worst collisions below; another level or more codewords separate more"
        severity = "bad" if 1 - unique > OFTEN_SHARED else "warning"
        one = Finding(severity, "uniqueness", says, advice)
        found.append((severity != "bad", unique, one))
    return [finding for *_, finding in sorted(found, key=lambda one: one[:2])]


def of_gates(gates: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return the finding that gates failed, with what they found; none where all held."""
    failed = sentence([Judged(**gate) for gate in gates])
    if failed is None:
        return []
    about = "gate" if len(gates) == 1 else "gates"
    return [Finding("bad", about, failed, "see the findings and figures below for what to change")]


def verdict_html(findings: Sequence[Finding], unknown: str, *, nothing: str = NOTHING) -> str:
    """Lay out findings, the first the largest.

    Parameters
    ----------
    findings : the worst first
    unknown : what is not known, as HTML
    nothing : what to say without findings
    """
    if not findings:
        return f'<div class="verdict good first"><p>{_sentence(nothing)}</p></div>{unknown}'
    cards = [_card(finding, place == 0) for place, finding in enumerate(findings)]
    page = "\n".join(cards[:_AT_ONCE])
    if others := cards[_AT_ONCE:]:
        said = f"{len(others)} more {'finding' if len(others) == 1 else 'findings'}"
        page += f"<details><summary>{said}</summary>{''.join(others)}</details>"
    return page + unknown


def _card(finding: Finding, first: bool) -> str:
    grade = _GRADES.get(finding.severity, "")
    about = " · ".join(filter(None, (finding.severity, finding.about)))
    advice = f"<p>→ {_sentence(finding.advice)}</p>" if finding.advice else ""
    return (
        f'<div class="verdict {grade}{" first" if first else ""}"><p class="about">{escape(about)}'
        f"</p><p><b>{_sentence(finding.says)}</b></p>{advice}</div>"
    )


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return escape(text if text.endswith((".", "!", "?")) else f"{text}.")


def gates_html(gates: Sequence[Mapping[str, Any]]) -> str:
    """Lay out gates with what they found; empty without any."""
    if not gates:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(gate.get('gate')))}</td><td>{escape(spoken(gate.get('value')))}</td>"
        f'<td class="{"passed" if gate.get("passed") else "failed"}">'
        f"{'passed' if gate.get('passed') else 'failed'}</td></tr>"
        for gate in gates
    )
    return (
        "<table><thead><tr><th>gate</th><th>found</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def spoken(value: Any) -> str:
    """Say a plain value of a summary."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        shown = ", ".join(map(spoken, value[:12]))
        return shown if len(value) <= 12 else f"{shown}, … ({len(value):,} in all)"
    if isinstance(value, Mapping):
        return ", ".join(f"{spelled(name)} {spoken(one)}" for name, one in value.items())
    return str(value)


def spelled(name: Any) -> str:
    """Spell the name of a figure."""
    return str(name).replace("_", " ")
