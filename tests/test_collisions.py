from collections import defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semid import collisions
from semid.collisions import (
    POLICIES,
    CollisionConfig,
    CollisionReport,
    Resources,
    Space,
    Surroundings,
)
from semid.errors import SemidError
from semid.id_columns import code_column, ids_schema

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IDS = st.one_of(
    st.lists(st.text(max_size=6), min_size=1, max_size=40, unique=True),
    st.lists(
        st.sampled_from(
            ["", "a", "B", "é", "e\u0301", "日本", "😀", "\uffff", "x,y", 'q"', "n\nl"]
        ),
        min_size=1,
        unique=True,
    ),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40, unique=True),
)


@st.composite
def catalogs(draw):
    """Item ids and codes that collide: few codes per level, from the ends of the level."""
    ids = draw(IDS)
    levels = draw(
        st.one_of(
            st.lists(st.sampled_from([1, 2, 65_536, 2**31]), min_size=1, max_size=3),
            st.just([65_536] * 12),
            st.just([1] * 12),
        )
    )
    code = [st.sampled_from(sorted({0, size - 1})) for size in levels]
    codes = draw(st.lists(st.tuples(*code), min_size=len(ids), max_size=len(ids)))
    return ids, codes, levels


def to_batch(ids, codes):
    kind = pa.string() if isinstance(ids[0], str) else pa.int64()
    schema = ids_schema(kind)
    n = len(ids)
    return pa.record_batch(
        {
            "item_id": pa.array(ids, kind),
            "codes": code_column(np.array(codes, np.int32)),
            "distance": pa.array(np.arange(n, dtype=np.float32)),
            "margin": pa.array(np.arange(n, dtype=np.float32) / 2),
        },
        schema=schema.remove(schema.get_field_index("sid")),
    )


def pieces_of(batch, cuts):
    """Return what streams a batch in pieces, alike every time."""
    edges = [0, *sorted(cuts), len(batch)]
    return lambda: iter([batch.slice(a, b - a) for a, b in pairwise(edges)])


def resolve(batches, folder, config, *, memory_bytes=1 << 30, threads=None, **around):
    resources = Resources(folder, memory_bytes, threads)
    return collisions.resolve(batches, CollisionConfig(**config), resources, Surroundings(**around))


CONFIG = ("policy", "suffix_order", "max_suffix", "overflow")


def run(batch, folder, *, cuts=(), **options):
    """Resolve `batch`, handed over in pieces; return the report and the joined outcome."""
    config = {name: options.pop(name) for name in CONFIG if name in options}
    found = resolve(pieces_of(batch, cuts), folder, config, **options)
    return found.report, pa.Table.from_batches(list(found.rows))


def plane(latents=None, codebooks=(((0.0,),),)):
    """A space of given codebooks whose rows have given latents."""
    rows_nz = np.asarray([[0.0]] if latents is None else latents, np.float32)
    books = [np.asarray(book, np.float64) for book in codebooks]
    return Space(books, False, lambda row_m: iter([rows_nz[row_m]]))


def expected_ranks(ids, codes):
    """Rank by brute force; Python compares strings by code point."""
    groups = defaultdict(list)
    for item, code in zip(ids, codes, strict=True):
        groups[tuple(code)].append(item)
    return [sorted(groups[tuple(c)]).index(i) for i, c in zip(ids, codes, strict=True)], groups


def test_suffix_by_hand(tmp_path):
    ids = ["d", "b", "c", "a", "B", "é"]
    codes = [[1, 2], [1, 2], [0, 2], [1, 2], [1, 1], [1, 1]]
    report, table = run(to_batch(ids, codes), tmp_path)
    assert table["sid"].to_pylist() == [
        [1, 2, 2],
        [1, 2, 1],
        [0, 2, 0],
        [1, 2, 0],
        [1, 1, 0],
        [1, 1, 1],
    ]
    assert report == CollisionReport(
        items=6,
        raw_unique=3,
        raw_uniqueness=0.5,
        groups=2,
        items_in_collision_groups=5,
        largest_group=3,
    )
    assert table.schema == ids_schema(pa.string())


def test_integers_rank_by_number(tmp_path):
    _, table = run(to_batch([10, 9, -1], [[0], [0], [0]]), tmp_path)
    assert table["sid"].to_pylist() == [[0, 2], [0, 1], [0, 0]]


