"""`semid evaluate` on a large catalog: the time and the memory of the whole command.

    python benchmarks/evaluate.py --rows 1000000

Embeddings are those of nights.py, seeded clusters, of 384 dims; the model an RQ-VAE of 3 x 256 that
was fitted to 20,000 of them for six epochs. The ids table is in another order than the embeddings.
Categories are seeded, 200 of them, and so are interactions, five for every item.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nights
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import GIB, machine, semid

CATEGORIES, PER_USER, FITTED = 200, 20, 20_000
SECONDS, PEAK_GIB = 120, 4


def shuffled(ids: Path, random: np.random.Generator) -> None:
    """Put the rows of an ids table into another order."""
    table = pq.read_table(ids)
    pq.write_table(table.take(pa.array(random.permutation(len(table)))), ids)


def describe(folder: Path, rows: int, random: np.random.Generator) -> None:
    """Write items with categories, and interactions."""
    names = pa.array([f"item-{i:09d}" for i in range(rows)])
    category = pa.array([f"category {c}" for c in random.integers(0, CATEGORIES, rows)])
    pq.write_table(pa.table({"item_id": names, "category": category}), folder / "items.parquet")
    met = pa.array(random.integers(0, rows, 5 * rows))
    place = np.arange(5 * rows)
    columns = {
        "user_id": place // PER_USER,
        "item_id": names.take(met),
        "position": place % PER_USER,
    }
    pq.write_table(pa.table(columns), folder / "interactions.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=384)
    options = parser.parse_args()
    nights.WIDTH = options.width
    print(f"{machine()}; {options.rows:,} x {options.width}")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder, random = Path(name), np.random.default_rng(0)
        embeddings, model, ids = (
            folder / part for part in ("embeddings.parquet", "model", "ids.parquet")
        )
        nights.generate(embeddings, 0, options.rows)
        describe(folder, options.rows, random)
        nights.generate(folder / "some.parquet", 0, FITTED)
        brief = ("--set", "training.epochs=6")
        semid("train", str(folder / "some.parquet"), "--output", str(model), *brief)
        semid("assign", str(embeddings), "--model", str(model), "--output", str(ids))
        shuffled(ids, random)
        given = ("--embeddings", str(embeddings), "--model", str(model))
        more = ("--items", str(folder / "items.parquet"), "--categories", "category")
        met = ("--interactions", str(folder / "interactions.parquet"))
        for what, arguments in (
            ("embeddings alone", ("--no-baseline",)),
            ("with the baseline", ()),
            ("with categories and interactions too", (*more, "--title", "category", *met)),
        ):
            output = str(folder / f"{len(arguments)}.json")
            run = semid("evaluate", str(ids), *given, "--output", output, *arguments)
            nights.told(what, run)
    if run.seconds > SECONDS or run.peak_bytes > PEAK_GIB * GIB:
        raise SystemExit(f"missed: {SECONDS} s and {PEAK_GIB} GiB for 1,000,000 items")


if __name__ == "__main__":
    main()
