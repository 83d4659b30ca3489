"""A sequential recommender that scores all items: SASRec, by codes or by item ids.

Kang & McAuley (arXiv 1808.09781), with the cross-entropy over all items in place of one negative,
which is what makes it strong (Klenitskiy & Vasilev, arXiv 2309.07602). An item is the sum of the
embeddings of its codes, where it is read and where it is scored; with one code of its own for every
item it is SASRec itself.

Shapes: n items, b batch rows, t places, s codes of an item, w width, m places with a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import embedding

from semid.mlp import drop_out
from semid.probe.settings import NetworkSettings
from semid.probe.transformer import Block, initialise
from semid.recsys.sequences import Batch

_BLOCK = 1_000_000  # scores that are held at once
_LEAST = torch.finfo(torch.float32).tiny


class SequentialModel(nn.Module):
    """A causal transformer over items, each the sum of its codes' embeddings.

    Parameters
    ----------
    codes_ns : codes of all items
    levels : codes per level
    settings : sizes
    generator : draws the weights
    """

    codes_ns: Tensor
    starts: Tensor

    def __init__(
        self,
        codes_ns: Tensor,
        levels: Sequence[int],
        settings: NetworkSettings,
        generator: Generator,
    ) -> None:
        super().__init__()
        starts = [0, *accumulate(levels)]
        self.dropout = settings.dropout
        self.codes = nn.Parameter(torch.empty(starts[-1], settings.width))
        self.places = nn.Parameter(torch.empty(settings.max_items, settings.width))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)
        self.register_buffer("codes_ns", codes_ns, persistent=False)
        self.register_buffer("starts", torch.tensor(starts[:-1]), persistent=False)
        initialise(self, generator, settings.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.codes.device

    def embed(self, codes: Tensor) -> Tensor:
        """Return the embeddings of codes ``(…, s)``: ``(…, w)``."""
        return embedding(codes + self.starts, self.codes).sum(-2)

    def items(self) -> Tensor:
        """Return the embeddings of all items, ``(n, w)``."""
        return self.embed(self.codes_ns)

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the cross-entropy of the next item among all, over all places."""
        item_nw = self.items()
        hidden = self._read(batch.items_bt, item_nw, generator)
        there = batch.target_items >= 0
        target_m = batch.target_items[there]
        found: Tensor = _AllItems.apply(hidden[there], item_nw, target_m)  # type: ignore[no-untyped-call]
        return found

    def scores(self, items_bt: Tensor, among_cw: Tensor) -> Tensor:
        """Return the scores of candidates after histories of one length, ``(b, c)``.

        `among_cw` are embeddings, as `items` has them.
        """
        return self._read(items_bt, self.items(), None)[:, -1] @ among_cw.T

    def _read(self, items_bt: Tensor, item_nw: Tensor, generator: Generator | None) -> Tensor:
        x_btw = embedding(items_bt.clamp(min=0), item_nw) + self.places[: items_bt.shape[1]]
        if generator is not None and self.dropout:
            x_btw = drop_out(x_btw, self.dropout, generator)
        for block in self.blocks:
            x_btw, _ = block(x_btw, generator)
        found: Tensor = self.norm(x_btw)
        return found


class _AllItems(torch.autograd.Function):
    """The mean cross-entropy over all items, with no more scores in memory than fit the cache.

    The gradient is that of a softmax, and is made where the scores are; as the fused linear
    cross-entropy of Liger (Hsu et al., arXiv 2410.10989).
    """

    @staticmethod
    def forward(ctx: Any, hidden_mw: Tensor, item_nw: Tensor, target_m: Tensor) -> Tensor:
        is_low = torch.is_autocast_enabled(hidden_mw.device.type)
        kind = torch.get_autocast_dtype(hidden_mw.device.type) if is_low else hidden_mw.dtype
        hidden_mw, items_nw = hidden_mw.to(kind), item_nw.to(kind)
        hidden_grad = torch.empty_like(hidden_mw)
        items_grad = torch.zeros_like(item_nw, dtype=torch.float32)
        total = hidden_mw.new_zeros((), dtype=torch.float32)
        rows = max(1, _BLOCK // len(item_nw))
        for start in range(0, len(hidden_mw), rows):
            here, target = hidden_mw[start : start + rows], target_m[start : start + rows, None]
            chance = (here @ items_nw.T).float().softmax(1)
            total -= chance.gather(1, target).clamp_(min=_LEAST).log_().sum()
            chance.scatter_add_(1, target, chance.new_full(target.shape, -1.0))
            chance = chance.to(kind)
            hidden_grad[start : start + rows] = chance @ items_nw
            items_grad += chance.T @ here
        ctx.save_for_backward(hidden_grad, items_grad)
        return total / len(hidden_mw)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        hidden_grad, items_grad = ctx.saved_tensors
        share = grads[0] / max(len(hidden_grad), 1)
        return hidden_grad * share.to(hidden_grad.dtype), items_grad * share, None
