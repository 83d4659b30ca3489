"""A small generative recommender over semantic IDs: what `recommend.py` measures IDs with.

A causal transformer reads the items that a user bought, each the sum of its codes' embeddings; from
what it makes of them the codes of the next item are predicted one after the other, as in
RQ-Transformer (2203.01941). Candidates come from a beam search over the prefixes that exist.

Shapes: u users, t places of a history, n items, l levels, k codewords, w width, b beams, c
prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LENGTH = 20
BEAMS = 50
TOP = 10
USERS_AT_ONCE = 250

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Codes:
    """The IDs of the catalog, unique, and the tree of their prefixes.

    Attributes
    ----------
    code_nl : codes of every item
    sizes : codewords per level
    children : for each level, which prefix ``(c, k)`` a prefix becomes by one more code, -1 where
        no item has it; at the last level the item
    """

    code_nl: Tensor
    sizes: tuple[int, ...]
    children: tuple[Tensor, ...]

    @classmethod
    def of(cls, code_nl: Rows) -> Codes:
        """Build the tree of the IDs ``(n, l)``."""
        sizes = tuple(int(size) for size in code_nl.max(0) + 1)
        prefix_n, children = np.zeros(len(code_nl), np.int64), []
        for level, size in enumerate(sizes):
            place_n = prefix_n * size + code_nl[:, level]
            found, next_n = np.unique(place_n, return_inverse=True)
            if level == len(sizes) - 1:
                if len(found) < len(code_nl):
                    raise SystemExit("two items have one ID; assign with --collisions suffix")
                next_n = np.arange(len(code_nl))
            child = np.full((int(prefix_n.max()) + 1) * size, -1)
            child[place_n] = next_n
            children.append(torch.from_numpy(child.reshape(-1, size)))
            prefix_n = next_n
        return cls(torch.from_numpy(code_nl), sizes, tuple(children))


@dataclass(frozen=True)
class Histories:
    """What every user bought, in order, as item numbers; at least four items each."""

    items: list[Rows]

    def windows(self, leave: int) -> tuple[Tensor, Tensor]:
        """Return the last places before the `leave` last items, and the item after each.

        Both ``(u, t)``, -1 where a history is shorter; a batch is cut to its longest.
        """
        read = np.full((len(self.items), LENGTH), -1)
        wanted = read.copy()
        for row, item_t in enumerate(self.items):
            known_t = item_t[: len(item_t) - leave][-LENGTH - 1 :]
            length = len(known_t) - 1
            read[row, :length], wanted[row, :length] = known_t[:-1], known_t[1:]
        return torch.from_numpy(read), torch.from_numpy(wanted)


class Recommender(nn.Module):
    """Histories of items in, the codes of the next item out."""

    def __init__(self, codes: Codes, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.codes = codes
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in codes.sizes)
        for table in self.embeddings:
            nn.init.normal_(table.weight, std=0.05)
        self.place = nn.Embedding(LENGTH, width)
        self.drop = nn.Dropout(dropout)
        block = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in codes.sizes
        )
        self.ends = nn.ModuleList(nn.LayerNorm(width) for _ in codes.sizes)

    def read(self, item_ut: Tensor) -> Tensor:
        """Return what is known after each place of the histories: ``(u, t, w)``."""
        code_utl = self.codes.code_nl[item_ut.clamp_min(0)]
        there_ut = (item_ut >= 0).unsqueeze(-1)
        found = sum(table(code_utl[..., level]) for level, table in enumerate(self.embeddings))
        x_utw = self.drop(found * there_ut + self.place.weight[: item_ut.shape[1]])
        mask_tt = nn.Transformer.generate_square_subsequent_mask(item_ut.shape[1])
        return self.blocks(x_utw, mask=mask_tt, is_causal=True)

    def scores(self, level: int, state_nw: Tensor) -> Tensor:
        """Return the logits of a level's codes, given what is known and the codes before."""
        state_nw = self.ends[level](state_nw + self.steps[level](state_nw))
        return state_nw @ self.embeddings[level].weight.T

    def loss(self, read_ut: Tensor, wanted_ut: Tensor) -> Tensor:
        """Return the mean over known places of minus the log probability of the next item."""
        state_nw = self.read(read_ut)[wanted_ut >= 0]
        code_nl = self.codes.code_nl[wanted_ut[wanted_ut >= 0]]
        total = state_nw.new_zeros(())
        for level, table in enumerate(self.embeddings):
            total = total + nn.functional.cross_entropy(
                self.scores(level, state_nw), code_nl[:, level]
            )
            state_nw = state_nw + table(code_nl[:, level])
        return total

    @torch.no_grad()
    def recommend(self, read_ut: Tensor) -> Tensor:
        """Return the `TOP` items that are most likely to follow the last one read: ``(u, TOP)``."""
        last_u = (read_ut >= 0).sum(1) - 1
        state_ubw = self.read(read_ut)[torch.arange(len(read_ut)), last_u][:, None]
        log_ub = torch.zeros(len(read_ut), 1)
        prefix_ub = torch.zeros(len(read_ut), 1, dtype=torch.int64)
        for level, child_ck in enumerate(self.codes.children):
            next_ubk = child_ck[prefix_ub]
            gain_ubk = self.scores(level, state_ubw).masked_fill(next_ubk < 0, -torch.inf)
            total = (log_ub[..., None] + gain_ubk.log_softmax(-1)).flatten(1)
            log_ub, place = total.topk(min(BEAMS, total.shape[1]))
            beam, code = place // child_ck.shape[1], place % child_ck.shape[1]
            prefix_ub = next_ubk.flatten(1).gather(1, place).clamp_min(0)
            kept = beam[..., None].expand(-1, -1, state_ubw.shape[-1])
            state_ubw = state_ubw.gather(1, kept) + self.embeddings[level](code)
        return prefix_ub[:, :TOP].masked_fill(log_ub[:, :TOP].isinf(), -1)


