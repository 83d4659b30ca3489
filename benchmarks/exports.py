"""Every export format at size: written from Parquet in a process of its own, and read back.

    python benchmarks/exports.py --rows 1000000

Random codes, three levels of 256 and a suffix, string ids of ten letters.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from measuring import machine

from semid.export import FORMATS, read, write
from semid.id_columns import code_column, ids_schema
from semid.jobs.mapping import write_table
from semid.tables import open_table

BATCH_ROWS = 131_072


def generate(path: Path, rows: int) -> None:
    schema = ids_schema(pa.string())
    schema = pa.schema([schema.field(name) for name in ("item_id", "codes", "sid")])
    note = json.dumps({"summary": {"policy": "suffix", "levels": [256] * 3}})
    rng = np.random.default_rng(0)

    def batches():
        for start in range(0, rows, BATCH_ROWS):
            numbers = np.arange(start, min(start + BATCH_ROWS, rows))
            codes_nl = rng.integers(0, 256, (len(numbers), 3), dtype=np.int32)
            suffix_n1 = rng.integers(0, 3, (len(numbers), 1), dtype=np.int32)
            columns = code_column(codes_nl), code_column(np.hstack([codes_nl, suffix_n1]))
            ids = pa.array([f"B{number:09d}" for number in numbers])
            yield pa.record_batch([ids, *columns], schema=schema)

    write_table(batches(), path, schema, {"semid": note})


def measure(step: str, format: str, ids: Path, export: Path) -> None:
    """Do one step and print what it took."""
    started = time.perf_counter()
    if step == "write":
        size = write(open_table(ids), export, format)["bytes"]
    else:
        size = len(read(export, format, levels=3))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak, "size": size}))


def apart(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--no-read", action="store_true")
    parser.add_argument("--step", nargs=4)
    options = parser.parse_args()
    if options.step:
        step, format, ids, export = options.step
        measure(step, format, Path(ids), Path(export))
        return
    print(machine())
    print("| format | written, s | peak, GiB | read, s | peak, GiB | MB |\n|" + " --- |" * 6)
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "ids.parquet"
        generate(ids, options.rows)
        for format in options.formats:
            export = Path(folder) / format
            row = [apart("--step", "write", format, ids, export)]
            row += [] if options.no_read else [apart("--step", "read", format, ids, export)]
            cells = (f"{cell['seconds']:.1f} | {cell['peak_gib']:.2f}" for cell in row)
            print(f"| {format} | {' | '.join(cells)} | {row[0]['size'] / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
