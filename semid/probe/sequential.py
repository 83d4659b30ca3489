"""A sequential recommender that scores all items: SASRec, by codes or by item ids.

Kang & McAuley (arXiv 1808.09781), with the cross-entropy over all items in place of one negative,
which is what makes it strong (Klenitskiy & Vasilev, arXiv 2309.07602). An item is the sum of the
embeddings of its codes, where it is read and where it is scored; with one code of its own for every
item it is SASRec itself. A place costs 6 n w operations: a catalog of some million items is too
large to train so.

Shapes: n items, b batch rows, t places, s codes of an item, w width, m places with a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from semid.mlp import drop_out
from semid.probe.settings import NetworkSettings
from semid.probe.transformer import Block, initialise
from semid.recsys.embeddings import CodeEmbedding
from semid.recsys.sequences import Batch

# Scores that are held at once: on a CPU as many as its cache does. But enough rows at a time, since
# every block reads the embeddings of all items.
_BLOCK = {"cpu": 1 << 20, "cuda": 1 << 26}
_ROWS = 64
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

    def __init__(
        self,
        codes_ns: Tensor,
        levels: Sequence[int],
        settings: NetworkSettings,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.dropout = settings.dropout
        self.embedding = CodeEmbedding(settings.width, levels)
        self.places = nn.Parameter(torch.empty(settings.max_items, settings.width))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)
        self.register_buffer("codes_ns", codes_ns, persistent=False)
        initialise(self, generator, settings.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.places.device

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the cross-entropy of the next item among all, over all places."""
        hidden = self.read(batch.tokens_bts, generator)
        there = batch.target_items >= 0
        item_nw, target_m = self.embedding(self.codes_ns), batch.target_items[there]
        found: Tensor = _AllItems.apply(hidden[there], item_nw, target_m)  # type: ignore[no-untyped-call]
        return found

    def scores(self, codes_bts: Tensor, among_cw: Tensor) -> Tensor:
        """Return the scores of candidates after histories of one length, ``(b, c)``.

        `among_cw` are embeddings, as `embedding` makes them of codes.
        """
        return self.read(codes_bts)[:, -1] @ among_cw.T

    def read(self, codes_bts: Tensor, generator: Generator | None = None) -> Tensor:
        """Return what comes of every place and those before it, ``(b, t, w)``."""
        x_btw = self.embedding(codes_bts) + self.places[: codes_bts.shape[1]]
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
        rows = max(_ROWS, _BLOCK[hidden_mw.device.type] // len(item_nw))
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
