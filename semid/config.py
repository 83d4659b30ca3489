"""Settings: from TOML and ``--set`` to frozen dataclasses, refusing what nobody knows.

The dataclasses live beside what they configure; this file only turns plain mappings into them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tomllib
import typing
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from semid.errors import SemidError, display_path

T = TypeVar("T")

_WORDS = {
    "string_type": "it must be text",
    "dict_type": "it must be a table",
    "tuple_type": "it must be a list, such as [256, 256]",
}


def parse(kind: type[T], settings: Mapping[str, Any], *, where: str) -> T:
    """Turn plain settings into a dataclass, with nested ones and tuples.

    A key such as ``training.epochs`` stands for ``epochs`` in the table ``training``.

    Raises
    ------
    SemidError
        Naming `where`, the key and the valid keys for an unknown one, or the value for a bad one.
    """
    settings = _without_dots(settings, where)
    refuse_unknown(kind, settings, where=where)
    parsed: T = parse_value(kind, settings, where=where)
    return parsed


def _without_dots(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    merged = {key: copy.deepcopy(value) for key, value in settings.items() if "." not in str(key)}
    for key, value in settings.items():
        if "." in str(key):
            _lay(merged, key, value, f"{where}: '{key}'")
    return merged


def _lay(settings: dict[str, Any], key: str, value: Any, what: str) -> None:
    """Set ``a.b`` in nested settings; `what` names it in an error."""
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise SemidError(f"{what}: '{parent}' is not a table of settings")
    settings[last] = value


def parse_value(kind: Any, value: Any, *, where: str, key: str = "") -> Any:
    """Turn a plain value into the type `kind`; `key` is what the value is called.

    Raises
    ------
    SemidError
        Naming `where`, the key and the value that is of another type.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), SemidError):
            raise SemidError(f"{where}: {cause}") from error
        name = ".".join(filter(None, [key, *map(str, first["loc"])]))
        reason = _WORDS.get(first["type"], first["msg"].lower())
        if first["type"] == "sequence_str":
            parts = [part.strip() for part in str(first["input"]).split(",")]
            reason = f"it must be a list, such as {json.dumps(parts)}"
        raise SemidError(f"{where}: {name} = {first['input']!r} is not valid: {reason}") from error


def refuse_unknown(kind: Any, settings: Mapping[str, Any], *, where: str, at: str = "") -> None:
    """Raise `SemidError` for a key of plain settings that a dataclass does not have.

    Names `where` and the valid keys; `at` is the section that the settings are of, with a dot.
    """
    types = typing.get_type_hints(kind)
    for key, value in settings.items():
        if key not in types:
            raise SemidError(
                f"{where}: unknown setting '{at}{key}'; the valid ones are "
                f"{', '.join(at + name for name in types)}"
            )
        if dataclasses.is_dataclass(types[key]):
            if not isinstance(value, Mapping):
                raise SemidError(f"{where}: '{at}{key}' must be a table of settings, not {value!r}")
            refuse_unknown(types[key], value, where=where, at=f"{at}{key}.")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    SemidError
        When the file is missing or is not TOML; names the line.
    """
    shown = display_path(path)
    try:
        return _loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise SemidError(f"{shown} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SemidError(f"{shown} cannot be read as a settings file ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise SemidError(f"{shown} is not valid TOML: {error}") from error


def _loads(text: str) -> dict[str, Any]:
    """Read TOML; dates become text, which is what settings have."""
    found: dict[str, Any] = _without_dates(tomllib.loads(text))
    return found


def _without_dates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_dates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_dates(inner) for inner in value]
    return str(value) if isinstance(value, date | time) else value


def laid_over(
    base: Mapping[str, Any], settings: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """Return plain settings with others laid over them, those of a section one by one.

    Raises
    ------
    SemidError
        Naming `where`, when a key such as ``a.b`` goes through something that is not a table.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in _without_dots(settings, where).items():
        section = merged.get(key)
        if isinstance(section, Mapping) and isinstance(value, Mapping):
            merged[key] = {**section, **value}
        else:
            merged[key] = value
    return merged


def apply_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings with ``a.b=value`` overrides laid over them; values are TOML.

    A value that is not TOML is taken as a plain string, so that ``quantizer=rqkmeans`` works.

    Raises
    ------
    SemidError
        When an override has no ``=`` or goes through something that is not a table.
    """
    merged = copy.deepcopy(settings)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SemidError(f"--set {override!r}: expected key=value, such as training.epochs=50")
        try:
            value = _loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        _lay(merged, key.strip(), value, f"--set {override!r}")
    return merged


def as_plain(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as nested dicts and lists, ready for JSON."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in _nested(settings).items()
    }


def _nested(settings: Any) -> dict[str, Any]:
    return {
        field.name: as_plain(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(settings)
        for value in [getattr(settings, field.name)]
    }
