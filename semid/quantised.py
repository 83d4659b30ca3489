"""What quantisation in training takes and gives, beside the codebooks themselves.

Shapes: n items, z latent dims, k codewords, l levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from semid.estimators import straight_through


@dataclass(frozen=True)
class Moment:
    """What quantisation in training depends on beside the batch.

    Attributes
    ----------
    depth : levels that this batch trains
    temperature : of Gumbel-softmax
    entropy : whether the loss asks for `Quantised.entropy_gap`
    mate_n : for each of the batch's first rows the place of one near to it, or its own; None where
        rows choose for themselves
    """

    depth: int
    temperature: float = 1.0
    entropy: bool = False
    mate_n: Tensor | None = None


class Quantised(NamedTuple):
    """One training batch after quantisation.

    latent_nz : the quantised latent; its gradient passes on to the encoder
    commitments : of each level, the mean squared distance of its residual to its codeword
    codebook_loss : the same towards the codewords, where these learn by gradient
    entropy_gap : log K less the entropy of the batch's soft choices, mean over levels
    codes_nl : int64 ``(n, depth)``
    residuals : for each level what was quantised there, detached, ``(n, z)``
    totals : for each level the sum of the codewords up to it, detached, ``(n, z)``
    """

    latent_nz: Tensor
    commitments: list[Tensor]
    codebook_loss: Tensor
    entropy_gap: Tensor
    codes_nl: Tensor
    residuals: list[Tensor]
    totals: list[Tensor]

    def first(self, n: int) -> Quantised:
        """Return what the codebooks learn from when it is only the first n rows."""
        residuals = [residual_nz[:n] for residual_nz in self.residuals]
        return self._replace(codes_nl=self.codes_nl[:n], residuals=residuals)

    def prefixes(self, latent_nz: Tensor) -> list[Tensor]:
        """Return the quantised latent of every prefix, each with a gradient to the encoder."""
        shorter = [straight_through(latent_nz, total_nz) for total_nz in self.totals[:-1]]
        return [*shorter, self.latent_nz]

    @property
    def commitment(self) -> Tensor:
        """The sum of `commitments`."""
        return sum(self.commitments[1:], start=self.commitments[0])


class Statistics(NamedTuple):
    """What one level learns from a batch; each a sum over rows.

    count_k : rows per codeword
    sum_kz : their residuals
    distance : their squared distances to their codewords, ``()``
    """

    count_k: Tensor
    sum_kz: Tensor
    distance: Tensor
