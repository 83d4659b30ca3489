"""What codes say of given categories, and categories of codes. Pure functions on arrays.

Shapes: n items; t pairs of a code and a category that meet in a context.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids

Labels = npt.NDArray[np.integer[Any]]
Figures = npt.NDArray[np.float64]

# Pairs whose expected information is summed at once, and how far from the mean: beyond that many
# standard deviations a hypergeometric count has no weight in float64.
_PAIRS_AT_ONCE = 16_384
_DEVIATIONS, _LEAST_REACH = 10, 16


def adjusted_mutual_information(
    label_n: Labels, category_n: Labels, context_n: Labels | None = None
) -> float | None:
    """Return how much labels say of categories beyond chance: about 0 to 1.

    Adjusted mutual information (Vinh, Epps & Bailey, 2010) with the mean of the entropies; within
    contexts, each a part of the items, all three terms are means over contexts, items alike. 0 is
    what labels dealt anew within the contexts have, 1 equal partitions. None where neither labels
    nor categories differ beyond chance.

    Parameters
    ----------
    label_n : codes
    category_n : categories
    context_n : such as the prefix before the code; all items are one context when not given
    """
    n = len(label_n)
    context_n = np.zeros(n, np.int64) if context_n is None else context_n
    labels = _Margins(context_n, label_n)
    categories = _Margins(context_n, category_n)
    size_n = group_ids(context_n[:, None])[1]
    joint_n = group_ids(np.stack([context_n, label_n, category_n], 1))[1]
    entropy_label = float(np.log(size_n / labels.size_n).sum() / n)
    entropy_category = float(np.log(size_n / categories.size_n).sum() / n)
    joint = float(np.log(size_n / joint_n).sum() / n)
    mutual = entropy_label + entropy_category - joint
    expected = _expected(labels, categories) / n
    room = (entropy_label + entropy_category) / 2 - expected
    return (mutual - expected) / room if room > 1e-12 else None


class _Margins:
    """How often labels occur in each context.

    Labels of one context that are as frequent count together: `times_g` of them occur `size_g`
    times in the context `context_g`; contexts ascend from 0.
    """

    def __init__(self, context_n: Labels, label_n: Labels) -> None:
        group_n, self.size_n = group_ids(np.stack([context_n, label_n], 1))
        first_g = _firsts(group_n)
        context_g = group_ids(context_n[first_g][:, None])[0]
        alike_g, times_g = group_ids(np.stack([context_g, self.size_n[first_g]], 1))
        first_a = _firsts(alike_g)
        self.context_g, self.times_g = context_g[first_a], times_g[first_a]
        self.size_g = self.size_n[first_g][first_a]


def _firsts(group_n: Labels) -> npt.NDArray[np.int64]:
    """Return a member of every group."""
    member_g = np.empty(group_n.max() + 1, np.int64)
    member_g[group_n] = np.arange(len(group_n))
    return member_g


def _expected(labels: _Margins, categories: _Margins) -> float:
    """Return the sum over contexts of their size times the mutual information that chance gives."""
    total_p = np.bincount(labels.context_g, labels.size_g * labels.times_g).astype(np.int64)
    kinds_p = np.bincount(categories.context_g)
    start_p = np.cumsum(kinds_p) - kinds_p
    many_g = kinds_p[labels.context_g]
    # Every kind of label of a context with every kind of category of it.
    label_t = np.repeat(np.arange(len(many_g)), many_g)
    within_t = np.arange(len(label_t)) - np.repeat(np.cumsum(many_g) - many_g, many_g)
    category_t = start_p[labels.context_g[label_t]] + within_t
    a_t, b_t = labels.size_g[label_t], categories.size_g[category_t]
    times_t = labels.times_g[label_t] * categories.times_g[category_t]
    n_t = total_p[labels.context_g[label_t]]
    log_factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, total_p.max() + 1)))]
    found = 0.0
    for start in range(0, len(a_t), _PAIRS_AT_ONCE):
        cut = slice(start, start + _PAIRS_AT_ONCE)
        found += float(times_t[cut] @ _terms(a_t[cut], b_t[cut], n_t[cut], log_factorial))
    return found


def _terms(a_t: Labels, b_t: Labels, n_t: Labels, log_factorial: Figures) -> Figures:
    """Sum x log(n x / (a b)) over hypergeometric counts x, for pairs with margins a and b."""
    mean_t = a_t * (b_t / n_t)
    spread_t = np.sqrt(mean_t * (1 - a_t / n_t) * (1 - b_t / n_t) * n_t / np.maximum(n_t - 1, 1))
    reach_t = _DEVIATIONS * spread_t + _LEAST_REACH
    low_t = np.maximum(np.maximum(a_t + b_t - n_t, 1), np.floor(mean_t - reach_t)).astype(np.int64)
    high_t = np.minimum(np.minimum(a_t, b_t), np.ceil(mean_t + reach_t)).astype(np.int64)
    count_t = np.maximum(high_t - low_t + 1, 0)
    pair = np.repeat(np.arange(len(a_t)), count_t)
    x = np.arange(len(pair)) - (np.cumsum(count_t) - count_t)[pair] + low_t[pair]
    f, fixed_t = log_factorial, log_factorial[a_t] + log_factorial[b_t]
    fixed_t = fixed_t + log_factorial[n_t - a_t] + log_factorial[n_t - b_t] - log_factorial[n_t]
    a, b, n = a_t[pair], b_t[pair], n_t[pair]
    chance = np.exp(fixed_t[pair] - f[x] - f[a - x] - f[b - x] - f[n - a - b + x])
    terms = chance * x * np.log(n * (x / a) / b)
    return np.bincount(pair, terms, minlength=len(a_t)).astype(np.float64)


def category_purity(label_n: Labels, category_n: Labels) -> float:
    """Return the share of items whose category is the most frequent one of their label.

    Cluster purity (Manning, Raghavan & Schütze, 2008, ch. 16): the share of the largest category
    to 1. It grows with the number of labels whatever they are: compare it with its null.
    """
    size_n = group_ids(np.stack([label_n, category_n], 1))[1]
    label_g = group_ids(label_n[:, None])[0]
    most_g = np.zeros(label_g.max() + 1, np.int64)
    np.maximum.at(most_g, label_g, size_n)
    return float(most_g.sum() / len(label_n))
