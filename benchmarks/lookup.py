"""Look-ups in an ids table of 10,000,000 rows, by its index, and what the index costs.

    python benchmarks/lookup.py --rows 10000000

The table is that of suffix.py: random and seeded, string ids in shuffled order, three levels of 256
codes and a suffix, in parts as semid assign writes them. Its pages are in the cache; every call of
a "table opened" reads the footers and maps the index anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from measuring import machine
from suffix import generate, with_semid

from semid.index_building import build_index
from semid.jobs.lookup import lookup
from semid.jobs.mapping import write_table
from semid.table_index import INDEX, open_index
from semid.table_rows import rows_at
from semid.tables import open_table

CALLS = 200
COMMANDS = 5


def build(ids: Path) -> None:
    """Build the index in a process of its own, so that its peak memory is its own."""
    started = time.perf_counter()
    build_index(open_table(ids), ids / INDEX)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_gib": peak}))


def timed(calls: list[Callable[[], object]]) -> str:
    took = []
    for call in calls:
        started = time.perf_counter()
        call()
        took.append(1e3 * (time.perf_counter() - started))
    return f"{median(took):8.2f} ms median, {np.percentile(took, 95):8.2f} ms 95th percentile"


def report(ids: Path, rows: int) -> None:
    table, index = open_table(ids), open_index(open_table(ids))
    assert index is not None
    size = sum(file.stat().st_size for file in (ids / INDEX).iterdir())
    print(f"index: {size / 1e6:.0f} MB")
    rng = np.random.default_rng(1)
    drawn = rows_at(table, rng.integers(0, rows, CALLS), ["item_id", "sid"]).to_pylist()
    path = str(ids)
    kinds: dict[str, list[Callable[[], object]]] = {
        "item, table opened": [
            lambda row=row: lookup(path, item=[row["item_id"]]) for row in drawn
        ],
        "sid, table opened": [lambda row=row: lookup(path, sid=row["sid"]) for row in drawn],
        "two codes, 20 items listed": [
            lambda row=row: lookup(path, prefix=row["sid"][:2]) for row in drawn
        ],
        "absent item": [lambda n=n: lookup(path, item=[f"none-{n}"]) for n in range(CALLS)],
        "prefix count, index open": [lambda row=row: index.span(row["sid"][:2]) for row in drawn],
    }
    for kind, calls in kinds.items():
        print(f"{kind:<28}{timed(calls)}")
    command = [sys.executable, "-m", "semid", "lookup", path]
    options = [["--item", row["item_id"]] for row in drawn[:COMMANDS]]
    whole = [
        lambda more=more: subprocess.run([*command, *more], check=True, capture_output=True)
        for more in options
    ]
    print(f"{'whole command, one item':<28}{timed(list(whole))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep the table here, and use it if it is")
    options = parser.parse_args()
    if options.build is not None:
        build(options.build)
        return
    with tempfile.TemporaryDirectory() as temporary:
        ids = (options.folder or Path(temporary)) / "ids"
        if not ids.exists():
            raw, whole = ids.with_name("raw.parquet"), ids.with_name("whole.parquet")
            generate(raw, options.rows)
            with_semid(raw, whole, 1 << 30)
            table = open_table(whole)
            write_table(table.batches(table.schema.names), ids, table.schema, {})
        print(f"{machine()}; {options.rows:,} rows")
        command = [sys.executable, __file__, f"--build={ids}"]
        done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"build: {done['seconds']:.1f} s, peak {done['peak_gib']:.2f} GiB")
        report(ids, options.rows)


if __name__ == "__main__":
    main()
