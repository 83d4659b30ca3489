"""Decoding that ends in SIDs of a table: which tokens may follow, for many beams at once.

A beam's state is the node of the trie that its tokens lead to, a number; a state of several beams
is a tensor of them, which is gathered when beams are reordered. Nothing loops over beams, and no
shape depends on them, so that a step is a few kernels on any device.

Items may be forbidden without another trie. Of a prefix all of whose items are forbidden, no beam
takes the last code: it counts how many items are left below every node.

Shapes: b batch rows, m items of a row, q states, w slots, v nodes of the trie, n items, ``…`` any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semid.errors import SemidError
from semid.id_table import IdTable
from semid.recsys.arguments import require_tensor
from semid.recsys.exclusion import DeadNodes, as_rows, dead_nodes, forbidden
from semid.recsys.lookup import SidLookup
from semid.recsys.trie import Children, ItemRows, SidTrie
from semid.recsys.vocabulary import SidTokens, SidVocabulary


class Candidates(NamedTuple):
    """What may follow some states.

    token : ``(…, w)``, int64
    node : the state that follows, ``(…, w)``, int64; -1 for a slot that may not be taken
    """

    token: Tensor
    node: Tensor


@dataclass(frozen=True, eq=False)
class SidConstraint:
    """What may follow in decoding; `SidConstraint.of` makes one.

    Attributes
    ----------
    trie : of the table's SIDs
    tokens : for every level the token of every code, int64
    codes : for every level the code of every token, int32, -1 for another level's; the last stands
        for all tokens that are larger
    runs : for every level its tokens as a slice; None where they do not follow each other
    live_n : which rows of the table are left; None for all
    live_v : how many are left below every node
    dead : what batch rows may not be given beyond that
    """

    trie: SidTrie
    tokens: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    runs: tuple[slice | None, ...]
    live_n: Tensor | None = None
    live_v: Tensor | None = None
    dead: DeadNodes | None = None

    def __repr__(self) -> str:
        left = "all" if self.live_n is None else f"{int(self.live_n.sum()):,}"
        by_row = "" if self.dead is None else f", some excluded for {len(self.dead.rows_bm):,} rows"
        return f"SidConstraint({left} items of {self.trie!r}{by_row})"

    @classmethod
    def of(
        cls,
        sids: SidTrie | SidLookup | IdTable,
        tokens: SidTokens | SidVocabulary | None = None,
    ) -> SidConstraint:
        """Make the constraint that allows all SIDs of a table.

        Parameters
        ----------
        sids : a trie, a lookup, or an ids table; decides on which device logits and states are
        tokens : a vocabulary, or what `semid.recsys.add_tokens` returned; without, those of
            ``SidVocabulary(trie.levels, special=())``

        Raises
        ------
        SemidError
            When a code that occurs has no token, or levels differ in number; when these are
            neither SIDs nor tokens.
        """
        trie = _trie_of(sids)
        own, codes, runs = [], [], []
        for level, given_k in enumerate(_tokens_of(trie, tokens).levels):
            token_k = np.full(trie.levels[level], -1, np.int64)
            shared = min(len(token_k), len(given_k))
            token_k[:shared] = given_k[:shared]
            low, high = trie.bases[level + 1 : level + 3]
            used_c = np.unique(trie.code_v[low:high].cpu().numpy())
            if (token_k[used_c] < 0).any():
                code = used_c[token_k[used_c] < 0][0]
                raise SemidError(
                    f"the code {code} of level {level} has no token; add all tokens of the "
                    "vocabulary, whose levels must hold the table's codes"
                )
            code_t = np.full(token_k.max() + 2, -1, np.int32)
            code_t[token_k[token_k >= 0]] = np.flatnonzero(token_k >= 0)
            runs.append(_run(token_k))
            # Codes that do not occur are forbidden by a token that is none of the level's.
            free = int(np.setdiff1d(np.arange(len(token_k) + 1), token_k)[0])
            own.append(torch.from_numpy(np.where(token_k < 0, free, token_k)).to(trie.device))
            codes.append(torch.from_numpy(code_t).to(trie.device))
        return cls(trie, tuple(own), tuple(codes), tuple(runs))

    def excluding(self, rows: Tensor) -> SidConstraint:
        """Return a constraint that also forbids items to all: rows of the table, -1 for none.

        One pass over the items and nodes of the trie, which is shared. What is excluded by row
        stays so.

        Raises
        ------
        SemidError
            When rows are no numbers of rows, or no item would be left.
        """
        rows = as_rows(rows, len(self.trie.row_n))
        live_n = torch.ones(len(self.trie.row_n), dtype=torch.bool, device=self.trie.device)
        if self.live_n is not None:
            live_n &= self.live_n
        rows = rows.to(self.trie.device).reshape(-1)
        live_n[rows[rows >= 0]] = False
        if not bool(live_n.any()):
            raise SemidError(f"all {len(live_n):,} items are excluded; leave some")
        live_v = self.trie.summed(live_n.int()).int()
        stock = replace(self, live_n=live_n, live_v=live_v, dead=None)
        return stock if self.dead is None else stock.excluding_by_row(self.dead.rows_bm)

    def excluding_by_row(self, rows_bm: Tensor) -> SidConstraint:
        """Return a constraint that also forbids every batch row some items, such as those seen.

        Parameters
        ----------
        rows_bm : rows of the table, -1 for none, in any order, ``(b, m)``; they take the place of
            those of an earlier call

        Raises
        ------
        SemidError
            When rows are no numbers of rows, or a batch row has no item left.

        Notes
        -----
        Costs ``b · m · s`` and a sort of every row; a step then costs ``m`` comparisons a beam for
        those prefixes that have no item left, of which there are few at the first levels. Counts of
        items, which take a pass over the trie and 8 bytes an item, are made once.
        """
        live_v = self.trie.size_v if self.live_v is None else self.live_v
        return replace(self, dead=dead_nodes(self.trie, rows_bm, live_v, self.live_n))

    def start(self, *shape: int) -> Tensor:
        """Return the state before the first token, of some shape: int64."""
        return torch.zeros(shape, dtype=torch.int64, device=self.trie.device)

    def advance(self, node: Tensor, token: Tensor, depth: int) -> Tensor:
        """Return the states ``(…)`` after tokens ``(…)``; -1 where a token leads out of the trie.

        `depth` is how many tokens led to `node`.
        """
        code_t = self.codes[depth]
        code = code_t.index_select(0, token.clamp(0, len(code_t) - 1).reshape(-1)).view(token.shape)
        return self.trie.advance(node, code, depth)

    def walk(self, tokens: Tensor) -> Tensor:
        """Return the states after tokens ``(…, d)`` from the start: int64 ``(…)``."""
        require_tensor("tokens", tokens)
        node = self.start(*tokens.shape[:-1])
        for depth in range(tokens.shape[-1]):
            node = self.advance(node, tokens[..., depth], depth)
        return node

    def candidates(self, node: Tensor, depth: int, row: Tensor | None = None) -> Candidates:
        """Return what may follow states ``(…)`` that `depth` tokens led to.

        With items excluded by row, `row` is the batch row of every state; without it they are as
        many for each batch row, one row after the other, as ``(b, beams)`` has them.
        """
        found = self._children(node, depth, row)
        child = found.node if found.repeats is None else found.node.masked_fill(found.repeats, -1)
        return Candidates(self._tokens(found.code, depth), child.long())

    def allowed(self, node: Tensor, depth: int, row: Tensor | None = None) -> Tensor:
        """Return which codes of level `depth` may follow states ``(…)``: bool ``(…, k)``."""
        found = self._children(node, depth, row)
        if found.repeats is None:
            return found.node >= 0
        shape = (*node.shape, self.trie.levels[depth])
        mask = torch.zeros(shape, dtype=torch.bool, device=node.device)
        return mask.scatter_(-1, found.code.long(), found.node >= 0)

    def mask(self, logits: Tensor, node: Tensor, depth: int, row: Tensor | None = None) -> Tensor:
        """Return logits ``(…, vocabulary)`` with -inf for what may not follow states ``(…)``."""
        place, kept = self._kept(logits, node, depth, row)
        return _put(torch.full_like(logits, -torch.inf), place, kept)

    def mask_(self, logits: Tensor, node: Tensor, depth: int, row: Tensor | None = None) -> Tensor:
        """Do what `mask` does in place."""
        place, kept = self._kept(logits, node, depth, row)
        return _put(logits.fill_(-torch.inf), place, kept)

    def require_vocabulary(self, size: int, depth: int) -> None:
        """Raise `SemidError` unless logits of `size` tokens hold those of level `depth`."""
        if size < len(self.codes[depth]) - 1:
            raise SemidError(
                f"the logits are those of {size:,} tokens but level {depth} has tokens up to "
                f"{len(self.codes[depth]) - 2:,}; give the model the vocabulary's size"
            )

    def rows(self, leaf: Tensor, row: Tensor | None = None) -> ItemRows:
        """Return the rows of the table that have the SIDs of leaves ``(…)`` and are not excluded.

        `row` is as of `candidates`.
        """
        leaf_q = leaf.reshape(-1)
        found = self.trie.rows(leaf_q)
        if self.live_n is None and self.dead is None:
            return found
        asked_m = torch.arange(len(leaf_q), device=leaf.device)
        asked_m = asked_m.repeat_interleave(found.start_q.diff())
        keep_m = torch.ones_like(asked_m, dtype=torch.bool)
        if self.live_n is not None:
            keep_m &= self.live_n[found.row_m]
        if self.dead is not None:
            batch_q = self.dead.batch_rows(len(leaf_q)) if row is None else row.reshape(-1)
            excluded_m = self.dead.rows_bm[batch_q[asked_m]] == found.row_m.unsqueeze(1)
            keep_m &= ~excluded_m.any(1)
        count_q = torch.bincount(asked_m[keep_m], minlength=len(leaf_q))
        start_q = torch.cat([count_q.new_zeros(1), count_q.cumsum(0)])
        return ItemRows(start_q, found.row_m[keep_m])

    def _kept(
        self, logits: Tensor, node: Tensor, depth: int, row: Tensor | None
    ) -> tuple[slice | Tensor, Tensor]:
        """Return tokens, and their logits where they may follow; equal ones have equal logits."""
        require_tensor("logits", logits)
        self.require_vocabulary(logits.shape[-1], depth)
        found = self._children(node, depth, row)
        run = self.runs[depth]
        if found.repeats is None and run is not None:
            return run, logits[..., run].masked_fill(found.node < 0, -torch.inf)
        token = self._tokens(found.code, depth)
        return token, logits.gather(-1, token).masked_fill_(found.node < 0, -torch.inf)

    def _tokens(self, code: Tensor, depth: int) -> Tensor:
        return self.tokens[depth].index_select(0, code.reshape(-1)).view(code.shape)

    def _children(self, node: Tensor, depth: int, row: Tensor | None) -> Children:
        found = self.trie.children(node, depth)
        child = found.node
        if self.live_v is not None:
            left = self.live_v.index_select(0, child.clamp(min=0).view(-1)).view(child.shape)
            child = child.masked_fill(left == 0, -1)
        if self.dead is not None and self.dead.slot[depth].shape[1]:
            child = child.masked_fill(forbidden(self.dead, found, node, depth, row), -1)
        return found._replace(node=child)


def _trie_of(sids: SidTrie | SidLookup | IdTable) -> SidTrie:
    if isinstance(sids, SidTrie):
        return sids
    return sids.trie if isinstance(sids, SidLookup) else SidTrie.of(sids)


def _tokens_of(trie: SidTrie, tokens: SidTokens | SidVocabulary | None) -> SidTokens:
    """Return tokens for the levels of a trie."""
    if tokens is None:
        tokens = SidVocabulary(trie.levels, special=())
    found = tokens.sid_tokens if isinstance(tokens, SidVocabulary) else tokens
    if not isinstance(found, SidTokens):
        raise SemidError(
            f"tokens are given as {type(tokens).__name__}; give a SidVocabulary, or what "
            "add_tokens returned"
        )
    if len(found.levels) != trie.depth:
        raise SemidError(
            f"there are tokens for {len(found.levels)} levels but SIDs have {trie.depth}"
        )
    return found


def _run(token_k: np.ndarray) -> slice | None:
    """Return the tokens of a level as a slice, if they follow each other."""
    first = int(token_k[0])
    is_run = first >= 0 and np.array_equal(token_k, np.arange(first, first + len(token_k)))
    return slice(first, first + len(token_k)) if is_run else None


def _put(logits: Tensor, place: slice | Tensor, values: Tensor) -> Tensor:
    if isinstance(place, Tensor):
        return logits.scatter_(-1, place, values)
    logits[..., place] = values
    return logits
