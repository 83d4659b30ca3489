"""What a report reads of ``metrics.json``, held against what a file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER, _MAYBE = "a number", "a number or null"
_COUNT, _TEXT, _ID = "a count", "text", "an item id"
_ITEM = {"item_id": _ID}
# By name what stands there; in a list what stands in all its places, in a tuple in each.
_SHAPE: dict[str, Any] = {
    "items": _COUNT,
    "embedded": _COUNT,
    "uniqueness": _NUMBER,
    "levels": [{"size": _COUNT, "used": _COUNT, "perplexity": _NUMBER}],
    "collisions": {
        "groups": _COUNT,
        "share_in_groups": _NUMBER,
        "largest_group": _COUNT,
        "harmful": {
            "pairs": _COUNT,
            "threshold": _NUMBER,
            "share": _MAYBE,
            "examples": [{"items": (_ITEM, _ITEM), "cosine": _NUMBER}],
        },
    },
    "train_error": _MAYBE,
    "held_out_error": _MAYBE,
    "fidelity": {
        "depths": [{"train_error": _MAYBE, "held_out_error": _MAYBE}],
        "worst": [{"item": _ITEM, "error": _NUMBER}],
    },
    "findings": [{"severity": _TEXT, "about": _TEXT, "says": _TEXT, "advice": _TEXT}],
}
# What may be left out.
_OPTIONAL: dict[str, Any] = {"baseline": {"levels": [{}]}}
_MOST_SHOWN = 40


def first_wrong(figures: Mapping[str, Any], version: int) -> str | None:
    """Say what a report cannot read of figures, naming the first; None when it can read them.

    Parameters
    ----------
    figures : of any JSON object
    version : the ``format_version`` that they are to have
    """
    if "format_version" not in figures:
        return "it has no format_version"
    if figures["format_version"] != version:
        found = _shown(figures["format_version"])
        return f"its format_version is {found}, that of this semid is {version}"
    there = {name: shape for name, shape in _OPTIONAL.items() if name in figures}
    return _wrong(figures, _SHAPE | there, "")


def _wrong(value: Any, shape: Any, at: str) -> str | None:
    if isinstance(shape, str):
        return None if _is_of(value, shape) else f"its {at} is {_shown(value)}, not {shape}"
    if isinstance(shape, dict):
        return _wrong_object(value, shape, at)
    if not isinstance(value, list):
        return f"its {at} is {_shown(value)}, not a list"
    if isinstance(shape, tuple) and len(value) != len(shape):
        return f"its {at} is a list, not one of {len(shape)}"
    return _first(value, shape[:1] * len(value) if isinstance(shape, list) else shape, at)


def _wrong_object(value: Any, shape: Mapping[str, Any], at: str) -> str | None:
    if not isinstance(value, dict):
        return f"its {at} is {_shown(value)}, not an object"
    before = f"{at}." if at else ""
    for name, inner in shape.items():
        if name not in value:
            return f"it has no {before}{name}"
        if (wrong := _wrong(value[name], inner, f"{before}{name}")) is not None:
            return wrong
    return None


def _first(values: Sequence[Any], shapes: Sequence[Any], at: str) -> str | None:
    found = (
        _wrong(value, shape, f"{at}.{place}")
        for place, (value, shape) in enumerate(zip(values, shapes, strict=True))
    )
    return next((wrong for wrong in found if wrong is not None), None)


def _is_of(value: Any, kind: str) -> bool:
    if kind == _MAYBE:
        return value is None or _is_of(value, _NUMBER)
    if isinstance(value, bool):
        return False
    if kind == _NUMBER:  # NaN and infinity, which JSON of Python may hold, are none
        return isinstance(value, int | float) and abs(value) < 1e300
    if kind == _COUNT:
        return isinstance(value, int) and value >= 0
    return isinstance(value, str | int if kind == _ID else str)


def _shown(value: Any) -> str:
    """Show a value of JSON in a sentence."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
