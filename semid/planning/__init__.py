"""Choosing levels before anything is trained: predicted uniqueness and error of each candidate.

What the whole catalog will be like is told from a sample of it; see `semid.planning.occupancy` for
how. Shapes: s rows of the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from semid.errors import SemidError
from semid.planning.advice import RQVAE_NOTE, Prediction, advise
from semid.planning.candidates import ROWS_EACH, Levels, Shape, affordable, candidates, cost_order
from semid.planning.costs import Catalog, cost, product_rate, vocabulary
from semid.planning.occupancy import Occupancy, predict
from semid.planning.sample import Sample
from semid.planning.spectrum import Variances, describe_spectrum, gaussian_error, variances
from semid.planning.trials import Trial, run_trials

# Of the rows, the share that the default training fits to.
TRAIN_SHARE = 0.9


@dataclass(frozen=True)
class Wanted:
    """What a plan is to answer.

    Attributes
    ----------
    target : uniqueness to reach, above 0 and below 1
    levels : levels to try whatever they cost, beside those that are chosen
    seed : of the sample and of the fits
    memory_gib : budget of the training that is planned, as ``memory_gib`` of its settings
    """

    target: float = 0.95
    levels: tuple[Levels, ...] = ()
    seed: int = 0
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise SemidError(
                f"the target uniqueness is {self.target}; it must be above 0 and below 1, as 0.95"
            )
        for levels in self.levels:
            if not levels or min(levels) < 1:
                raise SemidError(
                    f"levels are {list(levels)}; give at least one, each of at least 1 codeword"
                )


class Planner:
    """A plan in the making: what will be tried on a sample, then the trials.

    Parameters
    ----------
    sample : of the catalog
    spans : where the dims of each embedding column stand in a row
    wanted : what to answer

    Attributes
    ----------
    grid : the levels that `run` tries, and those that it leaves out since they take too long

    Raises
    ------
    SemidError
        When levels that were asked for have more codewords than there are rows to fit them to, or
        the catalog is too small for any and none were asked for.
    """

    def __init__(self, sample: Sample, spans: Mapping[str, slice], wanted: Wanted) -> None:
        self._sample, self._spans, self._wanted = sample, spans, wanted
        rows, width = sample.x_sd.shape
        self._shape = Shape(rows, max(1, round(TRAIN_SHARE * rows)), width)
        self._catalog = Catalog(
            max(1, round(TRAIN_SHARE * sample.items)),
            sample.items,
            width,
            int(wanted.memory_gib * 2**30),
        )
        for levels in wanted.levels:
            if max(levels) > self._shape.fit_rows:
                raise SemidError(
                    f"levels {list(levels)} have more codewords than the "
                    f"{self._shape.fit_rows:,} different embeddings to fit them to (nine tenths of "
                    f"{rows:,}); ask for smaller ones, or a larger sample"
                )
        fitting = self._shape.fit_rows if sample.is_whole else self._catalog.train_rows
        found = candidates(fitting, sample.distinct, wanted.target)
        found = [levels for levels in found if max(levels) <= self._shape.fit_rows]
        if not found and not wanted.levels:
            raise SemidError(
                f"{sample.distinct:,} different embeddings are too few to choose levels that reach "
                f"{wanted.target:.6g}, at {ROWS_EACH} rows a codeword; name the ones to try, as in "
                "--levels 16,16,16"
            )
        self.grid = affordable(found, wanted.levels, self._shape)

    @property
    def codewords(self) -> int:
        """Codewords of all levels that `run` fits: what its progress goes up to."""
        tried = self.grid.tried
        prefixes = {one[: depth + 1] for one in tried for depth in range(len(one))}
        return sum(prefix[-1] for prefix in prefixes)

    def run(self, on_level: Callable[[int], object] = lambda _: None) -> dict[str, Any]:
        """Try the levels and return the plan as plain values.

        ``catalog`` and ``spectrum``; ``candidates``, the cheapest first, for each what
        `_candidate` says; ``left_out``; ``recommendation``, see `semid.planning.advice`. Only
        ``seconds`` in the names of keys moves from run to run.

        Parameters
        ----------
        on_level : hears of every level that is done how many codewords it has
        """
        sample, wanted = self._sample, self._wanted
        variance_d = variances(sample.x_sd)
        widths = [span.stop - span.start for span in self._spans.values()]
        rate, found, predictions = product_rate(), {}, []
        trials = run_trials(
            sample, self.grid.tried, self._shape, self._spans, seed=wanted.seed, on_level=on_level
        )
        for trial in trials:
            expected = predict(trial.sizes_u, sample.distinct)
            found[trial.levels] = self._candidate(trial, expected, variance_d)
            found[trial.levels] |= cost(trial, self._catalog, widths, rate)
            shares = (expected.distinct, expected.low, expected.high)
            predictions.append(Prediction(trial.levels, *(one / sample.items for one in shares)))
        advice = advise(predictions, target=wanted.target, floor=sample.floor)
        for one in predictions:
            found[one.levels]["verdict"] = one.verdict(advice.goal)
        return {
            "catalog": self._facts(),
            "spectrum": describe_spectrum(variance_d),
            "target": wanted.target,
            "candidates": [found[levels] for levels in sorted(found, key=cost_order)],
            "left_out": [list(levels) for levels in self.grid.left_out],
            "recommendation": {
                "levels": None if advice.levels is None else list(advice.levels),
                "highest": list(advice.closest),
                "goal": advice.goal,
                "reason": advice.reason,
                "steps": advice.steps,
            },
            "note": RQVAE_NOTE,
        }

    def _facts(self) -> dict[str, Any]:
        sample = self._sample
        return {
            "items": sample.items,
            "width": self._catalog.width,
            "distinct": sample.distinct,
            "most_copied": sample.most_copied,
            "highest_uniqueness": sample.floor,
            "sample": len(sample.x_sd),
            "counted": sample.is_whole,
        }

    def _candidate(
        self, trial: Trial, expected: Occupancy, variance_d: Variances
    ) -> dict[str, Any]:
        """Return what is predicted of levels on the whole catalog, all but what they cost.

        ``uniqueness``, raw, with ``uniqueness_range``, ``counted`` on all embeddings or predicted
        from a sample; ``error``, the relative squared error on items that are not fitted to, and
        ``gaussian_error``, that of the best code of as many bits for Gaussian rows;
        ``largest_group``, from the items that are known to share a raw ID to those that would if
        the sample's largest group grew with the catalog.
        """
        items, rows = self._sample.items, int(trial.sizes_u.sum())
        largest = max(trial.largest_items, self._sample.most_copied)
        grown = math.ceil(int(trial.sizes_u.max()) * self._sample.distinct / rows)
        bits = vocabulary(trial.levels)["bits"]
        varied = bool(variance_d.sum())
        return {
            "levels": list(trial.levels),
            **vocabulary(trial.levels),
            "uniqueness": expected.distinct / items,
            "uniqueness_range": [expected.low / items, expected.high / items],
            "counted": expected.counted,
            "error": self._full_error(trial),
            "gaussian_error": gaussian_error(variance_d, bits) if varied else None,
            "perplexity": trial.perplexity,
            "largest_group": [largest, largest if expected.counted else max(largest, grown)],
        }

    def _full_error(self, trial: Trial) -> float | None:
        """Return the error on other rows of a fit to the whole catalog.

        A fit to r rows a codeword errs by about 1/r of its error less on these and 1/r more on
        others, so that the truth lies between, and the gap closes as the rows grow.
        """
        if trial.other_error is None or trial.fitted_error is None:
            return trial.other_error
        middle = (trial.fitted_error + trial.other_error) / 2
        share = min(1.0, min(trial.fit_rows) / self._catalog.kmeans_rows)
        return middle + (trial.other_error - middle) * share


def plan_levels(
    sample: Sample, spans: Mapping[str, slice], wanted: Wanted | None = None
) -> dict[str, Any]:
    """Plan levels for a catalog from a sample of it; see `Planner`."""
    return Planner(sample, spans, wanted or Wanted()).run()


__all__ = ["Planner", "Wanted", "plan_levels"]
