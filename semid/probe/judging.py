"""At which place of a ranking of all items the items stand that users met next.

Nothing is left out of the ranking: an item that a user met before is ranked like any other.

Shapes: q examples, b batch rows, k beams, n items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.devices import autocast
from semid.metrics.behaviour import BANDS, popularity_bands
from semid.metrics.ranking import MISSED, ndcg_at, recall_at
from semid.probe.fitting import of_one_length
from semid.probe.generative import Continuation, GenerativeModel
from semid.probe.sequential import SequentialModel
from semid.recsys.constraint import SidConstraint
from semid.recsys.decoding import beam_search
from semid.recsys.sequences import Batch, SidSequenceDataset
from semid.recsys.trie import SidTrie
from semid.recsys.vocabulary import SidTokens

Rows = npt.NDArray[np.int64]
Place = Callable[[Batch], tuple[Tensor, Tensor]]

CUTS = (5, 10, 20)
GROUPS = ("all", *BANDS, "cold")
_BATCH = 256
_SCORES = 1 << 24  # that are held at once


class Ranks(NamedTuple):
    """Where targets stand; all ``(q,)``.

    before : items that rank before the target, `semid.metrics.ranking.MISSED` if it was not found
    tied : items of its score, itself among them
    item : its number
    """

    before: Rows
    tied: Rows
    item: Rows


def constraint_of(model: GenerativeModel, sids_ns: npt.NDArray[np.integer]) -> SidConstraint:
    """Return what a model may generate: SIDs of these items, whose tokens are the codes."""
    trie = SidTrie.of(sids_ns, levels=model.levels, device=model.device)
    return SidConstraint.of(trie, SidTokens(tuple(np.arange(size) for size in model.levels)))


def generated(
    model: GenerativeModel,
    dataset: SidSequenceDataset,
    constraint: SidConstraint,
    *,
    beams: int,
    precision: str = "auto",
    on_batch: Callable[[int], None] = lambda _: None,
) -> Ranks:
    """Rank by a beam search over SIDs; an SID that g items share takes g places.

    Parameters
    ----------
    model : trained
    dataset : of validation or test, its tokens the codes of the SIDs
    constraint : as `constraint_of` returns it
    beams : SIDs that are ranked; a target that is not among them is missed
    precision : as of `semid.probe.fitting.fit`
    on_batch : told how many examples are done
    """
    size_v, leaf_n = constraint.trie.size_v, constraint.trie.leaf_n

    def place(batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(precision, model.device):
            ask = Continuation(model, batch.tokens_bts)
            best = beam_search(ask, constraint, batch=len(batch.users_b), beams=beams)
        size_bk = torch.where(best.leaf >= 0, size_v[best.leaf.clamp(min=0)], 0)
        before_bk = size_bk.cumsum(1) - size_bk
        wanted_b = leaf_n[batch.target_items].long()
        here_bk = best.leaf == wanted_b[:, None]
        found_b = (before_bk * here_bk).sum(1)
        return torch.where(here_bk.any(1), found_b, MISSED), size_v[wanted_b]

    return _ranks(dataset, place, model.device, on_batch)


def scored(
    model: SequentialModel,
    dataset: SidSequenceDataset,
    *,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Ranks:
    """Rank by the scores of all items, in float32; items of equal codes have equal scores."""
    # Every SID is scored once: the scores of two equal rows may differ in their last bits.
    sids_us, sid_n = torch.unique(model.codes_ns, dim=0, return_inverse=True)
    size_u = torch.bincount(sid_n, minlength=len(sids_us)).int()
    with torch.inference_mode():
        among_uw = model.embedding(sids_us)

    def place(batch: Batch) -> tuple[Tensor, Tensor]:
        scores_bu = model.scores(batch.tokens_bts, among_uw)
        own_b1 = scores_bu.gather(1, sid_n[batch.target_items][:, None])
        before_b, tied_b = (
            (chosen_bu * size_u).sum(1) for chosen_bu in (scores_bu > own_b1, scores_bu == own_b1)
        )
        return before_b, tied_b

    batch = min(_BATCH, max(1, _SCORES // len(sids_us)))
    return _ranks(dataset, place, model.device, on_batch, batch)


def _ranks(
    dataset: SidSequenceDataset,
    place: Place,
    device: torch.device,
    on_batch: Callable[[int], None],
    batch_size: int = _BATCH,
) -> Ranks:
    ranks = Ranks(*(np.empty(len(dataset), np.int64) for _ in Ranks._fields))
    for rows in of_one_length(dataset, batch_size):
        batch = dataset.__getitems__(rows).to(device)
        with torch.inference_mode():
            found = (*place(batch), batch.target_items)
        for kept_q, values_b in zip(ranks, found, strict=True):
            kept_q[rows] = values_b.cpu().numpy()
        on_batch(len(rows))
    return ranks


def figures(ranks: Ranks, met_n: npt.NDArray[np.int64]) -> dict[str, dict[str, float | None]]:
    """Return recall and NDCG at `CUTS` for all targets and for groups of them.

    Parameters
    ----------
    ranks : of all targets
    met_n : how often every item was met in training: says which are head, torso and tail, as
        `semid.metrics.behaviour.popularity_bands` has them, and which cold: never met

    Returns
    -------
    groups : for each of `GROUPS` the number of ``targets``, ``recall@5`` and so on, None of a group
        without targets
    """
    named = [
        (f"{name}@{k}", measure(ranks.before, ranks.tied, k))
        for name, measure in (("recall", recall_at), ("ndcg", ndcg_at))
        for k in CUTS
    ]
    return {
        group: {"targets": int(here_q.sum())}
        | {name: float(value_q[here_q].mean()) if here_q.any() else None for name, value_q in named}
        for group, here_q in groups_of(ranks.item, met_n).items()
    }


def groups_of(item_q: Rows, met_n: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each of `GROUPS` which items are of it, ``(q,)``; `met_n` as of `figures`."""
    band_q = popularity_bands(met_n, np.arange(len(met_n)))[item_q]
    chosen = {"all": np.ones(len(band_q), np.bool_)}
    chosen |= {name: band_q == number for number, name in enumerate(BANDS)}
    return chosen | {"cold": met_n[item_q] == 0}
