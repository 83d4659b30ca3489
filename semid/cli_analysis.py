"""The commands that say what to do before a training: what levels suit a catalog."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import Columns, ItemId, Json, Overwrite, read_names, read_sizes
from semid.terminal import print_result

analysis = typer.Typer()


@analysis.command()
def plan(
    embeddings: Annotated[str, typer.Argument(help="Embeddings: Parquet file, folder or glob.")],
    target_uniqueness: Annotated[
        float, typer.Option(help="Share of distinct raw IDs to reach.")
    ] = 0.95,
    levels: Annotated[
        list[str] | None,
        typer.Option(help="Levels to try too, such as 512,256,128; may be repeated."),
    ] = None,
    columns: Columns = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="JSON file for the plan.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Embeddings to draw at most.")] = 262_144,
    seed: Annotated[int, typer.Option(help="Draws another sample, fits from other rows.")] = 0,
    memory: Annotated[float, typer.Option(help="GiB for this and for the training.")] = 4.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict uniqueness, error, time and memory of levels, and recommend some.

    Example: semid plan out/embeddings.parquet --target-uniqueness 0.9
    """
    from semid.jobs.plan import plan as job

    result = job(
        embeddings,
        target_uniqueness=target_uniqueness,
        levels=[read_sizes(one) for one in levels or []],
        columns=["embedding"] if columns is None else read_names(columns),
        output=output,
        sample=sample,
        seed=seed,
        memory_gib=memory,
        item_id=item_id,
        overwrite=overwrite,
        show=True,
    )
    print_result("plan", result, as_json)
