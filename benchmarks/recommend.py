"""What IDs are worth to a generative recommender: Recall@10 and NDCG@10 of one and the same model.

    SEMID_DATA=... python benchmarks/recommend.py --seeds 0,1
    SEMID_DATA=... python benchmarks/recommend.py --weights 1,4 --contrast '{"temperature": 0.2}'
    SEMID_DATA=... python benchmarks/recommend.py mine=ids.parquet

Amazon Beauty, leave-one-out: the recommender learns from all but every user's last two purchases,
as the contrast does, keeps the epoch that is best at the second last of 2,000 users, and is
measured at the last of 20,000 others. Without names of ID tables: RQ-KMeans, RQ-VAE, and RQ-VAE
with contrast.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from measuring import machine, semid
from recommender import Codes, Histories, Study

from semid import read_ids

LEVELS = "256,256,256"


def tables(folder: Path, data: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Train, assign with suffixes, and return the ID table of each quantizer by its name."""
    source, behaviour = data / "minilm_embeddings.parquet", data / "interactions.parquet"
    made = {"rqkmeans": ("--quantizer", "rqkmeans"), "rqvae": ()}
    for weight in arguments.weights.split(","):
        settings = {**json.loads(arguments.contrast), "weight": float(weight), "exclude_last": 2}
        config = folder / f"contrast-{weight}.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        config.write_text("\n".join(["[contrast]", *lines]))
        made[f"contrast {weight}"] = ("--interactions", behaviour, "--config", config)
    found = {}
    for name, options in made.items():
        model, table = folder / name, folder / f"{name}.parquet"
        run = semid("train", str(source), "--output", str(model), "--levels", LEVELS,
                    "--seed", str(arguments.seed), *map(str, options))  # fmt: skip
        summary = run.output["summary"]
        perplexity = "/".join(f"{level['perplexity']:.0f}" for level in summary["levels"])
        print(
            f"{name:<16}{run.seconds:7.1f} s, uniqueness {summary['raw_uniqueness']:.3f}, "
            f"perplexity {perplexity}, held-out error {summary['held_out_error']:.3f}",
            flush=True,
        )
        semid("assign", str(source), "--model", str(model), "--output", str(table),
              "--collisions", "suffix")  # fmt: skip
        found[name] = str(table)
    return found


def histories(data: Path, item_ids: list[str]) -> Histories:
    """Read what every user bought, in order."""
    place = {item: number for number, item in enumerate(item_ids)}
    table = pq.read_table(data / "interactions.parquet")
    bought = table.sort_by([("user_id", "ascending"), ("position", "ascending")])
    item_n = np.array([place[item] for item in bought["item_id"].to_pylist()])
    _, first = np.unique(bought["user_id"].to_numpy(), return_index=True)
    return Histories(np.split(item_n, first[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="NAME=TABLE", help="ID tables to measure")
    parser.add_argument("--seeds", default="0,1", help="of the recommender")
    parser.add_argument("--seed", default=0, type=int, help="of the quantizers")
    parser.add_argument("--weights", default="4", help="of the contrast")
    parser.add_argument("--contrast", default="{}", help="its other settings, as JSON")
    arguments = parser.parse_args()
    data = Path(os.environ.get("SEMID_DATA", "")) / "beauty"
    if not (data / "interactions.parquet").exists():
        raise SystemExit(f"no {data}/interactions.parquet; SEMID_DATA names the folder of beauty/")
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        chosen = dict(pair.split("=", 1) for pair in arguments.ids)
        for label, path in (chosen or tables(Path(name), data, arguments)).items():
            table = read_ids(path)
            codes = Codes.of(np.array(table.sids.tolist()))
            known = histories(data, table.item_ids.tolist())
            for seed in map(int, arguments.seeds.split(",")):
                began = time.perf_counter()
                recall, gain = Study().run(codes, known, seed=seed)
                took = time.perf_counter() - began
                print(f"{label:<16} seed {seed}: Recall@10 {recall:.4f}, NDCG@10 {gain:.4f}, "
                      f"{took:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
