"""Measures of codes, prefixes, neighbours and steps: by hand, and by what must not matter."""

from __future__ import annotations

from math import e, exp, log, log2, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from semid.evaluation import structure as evaluation
from semid.evaluation.codes import code_figures
from semid.ids import group_ids
from semid.metrics import structure
from semid.metrics.alike import centred_cosine, mean_cosine, unlike
from semid.metrics.behaviour import (
    dealt_anew,
    expected_hits,
    hits,
    next_prefix_entropy,
    popularity,
    popularity_bands,
    prefix_recall,
)
from semid.metrics.change import change
from semid.metrics.fidelity import Fidelity, by_group
from semid.metrics.information import adjusted_mutual_information, category_purity
from semid.metrics.sampling import standard_error
from semid.metrics.structure import (
    chance_of_prefix,
    common_prefix,
    jaccard,
    prefix_mates,
    prefix_support,
    rank_biased_overlap,
    sid_neighbours,
)
from semid.metrics.uniqueness import (
    colliding_pairs,
    collision_groups,
    dealt_codes,
    identical_rows,
    row_digests,
    uniqueness,
    uniqueness_by_chance,
    weighted_uniqueness,
)
from semid.metrics.utilization import branching, gini, level_use, quantiles, sid_use
from semid.metrics.vectors import cosine_similarity

# Six items on two levels: prefix 0 goes on as 0, 0, 1 and 2; prefix 1 as 0 and 0.
CODES = np.array([[0, 0], [0, 0], [0, 1], [0, 2], [1, 0], [1, 0]], np.int32)
tables = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, (30, 3)).astype(np.int32)
)


# use


def test_gini_by_hand() -> None:
    assert gini(np.array([3, 3, 3])) == pytest.approx(0, abs=1e-15)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(1 - 1 / 4)
    # Mean absolute difference of 1, 3 over all four pairs: 1; mean 2; half of their ratio.
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert gini(np.array([0, 0])) == 0


def test_the_use_of_a_level_by_hand() -> None:
    found = level_use(np.array([2, 0, 1, 1]))
    assert found[:3] == (4, 3, 1)
    assert found.perplexity == pytest.approx(2 * sqrt(2))
    assert found.perplexity_ratio == pytest.approx(sqrt(2) / 2)
    assert found.normalised_entropy == pytest.approx(1.5 / 2)
    assert found.top_share == 0.5
    # Sorted 0, 1, 1, 2: 2 (2 + 3 + 8) / (4 * 4) - 5 / 4; of the used: 2 (1 + 2 + 6) / 12 - 4 / 3.
    assert found.gini == pytest.approx(0.375)
    assert found.gini_used == pytest.approx(1 / 6)


def test_a_level_with_one_codeword() -> None:
    found = level_use(np.array([9]))
    assert (found.perplexity_ratio, found.normalised_entropy, found.gini) == (1, 1, 0)


def test_branching_by_hand() -> None:
    first = branching(CODES, 0)
    entropy = -(2 / 3) * log(2 / 3) - (1 / 3) * log(1 / 3)
    assert (first["prefixes"], first["mean"]) == (1, 2)
    assert first["effective"] == pytest.approx(exp(entropy))
    second = branching(CODES, 1)
    assert (second["prefixes"], second["mean"]) == (2, 2)
    # Of four items 1.5 ln 2 as above, of two nothing: in the mean over items ln 2.
    assert second["effective"] == pytest.approx(2)
    assert second["children"] == {"p5": 1, "p25": 1, "p50": 1, "p75": 1, "p95": 1}
    assert quantiles(np.arange(101))["p95"] == 95


def test_the_use_of_sids_by_hand() -> None:
    found = sid_use(CODES, (2, 3))
    assert (found["sids"], found["space"]) == (4, 6)
    assert found["gini_sids"] == pytest.approx(1 / 6)  # counts 1, 1, 2, 2
    assert [at["prefixes"] for at in found["depths"]] == [2, 4]
    assert [at["possible"] for at in found["depths"]] == [2, 6]


