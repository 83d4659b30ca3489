"""`semid assign` over a Ray cluster: the same job, the same rows out.

python pipelines/ray_assign.py out/embeddings --model out/model --output out/ids

The cluster maps embeddings to raw codes; collisions are resolved here, out of core.
"""

from functools import partial
from typing import Annotated

import typer
from ray_engine import over_ray

from semid.jobs.assign import assign
from semid.terminal import print_result, run_app

app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    embeddings: Annotated[str, typer.Argument(help="Embeddings: Parquet file, folder or glob.")],
    model: Annotated[str, typer.Option(help="Model directory.")],
    output: Annotated[str, typer.Option(help="Ids table to write.")],
    collisions: Annotated[str, typer.Option(help="suffix or none.")] = "suffix",
    item_id: Annotated[str, typer.Option(help="Name of the item id column.")] = "item_id",
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per actor.")] = 0.9,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per actor.")] = 0.0,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows mapped at a time.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another output.")] = False,
) -> None:
    engine = partial(over_ray, cpus=cpus, gpus=gpus, rows=rows)
    job = partial(assign, device="auto" if gpus else "cpu", overwrite=overwrite, engine=engine)
    result = job(embeddings, model=model, output=output, collisions=collisions, item_id=item_id)
    print_result("assign", result, as_json=False)


if __name__ == "__main__":
    run_app(app, "ray_assign.py")
