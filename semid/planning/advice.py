"""Which of the levels that were tried to take, and why: predictions in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semid.planning.candidates import Levels, cost_order

REACHES, MAY_REACH, FALLS_SHORT = "reaches", "may reach", "falls short"
RQVAE_NOTE = (
    "predictions are for RQ-KMeans, which uses later levels less evenly than the default RQ-VAE, "
    "so that cheaper ones may do for this (docs/benchmarks.md holds them side by side): semid "
    "compare --quantizers rqvae,rqkmeans measures both"
)


@dataclass(frozen=True)
class Prediction:
    """Uniqueness that levels are expected to have on the whole catalog, with its likely range."""

    levels: Levels
    uniqueness: float
    low: float
    high: float

    def verdict(self, goal: float) -> str:
        """Say whether the range lies above `goal`, around it or below."""
        if self.low >= goal:
            return REACHES
        return MAY_REACH if self.high >= goal else FALLS_SHORT

    def __str__(self) -> str:
        return f"{_spelled(self.levels)} ({self.uniqueness:.1%}, {self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class Advice:
    """What to do.

    Attributes
    ----------
    levels : those to take, or None when none reaches the goal for sure
    closest : those of the highest uniqueness that was found
    goal : uniqueness that levels were measured against: the target, or, where copies keep all
        levels below it, the same share of what copies leave
    reason : why these, and why not cheaper ones, in one sentence
    steps : what else to do, a sentence each
    """

    levels: Levels | None
    closest: Levels
    goal: float
    reason: str
    steps: list[str]


def advise(predictions: Sequence[Prediction], *, target: float, floor: float) -> Advice:
    """Choose the cheapest levels whose range lies above the target: fewest tokens, then codewords.

    Parameters
    ----------
    predictions : of the levels that were tried, at least one
    target : uniqueness wanted
    floor : the uniqueness that no levels exceed, since equal embeddings have equal codes
    """
    goal = target if floor >= target else target * floor
    in_order = sorted(predictions, key=lambda one: cost_order(one.levels))
    closest = max(in_order, key=lambda one: one.uniqueness)
    chosen = next((one for one in in_order if one.verdict(goal) == REACHES), None)
    steps = _about_copies(target, floor, goal)
    if chosen is None:
        reason = (
            f"none of them is sure to reach {goal:.1%}; the most has {closest}, so no levels are "
            "recommended"
        )
        return Advice(None, closest.levels, goal, reason, [*steps, *_ways_out(closest, goal)])
    cheaper = in_order[: in_order.index(chosen)]
    return Advice(chosen.levels, closest.levels, goal, _why(chosen, cheaper, goal), steps)


def _why(chosen: Prediction, cheaper: Sequence[Prediction], goal: float) -> str:
    said = f"{chosen} is the cheapest, by tokens an item and then codewords, above {goal:.1%}"
    if not cheaper:
        return said
    best = max(cheaper, key=lambda one: one.uniqueness)
    close = "is too close to call" if best.verdict(goal) == MAY_REACH else "falls short"
    return f"{said}; of the cheaper ones the best, {best}, {close}"


def _about_copies(target: float, floor: float, goal: float) -> list[str]:
    if floor >= target:
        return []
    return [
        f"{1 - floor:.1%} of the items repeat the embedding of another bit for bit, which no "
        f"levels tell apart, so that {target:.1%} cannot be reached and {goal:.1%}, the same share "
        "of the embeddings that differ, stands for it; embed what these items differ in, or leave "
        "them to semid assign --collisions suffix"
    ]


def _ways_out(closest: Prediction, goal: float) -> list[str]:
    longer = (*closest.levels, closest.levels[-1])
    steps = [
        f"add levels, as in semid plan --levels {_spelled(longer)}, or plan with a lower "
        "--target-uniqueness; every catalog gets unique IDs by semid assign --collisions reassign "
        "or suffix"
    ]
    if closest.verdict(goal) == MAY_REACH:
        steps.append("a larger --sample narrows the range")
    return steps


def _spelled(levels: Levels) -> str:
    return ",".join(map(str, levels))