# uniqueness


def test_collisions_by_hand() -> None:
    size_n = group_ids(CODES)[1]
    assert uniqueness(size_n) == pytest.approx(4 / 6)
    assert collision_groups(size_n) == {
        "groups": 2,
        "items_in_groups": 4,
        "share_in_groups": 4 / 6,
        "largest_group": 2,
        "histogram": [
            {"from": 1, "to": 1, "groups": 2, "items": 2},
            {"from": 2, "to": 2, "groups": 2, "items": 4},
        ],
    }


def test_the_histogram_of_group_sizes() -> None:
    sizes = [1, 3, 4, 5, 8, 9]
    found = collision_groups(np.repeat(sizes, sizes))["histogram"]
    assert [(at["from"], at["to"], at["groups"], at["items"]) for at in found] == [
        (1, 1, 1, 1),
        (2, 2, 0, 0),
        (3, 4, 2, 7),
        (5, 8, 2, 13),
        (9, 16, 1, 9),
    ]


def test_uniqueness_by_interactions() -> None:
    group_n = group_ids(CODES)[0]
    # The most popular of each SID: 5, 1, 0 and 2 of 11.
    assert weighted_uniqueness(group_n, np.array([5, 3, 1, 0, 2, 0])) == pytest.approx(8 / 11)
    assert weighted_uniqueness(group_n, np.ones(6, int)) == pytest.approx(4 / 6)
    assert weighted_uniqueness(group_n, np.zeros(6, int)) is None


def test_uniqueness_by_chance() -> None:
    found = uniqueness_by_chance(CODES, (2, 3), seed=0)
    assert found["random"] == pytest.approx(1 - (5 / 6) ** 6)
    dealt = dealt_codes(CODES, seed=0)
    assert found["permuted"] == len(np.unique(dealt, axis=0)) / 6
    for level in range(2):
        assert sorted(dealt[:, level]) == sorted(CODES[:, level])
    assert uniqueness_by_chance(np.zeros((5, 1), int), (1,), seed=0)["random"] == 0.2


def test_rows_that_are_equal_bit_for_bit() -> None:
    x = np.array([[1, 2], [2, 1], [1, 2], [0.0, 1], [-0.0, 1], [1, 2]], np.float32)
    found = identical_rows(row_digests(x))
    assert found == {"identical_items": 3, "uniqueness_ceiling": 4 / 6}


@given(st.integers(1, 300), st.integers(1, 20))
def test_digests_tell_rows_apart(rows: int, width: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, width)).astype(np.float32)
    digest = row_digests(x)
    assert len(np.unique(digest)) == len(np.unique(x, axis=0))
    np.testing.assert_array_equal(digest[:7], row_digests(x[:7]))


def test_pairs_that_collide() -> None:
    group_n = np.array([0, 1, 1, 2, 2, 2])
    pairs = colliding_pairs(group_n, np.array([1, 2, 2, 3, 3, 3]), np.array([0, 5, 1, 9, 7, 8]))
    # In the order of the hashes: 2 then 1, once; 4, 5, 3 in a circle.
    assert pairs.tolist() == [[2, 1], [4, 5], [5, 3], [3, 4]]
    assert colliding_pairs(np.arange(3), np.ones(3, int), np.arange(3)).shape == (0, 2)


