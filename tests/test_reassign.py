"""Reassignment: every item a SID of its own at the least cost, against enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from test_collisions import EXAMPLES, plane, resolve, run, to_batch

from semid.collisions import CollisionConfig
from semid.collisions.copies import distinct
from semid.collisions.nearby import nearby
from semid.collisions.spill import NOWHERE, nearest_prefixes, settle
from semid.errors import SemidError

LINE = [[0.0], [1.0], [2.0], [4.0]]


def quantised(latent_nz, codebooks):
    """The raw codes of residual quantisation, by brute force."""
    residual_nz, codes = np.asarray(latent_nz, np.float64), []
    for book in codebooks:
        book_kz = np.asarray(book, np.float64)
        code_n = np.square(residual_nz[:, None] - book_kz).sum(2).argmin(1)
        residual_nz = residual_nz - book_kz[code_n]
        codes.append(code_n)
    return np.stack(codes, 1).astype(np.int32)


def error_of(latent_nz, sid_nl, codebooks):
    total_nz = sum(np.asarray(b, np.float64)[sid_nl[:, level]] for level, b in enumerate(codebooks))
    return float(np.square(np.asarray(latent_nz, np.float64) - total_nz).sum())


def reassign(latents, codebooks, folder, *, ids=None, **options):
    latents = np.asarray(latents, np.float32)
    ids = ids or list(range(len(latents)))
    codes = quantised(latents, codebooks)
    batch = to_batch(ids, codes)
    space = plane(latents, codebooks)
    report, table = run(
        *(batch, folder),
        policy="reassign",
        space=space,
        levels=space.levels,
        **options,
    )
    return codes, np.array(table["sid"].to_pylist(), np.int32), report


def test_by_hand(tmp_path):
    # Three at 0 (one level): the free codewords 1, 2 and 4 lie above, so those nearest them move.
    codes, sids, report = reassign([[0.1], [0.3], [-0.2], [3.9]], [LINE], tmp_path)
    assert codes.tolist() == [[0], [0], [0], [3]]
    assert sids.tolist() == [[1], [2], [0], [3]] or sids.tolist() == [[2], [1], [0], [3]]
    # 0.1 -> 1 and 0.3 -> 2 costs .81 + 2.89, 0.3 -> 1 and 0.1 -> 2 costs .49 + 3.61: the first.
    assert sids.tolist() == [[1], [2], [0], [3]]
    assert (report.items, report.raw_unique, report.largest_group) == (4, 2, 3)


def test_facts_by_hand(tmp_path):
    latents = np.array([[0.1], [0.3], [-0.2], [3.9]], np.float32)
    space = plane(latents, [LINE])
    found = resolve(
        lambda: iter([to_batch([4, 5, 6, 7], quantised(latents, [LINE]))]),
        tmp_path,
        {"policy": "reassign"},
        space=space,
        levels=space.levels,
    )
    assert found.facts["moved"] == 2
    assert found.facts["moved_at_level"] == [2]
    assert found.facts["unplaced"] == found.facts["left_full_prefixes"] == 0
    assert found.facts["indistinguishable"] == 0
    added = 0.81 + 2.89 - 0.01 - 0.09
    assert found.facts["added_squared_error"] == pytest.approx(added, rel=1e-6)
    # Of the squared errors that the rows say they have: 0, 1, 2 and 3.
    assert found.facts["added_error_share"] == pytest.approx(added / 6, rel=1e-6)
    list(found.rows)


def test_equal_embeddings_are_counted_and_told_apart_by_id(tmp_path):
    latents = np.array([[0.0]] * 3 + [[0.1], [4.0], [4.0]], np.float32)
    space = plane(latents, [[*LINE, [9.0], [8.0], [5.0]]])
    codes = quantised(latents, space.codebooks)
    found = resolve(
        lambda: iter([to_batch(["c", "b", "a", "d", "e", "f"], codes)]),
        tmp_path,
        {"policy": "reassign"},
        space=space,
        levels=space.levels,
    )
    rows = next(batch["sid"].to_pylist() for batch in found.rows)
    assert found.facts["indistinguishable"] == 5
    assert len(set(map(tuple, rows))) == 6


def best_by_enumeration(latents, codes, codebooks):
    """The fewest moves and their least total error inside the prefixes, trying everything."""
    last = len(codebooks[-1])
    moves, error = 0, 0.0
    for prefix in set(map(tuple, codes[:, :-1].tolist())):
        items = np.flatnonzero((codes[:, :-1] == prefix).all(1))
        best = None
        for chosen in permutations(range(last), len(items)):
            sids = np.array([[*prefix, code] for code in chosen], np.int32)
            moved = int((sids[:, -1] != codes[items, -1]).sum())
            cost = error_of(latents[items], sids, codebooks)
            best = min(best or (moved, cost), (moved, cost))
        moves, error = moves + best[0], error + best[1]
    return moves, error


@settings(EXAMPLES, max_examples=60)
@given(st.data())
def test_least_cost_against_enumeration(tmp_path, data):
    """Groups no larger than their level: fewest moves, and of these the cheapest."""
    last = data.draw(st.integers(2, 5))
    number = st.integers(-40, 40).map(lambda n: n / 8)
    codebooks = [[[-100.0], [0.0], [100.0]], [[data.draw(number)] for _ in range(last)]]
    sizes = data.draw(st.lists(st.integers(0, last), min_size=3, max_size=3))
    latents = np.array(
        [
            [base + data.draw(number)]
            for base, n in zip((-100, 0, 100), sizes, strict=True)
            for _ in range(n)
        ],
        np.float32,
    ).reshape(-1, 1)
    if not len(latents):
        return
    codes, sids, _ = reassign(latents, codebooks, tmp_path)
    assert len(np.unique(sids, axis=0)) == len(sids)
    assert (sids[:, 0] == codes[:, 0]).all()
    moves, error = best_by_enumeration(latents, codes, codebooks)
    assert int((sids != codes).any(1).sum()) == moves
    assert error_of(latents, sids, codebooks) == pytest.approx(error, rel=1e-9, abs=1e-9)


@st.composite
def crowded(draw):
    """A catalog with few codes: full prefixes, items that spill, sometimes exactly as many SIDs."""
    levels = draw(st.sampled_from([(6,), (2, 3), (3, 2, 2), (1, 4), (2, 1, 5), (4, 4)]))
    room = int(np.prod(levels))
    n = draw(st.integers(1, room))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codebooks = [random.standard_normal((k, 2)) * 0.5**level for level, k in enumerate(levels)]
    latents = (random.standard_normal((n, 2)) * draw(st.sampled_from([0.01, 0.5, 2]))).astype("f")
    if draw(st.booleans()):
        latents[random.integers(n, size=n // 2)] = latents[0]
    return codebooks, latents


@EXAMPLES
@given(crowded(), st.data())
def test_contract(tmp_path, catalog, data):
    """Unique and whole whatever the order of rows, batches and threads; raw codes stay."""
    codebooks, latents = catalog
    n = len(latents)
    codes, sids, report = reassign(latents, codebooks, tmp_path, threads=1)
    assert len(np.unique(sids, axis=0)) == n
    assert (sids >= 0).all()
    assert (sids < [len(book) for book in codebooks]).all()
    counts = Counter(map(tuple, codes.tolist()))
    assert report.raw_unique == len(counts)
    assert report.largest_group == max(counts.values())
    kept = {tuple(s) for s, c in zip(sids.tolist(), codes.tolist(), strict=True) if s == c}
    assert kept == set(counts)  # one item has every raw SID
    order = np.array(data.draw(st.permutations(range(n))))
    cuts = data.draw(st.lists(st.integers(0, n), max_size=3))
    _, again, same = reassign(
        *(latents[order], codebooks, tmp_path),
        ids=[int(i) for i in order],
        cuts=cuts,
        threads=2,
    )
    assert again.tolist() == sids[order].tolist()
    assert same == report
    assert list(tmp_path.iterdir()) == []


@EXAMPLES
@given(crowded(), st.integers(0, 2**32 - 1))
def test_appending_in_steps_keeps_every_row(tmp_path, catalog, seed):
    codebooks, latents = catalog
    random, n = np.random.default_rng(seed), len(latents)
    step_n = random.integers(0, 3, n)
    codes = quantised(latents, codebooks)
    taken: list[list[int]] = []
    for step in range(3):
        at = np.flatnonzero(step_n == step)
        if not len(at):
            continue
        before = list(taken)
        previous = to_batch(list(range(len(before))), codes[: len(before)]) if before else None
        if previous is not None:
            from semid.id_columns import code_column

            previous = previous.append_column("sid", code_column(np.array(before, np.int32)))
        space = plane(latents[at], codebooks)
        _, table = run(
            *(to_batch((1000 + at).tolist(), codes[at]), tmp_path),
            policy="reassign",
            space=space,
            levels=space.levels,
            previous=(lambda previous=previous: iter([previous])) if before else None,
        )
        new = table["sid"].to_pylist()
        for raw, sid in zip(codes[at].tolist(), new, strict=True):
            alone = sum(c == raw for c in codes[at].tolist()) == 1
            assert sid == raw or not (alone and raw not in before)
        taken += new
    assert len(set(map(tuple, taken))) == n


def test_a_full_prefix_sends_away_those_whose_way_is_short(tmp_path):
    # Two prefixes 0 and 10, two codewords each (0 and 1): three items at 0, one of them nearly at
    # the middle between the prefixes.
    codebooks = [[[0.0], [10.0]], [[0.0], [1.0]]]
    codes, sids, _ = reassign([[0.0], [1.0], [4.9], [10.0]], codebooks, tmp_path)
    assert codes.tolist() == [[0, 0], [0, 1], [0, 1], [1, 0]]
    assert sids.tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]


def test_who_finds_no_room_is_refused_or_numbered(tmp_path):
    codebooks = [[[0.0]], [[0.0], [1.0]]]
    latents = [[0.0], [0.0], [1.0], [1.0], [1.0]]
    with pytest.raises(SemidError, match=r"5 items cannot each .* among 1 x 2 = 2; train a model"):
        reassign(latents, codebooks, tmp_path)
    _, sids, _ = reassign(latents, codebooks, tmp_path, overflow="suffix")
    assert sids.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]]
    assert list(tmp_path.iterdir()) == []


def test_many_more_items_than_codewords(tmp_path):
    codebooks = [[[0.0]], [[0.0], [1.0], [5.0]]]
    latents = np.r_[np.zeros(4_000), np.linspace(0.8, 1.2, 1_000)][:, None]
    codes, sids, _ = reassign(latents, codebooks, tmp_path, overflow="suffix")
    assert len(np.unique(sids, axis=0)) == 5_000
    # The nearest of those at 1 gets the free codeword 5; all others share theirs.
    assert np.flatnonzero((sids[:, :2] != codes).any(1)).tolist() == [4_999]
    assert sids[4_999].tolist() == [0, 2, 0]


def test_a_large_level_is_dealt_with_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr("semid.collisions.within.MOST_ITEMS", 3)
    monkeypatch.setattr("semid.collisions.nearby.MOST_CANDIDATES", 0)
    random = np.random.default_rng(0)
    codebooks = [[[0.0]], np.linspace(-3, 3, 64)[:, None]]
    latents = random.standard_normal((40, 1)).round(1)
    codes, sids, _ = reassign(latents, codebooks, tmp_path)
    assert len(np.unique(sids, axis=0)) == 40
    kept = {tuple(s) for s, c in zip(sids.tolist(), codes.tolist(), strict=True) if s == c}
    assert kept == set(map(tuple, codes.tolist()))


@EXAMPLES
@given(st.integers(0, 2**32 - 1))
def test_the_nearest_codewords_are_enough(seed):
    """As cheap as the assignment on the whole matrix, with as few moves."""
    random = np.random.default_rng(seed)
    k = int(random.integers(2, 60))
    m = int(random.integers(1, k + 1))
    # Some codewords are held; the items lie in a few spots, some at the very same place.
    spot = random.standard_normal((4, 2)) * random.choice([0.1, 1, 5])
    x = (spot[random.integers(0, 4, m)] + random.choice([0, 0.1, 1]) * random.random((m, 2)))[:, :2]
    book = random.standard_normal((k, 2))
    cost = np.square(x[:, None] - book).sum(2)
    own = cost.argmin(1)
    held = random.random(k) < random.choice([0, 0.3])
    used = np.bincount(own, minlength=k) > 0
    free, shared = ~used & ~held, used & ~held
    if free.sum() + shared.sum() < m:
        return
    full = np.where(free, cost + 1e4, 1e9)
    keeps = np.flatnonzero(shared[own])
    full[keeps, own[keeps]] = cost[keeps, own[keeps]]
    rows, columns = linear_sum_assignment(full)
    found = nearby(lambda items: cost[items], own, free, shared)
    assert len(set(found.tolist())) == m
    assert full[np.arange(m), found].sum() == pytest.approx(full[rows, columns].sum(), rel=1e-12)
    new = nearby(lambda items: cost[items], np.full(m, -1), free | shared, np.zeros(k, bool))
    rows, columns = linear_sum_assignment(cost[:, free | shared])
    best = cost[:, free | shared][rows, columns].sum()
    assert cost[np.arange(m), new].sum() == pytest.approx(best, rel=1e-12)


def test_deferred_acceptance_by_hand():
    # Prefix 0 takes one item. Items 0 and 1 both want it, 1 is nearer; 0 goes on to prefix 1, which
    # 2 holds at a higher price and has to leave: nowhere else to go.
    wish = np.array([[0, 1], [0, 1], [1, NOWHERE]])
    cost = np.array([[2.0, 3.0], [1.0, 9.0], [4.0, np.inf]])
    assert settle(wish, cost, np.array([1, 1])).tolist() == [1, 0, NOWHERE]
    assert settle(wish, cost, np.array([2, 1])).tolist() == [0, 0, 1]


@EXAMPLES
@given(st.integers(0, 2**32 - 1))
def test_deferred_acceptance_is_stable_whatever_the_order(seed):
    random = np.random.default_rng(seed)
    m, p, b = random.integers(1, 12), random.integers(1, 5), 4
    cost_mp = random.permutation(m * p).reshape(m, p).astype(float)
    wish = np.argsort(cost_mp, axis=1)[:, :b]
    cost = np.take_along_axis(cost_mp, wish, 1)
    room = random.integers(0, 4, p)
    got = settle(wish, cost, room)
    assert (np.bincount(got[got != NOWHERE], minlength=p) <= room).all()
    for item, place in product(range(m), range(p)):
        mine = np.inf if got[item] == NOWHERE else cost_mp[item, got[item]]
        if cost_mp[item, place] < mine and place in wish[item]:  # it would rather be there
            inside = cost_mp[got == place, place]
            assert len(inside) == room[place]
            assert (inside < cost_mp[item, place]).all()
    order = random.permutation(m)
    assert settle(wish[order], cost[order], room).tolist() == got[order].tolist()


def test_what_does_not_apply_is_refused():
    for settings_, message in [
        ({"policy": "reassign", "max_suffix": 4}, "max_suffix is 4, but .* reassign numbers"),
        ({"policy": "none", "suffix_order": "p:desc"}, "suffix_order is 'p:desc', but"),
        ({"policy": "suffix", "overflow": "suffix"}, "only the collision policy reassign"),
        ({"policy": "reassign", "overflow": "drop"}, "overflow 'drop' is none of error, suffix"),
        ({"suffix_order": "p:down"}, "order of suffixes 'down' is none of asc, desc"),
        ({"max_suffix": -1}, "must be at least 0"),
    ]:
        with pytest.raises(SemidError, match=message):
            CollisionConfig(**settings_)


@EXAMPLES
@given(st.integers(0, 2**32 - 1))
def test_copies_settle_together_as_they_would_one_by_one(seed):
    random = np.random.default_rng(seed)
    d, p = random.integers(1, 6), random.integers(1, 6)
    wish = np.argsort(random.random((d, p)), axis=1)
    cost = np.sort(random.permutation(d * p).reshape(d, p).astype(float), axis=1)
    wish[random.random((d, p)) < 0.2] = NOWHERE
    which = random.integers(0, d, random.integers(1, 20))
    room = random.integers(0, 5, p)
    alone = settle(wish[which], cost[which], room)
    assert settle(wish, cost, room, which).tolist() == alone.tolist()


@EXAMPLES
@given(st.integers(0, 2**32 - 1))
def test_copies_are_told_by_their_bits(seed):
    random = np.random.default_rng(seed)
    n, z = random.integers(1, 30), random.integers(1, 4)
    latent = random.choice(np.array([0.0, -0.0, 1.0, -1.0, 2.0], np.float32), (n, z))
    first, which = distinct(latent)
    assert (np.diff(first) > 0).all()  # numbered as they come
    bits = latent.view(np.uint32)
    assert (bits[first[which]] == bits).all()
    assert len(np.unique(bits, axis=0)) == len(first)


def test_thousands_of_copies_of_one_item(tmp_path):
    # 3,000 at one spot, 40 codewords in each of 100 prefixes: they fill the nearest 75 of these.
    codebooks = [np.arange(100.0)[:, None], 0.01 * np.arange(40.0)[:, None]]
    codes, sids, _ = reassign(np.zeros((3_000, 1)), codebooks, tmp_path)
    assert (codes == 0).all()
    assert len(np.unique(sids, axis=0)) == 3_000
    assert sorted(np.unique(sids[:, 0])) == list(range(75))
    assert list(tmp_path.iterdir()) == []


def test_the_beam_does_not_depend_on_how_much_is_looked_at_together(monkeypatch):
    random = np.random.default_rng(0)
    codebooks = [random.standard_normal((k, 3)) for k in (5, 7, 6, 4, 3)]
    latents = random.standard_normal((9, 3)).astype(np.float32)
    space = plane(latents, codebooks)

    def found():
        parts = [(p, c) for _, p, c in nearest_prefixes(space, latents, 50)]
        return np.concatenate([p for p, _ in parts]), np.concatenate([c for _, c in parts])

    prefixes, costs = found()
    monkeypatch.setattr("semid.collisions.spill._SCORES", 20)
    again, same = found()
    assert prefixes.tolist() == again.tolist()
    assert same == pytest.approx(costs)
