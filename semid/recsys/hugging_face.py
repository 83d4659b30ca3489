"""SIDs in Hugging Face models: tokens and their embeddings, and generation that ends in items.

    tokens = add_tokens(vocabulary, tokenizer, model, codebooks="model/")
    constraint = SidConstraint.of(lookup.trie, tokens)
    processor = SidLogitsProcessor(constraint, start=tokens.start, end=tokens.end)
    model.generate(**prompt, logits_processor=[processor], num_beams=20)

Shapes: r rows of a step (batch rows times beams), t tokens so far, v vocabulary, k codes, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semid.errors import SemidError, require_package
from semid.recsys.constraint import SidConstraint
from semid.recsys.token_embeddings import codebooks_of, initial_embeddings
from semid.recsys.vocabulary import SidTokens, SidVocabulary


def add_tokens(
    vocabulary: SidVocabulary,
    tokenizer: Any,
    model: Any = None,
    *,
    codebooks: str | Path | Sequence[Any] = (),
    seed: int = 0,
) -> SidTokens:
    """Add the tokens of SIDs to a tokenizer, and their embeddings to a model.

    Tokens that the tokenizer has already keep their numbers, and where the model has rows for them,
    their embeddings: rows are begun of tokens that are new, and of all beyond the model's former
    size, as of a tokenizer that was saved with them beside a model that was not. The model's
    embeddings only grow; input and output embeddings, where they are two, both get the new rows.
    The tokens of
    codes are ordinary ones, so that ``skip_special_tokens`` leaves them in; those around a SID are
    special. `vocabulary.special` is of no matter here: a tokenizer has its own.

    Parameters
    ----------
    vocabulary : whose spelling and levels to add
    tokenizer : of `transformers`
    model : of `transformers`, with embeddings to resize
    codebooks : a model directory of semid, or codebooks ``(k, z)`` of the first levels, to begin
        from as `semid.recsys.token_embeddings` says; without, directions at random
    seed : of that

    Raises
    ------
    SemidError
        When `transformers` is not installed, an argument is none of these, or codebooks do not fit
        the levels.
    """
    require_package("transformers", extra="recsys", purpose="adding tokens to a tokenizer")
    from transformers import AddedToken

    _refuse_others(vocabulary, tokenizer, model)
    known = set(tokenizer.get_vocab())
    size = len(tokenizer)
    for words, special in ((vocabulary.around, True), (list(chain(*vocabulary.words)), False)):
        added = [AddedToken(word, normalized=False, special=special) for word in words]
        tokenizer.add_tokens(added, special_tokens=special)
    tokens = token_ids(vocabulary, tokenizer)
    if model is not None:
        books = codebooks_of(codebooks) if isinstance(codebooks, str | Path) else codebooks
        rows = model.get_input_embeddings().weight.shape[0]
        _grow(model, len(tokenizer))
        is_new = [
            np.array([word not in known for word in words], np.bool_) | (token_k >= rows)
            for words, token_k in zip(
                (*vocabulary.words, vocabulary.around), _levels(tokens), strict=True
            )
        ]
        for weight_vd in _embeddings(model):
            _initialise(weight_vd, _levels(tokens), is_new, min(size, rows), books, seed)
    return tokens


def _refuse_others(vocabulary: Any, tokenizer: Any, model: Any) -> None:
    """Raise `SemidError` unless these are a vocabulary, a tokenizer and, if any, a model."""
    for what, given, fits in (
        ("vocabulary", vocabulary, isinstance(vocabulary, SidVocabulary)),
        ("tokenizer", tokenizer, hasattr(tokenizer, "add_tokens")),
        ("model", model, model is None or hasattr(model, "resize_token_embeddings")),
    ):
        if not fits:
            raise SemidError(
                f"the {what} is of type {type(given).__name__}; give a SidVocabulary, and a "
                "tokenizer and a model of transformers"
            )


def _levels(tokens: SidTokens) -> list[Any]:
    """Return the tokens of every level, and last those around a SID, of which there may be none."""
    around = [token for token in (tokens.start, tokens.end) if token is not None]
    return [*tokens.levels, np.array(around, np.int64)]


def token_ids(vocabulary: SidVocabulary, tokenizer: Any) -> SidTokens:
    """Return the tokens of SIDs in a tokenizer as it is; -1 for codes that have none there.

    For tokenizers that others extended, in whatever order and by the codes in use alone.
    """
    number = tokenizer.get_vocab()
    levels = tuple(np.array([number.get(word, -1) for word in words]) for words in vocabulary.words)
    marks = vocabulary.marks
    return SidTokens(levels, number.get(marks.start), number.get(marks.end))


def _grow(model: Any, size: int) -> None:
    """Make room for `size` tokens; new rows are written right after."""
    if model.get_input_embeddings().weight.shape[0] < size:
        with torch.random.fork_rng():  # transformers draws them from the global state
            model.resize_token_embeddings(size, mean_resizing=False)


def _embeddings(model: Any) -> Iterator[Tensor]:
    """Yield the weights ``(v, d)`` of input and output embeddings, those that are tied once."""
    own = model.get_input_embeddings().weight
    yield own
    head = model.get_output_embeddings()
    if head is not None and head.weight.data_ptr() != own.data_ptr():
        yield head.weight


@torch.no_grad()
def _initialise(
    weight_vd: Tensor,
    levels: Sequence[Any],
    is_new: Sequence[Any],
    size: int,
    codebooks: Sequence[Any],
    seed: int,
) -> None:
    """Write the rows of tokens that are new; of the first `size` rows, some may be trained."""
    norm_v = weight_vd[:size].float().norm(dim=1)
    norm = float(norm_v[norm_v > 0].mean())
    sizes = [len(token_k) for token_k in levels if len(token_k)]
    found = initial_embeddings(sizes, weight_vd.shape[1], norm, codebooks=codebooks, seed=seed)
    for token_k, new_k, rows_kd in zip(levels, is_new, found, strict=False):
        rows = torch.from_numpy(rows_kd[new_k]).to(weight_vd)
        weight_vd[torch.from_numpy(token_k[new_k]).to(weight_vd.device)] = rows


class SidLogitsProcessor:
    """Lets ``generate`` of `transformers` end in SIDs of a table only, however it searches.

    Where a row stands is read from its tokens at every step, so that beams may be reordered,
    dropped and copied. Nothing of `transformers` is needed to make one.
    """

    # Each call sees its rows whole, and keeps nothing of them.
    supports_continuous_batching = False

    def __init__(
        self,
        constraint: SidConstraint,
        *,
        start: int | None = None,
        prompt_length: int | None = None,
        end: int | None = None,
        num_beams: int = 1,
        free_text: bool = False,
    ) -> None:
        """Say where SIDs begin: one of `start` and `prompt_length`.

        Parameters
        ----------
        constraint : with the tokens of the model, on its device
        start : the token that opens a SID: what follows the last of them in a row is one. Rows that
            have a whole SID behind it are left as they are
        prompt_length : how many tokens stand before the SID in every row of ``input_ids``: their
            width for a decoder alone, 1 for an encoder and decoder
        end : the token that must follow a SID, such as that of the end of a sequence. Its
            probability does not count: beams rank as without it
        num_beams : as `generate` is given it. Where there are fewer SIDs than beams, `generate`
            fills up with sequences that are none: their score is -1e9 over their length, or -inf
        free_text : whether models may write other text before they open a SID themselves: rows
            without `start` are then left as they are

        Raises
        ------
        SemidError
            When both or neither of `start` and `prompt_length` are given.
        """
        if (start is None) == (prompt_length is None):
            raise SemidError("say where SIDs begin by one of start and prompt_length")
        self.constraint = constraint
        self.start, self.prompt_length, self.end = start, prompt_length, end
        self.num_beams, self.free_text = num_beams, free_text

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores ``(r, v)`` with -inf for what may not follow tokens ``(r, t)``.

        Raises
        ------
        SemidError
            When a row has no `start` and may have no other text, began a SID that is not in the
            table, or is to go on behind a SID without an `end`.
        """
        if self.prompt_length is not None:
            depth = input_ids.shape[1] - self.prompt_length
            return self._masked(input_ids[:, self.prompt_length :], scores, depth)
        place_t = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        begin_r = ((input_ids == self.start) * place_t).amax(1)
        depth_r = torch.where(begin_r > 0, input_ids.shape[1] - begin_r, -1)
        depths = sorted(set(depth_r.tolist()))
        if depths[0] < 0 and not self.free_text:
            raise SemidError(
                f"row {int(depth_r.argmin())} has no token {self.start}, the start of a SID; end "
                "every prompt with it, or say free_text=True for a model that opens SIDs itself"
            )
        if len(depths) == 1:
            depth = depths[0]
            tail = input_ids[:, input_ids.shape[1] - max(depth, 0) :]
            return self._masked(tail, scores, depth)
        dead = self.constraint.dead
        batch_r = None if dead is None else dead.batch_rows(len(input_ids))
        for depth in depths:  # as many as a SID has codes at most, and others that stay
            rows = (depth_r == depth).nonzero().squeeze(1)
            tail = input_ids[rows][:, input_ids.shape[1] - max(depth, 0) :]
            batch = None if batch_r is None else batch_r[rows]
            scores = scores.index_copy(0, rows, self._masked(tail, scores[rows], depth, batch))
        return scores

    def _masked(
        self, tail: Tensor, scores: Tensor, depth: int, batch: Tensor | None = None
    ) -> Tensor:
        """Return the scores of rows whose SIDs begin with `tail`, ``(q, depth)`` or longer."""
        length = self.constraint.trie.depth
        if depth >= length:
            return self._ended(scores, depth - length)
        if depth < 0:
            if self.start is None:
                raise SemidError(
                    f"prompt_length is {self.prompt_length}, {-depth} more than the tokens there "
                    "are; for a model with an encoder it counts the decoder's alone"
                )
            return scores
        node = self.constraint.walk(tail[:, :depth])
        # Among beams there may be some that were filled up; all of a row are a mistake.
        if self.num_beams == 1 and bool((node < 0).any()):
            row = int((node < 0).nonzero()[0])
            raise SemidError(
                f"a row begins a SID with the tokens {tail[row, :depth].tolist()}, which no SID of "
                "the table begins with; end the prompt where a SID begins, or say num_beams"
            )
        return self.constraint.mask(scores, node, depth, batch)

    def _ended(self, scores: Tensor, beyond: int) -> Tensor:
        """Return the scores of rows that have a SID and some tokens `beyond` behind them."""
        if self.start is not None and (self.end is None or beyond):
            return scores
        if self.end is None:
            raise SemidError(
                f"a SID has {self.constraint.trie.depth} tokens and generation goes on; set "
                "max_new_tokens to that, or give the token that ends it"
            )
        only = torch.full_like(scores, -torch.inf)
        only[:, self.end] = 0  # as transformers' own processors force a token
        return only
