"""Planning levels: exact figures worked out by hand, and what a sample says of a catalog."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.fit_config import KMeansConfig
from semid.planning import Planner, Wanted, plan_levels
from semid.planning.advice import FALLS_SHORT, MAY_REACH, REACHES, Prediction, advise
from semid.planning.candidates import Shape, affordable, candidates, least_room, work
from semid.planning.occupancy import distinct, fit_curve, predict, rarefied
from semid.planning.sample import Sampler
from semid.planning.spectrum import (
    describe_spectrum,
    effective_rank,
    gaussian_error,
    participation_ratio,
    variances,
)
from semid.planning.trials import run_trials
from semid.residual_kmeans import ResidualKMeans


def drawn(x_nd, *, rows=10**9, seed=0, batch=7):
    """A sample of rows that come in small batches."""
    sampler = Sampler(len(x_nd), x_nd.shape[1], rows=rows, seed=seed)
    for start in range(0, len(x_nd), batch):
        sampler.add(x_nd[start : start + batch])
    return sampler.result()


def random_rows(n, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def sizes_of(share_s, rows, seed=0):
    """Rows of each ID that has any, of so many drawn."""
    counts_s = np.random.default_rng(seed).multinomial(rows, share_s)
    return counts_s[counts_s > 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_rarefied_is_the_mean_over_all_ways_to_draw(sizes):
    ids = [number for number, size in enumerate(sizes) for _ in range(size)]
    for rows in range(len(ids) + 1):
        ways = [len(set(way)) for way in combinations(ids, rows)]
        assert rarefied(np.array(sizes), rows) == pytest.approx(sum(ways) / len(ways), abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "sigma", "theta", "expected"),
    [
        (10.0, -1.0, 10.0, 5.0),  # n theta / (n + theta)
        (10.0, 0.0, 10.0, 10 * math.log(2)),
        (3.0, 0.5, 1.0, 2.0),  # 2 (sqrt(4) - 1)
        (500.0, -1e6, 1e9, 1000 * (1 - math.exp(-0.5))),  # 1,000 IDs that are all as likely
    ],
)
def test_distinct_by_hand(rows, sigma, theta, expected):
    assert distinct(rows, np.array(sigma), np.array(theta)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_sample_tells_of_four_times_as_many(power):
    share_s = np.arange(1, 400_001, dtype=np.float64) ** -power
    share_s /= share_s.sum()
    total = 200_000
    true = len(sizes_of(share_s, total, seed=1))
    found = predict(sizes_of(share_s, 50_000), total)
    assert found.low <= true <= found.high
    assert found.distinct == pytest.approx(true, rel=0.08)
    assert not found.counted
    sample_itself = len(sizes_of(share_s, 50_000)) / 50_000
    assert sample_itself > true / total + 0.05  # what would be said without a curve


def test_the_curve_meets_the_sample():
    sizes_s = np.array([5, 3, 2, 2] + [1] * 400)
    assert fit_curve(sizes_s, 412).at(412) == pytest.approx(404)


def test_all_embeddings_are_counted_and_only_seeds_are_in_doubt():
    found = predict(np.array([3, 1, 1]), 5)
    assert (found.distinct, found.counted) == (3, True)
    assert (found.low, found.high) == pytest.approx((3 - 0.1, 3 + 0.1))


def test_no_collision_in_a_sample_leaves_room_for_a_few():
    found = predict(np.ones(1_000, np.int64), 10_000)
    assert (found.distinct, found.high) == (10_000, 10_000)
    assert found.low == pytest.approx(10_000 - 3 * 10**2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.floats(1, 1_000, allow_nan=False))
def test_the_range_holds_the_expectation_and_is_possible(sizes, times):
    sizes_s = np.array(sizes)
    total = int(sizes_s.sum() * times)
    found = predict(sizes_s, total)
    assert found.low <= found.distinct + 1e-6 * total
    assert found.distinct <= found.high + 1e-6 * total
    assert found.low > 0
    assert found.high <= total
    assert found.distinct >= len(sizes) * (1 - 1e-6)


def test_gaussian_error_by_hand():
    even, uneven = np.array([1.0, 1.0]), np.array([4.0, 1.0])
    assert gaussian_error(even, 0) == pytest.approx(1)
    assert gaussian_error(even, 2) == pytest.approx(0.25)  # a bit on each axis
    assert gaussian_error(uneven, 1) == pytest.approx(0.4)  # all on the first: 1 and 1 of 5
    assert gaussian_error(uneven, 3) == pytest.approx(0.1)  # 2 bits and 1: 0.25 each, of 5
    assert gaussian_error(np.array([4.0, 1.0, 0.0]), 1) == pytest.approx(0.4)


def test_spectrum_by_hand():
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert participation_ratio(np.array([3.0, 1.0])) == pytest.approx(1.6)
    x_nd = np.array([[1, 0], [-1, 0], [3, 2], [1, 2]], np.float32)
    assert variances(x_nd).sum() == pytest.approx(x_nd.var(0).sum())
    same = describe_spectrum(variances(np.ones((3, 2), np.float32)))
    assert same == {"effective_rank": 0.0, "participation_ratio": 0.0, "variance_of_first": {}}


def test_a_sample_holds_each_embedding_once_whatever_the_order():
    x_nd = random_rows(50)
    x_nd[10:14] = x_nd[3]
    found = drawn(x_nd)
    assert (found.items, found.distinct, found.most_copied) == (50, 46, 5)
    assert found.is_whole
    assert found.floor == 46 / 50
    assert sorted(map(tuple, found.x_sd)) == sorted(set(map(tuple, x_nd)))
    assert found.copies_s[(found.x_sd == x_nd[3]).all(1)].tolist() == [5]
    again = drawn(x_nd[np.random.default_rng(1).permutation(50)], batch=11)
    assert (again.x_sd == found.x_sd).all()
    assert (again.copies_s == found.copies_s).all()


def test_a_sample_of_a_part_is_about_as_large_as_asked_and_another_by_another_seed():
    x_nd = random_rows(4_000, 4)
    found, other = drawn(x_nd, rows=1_000, batch=500), drawn(x_nd, rows=1_000, seed=1, batch=500)
    assert 850 < len(found.x_sd) < 1_150
    assert not found.is_whole
    assert found.distinct == 4_000
    assert set(map(tuple, found.x_sd)) != set(map(tuple, other.x_sd))


def test_candidates_have_room_and_rows():
    for target in (0.3, 0.7, 0.95, 0.999):
        room = least_room(1_000, target)
        assert room * (1 - math.exp(-1_000 / room)) == pytest.approx(1_000 * target)
    found = candidates(10_800, 12_000, 0.95)
    assert (256, 256, 256) in found
    assert (256, 128, 64) in found
    assert max(map(max, found)) == 256  # 39 rows each for 1,024 would be more than there are
    assert all(math.prod(levels) >= 115_000 for levels in found)
    assert candidates(300, 300, 0.95) == []


def test_a_common_beginning_costs_once_and_what_takes_long_is_left_out():
    shape = Shape(1_000, 900, 10)
    one, both = work([(4, 4)], shape), work([(4, 4), (4, 4, 4)], shape)
    assert one == 2 * (2 * 10 * 4 * (25 * 900 + 1_000))
    assert both == work([(4, 4, 4)], shape) == 1.5 * one
    kept = affordable([(4, 4), (4, 4, 4), (8, 8)], [(8, 8)], shape, limit=3.5 * one)
    assert kept.tried == [(4, 4), (8, 8), (4, 4, 4)]
    tight = affordable([(4, 4), (4, 4, 4)], [(8, 8)], shape, limit=0)
    assert (tight.tried, tight.left_out) == ([(8, 8)], [(4, 4), (4, 4, 4)])


def test_a_trial_is_the_fit_of_rqkmeans():
    sample = drawn(random_rows(600))
    shape = Shape(600, 540, 8)
    spans = {"embedding": slice(0, 8)}
    trials = {t.levels: t for t in run_trials(sample, [(8, 4), (8,), (8, 8)], shape, spans, seed=3)}
    for levels, trial in trials.items():
        network = ResidualKMeans("rqkmeans", width=8, levels=levels, config=KMeansConfig())
        network.initialise(torch.from_numpy(sample.x_sd[:540]), seed=3)
        left_nd = torch.from_numpy(sample.x_sd.copy())
        codes = []
        for level in network.search_levels:
            codes.append(torch.cdist(left_nd, level.codebook_kz).argmin(1))
            left_nd -= level.codebook_kz[codes[-1]]
        ids, counts = np.unique(torch.stack(codes, 1).numpy(), axis=0, return_counts=True)
        assert sorted(trial.sizes_u) == sorted(counts)
        centred_nd = sample.x_sd - sample.x_sd[:540].mean(0)
        other = float(left_nd[540:].square().sum() / np.square(centred_nd[540:]).sum())
        assert trial.other_error == pytest.approx(other, rel=1e-4)
        assert trial.fitted_error < trial.other_error
        assert trial.largest_items == counts.max()
        assert len(ids) == len(trial.sizes_u)


def predictions(*found):
    return [Prediction(levels, middle, low, high) for levels, middle, low, high in found]


def test_the_cheapest_that_is_sure_is_recommended():
    found = predictions(
        ((8, 8, 8), 0.97, 0.96, 0.98),
        ((16, 16), 0.95, 0.94, 0.96),
        ((9, 9, 9), 0.99, 0.98, 1.0),
        ((8, 8), 0.80, 0.79, 0.81),
    )
    assert [one.verdict(0.95) for one in found] == [REACHES, MAY_REACH, REACHES, FALLS_SHORT]
    advice = advise(found, target=0.95, floor=1.0)
    assert (advice.levels, advice.closest, advice.steps) == ((8, 8, 8), (9, 9, 9), [])
    assert "16,16 (95.0%, 94.0% to 96.0%), is too close to call" in advice.reason


def test_none_that_reaches_is_recommended():
    advice = advise(predictions(((8, 8), 0.8, 0.7, 0.9)), target=0.95, floor=1.0)
    assert advice.levels is None
    assert "the most has 8,8 (80.0%, 70.0% to 90.0%)" in advice.reason
    assert "semid plan --levels 8,8,8" in advice.steps[0]


def test_copies_lower_the_goal_and_are_told():
    found = predictions(((8, 8), 0.78, 0.77, 0.79), ((4, 4), 0.7, 0.6, 0.75))
    advice = advise(found, target=0.95, floor=0.8)
    assert advice.goal == pytest.approx(0.76)
    assert advice.levels == (8, 8)
    assert "20.0% of the items repeat" in advice.steps[0]


def test_a_plan_says_what_it_counted():
    plan = plan_levels(drawn(random_rows(2_000)), {"embedding": slice(0, 8)})
    assert plan["catalog"]["counted"]
    assert plan["recommendation"]["levels"] in [one["levels"] for one in plan["candidates"]]
    for one in plan["candidates"]:
        low, high = one["uniqueness_range"]
        assert low <= one["uniqueness"] <= high
        assert one["bits"] == pytest.approx(math.log2(math.prod(one["levels"])))
        assert 0 < one["error"] < 1
        assert all(1 <= used <= k for used, k in zip(one["perplexity"], one["levels"], strict=True))


def test_equal_rows_are_planned_too():
    plan = plan_levels(
        drawn(np.ones((100, 3), np.float32)),
        {"embedding": slice(0, 3)},
        Wanted(levels=((1, 1),)),
    )
    (one,) = plan["candidates"]
    assert (one["uniqueness"], one["error"], one["gaussian_error"]) == (0.01, None, None)
    assert one["largest_group"] == [100, 100]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"target": 1.0}, "the target uniqueness is 1.0; it must be above 0 and below 1"),
        ({"target": float("nan")}, "the target uniqueness is nan"),
        ({"levels": ((),)}, "levels are []; give at least one"),
        ({"levels": ((8, 0),)}, "levels are [8, 0]; give at least one"),
    ],
)
def test_what_cannot_be_wanted(wanted, said):
    with pytest.raises(SemidError, match=said.replace("[", r"\[")):
        Wanted(**wanted)


def test_levels_larger_than_the_sample_and_catalogs_too_small():
    sample, spans = drawn(random_rows(100)), {"embedding": slice(0, 8)}
    with pytest.raises(SemidError, match="more codewords than the 90 different embeddings"):
        Planner(sample, spans, Wanted(levels=((91, 4),)))
    with pytest.raises(SemidError, match="100 different embeddings are too few to choose levels"):
        Planner(sample, spans, Wanted())
