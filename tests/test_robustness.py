"""The defaults, untouched, on catalogs that are hard on codebooks.

Smaller than in `benchmarks/robustness.py`, and with fewer epochs, so that all of them together take
about a minute: fewer rows per codeword and less time to settle make the claims harder to hold.
The catalogs of 200,000 rows and of 2,000 rows with 256 codewords are left to the benchmark.
"""

from __future__ import annotations

from typing import Any

import pytest
from catalogs import UNEVEN, catalog

import semid
from semid.quantizer import Quantizer

EPOCHS = 20


def fit(name: str, rows: int, *, quantizer: str = "rqvae") -> Quantizer:
    made = catalog(name, rows)
    levels = tuple(min(size, rows // 20) for size in made.levels)
    # A dense cluster is the last to come apart.
    fewer = quantizer == "rqvae" and "cluster" not in name
    config: dict[str, Any] = {"training": {"epochs": EPOCHS}} if fewer else {}
    return semid.fit(made.x_nd, quantizer, levels, config=config)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        *(("sample", 1_500), ("digits", 1_797), ("norm 1e-3", 2_000), ("norm 1e3", 2_000)),
    ],
)
def test_even_catalogs_use_all_codewords_well(name: str, rows: int) -> None:
    metrics = fit(name, rows).metrics
    for used in metrics["levels"]:
        assert used["used"] == used["size"]
        assert used["perplexity"] >= 0.6 * used["size"]
    assert not any(about.startswith("level") for about in metrics["verdicts"])


@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_catalogs_are_used_better_than_by_kmeans_and_named(name: str) -> None:
    ours, theirs = fit(name, 2_000).metrics, fit(name, 2_000, quantizer="rqkmeans").metrics
    assert "data" in ours["verdicts"]
    for used, baseline in zip(ours["levels"], theirs["levels"], strict=True):
        assert used["used"] == used["size"]
        assert used["perplexity"] >= baseline["perplexity"]
