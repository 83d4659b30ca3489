"""What the figures of a set of semantic IDs say, worst first, each with what to do about it.

Pure functions on figures. What is wrong with a level, the error or the data is said as after a fit,
by `semid.verdicts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from semid.config import parse
from semid.data_facts import DataFacts
from semid.fit_config import FitConfig
from semid.verdicts import judge

# A level that is used this little, in perplexity over K, ruins all after it.
RUINED = 0.25
# How far uniqueness may stay below its ceiling, and from where on that is bad.
SHARED, OFTEN_SHARED = 0.1, 0.25
# Share of the items that may collide with one unlike them.
UNLIKE = 0.02
# Uniqueness of codes drawn alike below which the space is too small.
CROWDED = 0.99
# How much worse than the baseline, than training items, or for moving items, is worth a sentence.
WORSE, OVERFITTED, MOVED = 1.02, 1.5, 0.02
# Times as many shared first codes as random pairs; and of steps dealt anew. Where codes are few no
# more is possible: what is beyond chance of what could be, from which on all is well.
RELATED, FOLLOWED, BEYOND_CHANCE = 3, 2, 0.1
# Share of the interactions that may be of items that are not in the table.
STRANGE = 0.1
# Share of the next items found among embeddings that must be found among decoded codes.
KEPT = 0.5
# How far cold items may stay below others in support, and a suffix be from codes of a level.
COLD = 0.1

SEVERITIES = ("bad", "warning", "note")


class Fit(NamedTuple):
    """How a model came about: its settings, its history, and how many rows it was fitted to."""

    config: FitConfig
    history: Sequence[Mapping[str, Any]]
    train_rows: int


class Finding(NamedTuple):
    """One thing that is found: how bad it is, what it is about, what it is and what to do."""

    severity: str
    about: str
    says: str
    advice: str


class _Found(NamedTuple):
    """A finding's parts, and how many times its threshold it has reached; 1 where there is none."""

    severity: str
    about: str
    says: str
    advice: str
    beyond: float = 1.0

    def as_plain(self) -> dict[str, str]:
        return Finding(self.severity, self.about, self.says, self.advice)._asdict()


def fit_of(model: Any) -> Fit:
    """Return how a `semid.quantizer.Quantizer` came about."""
    config = parse(FitConfig, {**model.config, "quantizer": model.kind}, where="the model")
    return Fit(config, model.history, int(model.metrics.get("train_rows", 0)))


def findings(figures: Mapping[str, Any], facts: DataFacts, fit: Fit | None) -> list[dict[str, str]]:
    """Judge the figures of `semid evaluate`; empty when all is well.

    Parameters
    ----------
    figures : its plain values
    facts : of the embeddings
    fit : of the model; without one, levels and errors are not judged

    Returns
    -------
    found : ``severity`` (``bad``, ``warning`` or ``note``), ``about``, ``says`` and ``advice``;
        the worst first: of one severity
        what is the most times beyond its threshold
    """
    found = [
        *([] if fit is None else _of_fit(figures, facts, fit)),
        *_of_collisions(figures),
        *_of_baseline(figures),
        *_of_structure(figures),
        *_of_behaviour(figures),
        *_of_table(figures),
    ]
    found.sort(key=lambda one: (SEVERITIES.index(one.severity), -one.beyond))
    return [one.as_plain() for one in found]


def _times(value: float, threshold: float) -> float:
    """Return how many times its threshold a value is."""
    return value / threshold if threshold else float("inf")


def _of_fit(figures: Mapping[str, Any], facts: DataFacts, fit: Fit) -> Iterator[_Found]:
    metrics = {**figures, "train_rows": fit.train_rows or figures["items"]}
    said = judge(fit.history, metrics, fit.config, facts)
    levels = {f"level {level}": ratio for level, ratio in enumerate(figures["perplexity_ratio"])}
    chance = [level["perplexity_ratio"] for level in figures["nulls"]["levels"]]
    too_few = min(chance) < fit.config.training.utilization_floor
    if too_few:
        yield _Found(
            "note",
            "items",
            f"levels are not judged by {figures['items']:,} items: even codes drawn alike would "
            f"have a perplexity of {min(chance):.2g} of the codebook",
            "measure the whole catalog",
        )
    for one in said:
        if too_few and one.about in levels:
            continue
        ruined = levels.get(one.about, 1) < RUINED or one.about == "error"
        severity = "bad" if ruined else "note" if one.about == "data" else "warning"
        floor = RUINED if ruined else fit.config.training.utilization_floor
        if ruined and one.about in levels:
            says = f"{one.says}, and is below {RUINED:g} of the codebook"
            one = one._replace(says=says)
        yield _Found(severity, *one, beyond=_times(floor, levels.get(one.about, floor)))
    train, held = figures["train_error"], figures["held_out_error"]
    if train and held and held > OVERFITTED * train:
        yield _Found(
            "warning",
            "error",
            f"held-out items have an error of {held:.3g}, those of training {train:.3g}",
            "use smaller levels, or more items to train on",
            _times(held, OVERFITTED * train),
        )


