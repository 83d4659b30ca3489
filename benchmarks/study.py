"""What a recommender makes of IDs of six origins under two collision policies: the tables of it.

    SEMID_DATA=... python benchmarks/study.py --output out/study --seeds 0,1,2 --probe out/probed

Amazon Beauty, 3 x 256, every table in ``OUTPUT/SEED/ORIGIN-POLICY.parquet``; those that are there
stay. The policies are the shipped ``suffix`` and ``reassign``.

``rqvae`` and ``rqkmeans`` are ``semid train`` with its defaults on the embeddings of the texts, and
``rqvae-contrast`` is the RQ-VAE with ``--interactions``, of which the last two of every user are
left out, since a recommender is validated and tested on them; ``rqvae-behaviour`` has behaviour as
an input besides, ``semid embed --encoder cooccurrence`` fused with the texts. ``random`` codes are
drawn alike for every item. ``category`` codes are the path of an item in the shop's tree: code l is
the number of the first l + 1 categories of the path among all such beginnings, in their order; a
path that is shorter than that counts whole. Their table is the same for every seed.

No model stands behind the last two, so what a move costs is told by codebooks made for them: as in
residual k-means, a codeword is the mean of what the levels before left of the embeddings of the
items that have it, and zero where none has. ``reassign`` gets the codes as they are, these
codebooks, and the embeddings as latents. Of a category's 3 x 256 only 6, 46 and 177 codewords are
means; the others add nothing to what the path says so far, and are the room that items move to.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import machine, semid

from semid import IdTable, read_ids
from semid.collisions import CollisionConfig, Resources, Space, Surroundings, resolve
from semid.id_columns import code_column, code_matrix
from semid.metrics.codes import utilization
from semid.probe.page import markdown
from semid.probe.settings import MODELS as ORDER
from semid.probe.summary import summarise

LEVELS = (256, 256, 256)
POLICIES = ("suffix", "reassign")
CONTRAST = ("--interactions", "{interactions}", "--set", "contrast.exclude_last=2")
TRAINED = {  # the first is what the others are held against
    "rqkmeans": ("--quantizer", "rqkmeans"),
    "rqvae": (),
    "rqvae-contrast": CONTRAST,
    "rqvae-behaviour": (*CONTRAST, "--columns", "text,behaviour"),
}
GIVEN = ("random", "category")

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Catalog:
    """Beauty: its files, and of n items the ids, embeddings and category paths."""

    items: Path
    embeddings: Path
    interactions: Path
    item_ids: pa.Array
    x_nd: npt.NDArray[np.float32]
    paths: list[list[str]]

    @classmethod
    def read(cls, folder: Path) -> Catalog:
        """Read it; the rows are those of the embeddings."""
        embeddings = folder / "minilm_embeddings.parquet"
        embedded = pq.read_table(embeddings)
        file = folder / "items.parquet"
        items = pq.read_table(file, columns=["item_id", "categories"])
        path_of = dict(zip(*(items[name].to_pylist() for name in items.column_names), strict=True))
        item_ids = embedded["item_id"].combine_chunks()
        x_nd = np.stack(embedded["embedding"].to_numpy()).astype(np.float32)
        paths = [path_of[item] for item in item_ids.to_pylist()]
        return cls(file, embeddings, folder / "interactions.parquet", item_ids, x_nd, paths)


def random_codes(items: int, seed: int) -> Codes:
    """Draw codes ``(n, l)``, each alike."""
    return np.random.default_rng(seed).integers(0, LEVELS, (items, len(LEVELS)), dtype=np.int32)


def category_codes(paths: list[list[str]]) -> Codes:
    """Return the number of what every path begins with, ``(n, l)``: see above."""
    columns = []
    for depth in range(1, len(LEVELS) + 1):
        begun = [tuple(path[:depth]) for path in paths]
        number = {path: code for code, path in enumerate(sorted(set(begun)))}
        columns.append([number[path] for path in begun])
    return np.array(columns, np.int32).T


def codebooks(x_nd: npt.NDArray[np.float32], codes_nl: Codes) -> list[npt.NDArray[np.float64]]:
    """Return a codebook ``(k, d)`` per level: the means of residuals of embeddings ``(n, d)``."""
    residual_nd, books = x_nd.astype(np.float64), []
    for code_n, size in zip(codes_nl.T, LEVELS, strict=True):
        sum_kd = np.zeros((size, x_nd.shape[1]))
        np.add.at(sum_kd, code_n, residual_nd)
        books.append(sum_kd / np.maximum(np.bincount(code_n, minlength=size), 1)[:, None])
        residual_nd -= books[-1][code_n]
    return books


def given_table(
    item_ids: pa.Array, x_nd: npt.NDArray[np.float32], codes_nl: Codes, policy: str
) -> IdTable:
    """Resolve the collisions of codes that no model made; notes what ``semid assign`` would."""
    space = Space(codebooks(x_nd, codes_nl), False, lambda row_m: iter([x_nd[row_m]]))
    distance_n = space.error(x_nd, codes_nl).astype(np.float32)
    columns = {"item_id": item_ids, "codes": code_column(codes_nl), "distance": distance_n}
    rows, config = pa.record_batch(columns), CollisionConfig(policy)
    with tempfile.TemporaryDirectory() as folder:
        around = Surroundings(LEVELS, space)
        found = resolve(lambda: iter([rows]), config, Resources(Path(folder)), around)
        sid = pa.Table.from_batches(found.rows)["sid"].combine_chunks()
    length = len(LEVELS) + config.has_suffix
    summary = {"policy": policy, "levels": list(LEVELS), "sid_length": length}
    summary |= asdict(found.report) | found.facts
    noted = {"collisions": asdict(config), "summary": summary}
    sids_ns = code_matrix(sid, "sid")
    return IdTable.from_arrays(item_ids, codes_nl, sids_ns, distance=distance_n, metadata=noted)


def behaviour(catalog: Catalog, folder: Path) -> Path:
    """Write embeddings of texts and of co-occurrence side by side, unless they are up to date."""
    fused, alone = folder / "text_behaviour.parquet", folder / "behaviour.parquet"
    semid("embed", str(catalog.items), "--encoder", "cooccurrence", "--interactions",
          str(catalog.interactions), "--output", str(alone))  # fmt: skip
    semid("join", f"text={catalog.embeddings}", f"behaviour={alone}", "--output", str(fused))
    return fused


def make(catalog: Catalog, origin: str, policy: str, seed: int, path: Path) -> None:
    """Write a table; the model of a trained origin is kept beside it, for the other policy."""
    if origin in TRAINED:
        options = [option.format(interactions=catalog.interactions) for option in TRAINED[origin]]
        model, fused = path.with_name(origin), origin == "rqvae-behaviour"
        source = str(behaviour(catalog, path.parent.parent) if fused else catalog.embeddings)
        semid("train", source, "--output", str(model), "--seed", str(seed),
              "--levels", ",".join(map(str, LEVELS)), *options)  # fmt: skip
        semid("assign", source, "--model", str(model), "--output", str(path),
              "--collisions", policy)  # fmt: skip
        return
    drawn = origin == "random"
    codes_nl = random_codes(len(catalog.paths), seed) if drawn else category_codes(catalog.paths)
    given_table(catalog.item_ids, catalog.x_nd, codes_nl, policy).save(path)


def figures(table: IdTable) -> dict[str, Any]:
    """Say how a table's codes are used, and what its policy did to them."""
    noted = table.metadata["summary"]
    counts = zip(table.codes.T, LEVELS, strict=True)
    use = [utilization(np.bincount(code_n, minlength=size)) for code_n, size in counts]
    return {
        "raw unique": f"{noted['raw_uniqueness']:.4f}",
        "perplexity": "/".join(f"{level.perplexity:.0f}" for level in use),
        "unique": f"{len(np.unique(table.sids, axis=0)) / len(table):.4f}",
        "SID sizes": "/".join(map(str, table.sids.max(0) + 1)),
        "moved, by level": "/".join(map(str, noted.get("moved_at_level", [0]))),
        "added error": f"{noted.get('added_error_share', 0):.4f}",
    }


