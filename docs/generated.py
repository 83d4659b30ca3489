"""What the site takes from the code: commands, metrics, the library's names, jobs, docstrings.

A page asks for it by a line such as ``<!-- commands -->``, which a text in Markdown replaces.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import typer

import semid
import semid.metrics
import semid.probe
import semid.recsys
from semid.cli import app
from semid.jobs.run import COMMANDS as JOBS

_ENTRY = re.compile(r"(\w+(?:, \w+)*) : (.*)")


def commands() -> str:
    """Return a section for every command: what it does, its example, arguments and options."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="semid")
    return "\n".join(
        _command(name, group.get_command(context, name)) for name in group.list_commands(context)
    )


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    about, _, example = command.help.partition("Example:")
    usage = " ".join(["semid", name, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.params]
    lines = [f"- `{what}` {_as_text(help)}" for what, help in filter(None, records)]
    parts = [
        f"## semid {name}",
        about.strip(),
        f"```text\n{usage}\n```",
        "\n".join(lines),
        f"```bash\n{' '.join(example.split())}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _as_text(help: str) -> str:
    """Return a line of help as Markdown, in which ``<number>`` would be a tag."""
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]+)", r"`\1`", help.replace("<", "&lt;"))


def metrics() -> str:
    """Return a section for every module of `semid.metrics`, with its functions and classes."""
    modules = sorted(found.name for found in pkgutil.iter_modules(semid.metrics.__path__))
    return "\n".join(
        f"## {name.capitalize()}\n\n" + _rest(f".. automodule:: semid.metrics.{name}\n   :members:")
        for name in modules
    )


def library() -> str:
    """Return an entry for every public name of the package."""
    return _names_of(semid)


def recsys() -> str:
    """Return an entry for every public name of `semid.recsys`."""
    return _names_of(semid.recsys)


def probe() -> str:
    """Return an entry for every public name of `semid.probe`."""
    return _names_of(semid.probe)


def _names_of(package: ModuleType) -> str:
    names = [name for name in package.__all__ if not name.startswith("__")]
    classes = [name for name in names if isinstance(getattr(package, name), type)]
    functions = [name for name in names if name not in classes]
    of = package.__name__
    return "\n".join(
        [_rest(f".. autofunction:: {of}.{name}") for name in functions]
        + [_rest(f".. autoclass:: {of}.{name}\n   :members:") for name in classes]
    )


def jobs() -> str:
    """Return an entry for the job of every command that a pipeline can run."""
    names = [f"{job.__module__}.{job.__name__}" for job in JOBS.values()]
    return "\n".join(_rest(f".. autofunction:: {name}") for name in names)


def _rest(directive: str) -> str:
    return f"```{{eval-rst}}\n{directive}\n```\n"


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "metrics": metrics,
    "library": library,
    "recsys": recsys,
    "probe": probe,
    "jobs": jobs,
}


def fill(_app: Any, _page: str, source: list[str]) -> None:
    """Put the generated texts where a page asks for them."""
    for name, make in PAGES.items():
        mark = f"<!-- {name} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, make())


def as_rest(lines: list[str]) -> list[str]:
    """Turn a docstring's sections, and its lists of ``name : text``, into field lists."""
    found: list[str] = []
    for paragraph in "\n".join(lines).strip().split("\n\n"):
        found += [*_paragraph(paragraph.splitlines()), ""]
    return found


def _paragraph(lines: list[str]) -> list[str]:
    title = lines[0] if len(lines) > 1 and set(lines[1]) == {"-"} else ""
    listed = lines[2:] if title else lines
    named = [line for line in listed if not line.startswith(" ")]
    if not title and not all(map(_ENTRY.fullmatch, named)):
        return lines
    items: list[str] = []
    for line in listed:
        entry = _ENTRY.fullmatch(line)
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(f"- **{entry[1]}**: {entry[2]}" if entry else f"- **{line}**:")
    return [f":{title}:", *(f"   {item}" for item in items)] if title else items


def _docstring(*event: Any) -> None:
    lines: list[str] = event[-1]
    lines[:] = as_rest(lines)


def _skip(_app: Any, _what: str, _name: str, member: Any, *_: Any) -> bool | None:
    """Leave out what named tuples say of each of their fields."""
    return str(getattr(member, "__doc__", "")).startswith("Alias for field number") or None


def setup(app: Any) -> dict[str, bool]:
    """Connect to a build."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
