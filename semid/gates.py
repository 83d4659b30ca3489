"""Gates: what figures must be, such as ``perplexity_ratio.min >= 0.6``; pure functions on values.

A gate is a path, an operator (``>=``, ``>``, ``<=``, ``<`` or ``==``) and a number. A path names a
figure by keys joined with dots; of a list it takes the ``min``, ``max`` or ``mean``, or a place
from 0: ``levels.0.dead <= 3``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from semid.errors import SemidError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(r"\s*([A-Za-z_0-9.]+)\s*(>=|<=|==|>|<)\s*(\S+)\s*")
_OVER_LISTS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
}


class Gate(NamedTuple):
    """What one figure must be: the text it was given as, its parts."""

    text: str
    path: str
    operator: str
    limit: float


class Judged(NamedTuple):
    """A gate held against its figure, which is None when it is not known."""

    gate: str
    value: float | None
    passed: bool


def parse_gates(gates: Sequence[str] = ()) -> list[Gate]:
    """Read gates.

    Raises
    ------
    SemidError
        For one that is no gate, saying what one looks like.
    """
    return [_parse(text) for text in gates]


def _parse(text: str) -> Gate:
    found = _GATE.fullmatch(text)
    try:
        limit = float(found[3]) if found else float("nan")
    except ValueError:
        limit = float("nan")
    if found is None or limit != limit:
        raise SemidError(
            f"the gate {text!r} cannot be read; write a figure, one of "
            f"{', '.join(_OPERATORS)} and a number, such as 'uniqueness >= 0.9'"
        )
    return Gate(" ".join(found.groups()), found[1], found[2], limit)


def judge(figures: Mapping[str, Any], gates: Sequence[Gate]) -> list[Judged]:
    """Hold gates against figures; one whose figure is not known (null) fails.

    Raises
    ------
    SemidError
        When a path names no figure, listing names that are near.
    """
    found = []
    for gate in gates:
        value = _value(figures, gate)
        passed = value is not None and _OPERATORS[gate.operator](value, gate.limit)
        found.append(Judged(gate.text, value, passed))
    return found


def require_names(schema: Mapping[str, Any], gates: Sequence[Gate]) -> None:
    """Raise `SemidError` for a gate that names no figure, before there are any.

    Parameters
    ----------
    schema : figures of anything that have the names of those to come; a tuple stands for a list of
        any length, its first for all
    """
    for gate in gates:
        value: Any = schema
        for name in gate.path.split("."):
            if isinstance(value, tuple) and name.isdigit():
                value = value[0] if value else None
            else:
                value = _step(value, name, gate, schema)
            if value is None:
                break
        if value is not None and not _is_figure(value):
            raise _unknown(gate, schema)


def sentence(judged: Sequence[Judged]) -> str | None:
    """Say which gates failed, with their values, and which held; None when all did."""
    failed = [one for one in judged if not one.passed]
    if not failed:
        return None
    held = [f"{one.gate} ({_shown(one.value)})" for one in judged if one.passed]
    said = "; ".join(f"{one.gate}, but it is {_shown(one.value)}" for one in failed)
    kept = f"; held: {', '.join(held)}" if held else ""
    return f"{len(failed)} of {len(judged)} gates failed: {said}{kept}"


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.6g}"


def _value(figures: Mapping[str, Any], gate: Gate) -> float | None:
    value: Any = figures
    for name in gate.path.split("."):
        value = _step(value, name, gate, figures)
        if value is None:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unknown(gate, figures)
    return value


def _step(value: Any, name: str, gate: Gate, figures: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if isinstance(value, list) and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    if isinstance(value, list) and name in _OVER_LISTS and all(map(_is_figure, value)):
        known = [one for one in value if one is not None]
        # Of figures that are not all known, nothing is.
        return _OVER_LISTS[name](known) if known and len(known) == len(value) else None
    raise _unknown(gate, figures)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _unknown(gate: Gate, figures: Mapping[str, Any]) -> SemidError:
    names = sorted(figure_names(figures))
    last = gate.path.split(".")[-1]
    near = [name for name in names if last in name.split(".") or name.split(".")[0] == gate.path]
    near = [*get_close_matches(gate.path, names, 5, 0.5), *near]
    shown = list(dict.fromkeys(near))[:8] or [name for name in names if "." not in name]
    return SemidError(
        f"the gate '{gate.text}' names no figure: '{gate.path}' is not among them; near are "
        f"{', '.join(shown)}"
    )


def figure_names(figures: Mapping[str, Any]) -> set[str]:
    """Return the paths that a gate may name; of lists of figures by their least, most and mean."""
    return set(_names(figures, ""))


def _names(value: Any, path: str) -> list[str]:
    before = f"{path}." if path else ""
    if isinstance(value, Mapping):
        return [name for key, inner in value.items() for name in _names(inner, f"{before}{key}")]
    if isinstance(value, list):
        if value and all(map(_is_figure, value)):
            return [f"{before}{name}" for name in _OVER_LISTS]
        return [name for i, one in enumerate(value) for name in _names(one, f"{before}{i}")]
    return [path] if _is_figure(value) else []
