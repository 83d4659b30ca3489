"""Finite scalar quantisation (arXiv 2309.15505): codes without a codebook.

A residual is projected to a few dims, each is bounded and rounded to a whole number of steps, and
the steps together are the code. Shapes: n items, z latent dims, g grid dims, k codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from semid.errors import SemidError
from semid.quantization import product


def grid_sizes(size: int, given: Sequence[int] = ()) -> tuple[int, ...]:
    """Return how many steps each grid dim has, so that there are `size` codes in all.

    `given` when it is not empty; else factors of `size`, of 4 and more where it has such.

    Raises
    ------
    SemidError
        When the product of `given` is not `size`.
    """
    if given:
        if prod(given) != size:
            raise SemidError(
                f"codebooks.fsq_grid {list(given)} has {prod(given)} codes but the level has "
                f"{size}; their product must be the size of the level"
            )
        return tuple(given)
    factors, rest, divisor = [], size, 2
    while rest > 1:
        if divisor * divisor > rest:
            divisor = rest
        while rest % divisor == 0:
            factors.append(divisor)
            rest //= divisor
        divisor += 1
    while len(factors) > 1 and min(factors) < 4:
        factors.sort()
        factors = [factors[0] * factors[1], *factors[2:]]
    return tuple(factors) or (1,)


class Grid(nn.Module):
    """A level whose codes are the points of a grid in a learned projection."""

    steps_g: Tensor
    stride_g: Tensor

    def __init__(self, sizes: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        dims = len(self.sizes)
        strides = [prod(self.sizes[place + 1 :]) for place in range(dims)]
        self.register_buffer("steps_g", torch.tensor(self.sizes), persistent=False)
        self.register_buffer("stride_g", torch.tensor(strides), persistent=False)
        self.down = nn.Parameter(torch.zeros(dims, latent_dim))
        self.bias = nn.Parameter(torch.zeros(dims))
        self.up = nn.Parameter(torch.zeros(dims, latent_dim))

    def bounded(self, residual_nz: Tensor) -> Tensor:
        """Project residuals to the grid's space: each dim between its first and its last step."""
        free_ng = product(self.bias, residual_nz, self.down)
        reach_g = (self.steps_g - 1).to(free_ng.dtype) / 2
        return (torch.tanh(free_ng) + 1) * reach_g

    def code(self, step_ng: Tensor) -> Tensor:
        """Return the codes of points of the grid: whole steps ``(n, g)`` to codes ``(n,)``."""
        return (step_ng.long() * self.stride_g).sum(1)

    def points(self, step_ng: Tensor) -> Tensor:
        """Turn steps into latents ``(n, z)``; gradients pass."""
        reach_g = ((self.steps_g - 1).to(step_ng.dtype) / 2).clamp_min(0.5)
        return (step_ng / reach_g - 1) @ self.up

    def table(self) -> Tensor:
        """Return the latent of every code, ``(k, z)``: what a codebook would hold."""
        axes = [torch.arange(size, device=self.up.device) for size in self.sizes]
        return self.points(torch.cartesian_prod(*axes).reshape(-1, len(axes)).to(self.up.dtype))

    def forward(self, residual_nz: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and their latents, whose gradient passes the rounding straight through."""
        bounded_ng = self.bounded(residual_nz)
        step_ng = bounded_ng + (bounded_ng.round() - bounded_ng).detach()
        return self.code(step_ng.round()), self.points(step_ng)

    @torch.no_grad()
    def initialise(self, residual_nz: Tensor) -> None:
        """Start at the principal components of a sample, and at the best way back from there."""
        centre_z = residual_nz.mean(0)
        centred_nz = (residual_nz - centre_z).double()
        values_z, vectors_zz = torch.linalg.eigh(centred_nz.T @ centred_nz / len(centred_nz))
        dims = len(self.sizes)
        axes_gz = vectors_zz.flip(1)[:, :dims].T
        axes_gz = axes_gz * axes_gz.gather(1, axes_gz.abs().argmax(1, keepdim=True)).sign()
        spread_g = values_z.flip(0)[:dims].clamp_min(0).sqrt()
        # Along a direction without spread, any scale will do.
        spread_g = torch.where(spread_g > 1e-6 * spread_g.max(), spread_g, 1.0)
        down_gz = (axes_gz / spread_g[:, None]).to(self.down.dtype)
        self.down[: len(down_gz)] = down_gz
        self.bias.copy_(-self.down @ centre_z)
        reach_g = ((self.steps_g - 1).to(self.up.dtype) / 2).clamp_min(0.5)
        unit_ng = (self.bounded(residual_nz).round() / reach_g - 1).double()
        square_gg = unit_ng.T @ unit_ng
        square_gg.diagonal().add_(1e-6 * len(unit_ng))
        self.up.copy_(torch.linalg.solve(square_gg, unit_ng.T @ residual_nz.double()))
