"""Ray Data as the engine of a job: maps a table's rows over a cluster, in order."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from semid.errors import SemidError
from semid.tables import ParquetTable


def over_ray(table: ParquetTable, mapper: Any, folder: Path, *, gpus: float, **how: Any) -> None:
    """Write ``mapper(rows)`` to part files in `folder`; see `semid.jobs.mapping.map_table`.

    `gpus` is what each actor takes of one. RAY_ADDRESS names the cluster, whose machines must see
    the paths; without it this machine is one.
    """

    class Actor:  # defined in here, it travels to the cluster by value
        def __call__(self, rows: pa.Table) -> pa.Table:
            return mapper(rows)

    ray.init(include_dashboard=False, ignore_reinit_error=True)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    # Half a CPU each: actors that take all of them leave none to read with, and hang.
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=int(ray.cluster_resources()["CPU"]))
    options = {"batch_format": "pyarrow", "batch_size": how["batch_rows"], "compute": pool}
    rows = ray.data.read_parquet([str(Path(file).absolute()) for file in table.files])
    rows = rows.select_columns(list(mapper.columns))
    try:
        rows = rows.map_batches(Actor, num_cpus=0.5, num_gpus=gpus, **options)
        rows.write_parquet(str(folder.absolute()))
    except ray.exceptions.RayError as error:
        known = re.search(r"SemidError: (.*)", str(error))
        raise (SemidError(known[1]) if known else error) from error
