"""The command line: each command parses, calls one job, and prints what came of it.

Progress and log lines go to stderr; stdout carries the result, as JSON with ``--json``. Exit code
0, 2 for a user's mistake, 3 for a gate that was missed (a strict training's floor, say), 1 for a
defect of semid's.
"""

from __future__ import annotations

from typing import Annotated

import typer

from semid import __version__
from semid.cli_analysis import analysis
from semid.cli_exchange import exchange
from semid.cli_making import making
from semid.cli_options import (
    ItemId,
    Json,
    Overwrite,
)
from semid.cli_tables import commands
from semid.errors import GateError
from semid.terminal import (
    log,
    log_verdicts,
    print_json,
    print_steps,
    run_app,
    state,
)

app = typer.Typer(
    name="semid",
    help="Semantic IDs for recommender systems: embed, train, assign, export, evaluate.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
whole = typer.Typer()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"semid {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@whole.command()
def run(
    pipeline: Annotated[str, typer.Argument(help="TOML file of steps.")],
    item_id: Annotated[
        str | None, typer.Option("--item-id", help="Id column of steps that do not name one.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Run a pipeline; steps that are up to date are skipped.

    Example: semid run pipelines/demo.toml
    """
    from semid.jobs.run import run as job

    done = []
    try:
        for step, result in job(pipeline, item_id=item_id, overwrite=overwrite, show=True):
            done.append((step, result))
            log(f"{step.name:<12} {state(result)}: {result.output}")
            log_verdicts(result)
    except GateError:  # its sentence comes last, below the table that shows why
        print_steps(done, as_json)
        raise
    print_steps(done, as_json)
    if as_json:
        return
    typer.echo("wrote:" if not all(r.up_to_date for _, r in done) else "everything is up to date:")
    for _, result in done:
        typer.echo(f"  {result.output}")


@whole.command()
def check(
    table: Annotated[str, typer.Argument(help="Any of semid's tables: file, folder or glob.")],
    item_id: ItemId = "item_id",
    as_json: Json = False,
) -> None:
    """Say what is wrong with a table, without doing anything. Exit code 2 if something is.

    Example: semid check out/embeddings.parquet
    """
    from semid.jobs.inspect import check as job
    from semid.printing import describe

    found = job(table, item_id=item_id, show=True)
    if as_json:
        print_json({"facts": found.facts, "problems": found.problems})
    else:
        typer.echo(describe(found.facts))
        for problem in found.problems or ["nothing is wrong"]:
            typer.echo(f"- {problem}")
    if found.problems:
        raise typer.Exit(2)


@whole.command()
def show(
    path: Annotated[str, typer.Argument(help="Model, saved encoder, table or other output.")],
    item_id: ItemId = "item_id",  # as in every command
    as_json: Json = False,
) -> None:
    """Say what a model directory, a saved encoder, a table or another output is, and what made it.

    Example: semid show out/model
    """
    from semid.jobs.inspect import show as job
    from semid.printing import describe

    facts = job(path, item_id=item_id)
    if as_json:
        print_json(facts)
    else:
        typer.echo(describe(facts))


app.add_typer(making)
app.add_typer(whole)
app.add_typer(exchange)
app.add_typer(commands)
app.add_typer(analysis)


def main() -> None:
    """Run the command line."""
    run_app(app, "semid")