def tables(catalog: Catalog, folder: Path, seed: int) -> list[Path]:
    """Make the tables of a seed that are not there yet; a model's seconds are its first table's."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for origin in (*TRAINED, *GIVEN):
        for policy in POLICIES:
            paths.append(folder / f"{origin}-{policy}.parquet")
            kept, began = paths[-1].exists(), time.perf_counter()
            if not kept:
                make(catalog, origin, policy, seed, paths[-1])
            took = "kept" if kept else f"{time.perf_counter() - began:.1f}"
            found = figures(read_ids(paths[-1]))
            if len(paths) == 1:
                print(f"\n| seed {seed} | seconds | {' | '.join(found)} |")
                print("|" + " --- |" * (len(found) + 2))
            print(f"| {paths[-1].stem} | {took} | {' | '.join(found.values())} |", flush=True)
    return paths


def probe(paths: list[Path], catalog: Catalog, folder: Path, seed: int) -> None:
    """Train small recommenders on the tables of a seed, with that seed."""
    semid("probe", *map(str, paths), "--interactions", str(catalog.interactions), "--output",
          str(folder), "--seeds", "1", "--set", f"seed={seed}", "--workers", "2")  # fmt: skip


def over_seeds(folders: list[Path]) -> str:
    """Lay out the probes of all seeds as one."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for folder in folders:
        for line in pq.read_table(folder / "probe.parquet").to_pylist():
            figures = {name: line[name] for name in line if "@" in name or name == "targets"}
            row = rows.setdefault((line["model"], line["table"], line["seed"]), {**line})
            row["recall_q"] = np.load(folder / "runs" / f"{line['run']}.npy")
            row.setdefault("groups", {})[line["group"]] = figures
    first = next(iter(rows.values()))
    facts = {name: first[name] for name in ("items", "users", "interactions", "machine")}
    facts |= {"seeds": len(folders), "preset": "tiny", "part": "test"}
    facts |= {"unknown": 0, "unjudged": 0, "changed": []}  # as the probes of single seeds say
    in_order = sorted(rows.values(), key=lambda row: (ORDER.index(row["model"]), row["seed"]))
    return markdown(summarise(in_order), facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--seeds", default="0,1,2", help="of the quantizers and random codes")
    parser.add_argument("--probe", type=Path, help="folder for what recommenders make of them")
    arguments = parser.parse_args()
    data = Path(os.environ.get("SEMID_DATA", "")) / "beauty"
    if not (data / "items.parquet").exists():
        raise SystemExit(f"no {data}/items.parquet; SEMID_DATA names the folder of beauty/")
    print(machine())
    catalog = Catalog.read(data)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for seed in seeds:
        paths = tables(catalog, arguments.output / str(seed), seed)
        if arguments.probe:
            probe(paths, catalog, arguments.probe / str(seed), seed)
    if arguments.probe:
        print(over_seeds([arguments.probe / str(seed) for seed in seeds]))


if __name__ == "__main__":
    main()
