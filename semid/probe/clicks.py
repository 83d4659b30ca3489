"""A ranking model whose features are SIDs: whether a user will meet an item.

A user is the mean of the embeddings of the items met before (Covington et al., "Deep neural
networks for YouTube recommendations", 2016); a small network reads user, item and their product
(He et al., "Neural collaborative filtering", arXiv 1708.05031). What embeds an item is given: only
that differs between models that are to be compared.

What is clicked are the items that users met next, and what is not the same items dealt to other
users: an item is as often the one as the other, so that popularity alone tells nothing.

Shapes: b batch rows, t places of a history, s codes of an item, w width, q examples, m rows of
clicks and others, n items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu

from semid.metrics.ranking import auc
from semid.mlp import drop_out, undrawn
from semid.probe.judging import groups_of
from semid.probe.settings import NetworkSettings
from semid.probe.transformer import initialise
from semid.recsys.sequences import Batch, SidSequenceDataset

_BATCH = 1024


class ClickModel(nn.Module):
    """The logit of a click, by the embeddings of a history's items and of one more.

    `semid.probe.fit` trains it on a dataset of ``prefixes`` or ``last`` whose padding is -1.

    Parameters
    ----------
    embedding : from codes ``(…, s)`` to vectors ``(…, w)``, zeros where codes are -1: a
        `semid.recsys.PrefixNgramEmbedding` or `CodeEmbedding`; trained along
    settings : of them ``width``, which is w, ``feedforward`` and ``dropout``
    generator : draws the weights, but those of the embedding
    """

    def __init__(
        self, embedding: nn.Module, settings: NetworkSettings, generator: Generator
    ) -> None:
        super().__init__()
        self.dropout = settings.dropout
        self.norm = nn.RMSNorm(settings.width)
        self.wide = undrawn(3 * settings.width, settings.feedforward, bias=False)
        self.narrow = undrawn(settings.feedforward, 1, bias=False)
        initialise(self, generator, 1)
        self.embedding = embedding

    def forward(
        self, codes_bts: Tensor, item_bs: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Return the logits ``(b,)`` of items after histories; a generator draws the dropout."""
        count_b1 = (codes_bts[..., 0] >= 0).sum(1, keepdim=True).clamp(min=1)
        user_bw = self.norm(self.embedding(codes_bts).sum(1) / count_b1)
        item_bw = self.norm(self.embedding(item_bs))
        x = torch.cat([user_bw, item_bw, user_bw * item_bw], 1)
        if generator is not None and self.dropout:
            x = drop_out(x, self.dropout, generator)
        logit_b1: Tensor = self.narrow(gelu(self.wide(x)))
        return logit_b1[:, 0]

    def loss(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the mean cross-entropy of the next items and of those of the next rows."""
        items = torch.cat([batch.target_tokens, batch.target_tokens.roll(1, 0)])
        logit_m = self(torch.cat([batch.tokens_bts] * 2), items, generator)
        clicked_m = torch.arange(len(items), device=items.device) < len(batch.users_b)
        return binary_cross_entropy_with_logits(logit_m.float(), clicked_m.float())


class Clicks(NamedTuple):
    """Rows that were scored, every example's own item and one dealt to it; all ``(m,)``.

    score : the higher, the likelier a click
    clicked : whether the user met the item
    item : its number
    """

    score: npt.NDArray[np.float32]
    clicked: npt.NDArray[np.bool_]
    item: npt.NDArray[np.int64]


def judged(model: ClickModel, dataset: SidSequenceDataset, *, seed: int) -> Clicks:
    """Score what users met next, and the same items dealt to users at random.

    Parameters
    ----------
    model : trained
    dataset : of validation or test, with the tokens that the model was trained on
    seed : of the deal, by which models are compared on the same rows
    """
    device = next(model.parameters()).device
    item_q = dataset.sequences.item_m[dataset.target_e].astype(np.int64)
    dealt_q = np.random.default_rng(seed).permutation(item_q)
    score_m = np.empty(2 * len(dataset), np.float32)
    for start in range(0, len(dataset), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(dataset)))
        codes_bts = dataset.__getitems__(rows).tokens_bts.to(device)
        for number, items in enumerate((item_q[rows], dealt_q[rows])):
            asked = dataset.tokens_ns[torch.from_numpy(items)].long().to(device)
            with torch.inference_mode():
                score_m[rows + number * len(dataset)] = model(codes_bts, asked).float().cpu()
    clicked_m = np.arange(2 * len(dataset)) < len(dataset)
    return Clicks(score_m, clicked_m, np.concatenate([item_q, dealt_q]))


def auc_by_group(
    clicks: Clicks, met_n: npt.NDArray[np.int64]
) -> dict[str, dict[str, float | None]]:
    """Return the AUC of all rows, and among the items of every group.

    Parameters
    ----------
    clicks : see `judged`
    met_n : how often every item was met in training; groups as of `semid.probe.judging.figures`

    Returns
    -------
    groups : for each the number of ``targets`` and the ``auc``, None of a group without any
    """
    return {
        group: {
            "targets": int(clicks.clicked[here_m].sum()),
            "auc": auc(clicks.score[here_m], clicks.clicked[here_m]) if here_m.any() else None,
        }
        for group, here_m in groups_of(clicks.item, met_n).items()
    }
