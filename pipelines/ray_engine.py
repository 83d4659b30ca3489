"""Ray Data as the engine of a job: hands ranges of rows to actors, which write the parts."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from semid.errors import SemidError
from semid.jobs.mapping import missing_parts, write_part
from semid.tables import ParquetTable


def over_ray(table: ParquetTable, mapper: Any, folder: Path, **how: Any) -> None:
    """Write ``mapper(rows)`` to parts in `folder`, as `semid.jobs.mapping.map_table` does."""
    todo = missing_parts(table, folder.absolute(), how["chunk_rows"])
    ray.init(include_dashboard=False, ignore_reinit_error=True)
    held = ray.put((table, mapper, how["rows"] or how["batch_rows"], os.getcwd()))  # sent once

    class Writer:
        def __init__(self) -> None:
            self.table, self.mapper, self.rows, home = ray.get(held)
            os.chdir(home)  # where relative paths begin

        def __call__(self, part: pa.Table) -> dict[str, list[str]]:
            span, path = tuple(part["span"][0].as_py()), Path(part["path"][0].as_py())
            try:
                list(write_part(self.table, self.mapper, span, path, self.rows))
            except SemidError as error:
                return {"problem": [str(error)]}
            return {"problem": [""]}

    parts = ray.data.from_items([{"span": list(span), "path": str(path)} for span, path in todo])
    pool = {"compute": ray.data.ActorPoolStrategy(min_size=1), "num_gpus": how["gpus"]}
    options = pool | {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": how["cpus"]}
    if problem := max(r["problem"] for r in parts.map_batches(Writer, **options).iter_rows()):
        raise SemidError(problem)
