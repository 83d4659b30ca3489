"""`semid embed --encoder lsa` on short texts: rate, and memory that does not grow with the rows.

    python benchmarks/embed.py --rows 1000000

The texts are titles, brands and categories of the sample catalog with shuffled words, seeded.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import GIB, machine, semid

CHUNK = 50_000


def generate(path: Path, rows: int) -> None:
    """Write `rows` items whose titles mix the words of two sample titles."""
    sample = pq.read_table("data/items.parquet", columns=["title", "brand", "categories"])
    titles = [title.split() for title in sample["title"].to_pylist()]
    random = np.random.default_rng(0)
    fields = [("item_id", pa.int64()), *((f.name, f.type) for f in sample.schema)]
    schema = pa.schema(fields)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            first, second = random.integers(len(titles), size=(2, size))
            mixed = [
                " ".join(titles[a][: len(titles[a]) // 2 + 1] + titles[b][len(titles[b]) // 2 :])
                for a, b in zip(first.tolist(), second.tolist(), strict=True)
            ]
            rest = sample.take(pa.array(first)).drop(["title"])
            table = pa.table({"item_id": np.arange(start, start + size), "title": mixed})
            for name in rest.column_names:
                table = table.append_column(name, rest[name])
            writer.write_table(table.cast(schema))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        peaks = []
        for size in (rows // 4, rows):
            items = Path(name, f"items-{size}.parquet")
            generate(items, size)
            output = str(Path(name, f"embeddings-{size}.parquet"))
            run = semid("embed", str(items), "--output", output, "--text", "title,brand,categories")
            peaks.append(run.peak_bytes)
            print(
                f"{size:>10,} texts: {run.seconds:7.1f} s, {size / run.seconds:8,.0f} texts/s, "
                f"peak {run.peak_bytes / GIB:.2f} GiB over all processes",
                flush=True,
            )
    print(f"memory for 4 times the rows: {peaks[1] / peaks[0]:.2f} times")


if __name__ == "__main__":
    main()
