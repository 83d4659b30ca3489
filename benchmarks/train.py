"""`semid train` with its defaults against RQ-KMeans: time, use, uniqueness, error, neighbours.

    SEMID_DATA=... python benchmarks/train.py --seeds 0,1,2

Uses the Amazon Beauty embeddings below SEMID_DATA; without them, LSA embeddings of the sample
catalog. Both quantizers see the same training and held-out items and the same seeds. The last two
columns are the shares of every item's 10 nearest neighbours that have its first code, and its first
two.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measuring import machine, semid
from products import products_ms

from semid import load
from semid.columns import as_matrix
from semid.metrics.neighbours import prefix_purity
from semid.neighbours import nearest_neighbours

LEVELS = "256,256,256"
ROWS = 512  # of a step


def embeddings(folder: Path) -> str:
    """Return the real embeddings when they are there, else make some from the sample catalog."""
    real = Path(os.environ.get("SEMID_DATA", "")) / "beauty" / "minilm_embeddings.parquet"
    if real.exists():
        return str(real)
    made = str(folder / "embeddings.parquet")
    text = "title,brand,categories,description,color,size,material"
    semid("embed", "data/items.parquet", "--output", made, "--text", text)
    return made


class Neighbours:
    """The 10 nearest neighbours of every item, and how many share the beginnings of its codes."""

    def __init__(self, source: str) -> None:
        self.x_nd = as_matrix(pq.read_table(source)["embedding"])
        self.rows = np.arange(len(self.x_nd))
        self.near_nk = nearest_neighbours(self.x_nd, self.rows, 10)

    def shares(self, model: str) -> list[float]:
        """Return the share with the same first code, and with the same first two."""
        codes_nl = load(model).encode(self.x_nd)
        return [float(share) for share in prefix_purity(codes_nl, self.rows, self.near_nk)[:2]]


def step_ms(model: str, train_rows: int) -> float:
    """Return what `ROWS` rows took: the median over epochs, their measurements included."""
    lines = (Path(model) / "history.jsonl").read_text().splitlines()
    return median(1e3 * json.loads(line)["seconds"] * ROWS / train_rows for line in lines)


def row(
    quantizer: str, seed: int, seconds: float, summary: dict[str, Any], shares: list[float]
) -> str:
    levels = summary["levels"]
    perplexity = " ".join(f"{level['perplexity']:6.1f}" for level in levels)
    dead = sum(level["size"] - level["used"] for level in levels)
    return (
        f"{quantizer:<10}{seed:>5}{seconds:>9.1f}  {perplexity}{dead:>7}"
        f"{summary['raw_uniqueness']:>12.4f}{summary['held_out_error']:>11.4f}"
        f"{summary['train_error']:>11.4f}{shares[0]:>8.3f}{shares[1]:>8.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = embeddings(folder)
        print(f"{source}, levels {LEVELS}; time is the whole command")
        print(
            f"{'':<10}{'seed':>5}{'seconds':>9}  {'perplexity per level':<20}{'dead':>7}"
            f"{'uniqueness':>12}{'held out':>11}{'training':>11}{'1st':>8}{'2 codes':>8}"
        )
        found: dict[str, list[list[float]]] = {}
        neighbours = Neighbours(source)
        for quantizer in ("rqvae", "rqkmeans"):
            for seed in seeds:
                output = str(folder / f"{quantizer}-{seed}")
                chosen = ("--quantizer", quantizer, "--levels", LEVELS, "--seed", str(seed))
                run = semid("train", source, "--output", output, *chosen)
                summary = run.output["summary"]
                shares, train_rows = neighbours.shares(output), summary["train_rows"]
                print(row(quantizer, seed, run.seconds, summary, shares), flush=True)
                figures = (summary["held_out_error"], summary["raw_uniqueness"], *shares)
                found.setdefault(quantizer, []).append(list(figures))
        trained = str(folder / f"rqvae-{seeds[0]}")
        step, alone = step_ms(trained, train_rows), products_ms(load(trained).network, ROWS)
        share = f"its products alone {alone:.1f} ms ({alone / step:.0%})"
        print(f"{ROWS} rows of training take {step:.1f} ms, {share}")
    ours, theirs = (np.median(np.array(figures), axis=0) for figures in found.values())
    names = ("held-out error", "uniqueness", "same first code", "same first two")
    ratios = (f"{name} {ratio:.3f}" for name, ratio in zip(names, ours / theirs, strict=True))
    print(f"medians, rqvae over rqkmeans: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
