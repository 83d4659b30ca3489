"""`semid assign`: how near it comes to the encoder's matrix products alone, and its memory.

    python benchmarks/assign.py --rows 2000000 --width 384

The embeddings are generated (seeded clusters), the model is trained on a part of them with its
defaults. The matrix products run in this process before and after every run, on the same machine
and threads, at the block size that suits them best; the ratio takes the mean of the two. A machine
whose speed moves shows in how far they are apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from measuring import GIB, machine, semid

from semid.columns import embedding_schema
from semid.tables import ROW_GROUP_ROWS, open_writer

CHUNK = 65_536


def generate(path: Path, rows: int, width: int) -> None:
    """Write `rows` embeddings around 2,000 seeded centres."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((2_000, width), dtype=np.float32)
    schema = embedding_schema(pa.int64(), "item_id", width, "float32")
    with open_writer(path, schema) as writer:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            x_nd = centres[random.integers(2_000, size=size)]
            x_nd += 0.7 * random.standard_normal((size, width), dtype=np.float32)
            values = pa.array(x_nd.reshape(-1))
            embeddings = pa.FixedSizeListArray.from_arrays(values, type=schema.field(1).type)
            ids = pa.array(np.arange(start, start + size))
            batch = pa.record_batch([ids, embeddings], schema=schema)
            writer.write_batch(batch, ROW_GROUP_ROWS)


def products_alone(model: Path, rows: int = 262_144) -> float:
    """Return rows per second of the encoder's matrix products, nothing else, from memory."""
    import torch

    from semid import load

    encoder = load(model).network.encoders[0]
    x_nd = torch.randn(rows, encoder.linear.in_features)
    best = 0.0
    with torch.inference_mode():
        for block in (2_048, 8_192, 32_768):
            started = time.perf_counter()
            for start in range(0, rows, block):
                hidden = rows_nd = x_nd[start : start + block]
                for layer in encoder.mlp:
                    hidden = torch.nn.functional.linear(hidden, layer.weight)
                torch.nn.functional.linear(rows_nd, encoder.linear.weight)
            best = max(best, rows / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, small = folder / "model", folder / "small.parquet"
        generate(small, 20_000, options.width)
        semid("train", str(small), "--output", str(model), "--set", "training.epochs=10")
        peaks = []
        for rows in (options.rows, 2 * options.rows):
            source = folder / "embeddings.parquet"
            generate(source, rows, options.width)
            peaks.append(max(measure(source, model, rows, workers) for workers in options.workers))
    print(f"memory for twice the rows: {peaks[1] / peaks[0]:.2f} times")


def measure(source: Path, model: Path, rows: int, workers: int) -> int:
    """Assign with and without collisions; print the figures and return the peak memory."""
    peak = 0
    for policy in ("none", "suffix"):
        output = str(source.with_name(f"{policy}.parquet"))
        chosen = ("--model", str(model), "--output", output, "--collisions", policy)
        before = products_alone(model)
        run = semid("assign", str(source), *chosen, "--workers", str(workers), "--overwrite")
        after = products_alone(model)
        rate, floor = rows / run.seconds, (before + after) / 2
        print(
            f"{rows:>10,} rows, {policy:>6}, {workers} processes: {run.seconds:6.1f} s, "
            f"{rate:8,.0f} rows/s, {rate / floor:.0%} of the products alone "
            f"({before:,.0f} rows/s before, {after:,.0f} after), "
            f"peak {run.peak_bytes / GIB:.2f} GiB",
            flush=True,
        )
        Path(output).unlink()
        peak = max(peak, run.peak_bytes)
    return peak


if __name__ == "__main__":
    main()
