"""What `semid plan` predicts from a sample against RQ-KMeans trained on the whole catalog.

python benchmarks/plan.py --rows 1000000 --sample 100000
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import machine, semid

WIDTH = 64


def layered(rows: int) -> npt.NDArray[np.float32]:
    """Make groups of very unequal sizes, in each 40 kinds of items, of which some hardly differ."""
    random = np.random.default_rng(0)
    group_n = random.zipf(1.6, rows) % 500
    kind_n = group_n * 40 + np.minimum(random.geometric(0.12, rows), 40) - 1
    spread_k = 0.15 + 0.5 * random.random((20_000, 1), np.float32)
    x_nd = random.standard_normal((rows, WIDTH), np.float32) * spread_k[kind_n]
    x_nd += random.standard_normal((500, WIDTH), np.float32)[group_n]
    x_nd += 0.6 * random.standard_normal((20_000, WIDTH), np.float32)[kind_n]
    return x_nd * np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5


def copied(rows: int) -> npt.NDArray[np.float32]:
    """Make the same, but a tenth of the rows repeat others."""
    x_nd, copies = layered(rows), rows // 10
    x_nd[:copies] = x_nd[copies + np.random.default_rng(1).integers(0, rows - copies, copies)]
    return x_nd


def gaussian(rows: int) -> npt.NDArray[np.float32]:
    """No clusters at all, on axes of falling variance."""
    x_nd = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
    return x_nd * np.arange(1, WIDTH + 1, dtype=np.float32) ** -1.0


def write(x_nd: npt.NDArray[np.float32], path: Path) -> Path:
    values = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), x_nd.shape[1])
    ids = pa.array(np.arange(len(x_nd)))
    pq.write_table(pa.table({"item_id": ids, "embedding": values}), path, row_group_size=16_384)
    return path


def compare(name: str, table: Path, sample: int, wanted: list[str], folder: Path) -> None:
    """Print what was predicted beside what a training on everything measured."""
    asked = [part for levels in wanted for part in ("--levels", levels)]
    planned = semid("plan", str(table), "--sample", str(sample), *asked)
    plan = planned.output["summary"]
    advised = plan["recommendation"]["levels"]
    print(
        f"\n{name}: {plan['catalog']['items']:,} items, planned in {planned.seconds:.0f} s and "
        f"{planned.peak_bytes / 2**30:.2f} GiB from {plan['catalog']['sample']:,}; "
        f"recommended: {advised}",
        flush=True,
    )
    tried = {",".join(map(str, one["levels"])): one for one in plan["candidates"]}
    chosen = [",".join(map(str, advised))] if advised else []
    for levels in dict.fromkeys([*wanted, *chosen]):
        one, model, ids = tried[levels], folder / f"{levels}", folder / f"{levels}.parquet"
        trained = semid(
            *("train", str(table), "--output", str(model), "--levels", levels),
            *("--quantizer", "rqkmeans", "--seed", "7"),
        )
        true = semid("assign", str(table), "--model", str(model), "--output", str(ids))
        uniqueness = true.output["summary"]["raw_uniqueness"]
        low, high = one["uniqueness_range"]
        print(
            f"| {name} | {levels} | {one['uniqueness']:.4f} ({low:.3f} to {high:.3f}) | "
            f"{uniqueness:.4f} | {'yes' if low <= uniqueness <= high else 'NO'} | "
            f"{one['error']:.4f} | {trained.output['summary']['held_out_error']:.4f} | "
            f"{one['fit_seconds']:.0f} | {trained.seconds:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=262_144)
    parser.add_argument("--only", nargs="*", default=["layered", "copied", "gaussian", "beauty"])
    parser.add_argument("--levels", nargs="*", default=["256,256,256", "256,256,256,256"])
    options = parser.parse_args()
    print(machine())
    makers = {"layered": layered, "copied": copied, "gaussian": gaussian}
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            if name == "beauty":
                table = Path(os.environ["SEMID_DATA"], "beauty", "minilm_embeddings.parquet")
            else:
                table = write(makers[name](options.rows), Path(folder, "embeddings.parquet"))
            compare(name, table, options.sample, options.levels, Path(folder))


if __name__ == "__main__":
    main()