def test_unlike_pairs_by_hand() -> None:
    # All share a mean of (10, 0): without it the first pair is at a right angle, the last is one.
    one = np.array([[11, 0], [11, 0], [10, 0]], np.float32)
    other = np.array([[10, 1], [13, 0], [10, 0]], np.float32)
    assert cosine_similarity(one, other).min() > 0.99
    cosine = centred_cosine(one, other, np.array([10, 0], np.float32))
    assert cosine.tolist() == [0, 1, 1]
    assert unlike(cosine, 0.5) == {"share": 1 / 3, "cosine": pytest.approx(2 / 3)}
    assert unlike(np.empty(0), 0.5) == {"share": None, "cosine": None}
    # Cosines of 1 and 0: the deviation is the root of a half, over the root of two.
    one_md, other_md = np.float32([[1, 0], [1, 0]]), np.float32([[2, 0], [0, 3]])
    assert mean_cosine(one_md, other_md) == pytest.approx((0.5, 0.5))
    assert mean_cosine(one_md[:1], other_md[:1]) == (pytest.approx(1.0), None)
    assert mean_cosine(one_md[:0], other_md[:0]) == (None, None)


def test_pairs_that_collide_are_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PAIRS", 2_000)
    # 2,000 groups of two and 500 of four: as many pairs of each.
    group_n = np.r_[np.repeat(np.arange(2_000), 2), np.repeat(np.arange(2_000, 2_500), 4)]
    group_n = np.random.default_rng(0).permutation(group_n)
    pairs, items_m = evaluation.collisions(group_n[:, None].astype(np.int32), seed=0)
    assert len(np.unique(pairs, axis=0)) == 2_000
    assert (items_m == np.where(group_n[pairs[:, 0]] < 2_000, 2, 1)).all()
    assert abs((group_n[pairs[:, 0]] < 2_000).mean() - 0.5) < 0.04


