"""Embeddings of semantic IDs for ranking and sequential models: of prefixes, hashed, and of codes.

Each module is one look-up in an `nn.EmbeddingBag`. Codes are integers ``(…, l)``, vectors
``(…, d)``; a code below 0 ends an ID, so that an unknown or padded item is -1 throughout. Nothing
depends on the other rows of a batch. Modules may be moved, cast to float16 or bfloat16 (sums are
rounded to it once a row at least), compiled, and saved by their ``state_dict``, which holds all
that a look-up depends on.

Shapes: n items, l levels, d dims, r rows of a table, k codewords, z latent dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from semid.errors import SemidError
from semid.ids import Codes, prefixes, validate_codes
from semid.recsys.arguments import refuse_choice, sids_in
from semid.recsys.bags import (
    LARGEST_TABLE,
    Collisions,
    Unknown,
    draw_bag,
    refuse_codes,
    refuse_sizes,
    require_sizes,
    sharing,
    summed,
    without_unknown,
)


class PrefixNgramEmbedding(nn.Module):
    """The sum of the embeddings of an ID's prefixes, hashed into a table of any size.

    Prefix n-grams of Zheng et al., "Enhancing Embedding Representation Stability in Recommendation
    Systems with Semantic ID", arXiv 2504.02137: items of one prefix share its vector, so that few
    interactions, or none, are enough to say something. N-grams of codes as features of a ranking
    model are of Singh et al., "Better Generalization with Semantic IDs", arXiv 2306.08121.

    All possible prefixes are numbered, by length and then by codes. A table that has a row for each
    gives every prefix its own. In a smaller one the row is a hash of the number, modulo the rows:
    with ``polynomial`` of Wegman and Carter, "New hash functions and their use in authentication
    and set equality", 1981, as even as chance; with ``modulo`` the number itself. That loses the
    first codes of a prefix where rows and codewords share factors: of Beauty's 16,015 prefixes of 3
    levels of 256, 52 met in one of 16,384 rows, where chance has 8.

    Parameters
    ----------
    rows : r, the size of the table
    embedding_dim : d
    levels : K of every level, length l; any numbers of any length
    unknown : vector of an ID whose first code is below 0: ``zeros``, or one that is ``learned``
    hashing : of a table that is smaller than the number of prefixes
    sparse : whether gradients are sparse; see `nn.EmbeddingBag` for the optimisers that take them
    seed : of the vectors, drawn from N(0, 1/d), and of the hash

    Raises
    ------
    SemidError
        When a size is out of range.
    """

    levels_l: Tensor
    first_l: Tensor
    hash_4: Tensor

    def __init__(
        self,
        rows: int,
        embedding_dim: int,
        levels: Sequence[int],
        *,
        unknown: Unknown = "zeros",
        hashing: Literal["polynomial", "modulo"] = "polynomial",
        sparse: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(embedding_dim, levels)
        refuse_sizes(rows, embedding_dim, levels)
        refuse_choice("unknown", unknown, ("zeros", "learned"))
        refuse_choice("hashing", hashing, ("polynomial", "modulo"))
        self.rows, self.unknown = rows, unknown
        # Prefixes of a length come after all shorter ones; Python's integers do not overflow.
        counts_l = list(accumulate(levels, lambda count, size: count * size))
        *first_l, total = [0, *accumulate(counts_l)]
        modulus, coefficients = rows, [0, 1, 0]
        if hashing == "polynomial" and total > rows:
            random = np.random.default_rng(seed)
            modulus = LARGEST_TABLE
            coefficients = random.integers(1, modulus, 3).tolist()
        self.register_buffer("levels_l", torch.tensor(levels, dtype=torch.int64))
        self.register_buffer("first_l", torch.tensor([n % modulus for n in first_l]))
        self.register_buffer("hash_4", torch.tensor([*coefficients, modulus]))
        self.bag = draw_bag(rows, embedding_dim, unknown, sparse, seed)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(…, l)`` to vectors ``(…, d)``; prefixes up to a code below 0 count.

        Raises
        ------
        SemidError
            For codes of another length; for a code that is not below K on a CPU, unless compiled.
        """
        return summed(self.bag, self.rows_of(codes))

    def extra_repr(self) -> str:
        """Say what it embeds."""
        return f"levels={tuple(self.levels_l.tolist())}, rows={self.rows:,}"

    def rows_of(self, codes: Tensor) -> Tensor:
        """Return the rows of an ID's prefixes, ``(…, l)``; beyond `rows` for those that end early.

        Raises
        ------
        SemidError
            As `forward`.
        """
        refuse_codes(codes, self.levels_l)
        square, linear, constant, modulus = self.hash_4.unbind()
        number, found = torch.zeros_like(codes[..., 0], dtype=torch.int64), []
        for level, size in enumerate(self.levels_l.unbind()):
            # Factors are at most 2^31 throughout, so that nothing overflows.
            number = (number * size + codes[..., level]) % modulus
            key = (number + self.first_l[level]) % modulus
            hashed = ((key * square + linear) % modulus * key + constant) % modulus
            found.append(hashed % self.rows)
        return without_unknown(torch.stack(found, -1), codes, self.rows, self.unknown)

    def collisions(self, ids: Any) -> Collisions:
        """Count how the distinct prefixes of some IDs, of all lengths, share rows.

        Parameters
        ----------
        ids : codes of all levels or of the first, ``(n, l)``, or a table with them as its `sids`

        Raises
        ------
        SemidError
            When these are not codes of the module's levels.
        """
        codes_nl, found = _codes_of(ids, self.levels_l.tolist()), []
        for depth in range(1, codes_nl.shape[1] + 1):
            prefix_pd, _ = prefixes(codes_nl, depth)
            padded_pl = np.full((len(prefix_pd), len(self.levels_l)), -1)
            padded_pl[:, :depth] = prefix_pd
            codes = torch.from_numpy(padded_pl).to(self.levels_l.device)
            found.append(self.rows_of(codes)[:, depth - 1].cpu().numpy())
        return sharing(np.unique(np.concatenate(found), return_counts=True)[1])


