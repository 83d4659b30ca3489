"""An MLP beside a linear map: the encoder and, reversed, the decoder. Pure torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from semid.model_config import ModelConfig
from semid.quantization import product

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
}
# In place where no gradient needs the input: a large result is slow to make room for.
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_,
    "relu": nn.functional.relu_,
    "silu": partial(nn.functional.silu, inplace=True),
}


class Path(nn.Module):
    """An MLP, beside a linear map where there is one: ``linear(x) + mlp(x)``."""

    def __init__(
        self,
        width_in: int,
        hidden: Sequence[int],
        width_out: int,
        config: ModelConfig,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = (width_in, *hidden, width_out)
        self.config, self.width_out, self.dropout = config, width_out, dropout
        pca = config.skip == "pca"
        self.linear = undrawn(width_in, width_out, bias=False) if pca else None
        self.mlp = nn.ModuleList(undrawn(a, b) for a, b in pairwise(widths))
        normed = hidden if config.layer_norm else ()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in normed)

    def initialise(self, linear: Tensor, generator: Generator) -> None:
        """Set the linear map and draw the layers; beside a linear map the MLP begins at zero."""
        if self.linear is not None:
            self.linear.weight.copy_(linear)
        for layer in self.mlp:
            assert isinstance(layer, nn.Linear)
            # Drawn where the generator is, so that a seed means the same on every device.
            drawn = torch.empty_like(layer.weight, device=generator.device)
            nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
            layer.weight.copy_(drawn)
            nn.init.zeros_(layer.bias)
            if layer is self.mlp[-1] and self.config.skip != "none":
                nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Map ``(n, width_in)`` to ``(n, width_out)``; a generator draws the dropout."""
        hidden = x
        for place, layer in enumerate(self.mlp[:-1]):
            hidden = apply(layer, hidden)
            if self.config.layer_norm:
                hidden = self.norms[place](hidden)
            hidden = self.activate(hidden)
            if self.dropout and generator is not None:
                hidden = drop_out(hidden, self.dropout, generator)
        out = apply(self.mlp[-1], hidden)
        if self.config.skip == "identity":
            # Embeddings of other widths than the widest end in zeros.
            pad = self.width_out - x.shape[1]
            return out + (nn.functional.pad(x, (0, pad)) if pad > 0 else x[:, : self.width_out])
        return out if self.linear is None else apply(self.linear, x) + out

    def activate(self, hidden: Tensor) -> Tensor:
        """Apply the activation, in place where no gradient is asked for."""
        chosen = _ACTIVATIONS if torch.is_grad_enabled() else _IN_PLACE
        return chosen[self.config.activation](hidden)


def drop_out(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Set a share of numbers to zero and scale the others up (Srivastava et al., JMLR 15, 2014).

    Drawn where the generator is.
    """
    # Not torch's own, which draws from global state; four 16-bit numbers from every draw.
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=generator.device).random_(
        -(2**63), None, generator=generator
    )
    drawn = bits.view(torch.int16)[: x.numel()].view(x.shape)
    kept = drawn.to(x.device) >= round(share * 2**16) - 2**15
    scale = kept.to(torch.float32).mul_(1 / (1 - share))  # which bfloat16 would round
    return (x * scale).to(x.dtype)


def apply(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer, each row with the same bits wherever it stands."""
    assert isinstance(layer, nn.Linear)
    bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
    return product(bias, x, layer.weight)


def undrawn(width_in: int, width_out: int, *, bias: bool = True) -> nn.Linear:
    """Make a layer without drawing its weights, which would move torch's global generator."""
    # Not by skip_init: that loads sympy, which takes as long as a third of torch.
    layer = nn.Linear(width_in, width_out, bias=bias, device="meta")
    layer.weight = nn.Parameter(torch.empty(width_out, width_in))
    if bias:
        layer.bias = nn.Parameter(torch.empty(width_out))
    return layer
