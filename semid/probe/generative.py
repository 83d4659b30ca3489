"""A generative recommender: the next item's SID token by token, from the tokens of a history.

As TIGER (Rajput et al., arXiv 2305.05065) predicts them, but by one causal transformer over the
flat tokens of a history, which learns from all places of it at once, in place of an encoder of a
history and a decoder of one item.

Shapes: b batch rows, t items of a row, s codes of a SID, k beams, w width, c codes of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from semid.mlp import drop_out
from semid.probe.settings import NetworkSettings
from semid.probe.transformer import BeamPast, Block, Past, initialise
from semid.recsys.sequences import Batch


class GenerativeModel(nn.Module):
    """A causal transformer over the codes of items.

    Parameters
    ----------
    levels : codes per level of a SID
    settings : sizes
    generator : draws the weights
    """

    def __init__(
        self, levels: Sequence[int], settings: NetworkSettings, generator: Generator
    ) -> None:
        super().__init__()
        self.levels, self.dropout = tuple(levels), settings.dropout
        starts = [0, *accumulate(levels)]
        self.starts = tuple(starts[:-1])
        self.tokens = nn.Parameter(torch.empty(starts[-1], settings.width))
        self.places = nn.Parameter(torch.empty(settings.max_items + 1, settings.width))
        self.depths = nn.Parameter(torch.empty(len(levels), settings.width))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)
        initialise(self, generator, settings.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.tokens.device

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the mean cross-entropy of the codes of the next items, over all places."""
        codes_bts = torch.cat([batch.tokens_bts[:, :1], batch.target_tokens], 1)
        items, levels = batch.target_tokens.shape[1:]
        hidden, _ = self.read(codes_bts[:, :-1], codes_bts[:, -1, : levels - 1], generator)
        # What is at a place predicts the token of the next: code l of an item follows on l - 1, and
        # its first on the last of the item before.
        hidden_btsw = hidden[:, levels - 1 :].unflatten(1, (items, levels))  # type: ignore[no-untyped-call]
        losses = [
            cross_entropy(
                self.logits(hidden_btsw[:, :, level], level).flatten(0, 1).float(),
                batch.target_tokens[..., level].flatten(),
                ignore_index=-1,
            )
            for level in range(levels)
        ]
        return torch.stack(losses).mean()

    def read(
        self, codes_bts: Tensor, begun_bp: Tensor, generator: Generator | None = None
    ) -> tuple[Tensor, list[Past]]:
        """Read items and the first codes of one more: what comes of all places, and the pasts.

        ``(b, t s + p, w)``. Padding at the end of a row changes nothing before it.
        """
        items, levels = codes_bts.shape[1:]
        whole = torch.stack([self.embed(codes_bts[..., one], one) for one in range(levels)], 2)
        whole = whole + self.places[:items, None]
        begun = [
            self.embed(begun_bp[:, one], one) + self.places[items]
            for one in range(begun_bp.shape[1])
        ]
        x_btw = torch.cat([whole.flatten(1, 2), *(each[:, None] for each in begun)], 1)
        if generator is not None and self.dropout:
            x_btw = drop_out(x_btw, self.dropout, generator)
        pasts = []
        for block in self.blocks:
            x_btw, past = block(x_btw, generator)
            pasts.append(past)
        return self.norm(x_btw), pasts

    def embed(self, codes: Tensor, level: int) -> Tensor:
        """Return the embeddings of codes ``(…)`` of a level, without their places: ``(…, w)``."""
        # Padding, which is read by nobody, has some code's.
        return self.tokens[codes.clamp(min=0) + self.starts[level]] + self.depths[level]

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Return the logits of a level's codes, ``(…, c)``."""
        start = self.starts[level]
        return hidden @ self.tokens[start : start + self.levels[level]].T


class Continuation:
    """The next SID of some histories, as `semid.recsys.beam_search` asks for it.

    Parameters
    ----------
    model : of the codes
    codes_bts : the histories, all of one length, without padding
    """

    def __init__(self, model: GenerativeModel, codes_bts: Tensor) -> None:
        self.model, self.items = model, codes_bts.shape[1]
        hidden, self.pasts = model.read(codes_bts, codes_bts[:, 0, :0])
        self.first = hidden[:, -1:]
        self.blocks = [block for block in model.blocks if isinstance(block, Block)]
        self.owns: list[BeamPast | None] = [None] * len(self.blocks)

    def __call__(self, tokens: Tensor, source: Tensor) -> Tensor:
        """Return the logits of the next level's codes, ``(b, k, c)``."""
        level = tokens.shape[-1]
        if not level:
            return self.model.logits(self.first, 0)
        x_bkw = self.model.embed(tokens[..., -1], level - 1) + self.model.places[self.items]
        for number, (block, past) in enumerate(zip(self.blocks, self.pasts, strict=True)):
            own = self.owns[number]
            x_bkw, self.owns[number] = block.step(
                x_bkw, past, None if own is None else own.chosen(source)
            )
        return self.model.logits(self.model.norm(x_bkw), level)
