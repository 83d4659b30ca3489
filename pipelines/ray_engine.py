"""Ray Data as the engine of a job: it hands ranges of rows to actors, which write the parts.

An actor reads its range from the table, so that an error names file and row. A part is there when
it is whole, so that a killed run, of this engine or the local one, goes on with what is missing.
"""

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from semid.errors import SemidError, require_package
from semid.jobs.mapping import RowMap, write_table
from semid.outputs import translate_os_errors
from semid.tables import ParquetTable, prefetch


def over_ray(
    table: ParquetTable,
    mapper: RowMap,
    folder: Path,
    *,
    chunk_rows: int,
    batch_rows: int,
    cpus: float,
    gpus: float,
    rows: int | None,
    **_: Any,
) -> None:
    """Write ``mapper(rows)`` to part files in `folder`; see `semid.jobs.mapping.map_table`.

    Each actor takes `cpus` and `gpus` and maps `rows` at a time, the job's own number when None;
    there are as many actors as find room. RAY_ADDRESS names the cluster, whose machines must see
    the paths; without it this machine is one.
    """
    require_package("ray", extra="ray", purpose="the driver")
    import ray

    folder.mkdir(exist_ok=True)
    todo = []
    for number, (start, stop) in enumerate(table.chunks(chunk_rows)):
        part = folder.absolute() / f"part-{number:05d}.parquet"
        if not part.exists():
            todo.append({"part": str(part), "start": start, "stop": stop})
    if not todo:
        return
    # Actors cannot import this file.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]
    with ray.init(include_dashboard=False):
        has = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if not any(r.get("CPU", 0) >= cpus and r.get("GPU", 0) >= gpus for r in has):
            raise SemidError(
                f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs for an actor; "
                "lower --cpus or --gpus, or start such a machine first"
            )
        # By reference: an encoder can be large.
        sent = ray.put((table, mapper, rows or batch_rows, os.getcwd()))
        done = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
            PartWriter,
            fn_constructor_args=(sent,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            if row["problem"]:
                raise SemidError(row["problem"])


class PartWriter:
    """What an actor runs."""

    def __init__(self, sent: Any) -> None:
        import ray

        self.table, self.mapper, self.rows, home = ray.get(sent)
        if Path(home).is_dir():  # where relative paths begin
            os.chdir(home)

    def __call__(self, ranges: pa.Table) -> dict[str, list[str]]:
        """Write a part; what a user can put right comes back as a sentence, not as a trace."""
        (todo,) = ranges.to_pylist()
        part = Path(todo["part"])
        try:
            with translate_os_errors(part):
                mapped = self._mapped(todo["start"], todo["stop"])
                first = next(mapped)
                writing = part.parent.with_name(f"{uuid4().hex}.parquet")
                write_table(chain([first], mapped), writing, first.schema, {}).replace(part)
        except SemidError as error:
            return {"problem": [str(error)]}
        return {"problem": [""]}

    def _mapped(self, row: int, stop: int) -> Iterator[pa.RecordBatch]:
        read = self.table.batches(self.mapper.columns, rows=self.rows, start=row, stop=stop)
        for batch in prefetch(read):
            yield self.mapper(batch, where=self.table, first_row=row)
            row += batch.num_rows