def measure(model: Recommender, read_ut: Tensor, target_u: Tensor) -> tuple[float, float]:
    """Return Recall@10 and NDCG@10 of one target for each user."""
    model.eval()
    rows = torch.arange(len(read_ut)).split(USERS_AT_ONCE)
    found = torch.cat([model.recommend(read_ut[part]) for part in rows])
    hit = found == target_u[:, None]
    gain = hit / torch.log2(torch.arange(TOP) + 2.0)
    return hit.any(1).float().mean().item(), gain.sum(1).mean().item()


def _alike(length_u: Tensor, size: int) -> list[Tensor]:
    """Shuffle rows into batches of about one length, so that little of them is filling."""
    noisy_u = length_u + torch.rand(len(length_u)) * 2
    batches = noisy_u.argsort().split(size)
    return [batches[place] for place in torch.randperm(len(batches))]


@dataclass(frozen=True)
class Study:
    """How the recommender is trained and measured: the same for all IDs."""

    epochs: int = 14
    width: int = 64
    layers: int = 2
    dropout: float = 0.2
    users: int = 20_000
    checked: int = 2_000
    batch: int = 128
    rate: float = 8e-3

    def run(self, codes: Codes, histories: Histories, *, seed: int) -> tuple[float, float]:
        """Train on all but every user's last two items; return Recall@10 and NDCG@10 of the last.

        The epoch kept is the one best at the second last items of other users.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._run(codes, histories)

    def _run(self, codes: Codes, histories: Histories) -> tuple[float, float]:
        model = Recommender(codes, width=self.width, layers=self.layers, dropout=self.dropout)
        read_ut, wanted_ut = histories.windows(leave=2)
        length_u = (wanted_ut >= 0).sum(1)
        # Who is measured does not depend on the seed.
        order = np.random.default_rng(0).permutation(len(histories.items))
        test, check = order[: self.users], order[self.users : self.users + self.checked]
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=0.05)
        steps = self.epochs * -(-len(read_ut) // self.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, steps, pct_start=0.05)
        best, kept = -1.0, model.state_dict()
        for epoch in range(self.epochs):
            model.train()
            for rows in _alike(length_u, self.batch):
                longest = int(length_u[rows].max())
                optimizer.zero_grad()
                model.loss(read_ut[rows, :longest], wanted_ut[rows, :longest]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            if epoch % 3 == 2 or epoch == self.epochs - 1:
                _, gain = self._measure(model, histories, check, leave=1)
                if gain > best:
                    best = gain
                    kept = {name: t.detach().clone() for name, t in model.state_dict().items()}
        model.load_state_dict(kept)
        return self._measure(model, histories, test, leave=0)

    def _measure(
        self, model: Recommender, histories: Histories, users: Rows, *, leave: int
    ) -> tuple[float, float]:
        chosen = Histories([histories.items[user] for user in users])
        # The item after the last place read is the target.
        read_ut, wanted_ut = chosen.windows(leave=leave)
        last_u = (read_ut >= 0).sum(1) - 1
        return measure(model, read_ut, wanted_ut[torch.arange(len(users)), last_u])
