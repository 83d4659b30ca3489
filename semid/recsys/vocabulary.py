"""The tokens of SIDs: numbers for a model trained from scratch, and text for a language model.

Every level has tokens of its own, one after the other, behind the special ones:

    <pad> <bos> <eos> <unknown> | level 0: K_0 tokens | level 1: K_1 tokens | …

`semid.recsys.add_tokens` adds the same levels to a Hugging Face tokenizer. Shapes: s levels of a
SID, k codes of one, q texts, ``…`` any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.errors import SemidError
from semid.id_table import IdTable
from semid.ids import MAX_CODES, validate_codes
from semid.recsys.levels import levels_of
from semid.spelling import SPELLINGS, Spelling

Codes = TypeVar("Codes", Tensor, npt.NDArray[Any])
SPECIAL = ("pad", "bos", "eos", "unknown")


class SidTokens(NamedTuple):
    """Which token stands for which code, in the vocabulary of some model.

    levels : for every level the token of every code, int64 ``(k,)``; -1 for a code without one
    start, end : the tokens around a SID; None where there are none
    """

    levels: tuple[npt.NDArray[np.int64], ...]
    start: int | None = None
    end: int | None = None

    def __repr__(self) -> str:
        sizes = tuple(map(len, self.levels))
        return f"SidTokens(levels of {sizes} tokens, start={self.start}, end={self.end})"


class HasLevels(Protocol):
    """What knows how many codes SIDs may have at every level."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Codes per level."""
        ...