def test_how_many_items_collide_with_one_unlike_them() -> None:
    # Two that are unlike, two that are alike, and four of which one is unlike the others.
    codes_nl = np.int32([[0], [0], [1], [1], [2], [2], [2], [2]])
    x_nd = np.float32([[1, 0], [-1, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [-1, -1]])
    pairs = evaluation.collisions(codes_nl, seed=0)
    assert pairs[0].tolist() == [[0, 1], [2, 3], [4, 5], [4, 7], [5, 6], [6, 7]]
    assert pairs[1].tolist() == [2, 2, 1, 1, 1, 1]
    no_pairs = np.empty((0, 2), np.int64)
    mean_d = np.zeros(2, np.float32)
    found, _ = evaluation.harm(pairs, no_pairs, x_nd.__getitem__, mean_d, threshold=0.5)
    assert found["share"] == pytest.approx(3 / 6)
    assert found["share_of_colliding"] == pytest.approx((2 + 1 + 1) / 8)


# structure


def test_jaccard_and_rank_biased_overlap_by_hand() -> None:
    one, other = np.array([[1, 2, 3]]), np.array([[2, 9, 1]])
    assert jaccard(one, other).tolist() == [2 / 4]
    # Agreement at depth 1: 0; at 2: one of two; at 3: two of three.
    expected = (0.9 / 2 + 0.81 * 2 / 3) / (1 + 0.9 + 0.81)
    assert rank_biased_overlap(one, other)[0] == pytest.approx(expected)
    assert rank_biased_overlap(one, one)[0] == pytest.approx(1)
    short = np.array([[2, -1, -1]])
    assert jaccard(one, short).tolist() == [1 / 3]
    assert jaccard(short, short).tolist() == [1]
    nothing = np.full((1, 3), -1)
    assert jaccard(nothing, nothing)[0] == rank_biased_overlap(nothing, nothing)[0] == 0


def test_prefixes_that_pairs_share() -> None:
    one, other = np.array([[1, 2, 3], [1, 2, 3]]), np.array([[1, 9, 3], [1, 2, 3]])
    assert common_prefix(one, other).tolist() == [1, 3]
    # Of 15 pairs 6 + 1 share the first code, and 1 + 1 both.
    assert chance_of_prefix(CODES).tolist() == [7 / 15, 2 / 15]
    assert chance_of_prefix(CODES[:1]).tolist() == [0, 0]


def decode(codes_nl: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Place codes on a line."""
    return codes_nl[:, -1:].astype(np.float32)


def test_sid_neighbours_by_hand() -> None:
    found = sid_neighbours(CODES, np.array([0, 3, 4]), 4, decode=decode, tie_n=np.arange(6))
    # The twin, then its prefix by distance; item 3 at 2 is nearer to 1 than to 0; 4 has one alone.
    assert found.tolist() == [[1, 2, 3, -1], [2, 0, 1, -1], [5, -1, -1, -1]]
    turned = sid_neighbours(CODES, np.array([3]), 2, decode=decode, tie_n=-np.arange(6))
    assert turned.tolist() == [[2, 1]]


@settings(max_examples=25)
@given(tables, st.integers(1, 6))
def test_sid_neighbours_are_those_of_a_direct_search(codes: Any, k: int) -> None:
    query = np.arange(5)
    found = sid_neighbours(codes, query, k, decode=decode, tie_n=np.arange(30))
    for q in query:
        shared = common_prefix(codes, codes[q])
        apart = np.abs(codes[:, -1] - codes[q, -1])
        key = sorted(
            (-shared[i], apart[i] ** 2, tuple(codes[i]), i)
            for i in range(30)
            if i != q and shared[i]
        )
        expected = [i for *_, i in key][:k]
        assert found[q][found[q] >= 0].tolist() == expected


def test_no_more_sids_are_decoded_than_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MOST_SIDS", 4)
    asked: list[int] = []

    def counted(codes_nl: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        asked.append(len(codes_nl))
        return decode(codes_nl)

    # All share the first code; 0 to 29 one more with two others each, 30 to 99 none.
    code_n = np.arange(100)
    codes = np.stack([0 * code_n, np.where(code_n < 30, code_n // 3, code_n), code_n], 1)
    tie_n = np.argsort(np.random.default_rng(0).permutation(100))
    first = [*np.argsort(tie_n)[:4]]
    # Two neighbours are within the prefix of three: nobody else is decoded.
    found = sid_neighbours(codes, np.array([1, 4]), 2, decode=counted, tie_n=tie_n)
    assert (found.tolist(), asked) == ([[0, 2], [3, 5]], [3, 3])
    # Three are not: its own prefix, whole, and of the others those that come first by `tie_n`.
    others = sorted((i for i in first if i > 2), key=lambda i: (abs(i - 1), i))
    found = sid_neighbours(codes, np.array([1]), 4, decode=counted, tie_n=tie_n)
    assert found.tolist() == [[0, 2, *others[:2]]]
    assert max(asked) <= 4 + 3


def test_mates_of_a_prefix() -> None:
    order = np.array([0, 3, 1, 2, 5, 4])
    assert prefix_mates(CODES, np.arange(6), order, 1).tolist() == [2, 0, 3, 1, 5, 4]
    assert prefix_mates(CODES, np.arange(6), order, 2).tolist() == [1, 0, -1, -1, 5, 4]


def test_support_of_cold_items() -> None:
    held = np.array([False, True, True, False, True, True])
    first, second = prefix_support(CODES, held)
    assert first == {"depth": 1, "support": 2 / 4, "usual": 1.0}
    assert second == {"depth": 2, "support": 1 / 4, "usual": 0.0}
    assert prefix_support(CODES, ~held | True)[0]["usual"] is None


# categories


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.integers(1, 9), st.integers(1, 9))
def test_mutual_information_is_scikit_learns(seed: int, n: int, k: int, c: int) -> None:
    random = np.random.default_rng(seed)
    label, category = random.integers(0, k, n), random.integers(0, c, n)
    category[: n // 2] = label[: n // 2]
    found = adjusted_mutual_information(label, category)
    if found is not None:
        expected = adjusted_mutual_info_score(label, category)
        assert found == pytest.approx(expected, abs=1e-9)


def test_mutual_information_within_contexts() -> None:
    context = np.repeat([0, 1], 8)
    # In each context labels are categories; between them they are named the other way round.
    category = np.tile([0, 1], 8)
    label = np.where(context == 0, category, 1 - category)
    assert adjusted_mutual_information(label, category, context) == pytest.approx(1)
    assert adjusted_mutual_information(label, category) == pytest.approx(
        adjusted_mutual_info_score(label, category)
    )
    assert adjusted_mutual_information(np.zeros(4, int), np.zeros(4, int)) is None


def test_mutual_information_within_contexts_adds_up() -> None:
    random = np.random.default_rng(0)
    n = 3_000
    context, label, category = (random.integers(0, size, n) for size in (5, 7, 6))
    # Labels that say nothing within contexts, though contexts do.
    category = np.where(random.random(n) < 0.6, context, category)
    within = adjusted_mutual_information(label + 10 * context, category, context)
    assert abs(within or 0) < 0.01
    assert (adjusted_mutual_information(label + 10 * context, category) or 0) > 0.1


def test_purity_of_categories() -> None:
    assert category_purity(np.array([0, 0, 0, 1, 1]), np.array([7, 7, 3, 3, 9])) == 3 / 5


# fidelity


def test_fidelity_by_hand() -> None:
    x = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    decoded = np.array([[1, 0], [1, 0], [1, 1]], np.float32)
    fidelity = Fidelity({"embedding": slice(0, 2)})
    for rows in (slice(0, 1), slice(1, 3)):
        fidelity.add(x[rows], decoded[rows], np.array([False, False, True])[rows])
    found = fidelity.result()
    # Training items deviate from (1/2, 1/2) by 1/2 each and are off by 0 and 2.
    assert (found["train_error"], found["train_r2"]) == (2, -1)
    assert found["train_cosine"] == 0.5
    assert (found["held_out_error"], found["held_out_cosine"]) == (2, pytest.approx(1 / sqrt(2)))
    empty = Fidelity({"embedding": slice(0, 2)})
    empty.add(x, x, np.zeros(3, np.bool_))
    assert empty.result()["held_out_r2"] is empty.result()["held_out_cosine"] is None


def test_error_by_group() -> None:
    found = by_group(np.array([0.25, 0.75, 1.0], np.float32), np.array([0, 0, 2]))
    np.testing.assert_array_equal(found, [0.5, np.nan, 1])


# behaviour

STEPS = np.array([[0, 1], [0, 3], [2, 4], [4, 5]])


def test_steps_by_hand() -> None:
    assert prefix_recall(CODES, STEPS).tolist() == [3 / 4, 2 / 4]
    # From prefix 0 twice to 0 and once to 1, from 1 always to 1.
    after_0 = -(2 / 3) * log2(2 / 3) - (1 / 3) * log2(1 / 3)
    found = next_prefix_entropy(CODES, STEPS)
    assert found[0] == pytest.approx(3 / 4 * after_0)
    assert found[1] == pytest.approx(2 / 4)  # (0, 0) goes to itself or (0, 2), the others on
    dealt = dealt_anew(STEPS, seed=0)
    assert dealt[:, 0].tolist() == STEPS[:, 0].tolist()
    assert sorted(dealt[:, 1]) == sorted(STEPS[:, 1])


def test_dealt_steps_lead_to_another_item_as_users_steps_do() -> None:
    # The only other deal of two items' steps is the one there is.
    there_and_back = np.array([[0, 1], [1, 0]])
    for seed in range(20):
        assert dealt_anew(there_and_back, seed=seed).tolist() == [[0, 1], [1, 0]]
    # Item 0 is at half of the steps; every item has a code of its own, which no step keeps.
    random = np.random.default_rng(0)
    steps = random.integers(1, 40, (400, 2))
    steps[:100, 0] = steps[100:200, 1] = 0
    steps = steps[steps[:, 0] != steps[:, 1]]
    dealt = dealt_anew(steps, seed=1)
    assert len(dealt) == len(steps)
    assert sorted(dealt[:, 1]) == sorted(steps[:, 1])
    assert prefix_recall(np.arange(40)[:, None], dealt).tolist() == [0]


def test_hits_by_hand() -> None:
    assert hits(np.array([[1, 2], [3, 4]]), np.array([2, 9])).tolist() == [1, 0]
    size = np.array([1, 3, 4])
    # k = 2: own SID of one item holds none but itself; one of SID 1's three is among two: 2/3.
    sids = np.array([[0, 1, 2], [1, 2, 0], [1, 0, 2], [2, 1, 0]])
    found = expected_hits(sids, size, np.array([0, 1, 1, 2]), np.array([1, 1, 2, 1]), 2)
    # Own SID of three, two others: both found. Then nothing is left for SID 2; 3 others before 1.
    assert found.tolist() == [pytest.approx(2 / 3), 1, 0, 0]


def test_bands_of_popularity() -> None:
    met = np.array([0, 9, 5, 5, 1, 0, 0, 0, 2, 3])
    assert popularity_bands(met, np.arange(10)).tolist() == [2, 0, 1, 1, 2, 2, 2, 2, 1, 1]


def test_popularity_by_hand() -> None:
    # Ten items, of which the first is head, the next four torso; items 0 and 1 collide.
    codes = np.array([[0], [0], *([n] for n in range(2, 10))])
    met = np.array([8, 4, 2, 1, 1, 0, 0, 0, 0, 0])
    error = np.array([1, 2, 2, 2, np.nan, 3, 3, 3, 3, 3])
    found = popularity(codes, met, error / 2)
    assert found["uniqueness"] == 12 / 16
    assert found["share_in_groups"] == 12 / 16
    assert found["popularity"]["head"] == {
        **{"items": 1, "interactions": 0.5, "error": 0.5, "share_in_groups": 1.0},
    }
    assert found["popularity"]["torso"] == {
        **{"items": 4, "interactions": 0.5, "error": 1.0, "share_in_groups": 0.25},
    }
    assert found["popularity"]["tail"]["error"] == 1.5


def test_change_by_hand() -> None:
    error = np.array([1, 2, np.nan, 1], np.float32)
    found = change(error, np.array([1, 2]), np.array([3, 9], np.float32), np.array([0, 2, 1, 0]))
    assert found == {"moved": 2, "moved_share": 0.5, "added_error": 0.25, "suffixes": 3}
    assert change(error * 0, np.array([], int), error[:0], None)["added_error"] is None


def test_the_standard_error_by_hand() -> None:
    assert standard_error(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(sqrt(2.5 / 5))
    assert standard_error(np.array([1.0])) is None


# what must not matter


@settings(max_examples=25)
@given(tables, st.integers(0, 1000))
def test_neither_order_of_items_nor_numbers_of_codes_matter(codes: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    names = np.stack([random.permutation(4) for _ in range(3)])
    other = np.stack([names[level][codes[:, level]] for level in range(3)], 1)
    one = code_figures(codes, (4, 4, 4))
    two = code_figures(other[random.permutation(30)].astype(np.int32), (4, 4, 4))
    assert flat(one) == pytest.approx(flat(two), rel=1e-9, abs=1e-12)
    category = random.integers(0, 3, 30)
    found = [adjusted_mutual_information(c[:, 0], category) for c in (codes, other)]
    assert found[0] == pytest.approx(found[1])


def flat(figures: Any) -> list[float]:
    if isinstance(figures, dict):
        return [one for value in figures.values() for one in flat(value)]
    if isinstance(figures, list):
        return [one for value in figures for one in flat(value)]
    return [float(figures)]


def test_perplexity_is_the_exponential_of_entropy() -> None:
    assert level_use(np.array([1, 1])).perplexity == pytest.approx(e ** log(2))
