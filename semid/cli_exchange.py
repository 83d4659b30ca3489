"""The commands between ids tables and the files of other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import ItemId, Json, Output, Overwrite, read_sizes
from semid.terminal import print_result

exchange = typer.Typer()

_FORMATS = (
    "parquet, tokens-json, npz, csv, jsonl, safetensors, datasets, lcrec, grid, tiger, "
    "semantic-ids-llm, openonerec, torcheasyrec, forge or recbole; see docs/exports.md."
)
FormatName = Annotated[str, typer.Option("--format", "-f", help=_FORMATS)]


@exchange.command()
def export(
    ids: Annotated[str, typer.Argument(help="Ids table.")],
    format: FormatName,
    output: Output,
    width: Annotated[
        int | None, typer.Option(help="Codes that the consumer has at every level.")
    ] = None,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write an ids table in a format that other programs read.

    Example: semid export out/ids.parquet --format tokens-json --output out/tokens.json
    """
    from semid.jobs.export import export as job

    result = job(
        ids,
        format=format,
        output=output,
        width=width,
        item_id=item_id,
        overwrite=overwrite,
        show=True,
    )
    print_result("export", result, as_json)


@exchange.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(help="File of another program, or an export.")],
    format: FormatName,
    output: Output,
    items: Annotated[
        str | None, typer.Option(help="File with the item id of every row number.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Codewords per level; what is beyond them is a suffix.")
    ] = None,
    item_id: Annotated[str | None, typer.Option(help="What to call the item id column.")] = None,
    id_type: Annotated[
        str | None, typer.Option(help="What item ids are: string or int64; guessed of text.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an ids table of a file that another program wrote.

    Example: semid import Beauty.index.json -f lcrec --items Beauty.item2id -o out/ids.parquet
    """
    from semid.jobs.importing import import_ids as job

    result = job(
        file,
        format=format,
        output=output,
        items=items,
        levels=None if levels is None else read_sizes(levels),
        item_id=item_id,
        id_type=id_type,
        overwrite=overwrite,
        show=True,
    )
    print_result("import", result, as_json)