@dataclass(frozen=True)
class SidVocabulary:
    """The tokens of SIDs; `SidVocabulary.of` makes that of a table.

    Attributes
    ----------
    levels : codes per level of a SID, as `SidLookup.levels` has them; a suffix may be given room
        for items to come
    special : which special tokens there are, in their order from token 0 on: any of ``pad``,
        ``bos``, ``eos`` and ``unknown``, which stands for items that the table lacks
    spelling : a name of `semid.spelling.SPELLINGS`, or a spelling of one's own
    """

    levels: tuple[int, ...]
    special: tuple[str, ...] = SPECIAL
    spelling: str | Spelling = "lcrec"

    def __post_init__(self) -> None:
        if isinstance(self.levels, str) or not isinstance(self.levels, Iterable):
            raise SemidError(f"levels are {self.levels!r}; give one for each level, as (256, 256)")
        object.__setattr__(self, "levels", tuple(map(int, self.levels)))
        object.__setattr__(self, "special", tuple(self.special))
        if not self.levels or not all(1 <= size <= MAX_CODES for size in self.levels):
            raise SemidError(f"levels are {list(self.levels)}; give one size or more, from 1 on")
        if len(set(self.special)) < len(self.special) or not set(self.special) <= set(SPECIAL):
            raise SemidError(
                f"special tokens are {list(self.special)}; each of {', '.join(SPECIAL)} may stand "
                "there once"
            )
        if isinstance(self.spelling, str) and self.spelling not in SPELLINGS:
            raise SemidError(
                f"the spelling {self.spelling!r} is none of {', '.join(SPELLINGS)}; or give a "
                "semid.spelling.Spelling"
            )

    @classmethod
    def of(
        cls,
        sids: HasLevels | IdTable,
        *,
        special: tuple[str, ...] = SPECIAL,
        spelling: str | Spelling = "lcrec",
    ) -> SidVocabulary:
        """Make the vocabulary of a `SidLookup`, a `SidTrie` or an ids table, with its levels.

        Raises
        ------
        SemidError
            When there are no levels, or as the attributes say.
        """
        levels = levels_of(sids) if isinstance(sids, IdTable) else getattr(sids, "levels", None)
        if levels is None:
            raise SemidError(
                f"a vocabulary is asked for of {type(sids).__name__}; give a SidLookup or an ids "
                "table, or SidVocabulary the codes per level"
            )
        return cls(levels, special, spelling)

    def __len__(self) -> int:
        return len(self.special) + sum(self.levels)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The token of code 0 of every level."""
        return tuple((np.cumsum([0, *self.levels[:-1]]) + len(self.special)).tolist())

    @property
    def pad(self) -> int:
        """The token that pads."""
        return self._special("pad")

    @property
    def bos(self) -> int:
        """The token that opens a sequence."""
        return self._special("bos")

    @property
    def eos(self) -> int:
        """The token that ends a sequence."""
        return self._special("eos")

    @property
    def unknown(self) -> int:
        """The token of items that the table lacks."""
        return self._special("unknown")

    def _special(self, name: str) -> int:
        if name not in self.special:
            raise SemidError(
                f"the vocabulary has no token {name!r}; its special tokens are "
                f"{', '.join(self.special) or 'none'}"
            )
        return self.special.index(name)

    @property
    def sid_tokens(self) -> SidTokens:
        """Which token stands for which code, for a `SidConstraint`; `end` is ``eos``."""
        pairs = zip(self.offsets, self.levels, strict=True)
        levels = tuple(np.arange(offset, offset + size) for offset, size in pairs)
        return SidTokens(levels, None, self.eos if "eos" in self.special else None)

    def tokens(self, sids: Codes) -> Codes:
        """Return the tokens of SIDs ``(…, s)``: int64 of their shape, NumPy of NumPy's.

        SIDs of unknown items, -1 throughout, become ``unknown`` throughout.

        Raises
        ------
        SemidError
            When SIDs have another length, are no integers, or some codes of one are -1; when a code
            is beyond its level; when an item is unknown and there is no such token.
        """
        if isinstance(sids, np.ndarray):
            return self.tokens(_as_tensor(sids)).numpy()
        self._require_codes(sids)
        size, offset = (
            torch.tensor(each, device=sids.device) for each in (self.levels, self.offsets)
        )
        # Nearly always there are codes alone, and two looks tell.
        if not sids.numel() or not bool((sids.min() < 0) | ((sids - size).max() >= 0)):
            return sids + offset
        known = sids >= 0
        if bool(((sids < -1) | (sids >= size) | (known != known[..., :1])).any()):
            self._refuse_broken(sids)
        return torch.where(known, sids + offset, self.unknown)

    def codes(self, tokens: Codes) -> Codes:
        """Undo `tokens`: int64 of their shape, -1 for what is no token of its level.

        ``lookup.rows_of_sids(vocabulary.codes(tokens))`` are the items.
        """
        if isinstance(tokens, np.ndarray):
            return self.codes(_as_tensor(tokens)).numpy()
        self._require_codes(tokens)
        code = tokens.long() - torch.tensor(self.offsets, device=tokens.device)
        within = (code >= 0) & (code < torch.tensor(self.levels, device=tokens.device))
        return torch.where(within, code, -1)

    def _require_codes(self, values: Tensor) -> None:
        if not isinstance(values, Tensor):
            raise SemidError(
                f"codes are given as {type(values).__name__}; give a tensor or a NumPy array"
            )
        if values.shape[-1:] != (len(self.levels),):
            raise SemidError(
                f"the last of the dimensions {tuple(values.shape)} must be {len(self.levels)}, "
                "the length of a SID"
            )
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise SemidError(f"codes are of type {values.dtype}; give integers")

    def _refuse_broken(self, sids: Tensor) -> None:
        """Raise `SemidError` for the first SID that is neither codes nor -1 throughout."""
        sids_qs = sids.reshape(-1, len(self.levels)).cpu().numpy()
        unknown_q = (sids_qs == -1).all(1)
        partly_q = (sids_qs == -1).any(1) & ~unknown_q
        if partly_q.any():
            row = int(partly_q.argmax())
            raise SemidError(
                f"row {row} holds the codes {sids_qs[row].tolist()}; an unknown item is -1 "
                "throughout"
            )
        validate_codes(np.where(unknown_q[:, None], 0, sids_qs), self.levels)

    # text

    @cached_property
    def marks(self) -> Spelling:
        """How tokens are spelled."""
        return SPELLINGS[self.spelling] if isinstance(self.spelling, str) else self.spelling

    @cached_property
    def words(self) -> tuple[list[str], ...]:
        """The text of every level's tokens.

        Raises `SemidError` when a level is wider than the spelling has room for.
        """
        return tuple(self.marks.tokens(level, size) for level, size in enumerate(self.levels))

    @property
    def around(self) -> list[str]:
        """The text of the tokens around a SID: two, or none."""
        return [word for word in (self.marks.start, self.marks.end) if word]

    def texts(self, sids: Any) -> list[str]:
        """Spell SIDs ``(q, s)``, none of them unknown, as a prompt has them.

        ``<|sid_begin|><s_a_340><s_b_6566><s_c_5603><|sid_end|>`` in OpenOneRec's.
        """
        sids_qs = np.asarray(sids.cpu() if isinstance(sids, Tensor) else sids)
        validate_codes(sids_qs, self.levels)
        text_q = np.full(len(sids_qs), self.marks.start, object)
        for words, code_q in zip(self.words, sids_qs.T, strict=True):
            text_q = text_q + np.array(words, object)[code_q]
        return list(text_q + self.marks.end)

    def read(self, texts: Iterable[str]) -> Tensor:
        """Read the first SID of every text: int64 ``(q, s)``, -1 throughout where there is none.

        Spaces may stand between tokens. Of a text with several, such as a prompt with a history,
        give what follows.

        Raises
        ------
        SemidError
            When a text is given in place of a list of them.
        """
        if isinstance(texts, str):
            raise SemidError(f"{texts[:40]!r} is one text; give a list of them")
        parts = [
            f"{re.escape(before)}([0-9]+){re.escape(self.marks.after)}"
            for before in self.marks.starts(len(self.levels))
        ]
        pattern = re.compile(r"\s*".join(parts))
        first = [self.marks.first(level) for level in range(len(self.levels))]
        found = [self._codes_in(pattern.search(text), first) for text in texts]
        return torch.tensor(found, dtype=torch.int64).view(-1, len(self.levels))

    def _codes_in(self, match: re.Match[str] | None, first: Sequence[int]) -> list[int]:
        numbers = [int(number) for number in match.groups()] if match else []
        codes = [number - start for number, start in zip(numbers, first, strict=False)]
        held = zip(codes, self.levels, strict=False)
        return codes if codes and all(0 <= code < k for code, k in held) else [-1] * len(first)


def _as_tensor(values: npt.NDArray[Any]) -> Tensor:
    if values.dtype.kind not in "iu":
        raise SemidError(f"codes are of type {values.dtype}; give integers")
    return torch.from_numpy(values.astype(np.int64))
