"""The commands that judge: levels before a training, IDs after it, quantizers side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from semid.cli_options import (
    Columns,
    Config,
    Device,
    Gates,
    ItemId,
    Json,
    Output,
    Overwrite,
    Set,
    read_given,
    read_names,
    read_sizes,
)
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


@analysis.command()
def evaluate(
    ids: Annotated[str, typer.Argument(help="Ids table.")],
    embeddings: Annotated[str, typer.Option(help="What it was assigned from, in any order.")],
    output: Output,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model that assigned it; else less is measured."),
    ] = None,
    items: Annotated[str | None, typer.Option(help="Items table, for titles of examples.")] = None,
    title: Annotated[str, typer.Option(help="Its column with titles.")] = "title",
    categories: Annotated[
        str | None, typer.Option(help="Its column with categories, or paths of them.")
    ] = None,
    interactions: Annotated[
        str | None, typer.Option(help="Who met which item: measures how codes follow users.")
    ] = None,
    gate: Gates = None,
    baseline: Annotated[
        bool, typer.Option(help="Fit and measure FAISS residual k-means beside it.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of nulls and samples.")] = 0,
    unlike_below: Annotated[
        float, typer.Option(help="Cosine, less the mean, of colliding items that are unlike.")
    ] = 0.5,
    memory: Annotated[float, typer.Option(help="GiB for joining tables of other orders.")] = 1.0,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure an ids table: utilization, uniqueness, fidelity, structure, and what to change.

    Example: semid evaluate out/ids.parquet --embeddings out/embeddings.parquet --model out/model
    --output out/metrics.json
    """
    from semid.jobs.evaluate import evaluate as job

    result = job(
        ids,
        embeddings=embeddings,
        model=model,
        output=output,
        items=items,
        title=title,
        categories=categories,
        interactions=interactions,
        gates=gate or [],
        baseline=baseline,
        seed=seed,
        unlike_below=unlike_below,
        memory_gib=memory,
        item_id=item_id,
        overwrite=overwrite,
        show=True,
    )
    print_result("evaluate", result, as_json)


@analysis.command()
def report(
    ids: Annotated[str, typer.Argument(help="Ids table.")],
    output: Output,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that assigned it.")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="What it was assigned from, in any order.")
    ] = None,
    items: Annotated[str | None, typer.Option(help="Items table, for what follows.")] = None,
    title: Annotated[str, typer.Option("--title", "--title-column", help="Titles.")] = "title",
    image: Annotated[
        str | None, typer.Option("--image-column", help="URLs of images; loaded only when asked.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url-column", help="URLs of items' pages.")] = None,
    categories: Annotated[
        str | None, typer.Option(help="Items' categories, or paths of them, to measure by.")
    ] = None,
    interactions: Annotated[
        str | None, typer.Option(help="Who met which item, to measure and to colour by.")
    ] = None,
    color_by: Annotated[
        str | None, typer.Option(help="Columns to colour prefixes by, as category,price.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="metrics.json of semid evaluate; else it is measured.")
    ] = None,
    gate: Gates = None,
    against: Annotated[str | None, typer.Option(help="Another ids table, side by side.")] = None,
    against_metrics: Annotated[
        str | None, typer.Option(help="metrics.json of semid evaluate of that table.")
    ] = None,
    projection: Annotated[str, typer.Option(help="Of the map: tsne or pca.")] = "tsne",
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page to see an ids table in: verdict, plots, the tree of IDs, worst cases.

    Example: semid report out/ids.parquet --model out/model --embeddings out/embeddings.parquet
    --items data/items.parquet --color-by categories,price --output out/report.html
    """
    from semid.jobs.report import report as job

    result = job(
        ids,
        output=output,
        model=model,
        embeddings=embeddings,
        items=items,
        title=title,
        image=image,
        url=url,
        categories=categories,
        interactions=interactions,
        color_by=[] if color_by is None else read_names(color_by),
        metrics=metrics,
        gates=gate or [],
        against=against,
        against_metrics=against_metrics,
        projection=projection,
        item_id=item_id,
        overwrite=overwrite,
        show=True,
    )
    print_result("report", result, as_json)


@analysis.command()
def compare(
    embeddings: Annotated[str, typer.Argument(help="Embeddings: Parquet file, folder or glob.")],
    output: Output,
    quantizers: Annotated[
        str | None, typer.Option(help="Names, separated by commas; all of note when left out.")
    ] = None,
    levels: Annotated[str, typer.Option(help="Codewords per level.")] = "256,256,256",
    columns: Columns = None,
    flat: Annotated[
        int, typer.Option(help="Codewords of quantizers with one level; 0: the first level's.")
    ] = 0,
    seeds: Annotated[int, typer.Option(help="Runs of each quantizer.")] = 3,
    interactions: Annotated[
        str | None,
        typer.Option(
            help="Who met which item: measures all on users' steps from one item to the next, and "
            "adds rqvae-contrast, which learns from it, unless --quantizers are named."
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    device: Device = "auto",
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fit quantizers to the same items and measure them side by side.

    Example: semid compare out/embeddings.parquet --output out/comparison
    --quantizers rqvae,rqkmeans,opq,random
    """
    from semid.jobs.compare import compare as job

    settings = read_given(config, set_)
    settings |= {} if columns is None else {"columns": read_names(columns)}
    result = job(
        embeddings,
        output=output,
        quantizers=None if quantizers is None else read_names(quantizers),
        levels=read_sizes(levels),
        flat=flat,
        seeds=seeds,
        settings=settings,
        interactions=interactions,
        item_id=item_id,
        device=device,
        overwrite=overwrite,
        show=True,
    )
    print_result("compare", result, as_json)


@analysis.command()
def probe(
    ids: Annotated[list[str], typer.Argument(help="Ids tables of one catalog; path or name=path.")],
    interactions: Annotated[str, typer.Option(help="Who met which item, in order.")],
    output: Output,
    preset: Annotated[
        str, typer.Option(help="Sizes: tiny for two CPU cores, paper for a GPU.")
    ] = "tiny",
    models: Annotated[
        str | None, typer.Option(help="Some of generative,sequential,item-ids; all when left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each model on each table.")] = 3,
    part: Annotated[
        str, typer.Option(help="What is ranked: test, or validation to choose settings by.")
    ] = "test",
    config: Config = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as generative.epochs=20.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="Runs at once, which share cores and GPUs.")] = 1,
    item_id: ItemId = "item_id",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Judge IDs by recommenders: train the same small models on each table, and rank.

    Example: semid probe out/ids.parquet other=out/other.parquet --interactions interactions.parquet
    --output out/probe
    """
    from semid.jobs.probe import probe as job

    result = job(
        ids,
        interactions=interactions,
        output=output,
        preset=preset,
        models=None if models is None else read_names(models),
        seeds=seeds,
        settings=read_given(config, set_),
        part=part,
        item_id=item_id,
        device=device,
        workers=workers,
        overwrite=overwrite,
        show=True,
    )
    print_result("probe", result, as_json)
