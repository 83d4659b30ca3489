"""Histories as batches of tensors, for generative and for sequential recommenders.

A batch is built at once from flat arrays, without Python for every user or item. It depends on
nothing but the numbers of its examples: whatever the workers, a seed gives the same batches.

Shapes: n items, s tokens an item, m interactions, b examples of a batch, t places of a history, q
items that the users of a batch have met, e examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from semid.devices import as_device
from semid.errors import SemidError
from semid.id_table import IdTable
from semid.ids import Codes
from semid.recsys.arguments import refuse_choice
from semid.recsys.histories import PARTS, Part, Sequences

Rows = npt.NDArray[np.int64]
Examples = Literal["prefixes", "windows", "last", "shifted", "chunks"]

EXAMPLES = ("prefixes", "windows", "last", "shifted", "chunks")


class Batch(NamedTuple):
    """Histories and what comes next, int64.

    Attributes
    ----------
    users_b : number of each user
    items_bt : numbers of the items, in the order of time, padded with -1
    tokens_bts : their tokens, padded; ``tokens_bts.flatten(1)`` is what a generative model reads
    target_items : the next item ``(b,)``, or of ``shifted`` and ``chunks`` after every place
        ``(b, t)``, padded
        with -1, which `torch.nn.functional.cross_entropy` is told by ``ignore_index=-1``
    target_tokens : its tokens ``(b, s)`` or ``(b, t, s)``, padded
    seen_rows, seen_items : what users met before the target, cut at no length, as places of a
        matrix ``(b, n)``: ``scores[seen_rows, seen_items] = -inf``. A target met before is among
        them. Of validation and test only, else empty. ``(q,)``
    """

    users_b: Tensor
    items_bt: Tensor
    tokens_bts: Tensor
    target_items: Tensor
    target_tokens: Tensor
    seen_rows: Tensor
    seen_items: Tensor

    def __repr__(self) -> str:
        shapes = (f"{name} {tuple(getattr(self, name).shape)}" for name in self._fields[:-1])
        return f"Batch({', '.join(shapes)})"

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        device = as_device(device)
        return Batch(*(tensor.to(device) for tensor in self))

    def seen_padded(self) -> Tensor:
        """Return what users met as `SidConstraint.excluding_by_row` takes it.

        Numbers of items are rows of the ids table that the sequences were read with: int64
        ``(b, m)``, padded with -1, m the most that one of them met.
        """
        count_b = torch.bincount(self.seen_rows, minlength=len(self.users_b))
        begin_b = count_b.cumsum(0) - count_b
        place_q = torch.arange(len(self.seen_rows), device=count_b.device) - begin_b[self.seen_rows]
        width = int(count_b.max()) if len(count_b) else 0
        seen_bm = count_b.new_full((len(count_b), width), -1)
        seen_bm[self.seen_rows, place_q] = self.seen_items
        return seen_bm


class SidSequenceDataset(Dataset[Batch]):
    """Examples of a part of users' histories, for a `torch.utils.data.DataLoader`.

    In validation and test, an example is an interaction of that part, with all that its user met
    before as history. In training, `examples` says what there is:

    ``prefixes``
        Every interaction but a user's first, with what came before it. Generative models.
    ``windows``
        Every contiguous run of interactions, its last to be predicted from the others, which GRID
        (Ju et al., arXiv 2507.22224) trains TIGER on: a target with every length of history.
    ``last``
        The last interaction of every user's training part.
    ``shifted``
        A user at once: at every place the next item is to be predicted. SASRec (Kang & McAuley,
        arXiv 1808.09781). Of a longer history the latest ``max_items`` count.
    ``chunks``
        The same, and what is before the latest ``max_items`` in as many rows more: everything but
        a user's first interaction is a target once.

    Interactions without any before them are nobody's target; ``without_history`` says of how many
    that is so: in test, of users of whom no known item is met before the split. Memory beside that
    of `sequences` and `tokens`: 16 bytes a target, or a user of ``shifted``. Workers copy it, and
    the sequences, but share the tokens.

    Parameters
    ----------
    sequences : see `semid.recsys.read_sequences`
    tokens : of all items, in the order of the ids that the sequences were read with, ``(n, s)``,
        NumPy or torch: ``SidVocabulary.of(table).tokens(table.sids)``, or codes as they are. Kept
        as they are given, for all parts: int32 takes half of int64, and batches are int64 anyway
    part : ``training``, ``validation`` or ``test``
    examples : of training
    max_items : the latest of a history that are kept; TIGER's 20
    padding : token of places that hold no item: `SidVocabulary.pad`, which is 0, or -1 of codes
    padding_side : ``right``, or ``left`` so that the latest item is at the last place
    fixed_length : whether every batch is ``max_items`` wide, for compiled models, or as wide as
        its longest history

    Raises
    ------
    SemidError
        When tokens are not of all items, an item has the padding as a token, a choice is unknown,
        or the part has no example.
    """

    def __init__(
        self,
        sequences: Sequences,
        tokens: Codes | Tensor,
        part: Part = "training",
        *,
        examples: Examples = "prefixes",
        max_items: int = 20,
        padding: int = 0,
        padding_side: Literal["right", "left"] = "right",
        fixed_length: bool = False,
    ) -> None:
        if not isinstance(sequences, Sequences):
            raise SemidError(
                f"sequences are given as {type(sequences).__name__}; give what read_sequences "
                "returns"
            )
        if isinstance(tokens, IdTable):
            raise SemidError(
                "tokens are given as IdTable; give vocabulary.tokens(table.sids), or table.sids as "
                "they are"
            )
        tokens_ns = tokens.detach().cpu() if isinstance(tokens, Tensor) else np.asarray(tokens)
        tokens = np.asarray(tokens_ns)
        refuse_choice("part", part, PARTS)
        refuse_choice("examples", examples, EXAMPLES)
        refuse_choice("padding_side", padding_side, ("right", "left"))
        if tokens.ndim != 2 or len(tokens) != sequences.items or tokens.dtype.kind not in "iu":
            raise SemidError(
                f"tokens have shape {tokens.shape} and type {tokens.dtype}; expected integers "
                f"({sequences.items}, s), a row for each id that the sequences were read with"
            )
        if (tokens == padding).any():
            raise SemidError(
                f"padding is {padding}, which is a token of an item; give one that is none: "
                "vocabulary.pad, or -1 of codes"
            )
        if max_items < 1:
            raise SemidError(f"max_items is {max_items}; give at least 1")
        self.sequences, self.part = sequences, part
        self.examples: Examples = examples if part == "training" else "prefixes"
        self.max_items, self.padding = max_items, padding
        self.padding_side, self.fixed_length = padding_side, fixed_length
        self.tokens_ns = _as_tensor(tokens_ns)
        self.target_e, self.end_e = self._targets()
        if not len(self):
            raise SemidError(
                f"no user has an interaction for {part} with one before it; give longer histories"
            )

    def _targets(self) -> tuple[Rows, Rows]:
        """Return targets by their place, and the end of the examples of each among all."""
        offset_u, target_e = self.sequences.offset_u, self.sequences.targets(self.part)
        here_m = self.sequences.part_m == PARTS.index(self.part)
        self.without_history = int(here_m.sum()) - len(target_e)
        if self.examples in ("last", "shifted", "chunks"):
            user_e = self._users(target_e)
            last_e = np.flatnonzero(np.append(user_e[1:] != user_e[:-1], True)[: len(user_e)])
            if self.examples == "chunks":  # each from the end of its user's
                to_end_e = np.repeat(last_e, np.diff(last_e, prepend=-1)) - np.arange(len(user_e))
                last_e = np.flatnonzero(to_end_e % self.max_items == 0)
            target_e = target_e[last_e]
        count_e = np.ones(len(target_e), np.int64)
        if self.examples == "windows":
            before_e = target_e - offset_u[self._users(target_e)]
            count_e = np.minimum(before_e, self.max_items)
        return target_e, np.cumsum(count_e)

    def _users(self, place_e: Rows) -> Rows:
        return np.searchsorted(self.sequences.offset_u, place_e, "right") - 1

    def __len__(self) -> int:
        return int(self.end_e[-1]) if len(self.end_e) else 0

    def __repr__(self) -> str:
        kind = f", {self.examples}" if self.part == "training" else ""
        return f"SidSequenceDataset({self.part}{kind}, {len(self):,} examples)"

    def lengths(self) -> Rows:
        """Return how many items the history of every example has, ``(e,)``."""
        before_e = self.target_e - self.sequences.offset_u[self._users(self.target_e)]
        most_e: Rows = np.minimum(before_e, self.max_items)
        if self.examples != "windows":
            return most_e
        place_e = np.searchsorted(self.end_e, np.arange(len(self)), "right")
        left_e: Rows = self.end_e[place_e] - np.arange(len(self))
        return left_e

    def __getitem__(self, index: int) -> Batch:
        """Return a batch of one example."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int] | Rows) -> Batch:
        """Return a batch of some examples; a `DataLoader` asks for all of a batch at once."""
        index_b = np.asarray(indices, np.int64)
        if ((index_b < 0) | (index_b >= len(self))).any():
            raise IndexError(f"examples {indices} of {len(self)}")
        place_b = np.searchsorted(self.end_e, index_b, "right")
        stop_b = self.target_e[place_b]
        user_b = self._users(stop_b)
        first_b = self.sequences.offset_u[user_b]
        most_b = np.minimum(stop_b - first_b, self.max_items)
        if self.examples == "windows":
            most_b = self.end_e[place_b] - index_b  # from the longest to the last one alone
        at_bt, there_bt = self._places(stop_b - most_b, stop_b)
        items_bt = self._items(at_bt, there_bt)
        if self.examples in ("shifted", "chunks"):
            target = self._items(at_bt + 1, there_bt)
        else:
            target = self._items(stop_b, np.True_)
        seen = np.zeros((2, 0), np.int64)
        if self.part != "training":
            row_q = np.repeat(np.arange(len(index_b)), stop_b - first_b)
            begin_b = np.cumsum(stop_b - first_b) - (stop_b - first_b)
            at_q = np.arange(len(row_q)) + (first_b - begin_b)[row_q]
            seen = np.stack([row_q, self.sequences.item_m[at_q]])
        arrays = (
            *(user_b, items_bt, self._tokens(items_bt)),
            *(target, self._tokens(target), *seen),
        )
        return Batch(*(torch.from_numpy(array.astype(np.int64, copy=False)) for array in arrays))

    def _places(self, start_b: Rows, stop_b: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return the places of histories, ``(b, t)``, and which are theirs."""
        width = self.max_items if self.fixed_length else int((stop_b - start_b).max(initial=0))
        if self.padding_side == "right":
            at_bt = start_b[:, None] + np.arange(width)
        else:
            at_bt = stop_b[:, None] - width + np.arange(width)
        return at_bt, (at_bt >= start_b[:, None]) & (at_bt < stop_b[:, None])

    def _items(self, at: Rows, there: npt.NDArray[np.bool_] | np.bool_) -> Rows:
        found = self.sequences.item_m[np.where(there, at, 0)]
        return np.where(there, found, -1)

    def _tokens(self, items: Rows) -> Rows:
        # Clipped, padding is item 0 until it is replaced.
        found = self.tokens_ns.numpy().take(items, axis=0, mode="clip")
        return np.where(items[..., None] < 0, np.int64(self.padding), found)

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 0,
        drop_last: bool = False,
    ) -> DataLoader[Batch]:
        """Return a loader of batches; every pass over it is in another order, if `shuffle`.

        Workers are spawned, since libraries with threads of their own may hang in forked ones: a
        script that asks for them keeps what it runs below ``if __name__ == "__main__":``.

        Raises
        ------
        SemidError
            When the batch size is below 1, or the workers below 0.
        """
        if batch_size < 1 or workers < 0:
            raise SemidError(
                f"batch_size is {batch_size} and workers {workers}; give at least 1 and 0"
            )
        # The loader draws from its own generator, with workers less often: not the sampler's.
        order, other = Generator().manual_seed(seed), Generator().manual_seed(seed)
        return DataLoader(
            self,
            batch_size,
            sampler=RandomSampler(self, generator=order) if shuffle else SequentialSampler(self),
            generator=other,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            drop_last=drop_last,
            collate_fn=collate,
        )


def _as_tensor(tokens_ns: Codes | Tensor) -> Tensor:
    """Return tokens as a tensor, which processes share: of the same memory if they may be."""
    if isinstance(tokens_ns, Tensor):
        return tokens_ns
    if tokens_ns.dtype.kind == "u":
        tokens_ns = tokens_ns.astype(np.int64)
    return torch.from_numpy(np.require(tokens_ns, requirements=["C", "W"]))


def collate(batch: Any) -> Batch:
    """Return a batch as it is: a `SidSequenceDataset` makes it whole.

    A `DataLoader` of one's own needs it as its ``collate_fn``: by itself it would stack the fields
    of a batch on each other.
    """
    whole: Batch = batch
    return whole
