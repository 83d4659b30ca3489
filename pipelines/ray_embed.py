"""`semid embed` over a Ray cluster: the same job, the same rows out.

python pipelines/ray_embed.py items/ --encoder out/embeddings.encoder --output out/embeddings
"""

from functools import partial
from typing import Annotated

import typer
from ray_engine import over_ray

from semid.jobs.embed import embed
from semid.terminal import print_result, run_app

app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    items: Annotated[str, typer.Argument(help="Items: Parquet file, folder or glob.")],
    encoder: Annotated[str, typer.Option(help="Saved encoder, or a sentence-transformers name.")],
    output: Annotated[str, typer.Option(help="Embeddings to write.")],
    item_id: Annotated[str, typer.Option(help="Name of the item id column.")] = "item_id",
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per actor.")] = 0.9,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per actor.")] = 0.0,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows mapped at a time.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another output.")] = False,
) -> None:
    engine = partial(over_ray, cpus=cpus, gpus=gpus, rows=rows)
    result = embed(
        items, encoder=encoder, output=output, item_id=item_id, overwrite=overwrite, engine=engine
    )
    print_result("embed", result, as_json=False)


if __name__ == "__main__":
    run_app(app, "ray_embed.py")
