"""The shards of a batch: on a CPU each is learnt by a thread of its own, then put together again.

The cut is the same for any number of threads, and so are the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from semid.devices import one_thread_each
from semid.quantised import Quantised

SHARD_ROWS = 256

# Runs work on several things, in any order, and returns what came of each in theirs.
Shards = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def shard_rows(device: torch.device, rows: int) -> int:
    """Return how many of a batch's rows make a shard: all of them but on a CPU."""
    return SHARD_ROWS if device.type == "cpu" else rows


@contextmanager
def in_threads(device: torch.device, rows: int) -> Iterator[Shards]:
    """Return what runs the shards of batches of `rows`: on a CPU at once, each on its thread."""
    threads = min(torch.get_num_threads(), math.ceil(rows / SHARD_ROWS))
    if device.type != "cpu" or threads < 2:
        yield map
        return
    with one_thread_each(threads) as pool:
        yield pool.map


def add_up(parts: list[Tensor]) -> Tensor | None:
    """Add the gradients of the shards into the first, in their order; None of none."""
    total = parts[0] if parts else None
    for part in parts[1:]:
        total = part if total is None else total.add_(part)
    return total


def joined(shards: Sequence[Quantised | None]) -> Quantised | None:
    """Put the shards of a batch together again."""
    found = [shard for shard in shards if shard is not None]
    if not found:
        return None
    codes_nl = torch.cat([shard.codes_nl for shard in found])
    residuals = [torch.cat(level) for level in zip(*(s.residuals for s in found), strict=True)]
    return found[0]._replace(codes_nl=codes_nl, residuals=residuals)
