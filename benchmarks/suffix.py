"""Unique SIDs for 10,000,000 items, Parquet to Parquet: semid against a pandas group-by.

    python benchmarks/suffix.py --rows 10000000

The table is random and seeded: string ids in shuffled order, three levels of 256 codes. Each
contender runs in a process of its own, so that its peak memory is its own. Asked of 10 million
rows: 15 s and 2.5 GiB, and the same bytes as pandas; of more: 4 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEVELS = (256, 256, 256)
CHUNK = 1 << 18
FIRST_ROWS, SECONDS, MOST_GIB, MORE_GIB = 10_000_000, 15.0, 2.5, 4.0


def generate(source: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa

    from semid.id_columns import SID, code_column, ids_schema
    from semid.streams import ROW_GROUP_ROWS, open_writer

    schema = ids_schema(pa.string())
    schema = schema.remove(schema.get_field_index(SID))
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(rows)
    with open_writer(source, schema) as writer:
        for start in range(0, rows, CHUNK):
            ids = [f"item-{i:09d}" for i in shuffled[start : start + CHUNK].tolist()]
            columns = [
                pa.array(ids),
                code_column(rng.integers(0, LEVELS, (len(ids), 3), dtype=np.int32)),
                pa.array(rng.random(len(ids), dtype=np.float32)),
                pa.array(rng.random(len(ids), dtype=np.float32)),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema), ROW_GROUP_ROWS)


def with_semid(source: Path, target: Path, memory_bytes: int) -> None:
    import pyarrow as pa

    from semid.collisions import CollisionConfig, Resources, Surroundings, resolve
    from semid.collisions.checking import repeated
    from semid.id_columns import SID, code_matrix, ids_schema
    from semid.streams import ROW_GROUP_ROWS, open_writer, prefetch
    from semid.tables import open_table

    table = open_table(source)
    found = resolve(
        lambda: table.batches(table.schema.names),
        CollisionConfig("suffix"),
        Resources(target.parent, memory_bytes),
        Surroundings(LEVELS),
    )
    with open_writer(target, ids_schema(pa.string())) as writer:
        for batch in prefetch(found.rows):
            writer.write_batch(batch, ROW_GROUP_ROWS)
    written = open_table(target)
    sids = (code_matrix(batch.column(0), SID) for batch in written.batches([SID]))
    assert repeated(sids, LEVELS, target.parent, memory_bytes) is None


def with_pandas(source: Path, target: Path, _: int) -> None:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from semid.id_columns import code_column, ids_schema
    from semid.streams import ROW_GROUP_ROWS, open_writer

    table = pq.read_table(source)
    codes_nl = table.column("codes").combine_chunks().flatten().to_numpy().reshape(-1, 3)
    frame = pd.DataFrame(codes_nl, columns=["a", "b", "c"])
    frame["item_id"] = table.column("item_id").to_pandas()
    rank_n = frame.sort_values("item_id").groupby(["a", "b", "c"]).cumcount().sort_index()
    sid_nl = np.column_stack([codes_nl, rank_n.to_numpy()])
    table = table.add_column(2, "sid", code_column(sid_nl)).cast(ids_schema(pa.string()))
    with open_writer(target, table.schema) as writer:
        writer.write_table(table, ROW_GROUP_ROWS)


CONTENDERS = {"semid": with_semid, "pandas": with_pandas}


def in_own_process(*arguments: str) -> dict[str, float]:
    """Run this file in a process of its own; return its seconds and peak memory."""
    command = [sys.executable, __file__, *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    return result


def compare(rows: int, memory_bytes: int, *, alone: bool) -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        common = [f"--rows={rows}", f"--memory-bytes={memory_bytes}", f"--folder={folder}"]
        in_own_process("--contender=generate", *common)
        size = Path(folder, "raw.parquet").stat().st_size
        print(f"{rows:,} rows, {len(LEVELS)} levels of {LEVELS[0]} codes, {size / 2**20:,.0f} MiB")
        for name in ["semid"] if alone else CONTENDERS:
            results[name] = run = in_own_process(f"--contender={name}", *common)
            print(
                f"{name:>8}: {run['seconds']:6.1f} s  {rows / run['seconds']:12,.0f} rows/s  "
                f"peak {run['peak_gib']:.2f} GiB"
            )
        most = MOST_GIB if rows <= FIRST_ROWS else MORE_GIB
        ours = results["semid"]
        held = ours["peak_gib"] <= most and (rows > FIRST_ROWS or ours["seconds"] <= SECONDS)
        if alone:
            require(held=held)
            return
        same = subprocess.run(["cmp", f"{folder}/semid.parquet", f"{folder}/pandas.parquet"])
        print(f"outputs are {'identical' if same.returncode == 0 else 'DIFFERENT'}")
    ours, theirs = results["semid"], results["pandas"]
    print(
        f"semid takes {ours['seconds'] / theirs['seconds']:.2f} of the time and "
        f"{ours['peak_gib'] / theirs['peak_gib']:.2f} of the memory"
    )
    require(held=held and same.returncode == 0)


def require(*, held: bool) -> None:
    if not held:
        raise SystemExit("missed: time, memory or the bytes")


def run_one(contender: str, folder: Path, rows: int, memory_bytes: int) -> None:
    started = time.perf_counter()
    if contender == "generate":
        generate(folder / "raw.parquet", rows)
    else:
        target = folder / f"{contender}.parquet"
        CONTENDERS[contender](folder / "raw.parquet", target, memory_bytes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_gib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory-bytes", type=int, default=1 << 30, help="DuckDB's budget")
    parser.add_argument("--alone", action="store_true", help="without pandas, for sizes it dies of")
    parser.add_argument("--contender", choices=["generate", *CONTENDERS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender is None:
        compare(options.rows, options.memory_bytes, alone=options.alone)
    else:
        run_one(options.contender, options.folder, options.rows, options.memory_bytes)


if __name__ == "__main__":
    main()
