"""The commands for the life of an ids table: what happens to IDs after they were assigned."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import Device, ItemId, Json, ModelDir, Output, Overwrite
from semid.errors import SemidError
from semid.terminal import print_json, print_result

commands = typer.Typer()

Items = Annotated[str | None, typer.Option("--items", help="Items table to take titles from.")]
Title = Annotated[str, typer.Option("--title", help="Its column with them.")]


@commands.command()
def diff(
    old: Annotated[str, typer.Argument(help="Ids table.")],
    new: Annotated[str, typer.Argument(help="The ids table that followed it.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the changes and a page.")
    ] = None,
    max_churn: Annotated[
        float | None, typer.Option(help="Exit with 3 if a larger share of items changed.")
    ] = None,
    items: Items = None,
    title: Title = "title",
    memory: Annotated[float, typer.Option(help="GiB for joining the tables.")] = 1.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what changed between two ids tables, from first codes to whole IDs.

    Example: semid diff out/old.parquet out/ids.parquet --output out/changes --max-churn 0.02
    """
    from semid.jobs.diff import diff as job

    result = job(
        old,
        new,
        output=output,
        max_churn=max_churn,
        items=items,
        title=title,
        item_id=item_id,
        memory_gib=memory,
        overwrite=overwrite,
        show=True,
    )
    print_result("diff", result, as_json)


@commands.command()
def lookup(
    table: Annotated[str, typer.Argument(help="Ids table.")],
    item: Annotated[list[str] | None, typer.Option(help="Item id; may be repeated.")] = None,
    sid: Annotated[str | None, typer.Option(help="Whole ID: 41,7,203,0.")] = None,
    prefix: Annotated[str | None, typer.Option(help="First codes: 41,7.")] = None,
    limit: Annotated[int, typer.Option(help="Items to list of an ID or a prefix.")] = 20,
    items: Items = None,
    title: Title = "title",
    item_id: ItemId = "item_id",
    as_json: Json = False,
) -> None:
    """Find the ID of an item, the item of an ID, or the items with a prefix.

    Example: semid lookup out/ids.parquet --prefix 41,7 --items data/items.parquet
    """
    from semid.jobs.lookup import lookup as job
    from semid.printing import found_items

    found = job(
        table,
        item=item,
        sid=None if sid is None else _codes("--sid", sid),
        prefix=None if prefix is None else _codes("--prefix", prefix),
        limit=limit,
        items=items,
        title=title,
        item_id=item_id,
    )
    if as_json:
        print_json(found)
    else:
        typer.echo(found_items(found))


@commands.command()
def align(
    model: Annotated[str, typer.Argument(help="Model directory, of a new training.")],
    to: Annotated[str, typer.Option(help="Model directory whose codes are to be kept.")],
    embeddings: Annotated[str, typer.Option(help="Of items that both models know.")],
    output: Output,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option(help="Processes; one uses all cores too.")] = 1,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Renumber a new model's codes to agree with an old model's; the model is the same otherwise.

    Example: semid align out/new --to out/model --embeddings out/embeddings.parquet
    --output out/aligned
    """
    from semid.jobs.align import align as job

    result = job(
        model,
        to=to,
        embeddings=embeddings,
        output=output,
        item_id=item_id,
        device=device,
        workers=workers,
        overwrite=overwrite,
        show=True,
    )
    print_result("align", result, as_json)


@commands.command()
def retire(
    ids: Annotated[str, typer.Argument(help="Store of an ids table.")],
    items: Annotated[str, typer.Argument(help="Parquet table or .txt file of their ids.")],
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Pass over items that were never in it.")
    ] = False,
    keep: Annotated[int, typer.Option(help="Versions that stay, and the one before; 0: all.")] = 0,
    item_id: ItemId = "item_id",
    as_json: Json = False,
) -> None:
    """Take items out of a store; nobody else gets their IDs.

    Example: semid retire out/ids out/gone.parquet
    """
    from semid.jobs.retire import retire as job

    done = job(ids, items, item_id=item_id, ignore_unknown=ignore_unknown, keep=keep, show=True)
    print_result("retire", done, as_json)


@commands.command()
def rollback(
    ids: Annotated[str, typer.Argument(help="Store of an ids table.")],
    to: Annotated[str | None, typer.Option(help="Version, as v0007; else the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Make an earlier version of a store the current one again.

    Example: semid rollback out/ids
    """
    from semid.jobs.retire import rollback as job

    done = job(ids, to=to)
    if as_json:
        print_json({"command": "rollback", "summary": done})
    else:
        typer.echo(f"{ids}: {done['after']} is current again, was {done['before']}")


@commands.command()
def verify(
    ids: Annotated[str, typer.Argument(help="Ids table.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that assigned it.")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="What it was assigned from, in any order.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Parquet file of all violations.")
    ] = None,
    device: Device = "cpu",
    memory: Annotated[float, typer.Option(help="GiB for grouping and joining rows.")] = 1.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List what is wrong with an ids table, its codes made anew. Exit code 3 if something is.

    Example: semid verify out/ids.parquet --model out/model --embeddings out/embeddings.parquet
    """
    from semid.jobs.verify import verify as job

    result = job(
        ids,
        model=model,
        embeddings=embeddings,
        output=output,
        item_id=item_id,
        device=device,
        memory_gib=memory,
        overwrite=overwrite,
        show=True,
    )
    print_result("verify", result, as_json)


@commands.command()
def drift(
    ids: Annotated[str, typer.Argument(help="Ids table.")],
    model: ModelDir,
    embeddings: Annotated[str, typer.Option(help="Of fresh items: new, known, or both.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="JSON file of figures and findings.")
    ] = None,
    max_error_ratio: Annotated[
        float, typer.Option(help="Quantisation error over the expected one.")
    ] = 1.25,
    min_support: Annotated[
        float, typer.Option(help="New items on prefixes of the table, over the table's own.")
    ] = 0.75,
    max_shift: Annotated[
        float, typer.Option(help="Divergence of a level's codes, in bits, worth a sentence.")
    ] = 0.1,
    max_changed: Annotated[
        float, typer.Option(help="Share of known items whose first code changes.")
    ] = 0.1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 when a retrain is due.")
    ] = False,
    device: Device = "cpu",
    memory: Annotated[float, typer.Option(help="GiB for grouping and joining rows.")] = 1.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say whether fresh items have drifted from an ids table so far that a retrain is due.

    Example: semid drift out/ids.parquet --model out/model --embeddings out/fresh.parquet
    """
    from semid.jobs.drift import drift as job

    result = job(
        ids,
        model=model,
        embeddings=embeddings,
        output=output,
        max_error_ratio=max_error_ratio,
        min_support=min_support,
        max_shift=max_shift,
        max_changed=max_changed,
        strict=strict,
        item_id=item_id,
        device=device,
        memory_gib=memory,
        overwrite=overwrite,
        show=True,
    )
    print_result("drift", result, as_json)


def _codes(option: str, text: str) -> list[int]:
    try:
        return [int(code) for code in text.split(",")]
    except ValueError as error:
        raise SemidError(
            f"{option} {text!r}: expected whole numbers separated by commas, such as 41,7,203"
        ) from error
