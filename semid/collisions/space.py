"""Latent space as a policy sees it: what a SID stands for, and what another would cost.

Everything in float64. Shapes: m items, z latent dims, k codewords, l levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_EPSILON = 1e-5  # of torch's layer_norm


@dataclass(frozen=True)
class Space:
    """The codebooks of a model, and the latents of the rows at hand.

    Attributes
    ----------
    codebooks : one ``(k, z)`` per level
    layer_norm : whether every level normalises what the levels before left
    latents : takes row numbers, ascending, and yields their latents ``(b, z)`` in that order
    """

    codebooks: Sequence[Matrix]
    layer_norm: bool
    latents: Callable[[Integers], Iterator[npt.NDArray[np.float32]]]

    @property
    def levels(self) -> tuple[int, ...]:
        """Codewords per level."""
        return tuple(map(len, self.codebooks))

    @cached_property
    def _squares(self) -> list[npt.NDArray[np.float64]]:
        """The squared length of every codeword, per level."""
        return [np.square(codebook_kz).sum(1) for codebook_kz in self.codebooks]

    def enter(self, residual_mz: Matrix) -> Matrix:
        """Turn what the levels before left into what the next level quantises."""
        if not self.layer_norm:
            return residual_mz
        centred_mz = residual_mz - residual_mz.mean(1, keepdims=True)
        spread_m = np.sqrt(np.square(centred_mz).mean(1, keepdims=True) + _EPSILON)
        normed: Matrix = centred_mz / spread_m
        return normed

    def residual(
        self, latent_mz: npt.NDArray[np.float32], codes_ml: npt.NDArray[np.int32]
    ) -> Matrix:
        """Return what levels of given codes leave for the next one, ``(m, z)``."""
        residual_mz = self.enter(latent_mz.astype(np.float64))
        for code_m, codebook_kz in zip(codes_ml.T, self.codebooks, strict=False):
            residual_mz = self.enter(residual_mz - codebook_kz[code_m])
        return residual_mz

    def error(
        self, latent_mz: npt.NDArray[np.float32], codes_ml: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """Return the squared error that codes leave of latents, ``(m,)``."""
        residual_mz = self.residual(latent_mz, codes_ml[:, :-1])
        last_mz = self.codebooks[-1][codes_ml[:, -1]]
        error_m: npt.NDArray[np.float64] = np.square(residual_mz - last_mz).sum(1)
        return error_m

    def costs(self, residual_mz: Matrix, level: int) -> Matrix:
        """Return the squared distances of residuals to the codewords of a level, ``(m, k)``."""
        codebook_kz = self.codebooks[level]
        square_m = np.square(residual_mz).sum(1)
        cost_mk = residual_mz @ codebook_kz.T
        cost_mk *= -2
        cost_mk += square_m[:, None]
        cost_mk += self._squares[level]
        found: Matrix = np.maximum(cost_mk, 0, out=cost_mk)
        return found

    def last_costs(self, residual_mz: Matrix, items: slice) -> Matrix:
        """Return the costs at the last level of some among residuals."""
        return self.costs(residual_mz[items], len(self.codebooks) - 1)
