"""The commands for the life of an ids table: what happens to IDs after they were assigned."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import Device, ItemId, Json, Overwrite
from semid.terminal import print_result

commands = typer.Typer()


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
