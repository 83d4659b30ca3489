"""How well codes are used: by level, by prefix, and as whole SIDs. Pure functions on arrays.

Shapes: n items, l levels, k codewords, p distinct prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids, prefixes
from semid.metrics.codes import utilization

Counts = npt.NDArray[np.integer[Any]]
Codes = npt.NDArray[np.integer[Any]]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class LevelUse(NamedTuple):
    """How one level's codebook is used.

    Perplexity of the entropy of Shannon (1948); normalised, the evenness of Pielou, "The
    measurement of diversity in different types of biological collections", 1966; see `gini`.

    size : K, its codewords
    used : codewords that some item has; 1 to K, good is K
    dead : codewords that no item has; good is 0
    perplexity : exp of the entropy of code usage in nats: how many codes are used effectively;
        1 to K, good is near K, which codes drawn alike reach but for chance
    perplexity_ratio : perplexity over K; above 0 to 1, good is above 0.75
    normalised_entropy : that entropy over log K; 0 to 1, and 1 of a level with one codeword
    top_share : share of the items on the most frequent code; 1/K to 1, good is a few times 1/K
    gini : Gini coefficient of the items per code over all K codes; 0 when all are used alike, to
        1 - 1/K when one code has all items; good is below 0.4
    gini_used : the same over the codes that are used
    """

    size: int
    used: int
    dead: int
    perplexity: float
    perplexity_ratio: float
    normalised_entropy: float
    top_share: float
    gini: float
    gini_used: float


def level_use(count_k: Counts) -> LevelUse:
    """Measure one level from how often each of its codes is used, ``(k,)``.

    Own definition; see `LevelUse` for sources.
    """
    found = utilization(count_k)
    k = found.size
    return LevelUse(
        size=k,
        used=found.used,
        dead=k - found.used,
        perplexity=found.perplexity,
        perplexity_ratio=found.perplexity / k,
        normalised_entropy=_over_log(found.perplexity, k),
        top_share=found.largest_share,
        gini=gini(count_k),
        gini_used=gini(count_k[count_k > 0]),
    )


def gini(count_n: Counts) -> float:
    """Return the Gini coefficient (1912) of counts ``(n,)``: how unevenly they are spread.

    The mean difference of two counts over twice their mean: 0 when all are equal, 1 - 1/n when
    one has all. 0 without counts.
    """
    n, total = len(count_n), int(count_n.sum())
    if not total:
        return 0.0
    sorted_n = np.sort(count_n).astype(np.float64)
    return float(2 * np.arange(1, n + 1) @ sorted_n / (n * total) - (n + 1) / n)


def branching(codes_nl: Codes, level: int) -> dict[str, Any]:
    """Measure how prefixes of `level` codes go on, from raw codes ``(n, l)``.

    Effective numbers are of the order 1 (Hill, "Diversity and evenness", 1973).

    Returns
    -------
    figures : ``prefixes`` of that length; ``mean`` codes that follow one, over prefixes alike;
        ``effective``, exp of the mean entropy of the next code given the prefix, in nats, items
        alike: how many codes are really left to choose from, 1 (the level says nothing new) to K;
        ``children`` and ``effective_children``, quantiles over prefixes of the codes that follow
        and of exp of their entropy
    """
    child_cd, size_c = prefixes(codes_nl, level + 1)
    group_c = group_ids(child_cd[:, :level])[0] if level else np.zeros(len(child_cd), np.int64)
    size_p = np.bincount(group_c, size_c)
    children_p = np.bincount(group_c)
    share_c = size_c / size_p[group_c]
    entropy_p = np.bincount(group_c, -share_c * np.log(share_c))
    return {
        "prefixes": len(size_p),
        "mean": float(children_p.mean()),
        "effective": float(np.exp(size_p @ entropy_p / size_p.sum())),
        "children": quantiles(children_p),
        "effective_children": quantiles(np.exp(entropy_p)),
    }


def quantiles(value_p: npt.NDArray[Any]) -> dict[str, float]:
    """Return the 5, 25, 50, 75 and 95% quantiles of values ``(p,)``, lower ones: ``p5`` to.

    As defined by Hyndman & Fan, "Sample quantiles in statistical packages", 1996, without
    interpolation.
    """
    found_q = np.quantile(value_p, QUANTILES, method="lower")
    return {f"p{round(100 * q)}": float(v) for q, v in zip(QUANTILES, found_q, strict=True)}


def sid_use(codes_nl: Codes, levels: Sequence[int]) -> dict[str, Any]:
    """Measure how raw SIDs as a whole are used, from codes ``(n, l)``.

    Returns
    -------
    figures : ``sids``, the distinct ones, of ``space`` possible ones, the product of the levels;
        ``gini_sids``, the Gini coefficient of the items per SID that is used (Fu et al., FORGE,
        arXiv 2509.20904); 0 when all have as many items, and good there; and by ``depths`` the
        distinct ``prefixes``, how many there could be (``possible``, the lesser of the items and
        the product of the levels), and of the items per prefix what `LevelUse` has of items per
        code: ``perplexity``, ``normalised_entropy`` (over log of the possible), ``top_share`` and
        ``gini_used``
    """
    space, depths, size_p = 1, [], np.ones(1, np.int64)
    for level, size in enumerate(levels):
        space *= size
        size_p = prefixes(codes_nl, level + 1)[1]
        depths.append(
            {
                "depth": level + 1,
                "prefixes": len(size_p),
                "possible": min(space, len(codes_nl)),
                **_prefix_use(size_p, min(space, len(codes_nl))),
            }
        )
    return {"sids": len(size_p), "space": space, "gini_sids": gini(size_p), "depths": depths}


def _prefix_use(size_p: Counts, possible: int) -> dict[str, float]:
    found = utilization(size_p)
    return {
        "perplexity": found.perplexity,
        "normalised_entropy": _over_log(found.perplexity, possible),
        "top_share": found.largest_share,
        "gini_used": gini(size_p),
    }


def _over_log(perplexity: float, most: int) -> float:
    """Return the entropy over the greatest there could be; of one code 1, without any item 0."""
    if not perplexity:
        return 0.0
    return log(perplexity) / log(most) if most > 1 else 1.0