def _of_collisions(figures: Mapping[str, Any]) -> Iterator[_Found]:
    collisions = figures["collisions"]
    # The ceiling is of the items with embeddings, and so must be what it is held against.
    like = figures["of_embedded"]
    unique, ceiling = like["uniqueness"], collisions["uniqueness_ceiling"]
    if ceiling - unique > SHARED:
        yield _Found(
            "bad" if ceiling - unique > OFTEN_SHARED else "warning",
            "uniqueness",
            f"{like['collisions']['share_in_groups']:.1%} of the items share their raw ID, up to "
            f"{collisions['largest_group']:,} the same; uniqueness is {unique:.3f} where the "
            f"embeddings allow {ceiling:.3f}",
            _room(figures),
            _times(ceiling - unique, OFTEN_SHARED if ceiling - unique > OFTEN_SHARED else SHARED),
        )
    harmful = collisions["harmful"]
    if harmful["share_of_items"] > UNLIKE:
        one, other = (_name(item) for item in harmful["examples"][0]["items"])
        yield _Found(
            "warning",
            "collisions",
            f"{harmful['share']:.1%} of the pairs that collide are unlike (cosine below "
            f"{harmful['threshold']:g}, less the mean), as are {one} and {other}",
            f"look at collisions.harmful.examples; {_room(figures)}",
            _times(harmful["share_of_items"], UNLIKE),
        )


def _room(figures: Mapping[str, Any]) -> str:
    """Say what would tell more items apart."""
    random, space = figures["nulls"]["uniqueness"]["random"], figures["utilization"]["space"]
    if random < CROWDED:
        return (
            f"use more or larger levels: there are {space:,} raw IDs for {figures['items']:,} "
            f"items, even random codes would only reach {random:.3f}"
        )
    least = min(range(len(figures["levels"])), key=figures["perplexity_ratio"].__getitem__)
    if figures["perplexity_ratio"][least] < 0.5:
        used = figures["perplexity_ratio"][least]
        return f"mend level {least} first, whose perplexity is {used:.2g} of the codebook"
    return "use one level more, or larger levels"


def _name(item: Any) -> str:
    if isinstance(item, Mapping):
        return repr(str(item.get("title") or item["item_id"])[:60])
    return str(item)


def _of_baseline(figures: Mapping[str, Any]) -> Iterator[_Found]:
    baseline = figures.get("baseline")
    if baseline is None:
        return
    which = "held_out_error" if figures["held_out_error"] is not None else "train_error"
    ours, theirs = figures[which], baseline[which]
    if ours is not None and theirs is not None and ours > WORSE * theirs:
        yield _Found(
            "warning",
            "error",
            f"the {which.removesuffix('_error').replace('_', '-')} error is {ours:.3g}, that of "
            f"RQ-KMeans {theirs:.3g}",
            "use quantizer rqkmeans, or see semid compare for one that is better",
            _times(ours, WORSE * theirs),
        )
    unique = figures["of_embedded"]["uniqueness"]
    if WORSE * unique < baseline["uniqueness"]:
        yield _Found(
            "warning",
            "uniqueness",
            f"uniqueness is {unique:.3f}, that of RQ-KMeans {baseline['uniqueness']:.3f}",
            "use quantizer rqkmeans, or see semid compare for one that is better",
            _times(baseline["uniqueness"], WORSE * unique),
        )


def _beyond(found: float, chance: float) -> float:
    """Return how much of what chance leaves is found; 1 where it leaves nothing."""
    return (found - chance) / (1 - chance) if chance < 1 else 1.0


