"""A causal transformer of today's plain kind, and how it goes on from what it has read.

Pre-norm blocks with RMSNorm (Zhang & Sennrich, arXiv 1910.07467) and no biases. Dropout is drawn
from a generator, so that nothing depends on global state.

Shapes: b batch rows, t places, k beams, h heads, w width, a width of a head, p places of the past.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from semid.mlp import drop_out, undrawn
from semid.probe.settings import NetworkSettings

_STD = 0.02  # of first weights, as in GPT-2


class Past(NamedTuple):
    """Keys and values of places that were read, of one block: ``(b, h, p, a)`` each."""

    key: Tensor
    value: Tensor


class BeamPast(NamedTuple):
    """Keys and values of the beams' own places, of one block: ``(b, h, k, p, a)`` each."""

    key: Tensor
    value: Tensor

    def chosen(self, source: Tensor) -> BeamPast:
        """Return those of beams ``(b, k)``, named by their numbers."""
        index = source[:, None, :, None, None]
        key, value = (
            kept.gather(2, index.expand(-1, kept.shape[1], -1, *kept.shape[3:])) for kept in self
        )
        return BeamPast(key, value)


class Block(nn.Module):
    """Attention to what came before, and a feed-forward network, each added to what goes in."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        width, inner = settings.width, settings.heads * settings.head_width
        self.heads, self.dropout = settings.heads, settings.dropout
        self.attention_norm, self.norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.read = undrawn(width, 3 * inner, bias=False)
        self.write = undrawn(inner, width, bias=False)
        self.wide = undrawn(width, settings.feedforward, bias=False)
        self.narrow = undrawn(settings.feedforward, width, bias=False)

    def forward(self, x_btw: Tensor, generator: Generator | None) -> tuple[Tensor, Past]:
        """Read whole rows; returns what comes out, and what later places attend to."""
        query, key, value = self._read(x_btw)
        found = _attended(query, key, value)
        x_btw = x_btw + self._dropped(self.write(found.transpose(1, 2).flatten(2)), generator)
        return self._fed(x_btw, generator), Past(key, value)

    def step(self, x_bkw: Tensor, past: Past, own: BeamPast | None) -> tuple[Tensor, BeamPast]:
        """Read one more place of every beam; all beams of a row share its past."""
        query, key, value = self._read(x_bkw)  # (b, h, k, a)
        keys, values = key.unsqueeze(3), value.unsqueeze(3)
        if own is not None:
            keys, values = torch.cat([own.key, keys], 3), torch.cat([own.value, values], 3)
        shared = query @ past.key.transpose(-1, -2)  # (b, h, k, p)
        alone = (query.unsqueeze(3) * keys).sum(-1)
        scores = torch.cat([shared, alone.to(shared.dtype)], -1) * query.shape[-1] ** -0.5
        weight = scores.float().softmax(-1).to(value.dtype)
        places = past.key.shape[2]
        found = weight[..., :places] @ past.value
        found = found + (weight[..., places:].unsqueeze(-1) * values).sum(3)
        x_bkw = x_bkw + self.write(found.transpose(1, 2).flatten(2))
        return self._fed(x_bkw, None), BeamPast(keys, values)

    def _read(self, x_btw: Tensor) -> list[Tensor]:
        """Return queries, keys and values, ``(b, h, t, a)`` each."""
        read = self.read(self.attention_norm(x_btw)).unflatten(-1, (3, self.heads, -1))
        return [part.transpose(1, 2) for part in read.unbind(2)]

    def _fed(self, x_btw: Tensor, generator: Generator | None) -> Tensor:
        return x_btw + self._dropped(self.narrow(gelu(self.wide(self.norm(x_btw)))), generator)

    def _dropped(self, x_btw: Tensor, generator: Generator | None) -> Tensor:
        if generator is None or not self.dropout:
            return x_btw
        return drop_out(x_btw, self.dropout, generator)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend to what is not later, ``(b, h, t, a)``."""
    if query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, is_causal=True)
    # By hand: torch's own has a slow gradient on a CPU, and histories are short.
    places = query.shape[2]
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    later = torch.ones(places, places, dtype=torch.bool, device=query.device).triu_(1)
    weight = scores.float().masked_fill_(later, -torch.inf).softmax(-1).to(value.dtype)
    found: Tensor = weight @ value
    return found


def initialise(network: nn.Module, generator: Generator, layers: int) -> None:
    """Draw all weights: normal, those that add to the stream smaller the more layers there are."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1)  # norms
                continue
            adds = name.endswith(("write.weight", "narrow.weight"))
            std = _STD / (2 * layers) ** 0.5 if adds else _STD
            # Drawn where the generator is, so that a seed means the same on every device.
            drawn = torch.empty(weight.shape, device=generator.device)
            weight.copy_(drawn.normal_(0, std, generator=generator))
