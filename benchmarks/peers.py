"""semid with its defaults beside the packages that do the same: error, codes, time, throughput.

    pip install -e '.[peers]'
    SEMID_DATA=... python benchmarks/peers.py --seeds 0,1,2

Uses the Amazon Beauty embeddings below SEMID_DATA; without them, LSA embeddings of the sample
catalog. All see the same training and held-out items and are measured by the same functions.
`vector-quantize-pytorch` is trained inside semid's own encoder and decoder (see residual_vq.py),
`semantic-id` by its own `fit`; each with its defaults and with the best settings found.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import machine
from train import embeddings

from semid.columns import as_matrix
from semid.fit_config import FitConfig
from semid.fitting import fit_data
from semid.metrics.measurement import Measurement
from semid.training_data import ArrayData, Mask, Matrix, held_out

PACKAGES = ("vector-quantize-pytorch", "semantic-id")
LEVELS = FitConfig().levels


@dataclass(frozen=True)
class Fitted:
    """A fitted quantizer of any package.

    encode, decode : embeddings ``(n, d)`` to codes ``(n, l)`` and back
    epochs : passes over the training items; 0 where it is k-means, which makes others
    curve : seconds since the start of the fit and held-out error after epochs; empty where the
        package tells nothing of the way
    """

    encode: Callable[[Matrix], Any]
    decode: Callable[[Any], Matrix]
    epochs: int = 0
    curve: tuple[tuple[float, float], ...] = ()


class Clock:
    """Hears of semid's epochs and notes the time and the held-out error of those with codes."""

    def __init__(self) -> None:
        self.began, self.curve = time.perf_counter(), list[tuple[float, float]]()

    def on_step(self, step: int, total: int) -> None:
        """Let steps pass unnoted."""

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Note an epoch whose error is that of codes."""
        if metrics["used_0"]:
            self.curve.append((time.perf_counter() - self.began, metrics["held_out_error"]))


def semid(data: ArrayData, seed: int, quantizer: str) -> Fitted:
    config, clock = FitConfig(quantizer=quantizer, seed=seed), Clock()
    model = fit_data(data, config, device="cpu", callbacks=[clock])
    epochs = config.training.epochs if quantizer == "rqvae" else 0
    return Fitted(model.encode, model.decode, epochs, tuple(clock.curve))


def residual_vq(data: ArrayData, seed: int, **settings: Any) -> Fitted:
    from residual_vq import ResidualVQRun

    run = ResidualVQRun(data, seed, **settings)
    run.train()
    return Fitted(run.encode, run.decode, run.plan.epochs, tuple(run.curve))


def semantic_id_rqvae(
    data: ArrayData, seed: int, *, standardise: bool = False, **settings: Any
) -> Fitted:
    from semantic_id import RQVAE

    torch.manual_seed(seed)
    mean_d = data.train_nd.mean(0) if standardise else np.float32(0)
    scale = np.sqrt(np.square(data.train_nd - mean_d).mean()) if standardise else np.float32(1)
    model = RQVAE(in_dim=data.width, num_emb_list=list(LEVELS), **settings)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        model.fit((data.train_nd - mean_d) / scale)
    model.verbose = False
    return Fitted(
        lambda x_nd: model.encode((x_nd - mean_d) / scale),
        lambda codes_nl: model.decode(codes_nl) * scale + mean_d,
        model.epochs,
    )


def semantic_id_rqkmeans(data: ArrayData, seed: int, **settings: Any) -> Fitted:
    from semantic_id import RQKMeans

    sizes = {"n_levels": len(LEVELS), "n_clusters": list(LEVELS)}
    model = RQKMeans(**sizes, random_state=seed, **settings).fit(data.train_nd)
    return Fitted(model.encode, model.decode)


# Without `verbose`, semantic-id's RQVAE goes back to the state after its first epoch: no collisions
# are counted then, and the first count of none is never improved on.
RUNS: dict[str, tuple[Callable[..., Fitted], dict[str, Any]]] = {
    "semid rqvae": (semid, {"quantizer": "rqvae"}),
    "semid rqkmeans": (semid, {"quantizer": "rqkmeans"}),
    "ResidualVQ, defaults": (residual_vq, {"settings": {}}),
    "ResidualVQ, best": (
        residual_vq,
        {
            # A batch has two rows to a codeword: its own threshold of 2 would restart most of them.
            "settings": {"kmeans_init": True, "kmeans_iters": 25, "threshold_ema_dead_code": 0.2},
            **{"weight": 0.5, "autoencoder_share": 0.15, "warm": True},
        },
    ),
    "semantic-id RQVAE, defaults": (semantic_id_rqvae, {}),
    "semantic-id RQVAE, best": (
        semantic_id_rqvae,
        {
            **{"standardise": True, "layers": [768, 384], "dropout_prob": 0.1, "lr": 1e-3},
            **{"batch_size": 512, "epochs": 50, "kmeans_init": True, "verbose": 1_000_000},
            **{"lr_scheduler": "cosine", "warmup_epochs": 2},
        },
    ),
    "semantic-id RQKMeans, defaults": (semantic_id_rqkmeans, {}),
    "semantic-id RQKMeans, best": (semantic_id_rqkmeans, {"n_init": 1, "max_iter": 25}),
}


@dataclass(frozen=True)
class Result:
    """What one fit gave.

    seconds : of the whole fit
    reached : seconds after which the held-out error was what it is at the end, or less
    """

    seconds: float
    reached: float
    held_out_error: float
    train_error: float
    uniqueness: float
    perplexity: tuple[float, ...]
    dead: int
    train_rate: float
    encode_rate: float
    curve: tuple[tuple[float, float], ...]


def time_to(error: float, curve: tuple[tuple[float, float], ...]) -> float | None:
    """Return after how many seconds a curve is at `error` or below; None if never."""
    return next((seconds for seconds, at in curve if at <= error * (1 + 1e-6)), None)


def measure(name: str, x_nd: Matrix, held_n: Mask, seed: int) -> Result:
    fit, settings = RUNS[name]
    data = ArrayData(x_nd, held_n)
    began = time.perf_counter()
    fitted = fit(data, seed, **settings)
    seconds = time.perf_counter() - began
    spans = []
    for _ in range(3):
        began = time.perf_counter()
        codes_nl = np.asarray(fitted.encode(x_nd), np.int32)
        spans.append(time.perf_counter() - began)
    measurement = Measurement(LEVELS, {"embedding": slice(0, data.width)})
    measurement.add(x_nd, codes_nl, np.asarray(fitted.decode(codes_nl), np.float32), held_n)
    found = measurement.result()
    reached = time_to(found["held_out_error"] * 1.001, fitted.curve)
    return Result(
        seconds=seconds,
        reached=seconds if reached is None else reached,
        held_out_error=found["held_out_error"],
        train_error=found["train_error"],
        uniqueness=found["raw_uniqueness"],
        perplexity=tuple(level["perplexity"] for level in found["levels"]),
        dead=sum(level["size"] - level["used"] for level in found["levels"]),
        train_rate=fitted.epochs * data.train_rows / seconds,
        encode_rate=len(x_nd) / min(spans),
        curve=fitted.curve,
    )


def row(name: str, seed: int, result: Result) -> str:
    perplexity = " / ".join(f"{value:.0f}" for value in result.perplexity)
    rate = f"{result.train_rate:,.0f}" if result.train_rate else ""
    return (
        f"{name:<31}{seed:>5}{result.held_out_error:>10.4f}{result.train_error:>10.4f}"
        f"{result.uniqueness:>12.4f}  {perplexity:<16}{result.dead:>5}{result.seconds:>9.1f}"
        f"{result.reached:>9.1f}{rate:>10}{result.encode_rate:>10,.0f}"
    )


def line(what: str, ratio: float, *, less: bool) -> str:
    """Return a ratio with who is ahead; half a percent is nobody."""
    gain = 1 / ratio if less else ratio
    word = "ahead" if gain > 1.005 else "BEHIND" if gain < 0.995 else "level"
    return f"  {what:<30}{ratio:>8.2f}  {word}"


def verdict(ours: list[Result], theirs: list[Result]) -> str:
    """Return semid's figures over a peer's, medians over the seeds."""

    def compare(what: str, value: Callable[[Result], float], *, less: bool) -> str:
        return line(what, median(map(value, ours)) / median(map(value, theirs)), less=less)

    lines = [
        compare("held-out error", lambda r: r.held_out_error, less=True),
        compare("raw uniqueness", lambda r: r.uniqueness, less=False),
        compare("perplexity of the worst level", lambda r: min(r.perplexity), less=False),
        compare("rows/s encoded", lambda r: r.encode_rate, less=False),
    ]
    if all(result.train_rate for result in (*ours, *theirs)):
        lines.append(compare("rows/s trained", lambda r: r.train_rate, less=False))
    else:
        lines.append(compare("seconds of the fit", lambda r: r.seconds, less=True))
    error = median(r.held_out_error for r in theirs)
    passed = [time_to(error, r.curve) if r.curve else None for r in ours]
    if all(seconds is not None for seconds in passed):
        ratio = median(s for s in passed if s is not None) / median(r.reached for r in theirs)
        lines.append(line("seconds to its held-out error", ratio, less=True))
    elif ours[0].curve:
        lines.append(f"  {'seconds to its held-out error':<30}{'never':>8}  BEHIND")
    return "\n".join(lines)


def rows_and_split() -> tuple[str, Matrix, Mask]:
    with tempfile.TemporaryDirectory() as name:
        source = embeddings(Path(name))
        table = pq.read_table(source)
    held_n = held_out(table["item_id"].combine_chunks(), FitConfig().holdout)
    # A copy, since torch warns of arrays that cannot be written.
    return Path(source).name, as_matrix(table["embedding"]).copy(), held_n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="pattern of the names of the runs to make")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if any(find_spec(name.replace("-", "_")) is None for name in PACKAGES):
        raise SystemExit("the peers are not installed; run: pip install -e '.[peers]'")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    names = [name for name in RUNS if re.search(arguments.only, name)]
    source, x_nd, held_n = rows_and_split()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *PACKAGES))
    print(f"{machine()}, {torch.get_num_threads()} threads, {versions}, {date.today()}")
    print(f"{source}: {len(x_nd):,} rows, {int(held_n.sum()):,} held out, levels {LEVELS}")
    print(
        f"{'':<31}{'seed':>5}{'held out':>10}{'training':>10}{'uniqueness':>12}  "
        f"{'perplexity':<16}{'dead':>5}{'seconds':>9}{'reached':>9}{'trained/s':>10}{'encoded/s':>10}"
    )
    results: dict[str, list[Result]] = {name: [] for name in names}
    for seed in seeds:
        for name in names:
            results[name].append(measure(name, x_nd, held_n, seed))
            print(row(name, seed, results[name][-1]), flush=True)
    for ours in (name for name in names if name.startswith("semid")):
        for theirs in (name for name in names if not name.startswith("semid")):
            print(f"{ours} over {theirs}:\n{verdict(results[ours], results[theirs])}")


if __name__ == "__main__":
    main()
