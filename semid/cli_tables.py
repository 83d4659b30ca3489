"""The commands for the life of an ids table: what happens to IDs after they were assigned."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import Device, ItemId, Json, ModelDir, Overwrite
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
