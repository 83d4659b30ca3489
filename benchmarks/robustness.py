"""The defaults, untouched, on catalogs that are hard on codebooks, RQ-KMeans beside them.

    python benchmarks/robustness.py --catalogs "digits;heavy tails"

Even catalogs must have no dead code and perplexity of at least 0.6 K on every level; uneven ones at
least RQ-KMeans's perplexity and a verdict that names the data. Figures are perplexity over K.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from catalogs import CATALOGS, UNEVEN, catalog
from measuring import machine

import semid

LEAST = 0.6


def holds(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether the claim holds for a catalog."""
    if name in UNEVEN:
        pairs = zip(ours["levels"], theirs["levels"], strict=True)
        enough = all(a["perplexity"] >= b["perplexity"] for a, b in pairs)
        return enough and "data" in ours["verdicts"]
    levels = ours["levels"]
    return all(u["used"] == u["size"] and u["perplexity"] >= LEAST * u["size"] for u in levels)


def row(name: str, quantizer: str, seconds: float, metrics: dict[str, Any], word: str) -> str:
    levels = metrics["levels"]
    shares = " ".join(f"{used['perplexity'] / used['size']:.3f}" for used in levels)
    dead = " ".join(f"{used['size'] - used['used']:>3}" for used in levels)
    return (
        f"{name:<17}{quantizer:<10}{seconds:>7.1f}  {shares}  {dead}"
        f"{metrics['raw_uniqueness']:>9.3f}{metrics['held_out_error']:>9.4f}  {word}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalogs", help="separated by semicolons; all when not given")
    chosen = parser.parse_args().catalogs
    print(machine())
    print(
        f"{'':<27}{'seconds':>7}  {'perplexity / K':<17}  {'dead':<11}{'unique':>9}{'held out':>9}"
    )
    missed = []
    for name in chosen.split(";") if chosen else CATALOGS:
        x_nd, levels = catalog(name)
        found = {}
        for quantizer in ("rqkmeans", "rqvae"):
            started = time.perf_counter()
            metrics = semid.fit(x_nd, quantizer, levels).metrics
            found[quantizer] = metrics, time.perf_counter() - started
        (ours, seconds), (theirs, their_seconds) = found["rqvae"], found["rqkmeans"]
        word = "holds" if holds(name, ours, theirs) else "MISSED"
        missed += [name] if word == "MISSED" else []
        print(row(name, "rqvae", seconds, ours, word))
        print(row("", "rqkmeans", their_seconds, theirs, ""), flush=True)
        for about, sentence in ours["verdicts"].items():
            print(f"  {about}: {sentence}", flush=True)
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
