"""Between a typer app and its user: exit codes, results on stdout, log lines on stderr."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from semid import __version__
from semid.errors import GateError, SemidError

_INTERRUPTED = 128 + signal.SIGINT  # what typer makes of Ctrl-C


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app and turn every failure into a sentence and an exit code.

    0, 2 for a user's mistake, 3 for a gate that is missed, 1 for a defect.
    """
    # Threads that wait asleep: spinning ones make a run many times slower beside other jobs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imports make objects by the hundred thousand and hardly any garbage; looking for it among them
    # takes a third of a second.
    gc.set_threshold(50_000)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    try:
        code = app(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except SemidError as error:
        log(f"error: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say_interrupted()
    except Exception as error:
        if _is_interrupt(error):
            _say_interrupted()
        _handle_other(error)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _say_interrupted() -> NoReturn:
    log(
        "interrupted: finished outputs are kept, and what this one had finished; "
        "run the same command again to go on"
    )
    sys.exit(2)


def _is_interrupt(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C is behind an error: Python 3.11 hides one that hits a class statement."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _handle_other(error: Exception) -> None:
    show_usage = getattr(error, "format_message", None)  # what typer raises for a bad command line
    if show_usage is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "semid"
        log(f"error: {show_usage()} (see {command} --help)")
        sys.exit(2)
    if isinstance(error, BrokenPipeError):  # whoever read stdout has seen enough
        sys.exit(128 + signal.SIGPIPE)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        log("error: the disk is full: what was to be printed could not be; free some space")
        sys.exit(2)
    if isinstance(error, PermissionError) and error.filename:
        log(f"error: no permission to use {error.filename}; change its permissions")
        sys.exit(2)
    traceback.print_exc()
    log(f"semid {__version__} failed; this is a defect, please report the lines above")
    sys.exit(1)


def state(result: Any) -> str:
    """Say whether a result was up to date, written, or written again and why."""
    if result.up_to_date:
        return "up to date"
    return "written" if result.reason is None else f"written again ({result.reason})"


def print_result(command: str, result: Any, as_json: bool) -> None:
    """Print what a job did, for a person or as JSON; verdicts go to stderr.

    Raises
    ------
    GateError
        With the sentence of the gate that the result misses, if it does.
    """
    log_verdicts(result)
    if as_json:
        print_json(result_fields(command, result))
    else:
        _print_for_people(command, result)
    if result.failure is not None:
        raise GateError(result.failure)


def print_steps(done: Sequence[tuple[Any, Any]], as_json: bool) -> None:
    """Print what came of a pipeline's steps: as JSON, or the tables of those that have one."""
    from semid.printing import TABLES

    if as_json:
        print_json({step.name: result_fields(step.command, result) for step, result in done})
        return

    for step, result in done:
        # What an assignment did is of interest here where gates were asked of it.
        if step.command in TABLES and (step.command != "assign" or "gates" in result.summary):
            typer.echo(TABLES[step.command](result.summary))


def _print_for_people(command: str, result: Any) -> None:
    from semid.printing import TABLES, describe

    if command in TABLES:
        typer.echo(TABLES[command](result.summary))
    elif result.summary:
        shown = {name: fact for name, fact in result.summary.items() if name != "verdicts"}
        typer.echo(describe(shown))
    if result.output is not None:
        typer.echo(f"{result.output}: {state(result)}")


def log_verdicts(result: Any) -> None:
    """Print what a training had to say of its levels and its data, a line each."""
    for about, sentence in result.summary.get("verdicts", {}).items():
        log(f"{about}: {sentence}")


def result_fields(command: str, result: Any) -> dict[str, Any]:
    """Return a result as plain values."""
    return {
        "command": command,
        "output": None if result.output is None else str(result.output),
        "up_to_date": result.up_to_date,
        "summary": result.summary,
    }


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def log(line: str) -> None:
    """Print a line on stderr."""
    typer.echo(line, err=True)
