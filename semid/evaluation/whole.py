"""All figures of a set of semantic IDs: items, embeddings and a model in, plain values out.

What the figures mean is said where they are made, in `semid.metrics` and beside this file. Shapes:
n items, l levels, d dims, q queries, k neighbours of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.coded_items import Categories, CodedItems, Embedded
from semid.data_facts import PROBED_ROWS, DataFacts, examine
from semid.embedding_columns import spans
from semid.evaluation.behaviour import hit_rate, steps_taken
from semid.evaluation.codes import code_figures, code_nulls
from semid.evaluation.passing import CodesAlone, Decoder, Kept, Pass, by_category, look
from semid.evaluation.structure import (
    EXAMPLES,
    NEIGHBOURS,
    QUERIES,
    Take,
    categories,
    cohesion,
    collisions,
    harm,
    mates,
    neighbourhoods,
)
from semid.met_items import Met
from semid.metrics.alike import HARMFUL_COSINE
from semid.metrics.behaviour import popularity
from semid.metrics.change import change
from semid.metrics.fidelity import Fidelity
from semid.metrics.structure import prefix_support
from semid.metrics.uniqueness import identical_rows
from semid.metrics.utilization import quantiles

Codes = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Given:
    """What the figures are made of.

    Attributes
    ----------
    items, embeddings : the items, and the embeddings of those that have one
    model : what gave them their codes; without it, what codes decode to is not measured
    baseline : a quantizer to measure beside it, which gives the same items codes; None for none
    met : what users did with the items, if that is known
    categories : of the items, if there are some
    seed : of the nulls
    unlike_below : cosine, less the catalog's mean, below which items that collide are unlike
    on_rows : hears of every batch of embeddings how many there were
    """

    items: CodedItems
    embeddings: Embedded
    model: Decoder | CodesAlone
    baseline: Any = None
    met: Met | None = None
    categories: Categories | None = None
    seed: int = 0
    unlike_below: float = HARMFUL_COSINE
    on_rows: Callable[[int], object] = lambda _: None

    @property
    def decode(self) -> Callable[[Any], Matrix] | None:
        """Codes to vectors, where the model is known."""
        return None if isinstance(self.model, CodesAlone) else self.model.decode


def measure(given: Given) -> tuple[dict[str, Any], DataFacts]:
    """Return all figures as plain values, and what the embeddings are like.

    Examples name items by their places. At least one item must have an embedding.
    """
    from semid.neighbours import Nearest

    items, embeddings = given.items, given.embeddings
    there = embeddings.items
    first = there[:QUERIES]
    steps_q2 = _known_steps(given, there)
    own_q = np.concatenate([first, steps_q2[:, 0]])
    # Items are numbered by the hashes of their ids, which break ties.
    tie_n = np.arange(len(items.codes_nl))
    nearest = Nearest(embeddings.take(own_q), min(NEIGHBOURS, len(there) - 1), tie_n)
    beside = None if given.baseline is None else _Baseline(given)
    codes_nl = items.codes_nl[there]
    mates_lq, pairs = mates(codes_nl, len(first)), collisions(codes_nl, seed=given.seed)
    wanted = np.concatenate([*mates_lq, np.arange(min(PROBED_ROWS, len(there))), *pairs[0].T])
    kept = Kept(there[wanted[wanted >= 0]], sum(embeddings.widths.values()))
    total_d = np.zeros(sum(embeddings.widths.values()))

    def add_up(x_bd: Matrix, _: Rows) -> None:
        total_d[:] += x_bd.sum(0, dtype=np.float64)
        given.on_rows(len(x_bd))

    watchers: list[Any] = [nearest.add, kept.add, add_up]
    watchers += [] if beside is None else [beside.add]
    found = look(items, embeddings, given.model, watchers=watchers)
    near_qk = nearest.result(own_q)
    # From here on by their places among the items that have an embedding.
    sample = _Sample(
        np.searchsorted(there, near_qk[: len(first)]),
        np.searchsorted(there, steps_q2),
        np.searchsorted(there, near_qk[len(first) :]),
        mates_lq,
        lambda row_m: kept.take(there[row_m]),
    )
    figures = code_figures(items.codes_nl, given.model.levels)
    nulls = code_nulls(items.codes_nl, given.model.levels, seed=given.seed)
    figures = {"items": figures.pop("items"), "embedded": len(there)} | figures
    figures["of_embedded"] = _of_embedded(codes_nl, given.model.levels)
    figures["collisions"] |= identical_rows(found.digest_n[there])
    mean_d = (total_d / len(there)).astype(np.float32)
    harmful, nulls["collisions"] = _harm(given, pairs, there, sample.take, mean_d)
    figures["collisions"]["harmful"] = harmful | {
        "share_of_items": harmful.pop("share_of_colliding")
        * figures["of_embedded"]["collisions"]["share_in_groups"]
    }
    figures["fidelity"] = _fidelity(given, found)
    whole = (figures["fidelity"]["depths"] or [{"train_error": None, "held_out_error": None}])[-1]
    figures |= {
        key: whole[key] for key in ("train_error", "held_out_error", "columns") if key in whole
    }
    figures["structure"], nulls["structure"] = _structure(given, there, sample)
    if given.met is not None:
        figures["behaviour"], nulls["behaviour"] = _behaviour(given, found, there, sample)
    suffix_n, cost = items.suffix_n, (found.error_n, items.moved_m, found.moved_error_m)
    figures |= {"change": change(*cost, suffix_n), "nulls": nulls}
    if beside is not None:
        figures["baseline"] = beside.figures(there, sample)
    facts = _facts(given, found, there, sample.take)
    return figures | {"data": facts.as_plain()}, facts


def _of_embedded(codes_nl: Codes, levels: Sequence[int]) -> dict[str, Any]:
    """Return what is held against figures that only items with embeddings have: of these alone."""
    found = code_figures(codes_nl, levels)
    return {
        **{name: found[name] for name in ("uniqueness", "perplexity_ratio", "levels")},
        "collisions": {"share_in_groups": found["collisions"]["share_in_groups"]},
    }


@dataclass(frozen=True)
class _Sample:
    """Items and steps that are looked at closely, by places among the items with an embedding.

    near_qk : the nearest items of the first q
    steps_s2 : steps
    near_sk : the nearest items of the first item of every step
    mates_lq : for each depth an item with the first codes of each of the first q
    take : embeddings of these, and of the items of pairs
    """

    near_qk: Rows
    steps_s2: Rows
    near_sk: Rows
    mates_lq: list[Rows]
    take: Take


def _known_steps(given: Given, there: Rows) -> Rows:
    """Return the first steps between items that have embeddings, ``(q, 2)``."""
    if given.met is None:
        return np.empty((0, 2), np.int64)
    steps_m2 = given.met.steps_m2
    return steps_m2[np.isin(steps_m2, there).all(1)][:QUERIES]


class _Baseline:
    """A quantizer that is measured beside the model, on the same items."""

    def __init__(self, given: Given) -> None:
        self._model, self._held_n = given.baseline, given.items.held_out_n
        self._codes_nl = np.zeros((len(self._held_n), len(self._model.levels)), np.int32)
        self._fidelity = Fidelity(spans(self._model.widths))

    def add(self, x_bd: Matrix, item_b: Rows) -> None:
        codes_bl = self._codes_nl[item_b] = self._model.quantize(x_bd).codes_nl
        self._fidelity.add(x_bd, self._model.decode(codes_bl), self._held_n[item_b])

    def figures(self, there: Rows, sample: _Sample) -> dict[str, Any]:
        codes_nl = self._codes_nl[there]
        found = code_figures(codes_nl, self._model.levels) | self._fidelity.result()
        if sample.near_qk.shape[1]:
            found["structure"] = neighbourhoods(codes_nl, sample.near_qk, self._model.decode)[0]
        if len(sample.steps_s2):
            rates = hit_rate(codes_nl, sample.steps_s2, sample.near_sk, self._model.decode)
            found["behaviour"] = {"hit_rate": rates}
        return found


def _facts(given: Given, found: Pass, there: Rows, take: Take) -> DataFacts:
    """Look at a sample of the embeddings; copies are counted among all."""
    x_md = take(np.arange(min(PROBED_ROWS, len(there))))
    facts = examine(x_md, max(given.model.levels), seed=given.seed)
    return replace(facts, copies_m=np.unique(found.digest_n[there], return_counts=True)[1])


def _harm(
    given: Given, pairs: tuple[Rows, Rows], there: Rows, take: Take, mean_d: Matrix
) -> tuple[dict[str, Any], dict[str, Any]]:
    # By the hashes of their ids one item and the next are a random pair.
    place_r = np.arange(min(PROBED_ROWS, len(there)) - 1)
    random_r2 = np.stack([place_r, place_r + 1], 1)
    found, nulls = harm(pairs, random_r2, take, mean_d, threshold=given.unlike_below)
    for example in found["examples"]:
        example["items"] = there[example["items"]].tolist()
    return found, {"harmful": nulls}


def _fidelity(given: Given, found: Pass) -> dict[str, Any]:
    error_n = found.error_n
    known = np.flatnonzero(~np.isnan(error_n))
    figures: dict[str, Any] = {
        "depths": [
            {"depth": level + 1, **fidelity.result()} for level, fidelity in enumerate(found.depths)
        ],
        "item_error": quantiles(error_n[known]) if len(known) else None,
        "worst": [],
    }
    if not len(known):
        return figures
    worst = known[np.argsort(-error_n[known], kind="stable")[:EXAMPLES]]
    figures["worst"] = [{"item": int(item), "error": float(error_n[item])} for item in worst]
    if given.categories is not None:
        figures["categories"] = by_category(given.categories, found, given.items.held_out_n, known)
    return figures


def _structure(given: Given, there: Rows, sample: _Sample) -> tuple[dict[str, Any], dict[str, Any]]:
    items, codes_nl = given.items, given.items.codes_nl[there]
    figures: dict[str, Any] = {"queries": len(sample.near_qk), "k": sample.near_qk.shape[1]}
    nulls: dict[str, Any] = {}
    if figures["k"]:
        kept, nulls = neighbourhoods(codes_nl, sample.near_qk, given.decode)
        figures |= kept
        alike, nulls["cohesion"] = cohesion(sample.mates_lq, sample.take)
        figures["cohesion"] = alike["cohesion"]
        figures["standard_errors"]["cohesion"] = alike["standard_error"]
    figures["cold_support"] = prefix_support(items.codes_nl, items.held_out_n)
    if given.categories is not None:
        said, nulls["purity"] = categories(
            items.codes_nl, given.categories.category_n, seed=given.seed
        )
        figures["categories"] = {"column": given.categories.column, **said}
    return figures, nulls


def _behaviour(
    given: Given, found: Pass, there: Rows, sample: _Sample
) -> tuple[dict[str, Any], dict[str, Any]]:
    assert given.met is not None
    codes_nl, met = given.items.codes_nl, given.met
    followed, nulls = steps_taken(codes_nl, met.steps_m2, seed=given.seed)
    figures = {
        "interactions": met.interactions,
        "of_other_items": met.of_others,
        "items_met": int((met.met_n > 0).sum()),
        "steps": len(met.steps_m2),
        **popularity(codes_nl, met.met_n, found.error_n),
        **followed,
    }
    if given.decode is not None and len(sample.steps_s2) and sample.near_sk.shape[1]:
        figures["hit_rate"] = hit_rate(
            codes_nl[there], sample.steps_s2, sample.near_sk, given.decode
        )
        nulls["hit_rate"] = figures["hit_rate"]["k"] / (len(there) - 1)
    return figures, nulls