def test_no_collisions(tmp_path):
    report, table = run(to_batch(["a", "b"], [[0], [1]]), tmp_path)
    assert report == CollisionReport(2, 2, 1.0, 0, 0, 1)
    assert table["sid"].to_pylist() == [[0, 0], [1, 0]]


# The contract of every policy.


@pytest.mark.parametrize("policy", ["suffix", "none"])
@EXAMPLES
@given(data=st.data())
def test_contract(policy, tmp_path, data):
    """Rows and their order stay; batches, threads, budget and known levels change nothing."""
    ids, codes, levels = data.draw(catalogs())
    batch = to_batch(ids, codes)
    report, table = run(batch, tmp_path, policy=policy, threads=1)
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=5))
    again = run(batch, tmp_path, policy=policy, cuts=cuts, threads=2, levels=levels)
    assert again == (report, table)

    assert table.drop_columns("sid") == pa.Table.from_batches([batch])
    assert table.schema.names == ["item_id", "codes", "sid", "distance", "margin"]
    assert [sid[: len(levels)] for sid in table["sid"].to_pylist()] == [list(c) for c in codes]

    _, groups = expected_ranks(ids, codes)
    sizes = [len(group) for group in groups.values()]
    crowds = [size for size in sizes if size > 1]
    assert report == CollisionReport(
        len(ids), len(sizes), len(sizes) / len(ids), len(crowds), sum(crowds), max(sizes)
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("policy", ["suffix", "none"])
@EXAMPLES
@given(data=st.data())
def test_row_order_does_not_matter(policy, tmp_path, data):
    ids, codes, _ = data.draw(catalogs())
    order = data.draw(st.permutations(range(len(ids))))
    _, table = run(to_batch(ids, codes), tmp_path, policy=policy)
    shuffled = to_batch([ids[i] for i in order], [codes[i] for i in order])
    _, moved = run(shuffled, tmp_path, policy=policy)
    assert moved["sid"].to_pylist() == [table["sid"][i].as_py() for i in order]


@EXAMPLES
@given(catalogs())
def test_suffix_ranks_by_item_id_and_is_unique(tmp_path, catalog):
    ids, codes, _ = catalog
    _, table = run(to_batch(ids, codes), tmp_path)
    sids = table["sid"].to_pylist()
    assert [sid[-1] for sid in sids] == expected_ranks(ids, codes)[0]
    assert len(set(map(tuple, sids))) == len(ids)


# Suffixes around others, by a column, and up to a width.


def with_sids(batch, sids):
    """Rows of a table before."""
    return lambda: iter([batch.append_column("sid", code_column(np.array(sids, np.int32)))])


def test_suffixes_around_held_ones_by_hand(tmp_path):
    previous = with_sids(to_batch(["p", "q", "r"], [[5], [5], [6]]), [[5, 1], [5, 4], [6, 0]])
    retired = with_sids(to_batch(["s"], [[5]]), [[5, 2]])
    batch = to_batch(["d", "b", "a", "c", "e"], [[5], [5], [5], [6], [7]])
    report, table = run(batch, tmp_path, previous=previous, retired=retired)
    # Of 5 the numbers 1, 2 and 4 are held, so a, b and d get 0, 3 and 5.
    assert table["sid"].to_pylist() == [[5, 5], [5, 3], [5, 0], [6, 1], [7, 0]]
    assert report == CollisionReport(8, 3, 3 / 8, 2, 7, 5)


@pytest.mark.parametrize(
    ("order", "values", "expected"),
    [
        # Nulls and NaN come last, equals by their ids.
        ("v:asc", pa.array([2.0, None, 1.0, float("nan"), 1.0]), "c e a b d"),
        ("v", pa.array([2.0, None, 1.0, float("nan"), 1.0]), "c e a b d"),
        ("v:desc", pa.array([2.0, None, 1.0, float("nan"), 1.0]), "a c e b d"),
        ("v:desc", pa.array([2, None, 2**62 + 1, 2**62, -1]), "c d a e b"),
        ("v:asc", pa.array([3, 1, None, 2, 1], pa.timestamp("us", "UTC")), "b e d a c"),
        ("v:desc", pa.array([3, 1, None, 2, 1], pa.timestamp("ns")), "a d b e c"),
        ("v:asc", pa.array([float("-inf"), float("inf"), 0.0, -0.0, None]), "a c d b e"),
    ],
)
def test_suffixes_go_by_a_column(tmp_path, order, values, expected):
    column = pa.record_batch({"item_id": list("abcde"), "value": values})
    # In other rows than the items, and with others among them.
    batch = to_batch(list("edcba"), [[3]] * 5)
    _, table = run(batch, tmp_path, suffix_order=order, order=lambda: iter([column]))
    pairs = zip(table["sid"].to_pylist(), table["item_id"].to_pylist(), strict=True)
    assert [item for _, item in sorted(pairs)] == expected.split()


def test_items_beyond_the_width_of_the_suffix_are_refused(tmp_path):
    batch = to_batch(list("abcdef"), [[9], [2], [2], [2], [9], [9]])
    run(batch, tmp_path, max_suffix=3)
    message = r"2 raw IDs have more than 2 items, .* below 2 tells apart: \(2,\), \(9,\); allow"
    with pytest.raises(SemidError, match=message):
        run(batch, tmp_path, max_suffix=2, cuts=[2, 4])
    # A number that is held already may be the one that is one too many.
    previous = with_sids(to_batch(["p", "q"], [[9], [9]]), [[9, 1], [9, 2]])
    with pytest.raises(SemidError, match=r"1 raw IDs have more than 2 items.*: \(9,\); allow"):
        run(to_batch(["x", "y"], [[9], [9]]), tmp_path, max_suffix=2, previous=previous)
    assert list(tmp_path.iterdir()) == []


# Levels of every size.


@pytest.mark.parametrize("policy", ["suffix", "reassign", "sinkhorn"])
@pytest.mark.parametrize(
    "levels", [[7], [65_536], [1] * 12, [65_536] * 12, [1, 65_536], [65_536, 1]]
)
@pytest.mark.parametrize("kind", ["text", "number"])
def test_levels_of_every_size(tmp_path, policy, levels, kind):
    """Keys that take more than 63 bits and levels of one codeword, ids of every kind."""
    text = ["x,y", "n\nl", "é", "日本", "😀", ""]
    ids = text if kind == "text" else [-(2**63), -1, 0, 7, 2**53 + 1, 2**63 - 1]
    ends = [[0] * len(levels), [size - 1 for size in levels]]
    codes = [ends[0], ends[1], ends[1], ends[0], ends[1], ends[0]]
    random = np.random.default_rng(0)
    books = [random.standard_normal((size, 2)) for size in levels]
    raw = np.array(codes)
    latents = sum(book[raw[:, level]] for level, book in enumerate(books))
    latents = latents + 0.01 * random.standard_normal(latents.shape)
    if policy == "reassign" and np.prod([float(k) for k in levels]) < len(ids):
        with pytest.raises(SemidError, match="6 items cannot each have an ID of their own among"):
            run(to_batch(ids, codes), tmp_path, policy=policy, space=plane(latents, books))
        return
    batch, space = to_batch(ids, codes), plane(latents, books)
    _, table = run(batch, tmp_path, policy=policy, space=space, levels=levels, cuts=[4])
    sids = [tuple(sid) for sid in table["sid"].to_pylist()]
    assert table["item_id"].to_pylist() == ids
    assert table["codes"].to_pylist() == codes
    assert all(0 <= code < k for sid in sids for code, k in zip(sid, levels, strict=False))
    if policy != "sinkhorn":
        assert len(set(sids)) == len(ids)
    if policy == "suffix":
        assert [sid[-1] for sid in sids] == expected_ranks(ids, codes)[0]
    if policy == "reassign":  # one item keeps each raw SID
        assert {tuple(code) for code in codes} <= set(sids)
        assert all(sid[:-1] == tuple(c[:-1]) for sid, c in zip(sids, codes, strict=True)) == (
            levels[-1] > 1
        )


# Scale, memory and the file system.


@pytest.mark.parametrize("threads", [1, 2])
def test_300k_rows_in_64_megabytes(tmp_path, threads):
    rng = np.random.default_rng(0)
    n = 300_000
    codes_nl = rng.integers(0, [64, 64, 32], (n, 3)).astype(np.int32)
    number_n = rng.permutation(n)
    batch = to_batch([f"item-{i:09d}" for i in number_n.tolist()], codes_nl)
    cuts = range(10_000, n, 10_000)
    report, table = run(batch, tmp_path, cuts=cuts, memory_bytes=64 << 20, threads=threads)

    order_n = np.lexsort([number_n, *codes_nl.T])
    first_n = np.append(True, (np.diff(codes_nl[order_n], axis=0) != 0).any(axis=1))
    start_n = np.maximum.accumulate(np.where(first_n, np.arange(n), 0))
    rank_n = np.empty(n, np.int64)
    rank_n[order_n] = np.arange(n) - start_n
    sid_nl = table["sid"].combine_chunks().flatten().to_numpy().reshape(n, 4)
    assert np.array_equal(sid_nl[:, 3], rank_n)
    assert report.raw_unique == first_n.sum()
    assert report.largest_group == rank_n.max() + 1


def test_one_group_of_everything(tmp_path):
    n = 50_000
    report, table = run(to_batch(list(range(n, 0, -1)), [[7]] * n), tmp_path, cuts=[20_000])
    assert table["sid"].to_pylist() == [[7, n - 1 - row] for row in range(n)]
    assert report == CollisionReport(n, 1, 1 / n, 1, n, n)


def test_the_temporary_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "it's [a] *folder* – 日本"
    folder.mkdir()
    _, table = run(to_batch(["b", "a"], [[0], [0]]), folder)
    assert table["sid"].to_pylist() == [[0, 1], [0, 0]]


def test_closing_the_rows_early_gives_the_space_back(tmp_path):
    batch = to_batch(["b", "a"], [[0], [0]])
    rows = resolve(lambda: iter([batch, batch.slice(0, 0)]), tmp_path, {}).rows
    next(rows)
    assert list(tmp_path.iterdir()) != []
    rows.close()
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_said_and_leaves_nothing(tmp_path):
    n = 300_000
    codes_nl = np.random.default_rng(0).integers(0, 100, (n, 3)).astype(np.int32)
    with pytest.raises(SemidError, match=r"within 0\.000977 GiB .*allow more with --memory"):
        run(to_batch(list(range(n)), codes_nl), tmp_path, memory_bytes=1 << 20)
    assert list(tmp_path.iterdir()) == []


# What a user can get wrong.


def lists(*rows):
    return pa.array(rows, pa.list_(pa.int64()))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "no column 'codes'; their columns are item_id"),
        ({"sku": ["a"], "codes": lists([1, 1])}, "no column 'item_id'"),
        ({"item_id": ["a", None], "codes": lists([1, 1], [1, 1])}, "row 3: 'item_id' is null"),
        ({"item_id": [1.5], "codes": lists([1, 1])}, "'item_id' is double"),
        ({"item_id": ["a"], "codes": ["1-2"]}, "row 2: column 'codes' is string"),
        ({"item_id": ["a", "b"], "codes": lists([1, 2], None)}, "row 3: column 'codes' is null"),
        ({"item_id": ["a"], "codes": lists([1])}, "row 2: .* has 1 codes where row 0 has 2"),
        ({"item_id": ["a"], "codes": lists([1, None])}, "row 2: .* holds a null code"),
        ({"item_id": ["a"], "codes": lists([1, -4])}, "row 2: .* holds the code -4 at level 1"),
        ({"item_id": ["a"], "codes": lists([1, 2**31])}, "row 2: .* code 2147483648 at level 1"),
        (
            {"item_id": ["a"], "codes": lists([1, 9])},
            "row 2 holds the code 9 at level 1; .* 0 to 8",
        ),
    ],
)
def test_malformed_rows_are_named(tmp_path, columns, message):
    good = pa.record_batch({"item_id": ["x", "y"], "codes": lists([0, 1], [0, 1])})
    batches = [good, pa.record_batch({name: pa.array(c) for name, c in columns.items()})]
    with pytest.raises(SemidError, match=message):
        resolve(lambda: iter(batches), tmp_path, {}, levels=[5, 9])
    assert list(tmp_path.iterdir()) == []


def test_unknown_policy_and_no_rows(tmp_path):
    with pytest.raises(SemidError, match="policy 'sufix' is none of suffix, reassign, sinkhorn"):
        CollisionConfig("sufix")
    for policy in POLICIES:
        with pytest.raises(SemidError, match="no rows"):
            resolve(lambda: iter([]), tmp_path, {"policy": policy}, space=plane())
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_stream_comes_through_whole(tmp_path):
    def broken():
        yield to_batch(["a"], [[0]])
        raise KeyError("the disk")

    with pytest.raises(KeyError, match="the disk"):
        resolve(broken, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_changes_between_the_passes_is_noticed(tmp_path):
    passes = iter([[to_batch(["a", "b"], [[0], [0]])], [to_batch(["a"], [[0]])]])
    rows = resolve(lambda: iter(next(passes)), tmp_path, {}).rows
    with pytest.raises(SemidError, match="had 2 rows at first and 1 later"):
        list(rows)
