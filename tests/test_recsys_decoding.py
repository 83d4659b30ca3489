"""Beam search over the SIDs of a table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from test_recsys_trie import SIDS, tables

from semid.errors import SemidError
from semid.recsys import SidConstraint, SidTrie, beam_search


class Bigrams:
    """A model whose next token depends on the row, the level and the token before.

    It keeps the token of every beam, which goes wrong unless it is reordered as it is told.
    """

    def __init__(self, size: int, length: int, batch: int, seed: int = 0) -> None:
        shape = (batch, length, size + 1, size)
        self.logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        self.kept: torch.Tensor | None = None

    def __call__(self, tokens: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        batch, beams, depth = tokens.shape
        if depth == 0:
            self.kept = torch.empty(batch, beams, 0, dtype=torch.int64)
            return self.logits[:, 0, -1].unsqueeze(1)
        before = self.kept.gather(1, source.unsqueeze(-1).expand(-1, -1, depth - 1))
        self.kept = torch.cat([before, tokens[..., -1:]], -1)
        assert torch.equal(self.kept, tokens)
        rows = torch.arange(batch).unsqueeze(1)
        return self.logits[rows, depth, tokens[..., -1]]

    def score(self, row: int, tokens: list[int]) -> float:
        log_p = self.logits[row].log_softmax(-1)
        before = [-1, *tokens[:-1]]
        return sum(
            float(log_p[i, b, t]) for i, (b, t) in enumerate(zip(before, tokens, strict=True))
        )


@settings(max_examples=40, deadline=None)
@given(tables())
def test_with_beams_enough_it_is_exact(made) -> None:
    sids, levels = made
    trie = SidTrie.of(sids, levels=levels)
    unique, first = np.unique(sids, axis=0, return_index=True)
    offset = np.cumsum([0, *levels[:-1]])
    model = Bigrams(sum(levels), len(levels), batch=2)
    constraint = SidConstraint.of(trie)
    found = beam_search(model, constraint, batch=2, beams=len(unique) + 3)
    for row in range(2):
        scored = [(model.score(row, (sid + offset).tolist()), i) for i, sid in enumerate(unique)]
        best = [i for _, i in sorted(scored, reverse=True)]
        assert found.tokens[row, : len(best)].tolist() == (unique[best] + offset).tolist()
        assert found.row[row, : len(best)].tolist() == first[best].tolist()
        expected = torch.tensor([scored[i][0] for i in best])
        torch.testing.assert_close(found.score[row, : len(best)], expected, atol=1e-4, rtol=1e-4)
        assert (found.leaf[row, len(best) :] == -1).all()
        assert found.score[row, len(best) :].isneginf().all()
        assert (found.row[row, len(best) :] == -1).all()


def test_excluded_items_are_not_found() -> None:
    constraint = SidConstraint.of(SidTrie.of(SIDS))
    by_row = constraint.excluding(torch.tensor([1])).excluding_by_row(
        torch.tensor([[0, 3], [4, 2]])
    )
    found = beam_search(Bigrams(5, 2, batch=2), by_row, batch=2, beams=4)
    assert [set(row.tolist()) - {-1} for row in found.row] == [{2, 4}, {0}]
    # 0 and 3 share a SID, which stays while one of them does.
    other = constraint.excluding_by_row(torch.tensor([[0, -1], [3, 1]]))
    found = beam_search(Bigrams(5, 2, batch=2), other, batch=2, beams=4)
    assert [set(row.tolist()) - {-1} for row in found.row] == [{1, 2, 3, 4}, {0, 2, 4}]
    items = constraint.excluding(torch.tensor([0])).rows(torch.tensor([6, 3, -1]))
    assert (items.start_q.tolist(), items.row_m.tolist()) == ([0, 1, 2, 2], [3, 1])


def test_what_is_no_search_is_refused() -> None:
    constraint = SidConstraint.of(SidTrie.of(SIDS))
    with pytest.raises(SemidError, match="batch is 1 and beams 0"):
        beam_search(Bigrams(5, 2, 1), constraint, batch=1, beams=0)
    with pytest.raises(SemidError, match="those of 1 tokens but level 0 has tokens up to 1"):
        beam_search(lambda tokens, source: torch.zeros(1, 1, 1), constraint, batch=1, beams=2)
    with pytest.raises(SemidError, match=r"logits of shape \(1, 5\) for \(1, 1\) beams"):
        beam_search(lambda tokens, source: torch.zeros(1, 5), constraint, batch=1, beams=2)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(wrong: float) -> None:
    def step(tokens: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*source.shape, 5)
        if tokens.shape[2] == 1:
            logits[1, 0, 4] = wrong
        return logits

    constraint = SidConstraint.of(SidTrie.of(SIDS))
    with pytest.raises(SemidError, match="logits of batch row 1 that are NaN or infinite, which"):
        beam_search(step, constraint, batch=2, beams=2)
