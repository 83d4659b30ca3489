"""The commands for the life of an ids table: what happens to IDs after they were assigned."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import Device, ItemId, Json, Output, Overwrite
from semid.terminal import print_result

commands = typer.Typer()


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
