"""`semid assign`: how near it comes to the encoder's matrix products alone, and its memory.

    python benchmarks/assign.py --rows 2000000 --width 384

The embeddings are generated (seeded clusters), the model is trained on a part of them with its
defaults. The matrix products run in this process for ten seconds before and after every run, on
the same machine and threads, at the block size that suits them best; the ratio takes the mean of
the two. The median of the repeats counts: the speed of a shared machine moves, which shows in how
far before and after are apart.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from measuring import GIB, machine, semid

from semid.columns import embedding_schema
from semid.streams import ROW_GROUP_ROWS, open_writer

CHUNK = 65_536
PRODUCT_SECONDS = 10.0


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


class Products:
    """The encoder's matrix products, nothing else, on rows in memory."""

    def __init__(self, model: Path, rows: int = 131_072) -> None:
        import torch

        from semid import load

        encoder = load(model).network.encoders[0]
        self.weights = [layer.weight for layer in encoder.mlp]
        self.linear = encoder.linear.weight
        self.x_nd = torch.randn(rows, self.linear.shape[1])
        self.block = max((1_024, 2_048, 8_192, 32_768), key=lambda block: self.rate(block, 3))

    def rate(self, block: int, seconds: float) -> float:
        """Return rows per second, kept up for so long."""
        import torch

        rows, started = 0, time.perf_counter()
        with torch.inference_mode():
            while (passed := time.perf_counter() - started) < seconds:
                start = rows % len(self.x_nd)
                hidden = x_bd = self.x_nd[start : start + block]
                for weight in self.weights:
                    hidden = torch.nn.functional.linear(hidden, weight)
                torch.nn.functional.linear(x_bd, self.linear)
                rows += block
        return rows / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=3)
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
            found = [
                measure(source, model, rows, policy, workers, options.repeats)
                for workers in options.workers
                for policy in ("none", "suffix")
            ]
            peaks.append(max(found))
    print(f"memory for twice the rows: {peaks[1] / peaks[0]:.2f} times")


def measure(source: Path, model: Path, rows: int, policy: str, workers: int, repeats: int) -> int:
    """Assign several times; print the figures and return the peak memory."""
    output = source.with_name(f"{policy}.parquet")
    chosen = ("--model", str(model), "--output", str(output), "--collisions", policy)
    products, ratios, peak = Products(model), [], 0
    for _ in range(repeats):
        before = products.rate(products.block, PRODUCT_SECONDS)
        run = semid("assign", str(source), *chosen, "--workers", str(workers))
        after = products.rate(products.block, PRODUCT_SECONDS)
        output.unlink()
        rate, peak = rows / run.seconds, max(peak, run.peak_bytes)
        ratios.append(rate / ((before + after) / 2))
        print(
            f"{rows:>10,} rows, {policy:>6}, {workers} processes: {run.seconds:6.1f} s, "
            f"{rate:8,.0f} rows/s, {ratios[-1]:.0%} of the products alone "
            f"({before:,.0f} rows/s before, {after:,.0f} after), "
            f"peak {run.peak_bytes / GIB:.2f} GiB",
            flush=True,
        )
    print(f"{policy}, {workers} processes: median {statistics.median(ratios):.0%}", flush=True)
    return peak


if __name__ == "__main__":
    main()
