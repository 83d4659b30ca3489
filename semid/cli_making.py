"""The commands from items to ids: embed, join, train, assign."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import (
    Columns,
    Config,
    Device,
    EncoderSet,
    Gates,
    ItemId,
    Json,
    ModelDir,
    Output,
    Overwrite,
    Set,
    read_given,
    read_names,
    read_sizes,
)
from semid.terminal import print_result

making = typer.Typer()


@making.command()
def embed(
    items: Annotated[str, typer.Argument(help="Items table: Parquet file, folder, glob or URI.")],
    output: Output,
    encoder: Annotated[
        str,
        typer.Option(
            help="lsa, features, cooccurrence, or a sentence-transformers (or saved encoder's) "
            "name or folder."
        ),
    ] = "lsa",
    interactions: Annotated[
        str | None,
        typer.Option(
            help="Who met which item (cooccurrence). The last exclude_last (2) of every user are "
            "left out."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Text columns, separated by commas.")] = None,
    template: Annotated[
        str | None, typer.Option(help='Such as "Title: {title}. Brand: {brand}."')
    ] = None,
    numeric: Annotated[str | None, typer.Option(help="Numeric columns (features).")] = None,
    category: Annotated[str | None, typer.Option(help="Category columns (features).")] = None,
    lists: Annotated[str | None, typer.Option(help="Columns of category lists (features).")] = None,
    dates: Annotated[str | None, typer.Option(help="Date columns (features).")] = None,
    config: Config = None,
    set_: EncoderSet = None,
    item_id: ItemId = "item_id",
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core if it helps.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn items into embeddings.

    Example: semid embed data/items.parquet --output out/embeddings.parquet --encoder lsa
    --text title,brand,categories
    """
    from semid.jobs.embed import embed as job

    settings = read_given(config, set_)
    named = {"numeric": numeric, "category": category, "lists": lists, "dates": dates, "text": text}
    settings |= {key: read_names(value) for key, value in named.items() if value is not None}
    settings |= {} if template is None else {"template": template}
    result = job(
        items,
        output=output,
        encoder=encoder,
        settings=settings,
        interactions=interactions,
        item_id=item_id,
        workers=workers,
        overwrite=overwrite,
        show=True,
    )
    print_result("embed", result, as_json)


@making.command()
def join(
    embeddings: Annotated[
        list[str],
        typer.Argument(help="Embeddings tables, each name=path or a path, which names it."),
    ],
    output: Output,
    memory: Annotated[float, typer.Option(help="GiB for sorting tables in another order.")] = 1.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put the embeddings of several tables side by side, a column each, to be fused.

    Example: semid join text=out/embeddings.parquet behaviour=out/behaviour.parquet
    --output out/text_behaviour.parquet
    """
    from semid.jobs.join import join as job

    result = job(
        embeddings,
        output=output,
        item_id=item_id,
        memory_gib=memory,
        overwrite=overwrite,
        show=True,
    )
    print_result("join", result, as_json)


@making.command()
def train(
    embeddings: Annotated[str, typer.Argument(help="Embeddings: Parquet file, folder or glob.")],
    output: Output,
    quantizer: Annotated[
        str | None,
        typer.Option(help="rqvae, vqvae, fsq, vae, autoencoder, rqkmeans, kmeans, pq, opq."),
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Codewords per level: 256,256,256.")] = None,
    columns: Columns = None,
    interactions: Annotated[
        str | None,
        typer.Option(
            help="Who met which item: items met together get like codes. The last "
            "contrast.exclude_last (2) of every user are left out."
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(help="Model to go on from, with its settings unless they are given."),
    ] = None,
    config: Config = None,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a run exactly.")] = None,
    device: Device = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3, and write nothing, below the floor.")
    ] = False,
    track: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or mlflow; may be repeated.")
    ] = None,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a quantizer on embeddings.

    Example: semid train out/embeddings.parquet --output out/model --levels 256,256,256
    """
    from semid.jobs.train import train as job

    settings = read_given(config, set_)
    settings |= {} if quantizer is None else {"quantizer": quantizer}
    settings |= {} if seed is None else {"seed": seed}
    settings |= {} if levels is None else {"levels": read_sizes(levels)}
    settings |= {} if columns is None else {"columns": read_names(columns)}
    result = job(
        embeddings,
        output=output,
        settings=settings,
        interactions=interactions,
        init_from=init_from,
        item_id=item_id,
        device=device,
        strict=strict,
        track=track or [],
        overwrite=overwrite,
        show=True,
    )
    print_result("train", result, as_json)


@making.command()
def assign(
    embeddings: Annotated[str, typer.Argument(help="Embeddings: Parquet file, folder or glob.")],
    model: ModelDir,
    output: Output,
    collisions: Annotated[
        str, typer.Option(help="suffix, reassign, none, or sinkhorn.")
    ] = "suffix",
    suffix_order: Annotated[
        str, typer.Option(help="Column for suffixes to go by: popularity:desc.")
    ] = "",
    max_suffix: Annotated[int, typer.Option(help="Most items of a raw ID; 0: any.")] = 0,
    overflow: Annotated[
        str, typer.Option(help="What reassign does without a free ID: error or suffix.")
    ] = "error",
    items: Annotated[
        str | None, typer.Option(help="Items table that has the column of --suffix-order.")
    ] = None,
    previous: Annotated[
        str | None, typer.Option(help="Ids table whose IDs stay; only new items get one.")
    ] = None,
    gate: Gates = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write the next version of the store --output.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Publish without keeping the version before.")
    ] = False,
    keep: Annotated[int, typer.Option(help="Versions that stay in the store; 0: all.")] = 0,
    move_drifted: Annotated[
        float | None, typer.Option(help="Drift from which an item gets another ID.")
    ] = None,
    reclaim_after: Annotated[
        float | None, typer.Option(help="Days after which a retired ID is free again.")
    ] = None,
    device: Device = "cpu",
    memory: Annotated[float, typer.Option(help="GiB for resolving collisions.")] = 0.5,
    workers: Annotated[int, typer.Option(help="Processes; one uses all cores too.")] = 1,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Give every item its semantic ID.

    Example: semid assign out/embeddings.parquet --model out/model --output out/ids.parquet
    """
    from semid.jobs.assign import assign as job

    result = job(
        embeddings,
        model=model,
        output=output,
        collisions=collisions,
        suffix_order=suffix_order,
        max_suffix=max_suffix,
        overflow=overflow,
        items=items,
        previous=previous,
        gates=gate or [],
        publish=publish,
        fresh=fresh,
        keep=keep,
        move_drifted=move_drifted,
        reclaim_after=reclaim_after,
        item_id=item_id,
        device=device,
        memory_gib=memory,
        workers=workers,
        overwrite=overwrite,
        show=True,
    )
    print_result("assign", result, as_json)