class CodeEmbedding(nn.Module):
    """The embeddings of an ID's codes, one table a level, summed or side by side.

    Parameters
    ----------
    embedding_dim : d, of the whole
    levels : K of every level, length l
    mode : ``sum``, or ``concat`` of l vectors of d/l each
    codebooks : codewords to begin with, as of a model: for the first levels, each ``(k, z)`` with z
        the width of a level's vectors; levels beyond, such as a suffix, begin at random
    unknown, sparse : as of `PrefixNgramEmbedding`; with ``concat`` a vector that is learned is as
        wide as one level and stands at the first
    seed : of the vectors, drawn from N(0, 1/d)

    Raises
    ------
    SemidError
        When a size is out of range, or a codebook is not of its level's.
    """

    levels_l: Tensor
    first_l: Tensor

    def __init__(
        self,
        embedding_dim: int,
        levels: Sequence[int],
        *,
        mode: Literal["sum", "concat"] = "sum",
        codebooks: Sequence[npt.ArrayLike | Tensor] = (),
        unknown: Unknown = "zeros",
        sparse: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(embedding_dim, levels)
        refuse_sizes(sum(levels), embedding_dim, levels)
        refuse_choice("mode", mode, ("sum", "concat"))
        refuse_choice("unknown", unknown, ("zeros", "learned"))
        width, rest = divmod(embedding_dim, len(levels) if mode == "concat" else 1)
        if rest:
            raise SemidError(
                f"embedding_dim is {embedding_dim}, which {len(levels)} levels side by side cannot "
                "share evenly; take a multiple"
            )
        self.rows, self.unknown, self.mode = sum(levels), unknown, mode
        first_l = [0, *accumulate(levels)]
        self.register_buffer("levels_l", torch.tensor(levels, dtype=torch.int64))
        self.register_buffer("first_l", torch.tensor(first_l[:-1]))
        self.bag = draw_bag(self.rows, width, unknown, sparse, seed)
        if isinstance(codebooks, str):
            raise SemidError(f"codebooks are {codebooks!r}; give codebooks_of({codebooks!r})")
        if len(codebooks) > len(levels):
            raise SemidError(f"{len(codebooks)} codebooks are given for {len(levels)} levels")
        with torch.no_grad():
            for level, (start, stop) in enumerate(list(pairwise(first_l))[: len(codebooks)]):
                codebook_kz = torch.as_tensor(codebooks[level])
                if codebook_kz.shape != (stop - start, width):
                    raise SemidError(
                        f"the codebook of level {level} has shape {tuple(codebook_kz.shape)}; "
                        f"expected {(stop - start, width)}, codes of the level and dims: take the "
                        "model that assigned the table, and project, or choose another "
                        "embedding_dim"
                    )
                self.bag.weight[start:stop] = codebook_kz

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(…, l)`` to vectors ``(…, d)``; codes up to one below 0 count.

        Raises
        ------
        SemidError
            For codes of another length; for a code that is not below K on a CPU, unless compiled.
        """
        refuse_codes(codes, self.levels_l)
        rows = without_unknown(codes + self.first_l, codes, self.rows, self.unknown)
        if self.mode == "sum":
            return summed(self.bag, rows)
        # Side by side, every code is a bag of its own.
        return summed(self.bag, rows[..., None]).flatten(-2)

    def extra_repr(self) -> str:
        """Say what it embeds, and how."""
        return f"levels={tuple(self.levels_l.tolist())}, mode={self.mode!r}"

    def collisions(self, ids: Any) -> Collisions:
        """Count how items share vectors: those whose codes are equal do.

        Parameters
        ----------
        ids : codes of all levels or of the first, as raw codes are where SIDs have a suffix,
            ``(n, l)``, or a table with them as its `sids`

        Raises
        ------
        SemidError
            When these are not codes of the module's levels.
        """
        codes_nl = _codes_of(ids, self.levels_l.tolist())
        return sharing(prefixes(codes_nl, codes_nl.shape[1])[1])


def _codes_of(ids: Any, levels: Sequence[int]) -> Codes:
    """Return the codes of a table, or as they are; raises unless they are of the first levels."""
    ids = sids_in(ids)
    codes_nl: Codes = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    validate_codes(codes_nl, levels[: codes_nl.shape[1]] if codes_nl.ndim == 2 else levels)
    return codes_nl
