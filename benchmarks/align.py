"""What a retraining leaves of the IDs: codes that change, with and without aligning the new model.

    SEMID_DATA=... python benchmarks/align.py --seeds 1,2

Amazon Beauty (MiniLM embeddings), 3 x 256, defaults. An old model with seed 0; for each other seed
a model from the beginning, one from the old model (``--init-from``), and one from it with few
epochs and slow codewords, all then aligned to the old one. Figures are shares of all items whose
first one, two and three codes are not the old ones; claimed is that aligning the first of them
leaves a third of the changes, and that the second keeps 0.8 of the first codes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine, semid

LEVELS = "256,256,256"
FEWER, KEPT = 3, 0.8
GENTLE = ("--set", "training.epochs=8", "--set", "codebooks.ema_decay=0.99")


def row(name: str, seconds: float, error: float, churn: list[float]) -> str:
    shares = "".join(f"{share:>9.4f}" for share in churn)
    return f"{name:<28}{seconds:>7.1f} s{error:>9.4f}{shares}"


class Study:
    """Models and what aligns them, in a folder."""

    def __init__(self, folder: Path, embeddings: Path) -> None:
        self.folder, self.embeddings = folder, embeddings
        self.old = folder / "old"

    def train(self, model: Path, seed: int, *options: str) -> tuple[float, float]:
        """Return the seconds and the held-out error of a training."""
        run = semid("train", str(self.embeddings), "--output", str(model), "--levels", LEVELS,
                    "--seed", str(seed), *options)  # fmt: skip
        return run.seconds, run.output["summary"]["held_out_error"]

    def align(self, model: Path) -> tuple[float, list[dict[str, Any]]]:
        """Return the seconds and the churn of an alignment."""
        run = semid("align", str(model), "--to", str(self.old), "--embeddings",
                    str(self.embeddings), "--output", f"{model}-aligned")  # fmt: skip
        return run.seconds, run.output["summary"]["churn"]

    def retrain(self, name: str, seed: int, *options: str) -> list[dict[str, Any]]:
        """Train and align, print both, and return the churn."""
        model = self.folder / f"{name}-{seed}"
        seconds, error = self.train(model, seed, *options)
        took, churn = self.align(model)
        print(row(f"{name}, seed {seed}", seconds, error, [c["before"] for c in churn]))
        print(row("  and aligned", took, error, [c["after"] for c in churn]), flush=True)
        return churn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1,2", help="of the new models")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    embeddings = Path(os.environ.get("SEMID_DATA", "")) / "beauty" / "minilm_embeddings.parquet"
    if not embeddings.exists():
        raise SystemExit(f"no {embeddings}; SEMID_DATA names the folder of beauty/")
    print(machine())
    print(f"{'':<28}{'':>9}{'held out':>9}{'code 1':>9}{'1 to 2':>9}{'1 to 3':>9}")
    missed = []
    with tempfile.TemporaryDirectory() as name:
        study = Study(Path(name), embeddings)
        seconds, error = study.train(study.old, 0)
        print(row("old model, seed 0", seconds, error, []), flush=True)
        for seed in seeds:
            first = study.retrain("another seed", seed)[0]
            on = study.retrain("init-from", seed, "--init-from", str(study.old))[0]
            study.retrain("init-from, gentle", seed, "--init-from", str(study.old), *GENTLE)
            if first["before"] < FEWER * first["after"]:
                missed.append(f"another seed, seed {seed}")
            if on["after"] > 1 - KEPT:
                missed.append(f"init-from, seed {seed}")
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
