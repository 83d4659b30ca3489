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
        self.begin = starts[-1]  # the token before the first item
        self.tokens = nn.Parameter(torch.empty(starts[-1] + 1, settings.width))
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
        """Return the cross-entropy of all codes of rows of items, padded with -1 at their ends."""
        codes_bts = torch.cat([batch.tokens_bts[:, :1], batch.target_tokens], 1)
        hidden, _ = self._read(codes_bts[:, :-1], codes_bts[:, -1:], generator)
        # What is at a place predicts the token of the next: level l of an item follows on l - 1.
        hidden_btsw = hidden.view(*codes_bts.shape, -1)
        losses = []
        for level in range(len(self.levels)):
            logits = self._logits(hidden_btsw[:, :, level], level)
            losses.append(
                cross_entropy(
                    logits.flatten(0, 1).float(), codes_bts[..., level].flatten(), ignore_index=-1
                )
            )
        return torch.stack(losses).mean()

    def _embed(self, codes: Tensor, level: int | None = None) -> Tensor:
        if level is not None:
            return self.tokens[codes + self.starts[level]] + self.depths[level]
        start = torch.tensor(self.starts, device=codes.device)
        # Padding is read by nobody.
        return self.tokens[codes.clamp(min=0) + start] + self.depths

    def _read(
        self, codes_bts: Tensor, last_b1s: Tensor | None, generator: Generator | None
    ) -> tuple[Tensor, list[Past]]:
        """Read whole items and, of a last one, all but its last code, behind the begin."""
        batch, items, levels = codes_bts.shape
        begin = self.tokens[self.begin].expand(batch, 1, -1)
        whole = (self._embed(codes_bts) + self.places[:items, None]).flatten(1, 2)
        parts = [begin, whole]
        if last_b1s is not None:
            last = self._embed(last_b1s) + self.places[items]
            parts.append(last[:, 0, : levels - 1])
        x_btw = torch.cat(parts, 1)
        if generator is not None and self.dropout:
            x_btw = drop_out(x_btw, self.dropout, generator)
        pasts = []
        for block in self.blocks:
            x_btw, past = block(x_btw, generator)
            pasts.append(past)
        return self.norm(x_btw), pasts

    def _logits(self, hidden: Tensor, level: int) -> Tensor:
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
        hidden, self.pasts = model._read(codes_bts, None, None)
        self.first = hidden[:, -1:]
        self.blocks = [block for block in model.blocks if isinstance(block, Block)]
        self.owns: list[BeamPast | None] = [None] * len(self.blocks)

    def __call__(self, tokens: Tensor, source: Tensor) -> Tensor:
        """Return the logits of the next level's codes, ``(b, k, c)``."""
        level = tokens.shape[-1]
        if not level:
            return self.model._logits(self.first, 0)
        x_bkw = self.model._embed(tokens[..., -1], level - 1) + self.model.places[self.items]
        for number, (block, past) in enumerate(zip(self.blocks, self.pasts, strict=True)):
            own = self.owns[number]
            x_bkw, self.owns[number] = block.step(
                x_bkw, past, None if own is None else own.chosen(source)
            )
        return self.model._logits(self.model.norm(x_bkw), level)
