"""Pieces of semantic IDs, learnt from those that there are, and the embedding of an ID by them.

A SentencePiece model (Kudo & Richardson, arXiv 1808.06226) over SIDs as text, after Singh et al.,
"Better Generalization with Semantic IDs", arXiv 2306.08121: codes that are often met together
become one piece with a vector of its own, down to whole items, and rare items share the pieces of
their codes. Needs the package ``sentencepiece`` to learn and to encode, but not to embed.

Shapes: n items, l levels, p pieces of an item.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from semid.errors import SemidError, require_package
from semid.id_table import IdTable
from semid.ids import Codes, group_ids, prefixes, validate_codes
from semid.recsys.arguments import refuse_choice, require_tensor, sids_in
from semid.recsys.bags import (
    Collisions,
    Unknown,
    draw_bag,
    may_look_at,
    refuse_sizes,
    sharing,
    summed,
    without_unknown,
)
from semid.spelling import level_name

# Every level has a Unicode plane of its own, from the first on, whose last two are no characters.
_PLANE = 1 << 16
_LEVELS, _CODES = 16, _PLANE - 2
_LEAST_BYTES = 64  # that any model's settings take


@dataclass(frozen=True)
class SidPieces:
    """A SentencePiece model over SIDs.

    Attributes
    ----------
    model : the bytes of its file; its characters are codes, each level in a plane of its own: code
        c of level l is U+10000 times (l + 1), plus c
    """

    model: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.model, bytes) or len(self.model) < _LEAST_BYTES:
            raise SemidError(
                "the model of pieces is none; give the bytes of its file: SidPieces("
                "path.read_bytes())"
            )

    def __repr__(self) -> str:
        return f"SidPieces({len(self.model):,} bytes)"

    def __len__(self) -> int:
        """Count the pieces; number 0 stands for codes that were not there to learn from."""
        return int(self._processor.get_piece_size())

    @cached_property
    def _processor(self) -> Any:
        _require()
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self.model)

    @cached_property
    def levels(self) -> int:
        """How many codes the SIDs have that pieces were learnt from: l."""
        pieces = map(self._processor.id_to_piece, range(1, len(self)))
        return max(ord(character) // _PLANE for piece in pieces for character in piece)

    def encode(self, sids: Codes | Tensor, *, unseen: bool = False) -> npt.NDArray[np.int32]:
        """Cut SIDs into pieces.

        Parameters
        ----------
        sids : ``(n, l)``, NumPy or torch, or an ids table; an unknown item is -1 throughout
        unseen : whether codes may be some that no piece was learnt from, as new items may have:
            they become piece 0

        Returns
        -------
        pieces_np : from the left, then -1; p is the most pieces that one of them has, at least 1

        Raises
        ------
        SemidError
            When these are no SIDs of the length that pieces are of, a code is unseen and may not
            be, or the package is missing.
        """
        sids = sids_in(sids)
        sids = sids.cpu().numpy() if isinstance(sids, Tensor) else np.asarray(sids)
        if sids.ndim != 2 or sids.shape[1] != self.levels:
            raise SemidError(
                f"SIDs have shape {sids.shape}, but pieces are of (n, {self.levels}) codes; give "
                "SIDs of the table that they were learnt from"
            )
        known_n = np.any(sids >= 0, 1)
        validate_codes(np.where(known_n[:, None], sids, 0))
        found = self._processor.encode(_as_text(sids[known_n]))
        count_n = np.zeros(len(sids), np.int64)
        count_n[known_n] = np.fromiter(map(len, found), np.int64, len(found))
        pieces_np = np.full((len(sids), max(count_n.max(initial=0), 1)), -1, np.int32)
        pieces_np[np.arange(pieces_np.shape[1]) < count_n[:, None]] = np.fromiter(
            chain.from_iterable(found), np.int32, count_n.sum()
        )
        if not unseen and (pieces_np == 0).any():
            row = int((pieces_np == 0).any(1).argmax())
            raise SemidError(
                f"row {row} holds codes {sids[row].tolist()}, of which some are in no SID that "
                "pieces were learnt from; learn them anew, or encode with unseen=True"
            )
        return pieces_np

    def tokens(self, piece: int) -> list[str]:
        """Spell a piece as tokens of its codes: ``["<a_41>", "<b_7>"]``; none for number 0.

        Raises
        ------
        SemidError
            When there is no such piece.
        """
        if not 0 <= piece < len(self):
            raise SemidError(f"there is no piece {piece}; they go from 0 to {len(self) - 1}")
        text = "" if piece == 0 else self._processor.id_to_piece(piece)
        return [f"<{level_name(ord(c) // _PLANE - 1)}_{ord(c) % _PLANE}>" for c in text]


def train_pieces(
    sids: Codes, vocabulary_size: int, *, weights: npt.ArrayLike | None = None
) -> SidPieces:
    """Learn pieces by byte-pair encoding (Sennrich et al., arXiv 1508.07909).

    Not by SentencePiece's unigram model: the pieces that it begins with are found without regard to
    weights, and version 0.2.3 found none in SIDs of three codes. The order of items is of no
    matter, and nothing is drawn.

    Parameters
    ----------
    sids : of the catalog, ``(n, l)``, or its ids table
    vocabulary_size : most pieces, the one for what is unknown and one for every code included
    weights : how often each item is met, integers ``(n,)``, as `Sequences.met` counts; an item that
        never is has a piece for each of its codes. Without them all items count alike

    Raises
    ------
    SemidError
        When these are no SIDs, or too long, the vocabulary is smaller than the codes need, weights
        are none, or the package is missing.
    """
    _require()
    from sentencepiece import SentencePieceTrainer

    text_u, weight_u = _weighted(sids, weights)
    characters = sorted(set(chain.from_iterable(text_u)))
    if vocabulary_size <= len(characters):
        raise SemidError(
            f"vocabulary_size is {vocabulary_size:,}, but the SIDs hold {len(characters):,} codes, "
            f"which need {len(characters) + 1:,} pieces"
        )
    # A code alone teaches nothing, but gives it a piece whatever its weight.
    lines = chain(
        (f"{character}\t1" for character in characters),
        (f"{text}\t{weight}" for text, weight in zip(text_u, weight_u, strict=True) if weight),
    )
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=lines,
        input_format="tsv",
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        split_by_unicode_script=False,
        split_by_number=False,
        split_by_whitespace=False,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        train_extremely_large_corpus=True,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return SidPieces(model.getvalue())


class PieceEmbedding(nn.Module):
    """The sum of the embeddings of an ID's pieces.

    Parameters
    ----------
    pieces : how many there are, ``len(SidPieces)``
    embedding_dim : d
    unknown : vector of an item without pieces: ``zeros``, or one that is ``learned``
    sparse : whether gradients are sparse
    seed : of the vectors, drawn from N(0, 1/d)

    Raises
    ------
    SemidError
        When a size is out of range.
    """

    def __init__(
        self,
        pieces: int,
        embedding_dim: int,
        *,
        unknown: Unknown = "zeros",
        sparse: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        refuse_sizes(pieces, embedding_dim, [pieces])
        refuse_choice("unknown", unknown, ("zeros", "learned"))
        self.rows, self.unknown = pieces, unknown
        self.bag = draw_bag(pieces, embedding_dim, unknown, sparse, seed)

    def forward(self, pieces: Tensor) -> Tensor:
        """Map pieces ``(…, p)``, as `SidPieces.encode` returns them, to vectors ``(…, d)``.

        Raises
        ------
        SemidError
            For anything but integers; on a CPU, unless compiled, for a piece that is none.
        """
        self._refuse_others(pieces)
        return summed(self.bag, without_unknown(pieces.long(), pieces, self.rows, self.unknown))

    def collisions(self, pieces: npt.ArrayLike | Tensor) -> Collisions:
        """Count how items share vectors: those with the same pieces do, in whichever order.

        Parameters
        ----------
        pieces : ``(…, p)``, as `SidPieces.encode` returns them; unknown items share a vector

        Raises
        ------
        SemidError
            For anything but integers, or a piece that is none.
        """
        if isinstance(pieces, IdTable):
            raise SemidError("pieces are given as IdTable; give SidPieces.encode(table)")
        pieces = torch.as_tensor(pieces).cpu()
        self._refuse_others(pieces)
        pieces_np = np.sort(pieces.reshape(-1, pieces.shape[-1]).numpy(), 1)
        return sharing(prefixes(pieces_np + 1, pieces_np.shape[1])[1])  # the padding from 0, too

    def _refuse_others(self, pieces: Tensor) -> None:
        require_tensor("pieces", pieces)
        if pieces.ndim == 0 or pieces.is_floating_point():
            raise SemidError(
                f"pieces have shape {tuple(pieces.shape)} and type {pieces.dtype}; expected "
                "integers (…, p)"
            )
        if may_look_at(pieces) and int(pieces.max()) >= self.rows:
            raise SemidError(
                f"there is a piece {int(pieces.max())}, but pieces go from 0 to {self.rows - 1}; "
                "give the length of the model that they are of"
            )


def _require() -> None:
    require_package("sentencepiece", extra="sentencepiece", purpose="pieces of SIDs")


def _as_text(sids: Codes) -> list[str]:
    """Return SIDs as text, a character a code."""
    _refuse_long(sids)
    validate_codes(sids, [_CODES] * sids.shape[1])
    plane_l = _PLANE * np.arange(1, sids.shape[1] + 1, dtype=np.uint32)
    points_nl = np.ascontiguousarray(sids.astype(np.uint32) + plane_l)
    text: list[str] = points_nl.view(f"U{sids.shape[1]}").ravel().tolist()
    return text


def _refuse_long(sids: Codes) -> None:
    if sids.ndim != 2 or not 1 <= sids.shape[1] <= _LEVELS:
        raise SemidError(
            f"SIDs have shape {sids.shape}; pieces are of (n, l) codes with l from 1 to {_LEVELS}"
        )


def _weighted(sids: Codes, weights: npt.ArrayLike | None) -> tuple[list[str], list[int]]:
    """Return distinct SIDs as text, in the order of their codes, and the weight of each."""
    sids = np.asarray(sids_in(sids))
    _refuse_long(sids)
    if not len(sids):
        raise SemidError("there are no SIDs to learn pieces from")
    sid_ul, size_u = prefixes(sids, sids.shape[1])
    if weights is None:
        return _as_text(sid_ul), size_u.tolist()
    weight_n = np.asarray(weights)
    if weight_n.shape != (len(sids),) or weight_n.dtype.kind not in "iu" or weight_n.min() < 0:
        raise SemidError(
            f"weights have shape {weight_n.shape} and type {weight_n.dtype}; expected one integer "
            f"from 0 for each of the {len(sids):,} items"
        )
    if not weight_n.any():
        raise SemidError("all weights are 0; give those of items that were met")
    weight_u = np.bincount(group_ids(sids)[0], weight_n, minlength=len(sid_ul))
    return _as_text(sid_ul), weight_u.astype(np.int64).tolist()
