"""How many distinct IDs a whole catalog has, told from a sample of it.

A raw ID is a species, an item is an individual, and uniqueness is the number of species over that
of individuals, which falls as more are looked at: a sample alone always looks better than the
catalog. Shapes: n rows of the sample, s distinct IDs in it, c curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

Sizes = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]

# The shapes that are tried, as one less sigma: from a steep power law to IDs that are all alike.
_SHAPES = np.geomspace(0.02, 200, 240)
# A sample is halved while it is this large and has this many rows beyond one for each ID.
_LEAST_ROWS = 256
_LEAST_COLLISIONS = 8.0
# A part from which the sample is predicted has at least as many.
_CHECKED_ROWS, _CHECKED_COLLISIONS = 2_048, 32.0
# Of the collisions, what a curve may err by at the ratio that the sample could check.
CURVE_DOUBT = 0.15
# Of the collisions, what another seed of the same fit moves; docs/experiments.md has the figures.
FIT_SPREAD = 0.05
# Events that may go unseen with a probability of 5% (Hanley & Lippman-Hand, 1983).
_UNSEEN = 3.0


def rarefied(sizes_s: Sizes, rows: int) -> float:
    """Return how many distinct IDs `rows` rows have in the mean, drawn without putting back.

    Hurlbert (1971), exact: the sum over IDs of one less the probability that none of their rows is
    drawn.

    Parameters
    ----------
    sizes_s : rows of each ID of the sample, all at least 1
    rows : from 0 to the rows of the sample
    """
    size_g, count_g = np.unique(sizes_s, return_counts=True)
    total = int(sizes_s.sum())
    can_miss_g = size_g <= total - rows
    left_g = total - size_g[can_miss_g]
    log_missed_g = gammaln(left_g + 1) - gammaln(left_g - rows + 1)
    log_missed_g -= gammaln(total + 1) - gammaln(total - rows + 1)
    missed = float((count_g[can_miss_g] * np.exp(log_missed_g)).sum())
    return len(sizes_s) - missed


def distinct(rows: float, sigma_c: Figures, theta_c: Figures) -> Figures:
    """Return how many distinct IDs `rows` rows have, ``(c,)``.

    ``theta / sigma ((1 + rows / theta)^sigma - 1)``, Engen's extended negative binomial
    (Biometrika, 1974), which begins with a slope of 1. Sigma says how unlike the IDs are: minus
    infinity for IDs that are all as likely (the birthday problem), below 0 for gamma-distributed
    ones, 0 for Fisher's log-series (1943), above 0 for the power law of a Pitman-Yor process.
    ``(1 - sigma) / theta`` is the probability that two items share an ID.
    """
    grown_c, flat_c = np.log1p(rows / theta_c), np.abs(sigma_c) < 1e-9
    safe_c = np.where(flat_c, 1.0, sigma_c)
    found_c: Figures = theta_c * np.where(flat_c, grown_c, np.expm1(safe_c * grown_c) / safe_c)
    return found_c


class Curve(NamedTuple):
    """A curve of `distinct` IDs that a sample follows; theta is infinite without collisions."""

    sigma: float
    theta: float

    def at(self, rows: float) -> float:
        """Return how many distinct IDs `rows` rows have."""
        if math.isinf(self.theta):
            return rows
        return float(distinct(rows, np.array(self.sigma), np.array(self.theta)))


def fit_curve(sizes_s: Sizes, rows: int) -> Curve:
    """Fit a curve to what up to `rows` rows of a sample have.

    It meets the distinct IDs of `rows` rows; of those that do, it is nearest to the halves,
    quarters and so on, in collisions, squared over their number.
    """
    seen = rarefied(sizes_s, rows)
    if rows - seen < 0.5:  # less than one collision: nothing to fit
        return Curve(0.0, math.inf)
    sigma_c = 1 - _SHAPES
    theta_c = _theta(sigma_c, rows, seen)
    misfit_c = np.zeros(len(sigma_c))
    part = rows // 2
    while part >= _LEAST_ROWS:
        collisions = part - rarefied(sizes_s, part)
        if collisions < _LEAST_COLLISIONS:
            break
        misfit_c += np.square(part - distinct(part, sigma_c, theta_c) - collisions) / collisions
        part //= 2
    best = int(misfit_c.argmin()) if misfit_c.any() else int(np.abs(sigma_c).argmin())
    return Curve(float(sigma_c[best]), float(theta_c[best]))


def _theta(sigma_c: Figures, rows: int, seen: float) -> Figures:
    """Return for each sigma the theta of the curve through ``(rows, seen)``, by bisection.

    The longer the theta, the fewer collisions: from a thousandth of a row to a billion times what
    one collision takes.
    """
    low_c = np.full(len(sigma_c), math.log(1e-3))
    high_c = np.full(len(sigma_c), math.log(1e9) + 2 * math.log(rows))
    for _ in range(80):
        middle_c = (low_c + high_c) / 2
        too_few_c = distinct(rows, sigma_c, np.exp(middle_c)) < seen
        low_c = np.where(too_few_c, middle_c, low_c)
        high_c = np.where(too_few_c, high_c, middle_c)
    found_c: Figures = np.exp((low_c + high_c) / 2)
    return found_c


@dataclass(frozen=True)
class Occupancy:
    """Distinct IDs of a catalog of distinct embeddings, with the range that is likely.

    Attributes
    ----------
    distinct, low, high : the expectation and its range
    counted : whether all embeddings were looked at, and the range is that of other seeds alone
    """

    distinct: float
    low: float
    high: float
    counted: bool


def predict(sizes_s: Sizes, total: int) -> Occupancy:
    """Predict the distinct IDs of `total` embeddings from those of a sample of them.

    By the curve of the sample, less what the same method errs by when it predicts the sample from
    a part of it, in proportion to the logarithms of the ratios: real IDs are less alike at the rare
    end than a curve of two parameters says. The range adds that correction once more, two standard
    deviations of the collisions that were counted, what other seeds of the fit do, and a share of
    the collisions for the curve, which grows the further it goes beyond what could be checked.

    Parameters
    ----------
    sizes_s : rows of each ID of the sample
    total : embeddings of the catalog, at least as many as those of the sample
    """
    rows, seen = int(sizes_s.sum()), len(sizes_s)
    if total <= rows:
        spread = FIT_SPREAD * (rows - seen)
        return Occupancy(seen, max(seen - spread, 1), min(seen + spread, rows), counted=True)
    checked, mistaken = _backtest(sizes_s, rows, total / rows)
    times = math.log(total / rows) / math.log(checked)
    correction = mistaken * times * total
    expected = min(max(fit_curve(sizes_s, rows).at(total) - correction, seen), total)
    share = 2 / math.sqrt(max(rows - seen, 1)) + CURVE_DOUBT * max(times, 1.0) + FIT_SPREAD
    doubt = share * (total - expected) + abs(correction)
    # Were there as many pairs as can go unseen, the catalog would have so many more.
    unseen = _UNSEEN * (total / rows) ** 2 if rows - seen < _LEAST_COLLISIONS else 0.0
    low = max(expected - doubt - unseen, seen)
    return Occupancy(expected, low, min(expected + doubt, total), counted=False)


def _backtest(sizes_s: Sizes, rows: int, ratio: float) -> tuple[float, float]:
    """Predict a sample from a part of it, as many times smaller as the catalog is larger.

    Or from the smallest part that a curve can be fitted to. Returns how many times smaller the part
    is, and by how much of its rows the sample is thought to have too many IDs.
    """
    checked, mistaken, part = 2.0, 0.0, rows // 2
    while part >= max(_CHECKED_ROWS, rows / ratio / math.sqrt(2)):
        if part - rarefied(sizes_s, part) < _CHECKED_COLLISIONS:
            break
        checked = rows / part
        mistaken = (fit_curve(sizes_s, part).at(rows) - len(sizes_s)) / rows
        part //= 2
    return checked, mistaken
