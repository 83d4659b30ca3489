"""The way into latent space as assignment runs it: hardly more than the encoder's matrix products.

Training runs the same layers in `semid.autoencoder`, where they can be differentiated. Shapes:
r rows of a block, d input dims, z latent dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor, nn

from semid.mlp import Path
from semid.quantization import TILE_COLUMNS, TILE_ROWS


class Projection(Protocol):
    """Encodes blocks of at most r rows, with buffers of its own: one thread at a time."""

    def __call__(self, x_bd: npt.NDArray[Any]) -> Tensor:
        """Encode embeddings ``(b, d)``: latents ``(r, z)``, there until the next call.

        What follows the first b rows is left over and means nothing.
        """
        ...


class NoProjection:
    """The projection where embeddings are the latents; `buffer` is ``(r, d)``."""

    def __init__(self, buffer: Tensor) -> None:
        self._buffer = buffer

    def __call__(self, x_bd: npt.NDArray[Any]) -> Tensor:
        """Return the block as it is."""
        _put(x_bd, self._buffer)
        return self._buffer


class EncoderProjection:
    """The projection of an autoencoder, whose weights are copied.

    A large result is slow to make room for, and a bias slow to copy into it. So results go to
    buffers that are kept, and every bias is a column of its weights that meets a one in each row.

    Parameters
    ----------
    encoders, widths : one for each embedding of an item, side by side in a row
    mean_d, scale_d : input statistics
    rows : r
    """

    @torch.no_grad()
    def __init__(
        self,
        encoders: Sequence[Path],
        widths: Sequence[int],
        mean_d: Tensor,
        scale_d: Tensor,
        rows: int,
    ) -> None:
        spans = [slice(*ends) for ends in pairwise(accumulate(widths, initial=0))]
        self._encoders = [
            (span, mean_d[span], scale_d[span], _Encoder(path, rows))
            for span, path in zip(spans, encoders, strict=True)
        ]

    def __call__(self, x_bd: npt.NDArray[Any]) -> Tensor:
        """Encode a block."""
        total_rz: Tensor | None = None
        for span, mean, scale, encoder in self._encoders:
            _put(x_bd[:, span], encoder.x_rd)
            encoder.x_rd.sub_(mean).div_(scale)
            latent_rz = encoder()
            total_rz = latent_rz if total_rz is None else total_rz.add_(latent_rz)
        assert total_rz is not None
        return total_rz


def _put(x_bd: npt.NDArray[Any], into_rd: Tensor) -> None:
    if into_rd.is_cuda:
        into_rd[: len(x_bd)].copy_(torch.tensor(x_bd))
    else:  # torch would warn of arrays that cannot be written
        into_rd.numpy()[: len(x_bd)] = x_bd


class _Encoder:
    """One `Path` with its buffers; what is in `x_rd` goes in."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        layers = [layer for layer in path.mlp if isinstance(layer, nn.Linear)]
        self.weights = [_with_bias(layer) for layer in layers]
        self.linear = None if path.linear is None else _with_bias(path.linear)
        self.inputs = [_with_ones(weight, rows) for weight in self.weights]
        self.x_rd = self.inputs[0][:, : layers[0].in_features]
        self.out = self.weights[-1].new_empty(rows, len(self.weights[-1]))

    def __call__(self) -> Tensor:
        for place, weight in enumerate(self.weights[:-1]):
            hidden = self.inputs[place + 1][:, : len(weight)]
            torch.mm(self.inputs[place], weight.T, out=hidden)
            if self.path.config.layer_norm:
                normed = hidden[:, : self.path.mlp[place].out_features]
                normed.copy_(self.path.norms[place](normed))
            self.path.activate(hidden)
        torch.mm(self.inputs[-1], self.weights[-1].T, out=self.out)
        if self.linear is not None:
            self.out.addmm_(self.inputs[0], self.linear.T)
        elif self.path.config.skip == "identity":
            self.out[:, : self.x_rd.shape[1]] += self.x_rd
        return self.out[:, : self.path.width_out]


def _with_bias(layer: nn.Linear) -> Tensor:
    """Return the weights, filled up to tiles, and a tile of columns that begins with the bias."""
    m, k = layer.weight.shape
    rows, columns = -m % TILE_ROWS, -k % TILE_ROWS
    weight = nn.functional.pad(layer.weight, (0, columns + TILE_COLUMNS, 0, rows))
    if layer.bias is not None:
        weight[:m, k + columns] = layer.bias
    return weight


def _with_ones(weight: Tensor, rows: int) -> Tensor:
    """Return a buffer for what `weight` multiplies, with the ones that its bias meets."""
    buffer = weight.new_zeros(rows, weight.shape[1])
    buffer[:, -TILE_COLUMNS] = 1
    return buffer