def _of_structure(figures: Mapping[str, Any]) -> Iterator[_Found]:
    structure = figures["structure"]
    ratio, near = structure.get("common_prefix_ratio"), structure.get("prefix_purity", [None])[0]
    if (
        ratio is not None
        and ratio < RELATED
        and _beyond(near, figures["nulls"]["structure"]["prefix_purity"][0]) < BEYOND_CHANCE
    ):
        yield _Found(
            "bad",
            "structure",
            f"nearest neighbours share {ratio:.2g} times as many first codes as random pairs",
            "the codes say little of the embeddings: check that these are what the model was "
            "trained on, or train longer",
            _times(RELATED, ratio),
        )
    for at in structure["cold_support"][:-1]:
        support, usual = at["support"], at["usual"]
        if support is not None and usual is not None and support < usual - COLD:
            codes = "code" if at["depth"] == 1 else f"{at['depth']} codes"
            yield _Found(
                "warning",
                "cold items",
                f"{support:.1%} of the held-out items share their first {codes} with an item that "
                f"is not held out, {usual:.1%} of these with another",
                "new items will stand on prefixes that nothing was learnt of: use smaller levels "
                f"up to level {at['depth'] - 1}",
                _times(usual - support, COLD),
            )
            return


def _of_behaviour(figures: Mapping[str, Any]) -> Iterator[_Found]:
    behaviour = figures.get("behaviour", {})
    others, all_ = behaviour.get("of_other_items", 0), behaviour.get("interactions", 0)
    if others > STRANGE * all_:
        yield _Found(
            "warning",
            "interactions",
            f"{others:,} of {all_:,} interactions are of items that the table does not have",
            "give the interactions of this catalog, their item ids written alike",
            _times(others, STRANGE * all_),
        )
    rates = behaviour.get("hit_rate")
    if rates and rates["embeddings"] and rates["dequantised"] < KEPT * rates["embeddings"]:
        yield _Found(
            "warning",
            "behaviour",
            f"the next item is among the {rates['k']} nearest embeddings at "
            f"{rates['embeddings']:.1%} of the steps, among what codes decode to at "
            f"{rates['dequantised']:.1%}",
            "use more or larger levels, or train with --interactions",
            _times(KEPT * rates["embeddings"], rates["dequantised"]),
        )
    if recall := behaviour.get("prefix_recall"):
        chance = figures["nulls"]["behaviour"]["prefix_recall"][0]
        error = behaviour["standard_errors"]["prefix_recall"][0]
        # Sure of it, however few steps there are.
        most = recall[0] + 2 * (1 if error is None else error)
        if most < FOLLOWED * chance and _beyond(most, chance) < BEYOND_CHANCE:
            yield _Found(
                "warning",
                "behaviour",
                f"{recall[0]:.1%} of users' steps stay on their first code, {chance:.1%} would by "
                "chance: codes do not follow what users do",
                "train with --interactions, or check that they are of these items",
                _times(FOLLOWED * chance, recall[0]),
            )


def _of_table(figures: Mapping[str, Any]) -> Iterator[_Found]:
    change, left = figures["change"], figures["items"] - figures["embedded"]
    known = figures["structure"].get("categories", {}).get("items", figures["items"])
    if known < figures["items"] / 2:
        yield _Found(
            "warning",
            "categories",
            f"{known:,} of {figures['items']:,} items have a category: what is said of categories "
            "is of these",
            "give the items table of this catalog, or another column",
            _times(figures["items"] / 2, known),
        )
    if (change["added_error"] or 0) > MOVED:
        yield _Found(
            "warning",
            "change",
            f"the collision policy moved {change['moved_share']:.1%} of the items, which adds "
            f"{change['added_error']:.1%} to the squared error of all",
            "use --collisions suffix, or more levels, so that fewer items collide",
            _times(change["added_error"], MOVED),
        )
    size = max(level["size"] for level in figures["levels"])
    if change["suffixes"] is not None and change["suffixes"] > size:
        yield _Found(
            "warning",
            "change",
            f"suffixes go up to {change['suffixes'] - 1:,}, beyond the {size} codes of a level",
            f"{_room(figures)}; or find the items that are there many times",
            _times(change["suffixes"], size),
        )
    if left:
        yield _Found(
            "note",
            "items",
            f"{left:,} of {figures['items']:,} items have no embedding, so that errors and "
            "neighbours leave them out",
            "give the embeddings of the whole catalog, where there are some",
        )
