"""Beam search over the SIDs of a table, for any model that scores the next token.

Shapes: b batch rows, k beams, t tokens so far, s levels of a SID, w slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from semid.errors import SemidError
from semid.recsys.arguments import require_tensor
from semid.recsys.constraint import SidConstraint

Step = Callable[[Tensor, Tensor], Tensor]
"""The logits of the next token, ``(b, k, vocabulary)``.

Of the tokens so far, ``(b, k, t)``, and of the beam of the step before that each of these goes on
from, ``(b, k)``, by which a model reorders what it keeps. The first step has one beam, without
tokens. There are fewer beams than asked for until there are as many prefixes.
"""


class Beams(NamedTuple):
    """What a beam search found, the best first.

    tokens : ``(b, k, s)``, int64
    score : the sum of the tokens' log-probabilities, ``(b, k)``; -inf behind the last SID that is
        allowed, where there are fewer than k
    leaf : nodes of the trie, -1 with a score of -inf, ``(b, k)``
    row : the row of the table that has the SID, the first of those that are not excluded where
        several share it (``constraint.rows(leaf)`` has all); -1 with a score of -inf, ``(b, k)``
    """

    tokens: Tensor
    score: Tensor
    leaf: Tensor
    row: Tensor

    def __repr__(self) -> str:
        batch, beams, codes = self.tokens.shape
        return f"Beams({batch:,} rows of {beams:,} beams, SIDs of {codes}, {self.row.device})"


@torch.no_grad()
def beam_search(step: Step, constraint: SidConstraint, *, batch: int, beams: int) -> Beams:
    """Find the SIDs of a table that a model gives the highest probability.

    Exact where `beams` is as large as the number of SIDs. A step costs as many candidates a beam as
    the widest node of its level has children, whatever the size of the vocabulary.

    Parameters
    ----------
    step : see `Step`
    constraint : which SIDs are allowed, and their tokens in the model's vocabulary
    batch, beams : b and k

    Raises
    ------
    SemidError
        When there are no beams, or logits have another shape or are NaN.
    """
    if not isinstance(constraint, SidConstraint):
        raise SemidError(
            f"the constraint is {type(constraint).__name__}; give SidConstraint.of(lookup, "
            "vocabulary)"
        )
    if batch < 1 or beams < 1:
        raise SemidError(f"batch is {batch} and beams {beams}; both must be at least 1")
    trie = constraint.trie
    node = constraint.start(batch, 1)
    source = torch.zeros_like(node)
    tokens = node.new_empty(batch, 1, 0)
    score = torch.zeros(batch, 1, device=trie.device)
    for depth in range(trie.depth):
        logits = step(tokens, source)
        require_tensor("logits", logits)
        if logits.ndim != 3 or logits.shape[:2] != node.shape:
            raise SemidError(
                f"step returned logits of shape {tuple(logits.shape)} for {tuple(node.shape)} "
                "beams; expected (batch, beams, vocabulary)"
            )
        constraint.require_vocabulary(logits.shape[-1], depth)
        found = constraint.candidates(node, depth)
        gain = logits.float().log_softmax(-1).gather(-1, found.token)
        total = score.unsqueeze(-1) + gain.masked_fill_(found.node < 0, -torch.inf)
        score, place = total.flatten(1).topk(min(beams, total.shape[1] * total.shape[2]))
        source = place // found.node.shape[-1]
        node = found.node.flatten(1).gather(1, place)
        before = tokens.gather(1, source.unsqueeze(-1).expand(-1, -1, depth))
        tokens = torch.cat([before, found.token.flatten(1).gather(1, place).unsqueeze(-1)], -1)
    _refuse_nan(score)
    return Beams(tokens, score, node, constraint.rows(node).first_q.view(node.shape))


def _refuse_nan(score: Tensor) -> None:
    """Raise `SemidError` for scores that are no numbers: of logits, one such makes all so."""
    spoilt_b = score.isnan().any(1)
    if bool(spoilt_b.any()):
        raise SemidError(
            f"step returned logits of batch row {int(spoilt_b.nonzero()[0])} that are NaN or "
            "infinite, which give no probabilities; look for them in the model"
        )
