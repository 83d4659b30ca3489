"""The matrix products alone that a step of training is made of: the floor of its time."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from torch import Tensor

from semid.devices import one_thread_each
from semid.shards import SHARD_ROWS

# Rows, weights, the gradient that comes back, and whether one is passed on to the rows.
Product = tuple[Tensor, Tensor, Tensor | None, bool]


def products_ms(network: Any, rows: int, *, repeats: int = 50) -> float:
    """Return the median milliseconds of the products of a step of `rows` rows.

    On random numbers, every shard on a thread of its own, as in training. The embeddings need no
    gradient; the search for codes has products there and none back.
    """
    shards = max(rows // SHARD_ROWS, 1)
    made = [_products(network, rows // shards) for _ in range(shards)]
    taken = []
    with one_thread_each(min(torch.get_num_threads(), shards)) as pool:
        for _ in range(repeats):
            began = time.perf_counter()
            list(pool.map(_multiply, made))
            taken.append(1e3 * (time.perf_counter() - began))
    return median(taken)


def _products(network: Any, rows: int) -> list[Product]:
    made: list[Product] = []
    for path in (*network.encoders, *network.decoders):
        for layer in (path.linear, *path.mlp):
            i, o = layer.in_features, layer.out_features
            entry = path in list(network.encoders) and layer in (path.linear, path.mlp[0])
            made.append((torch.randn(rows, i), torch.randn(o, i), torch.randn(rows, o), not entry))
    for codebook_kz in network.codebooks:
        k, z = codebook_kz.shape
        made.append((torch.randn(rows, z), torch.randn(k, z), None, False))
    return made


def _multiply(products: list[Product]) -> None:
    for x_ni, w_oi, back_no, passed_on in products:
        torch.mm(x_ni, w_oi.T)
        if back_no is not None:
            torch.mm(back_no.T, x_ni)
            if passed_on:
                torch.mm(back_no, w_oi)
