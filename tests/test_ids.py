import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semid.errors import SemidError
from semid.ids import (
    from_tokens,
    group_ids,
    pack_keys,
    prefixes,
    to_tokens,
    unpack_keys,
    validate_codes,
)
from semid.spelling import level_name

CODES = np.array([[1, 2], [0, 2], [1, 2], [1, 0]], dtype=np.int32)


@st.composite
def codes_and_levels(draw):
    levels = draw(
        st.lists(st.sampled_from([1, 2, 3, 5, 256, 1000, 65_536, 1 << 31]), min_size=1, max_size=12)
    )
    n = draw(st.integers(0, 30))
    columns = [
        draw(hnp.arrays(np.int32, n, elements=st.integers(0, min(size, 4) - 1))) for size in levels
    ]
    top = draw(hnp.arrays(np.bool_, (n, len(levels))))
    codes_nl = np.stack(columns, axis=1)
    return np.where(top, np.array(levels) - 1 - codes_nl, codes_nl).astype(np.int32), levels


def as_tuples(array_nl):
    return [tuple(row) for row in array_nl.tolist()]


def test_keys_by_hand():
    assert pack_keys(CODES, [2, 3]).tolist() == [[5], [2], [5], [3]]
    assert pack_keys(np.array([[65_535, 65_535, 65_535, 65_535]]), [65_536] * 4).tolist() == [
        [2**48 - 1, 65_535]
    ]
    assert pack_keys(np.array([[2**31 - 1, 2**31 - 1]]), [2**31] * 2).tolist() == [[2**62 - 1]]


def test_keys_fill_all_63_bits_before_a_second_column():
    assert pack_keys(np.array([[127] * 9]), [128] * 9).tolist() == [[2**63 - 1]]
    assert pack_keys(np.zeros((1, 10), np.int32), [128] * 10).shape == (1, 2)
    assert pack_keys(np.zeros((1, 64), np.int32), [1] * 64).shape == (1, 1)


@given(codes_and_levels())
def test_keys_keep_order_and_come_back(case):
    codes_nl, levels = case
    keys_nm = pack_keys(codes_nl, levels)
    assert np.array_equal(unpack_keys(keys_nm, levels), codes_nl)
    by_keys = sorted(range(len(codes_nl)), key=as_tuples(keys_nm).__getitem__)
    assert by_keys == sorted(range(len(codes_nl)), key=as_tuples(codes_nl).__getitem__)


def test_groups_by_hand():
    group_n, size_n = group_ids(CODES)
    assert group_n.tolist() == [2, 0, 2, 1]
    assert size_n.tolist() == [2, 1, 2, 1]


@given(codes_and_levels())
def test_groups_agree_with_a_dict(case):
    codes_nl, _ = case
    rows = as_tuples(codes_nl)
    distinct = sorted(set(rows))
    group_n, size_n = group_ids(codes_nl)
    assert group_n.tolist() == [distinct.index(row) for row in rows]
    assert size_n.tolist() == [rows.count(row) for row in rows]


def test_prefixes_by_hand():
    prefix_pd, size_p = prefixes(CODES, 1)
    assert prefix_pd.tolist() == [[0], [1]]
    assert size_p.tolist() == [1, 3]
    prefix_pd, size_p = prefixes(CODES, 2)
    assert prefix_pd.tolist() == [[0, 2], [1, 0], [1, 2]]
    assert size_p.tolist() == [1, 1, 2]


@pytest.mark.parametrize("depth", [0, 3, -1])
def test_prefix_depth_is_checked(depth):
    with pytest.raises(SemidError, match=f"depth is {depth}.* levels 1 to 2"):
        prefixes(CODES, depth)


@pytest.mark.parametrize(
    ("level", "name"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (702, "aaa")]
)
def test_level_names(level, name):
    assert level_name(level) == name


def test_tokens_by_hand():
    tokens = to_tokens(np.array([[41, 7, 203], [0, 65_535, 1]]))
    assert tokens.tolist() == [["<a_41>", "<b_7>", "<c_203>"], ["<a_0>", "<b_65535>", "<c_1>"]]
    assert from_tokens(tokens.tolist()).dtype == np.int32


@given(codes_and_levels().filter(lambda case: len(case[0]) > 0))
def test_tokens_come_back(case):
    codes_nl, _ = case
    tokens = to_tokens(codes_nl)
    assert np.array_equal(from_tokens(tokens), codes_nl)
    assert np.array_equal(from_tokens(tokens.tolist()), codes_nl)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<a_1>", "'<a_1>' at level 1; expected one like '<b_0>'"),
        ("<b_01>", "<b_01>"),
        ("<b_1>\0", r"'<b_1>\x00'"),
        ("<b_-1>", "<b_-1>"),
        ("<b_2147483648>", "<b_2147483648>"),
        ("<b_٣>", "<b_٣>"),
        ("b_1", "b_1"),
        ("", "''"),
    ],
)
def test_a_wrong_token_is_named(token, shown):
    with pytest.raises(SemidError, match=r"row 1 holds the token") as error:
        from_tokens([["<a_1>", "<b_1>"], ["<a_1>", token]])
    assert shown in str(error.value)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "no tokens"),
        ([["<a_1>"], ["<a_1>", "<b_1>"]], "row 1 has 2 tokens where row 0 has 1"),
        ([[], []], "row 0 has 0 tokens"),
        ([[1, 2]], "row 0 holds the token 1 at level 0"),
        ([["<a_1>", None]], "row 0 holds the token None at level 1"),
        ([["<a_1>", ["<b_1>"]]], r"row 0 holds the token \['<b_1>'\]"),
        (["<a_1>"], "row 0 holds the token '<'"),
    ],
)
def test_malformed_tokens_are_refused(tokens, message):
    with pytest.raises(SemidError, match=message):
        from_tokens(tokens)


@pytest.mark.parametrize(
    ("codes", "levels", "message"),
    [
        ([1, 2], None, r"shape \(2,\)"),
        ([[1.0]], None, "float64"),
        (np.zeros((2, 0), np.int32), None, r"shape \(2, 0\)"),
        ([[0, 1], [0, -1]], None, "row 1 holds the code -1 at level 1; .* from 0 to 2147483647"),
        ([[0, 1], [3, 1]], [3, 2], "row 1 holds the code 3 at level 0; .* from 0 to 2$"),
        ([[0, 1]], [3], r"2 levels where 1 are expected \(3\)"),
        ([[0]], [0], "each must be from 1"),
        ([[2**31]], None, "row 0 holds the code 2147483648"),
    ],
)
def test_bad_codes_are_named(codes, levels, message):
    with pytest.raises(SemidError, match=message):
        validate_codes(np.array(codes), levels)


def test_no_rows_are_codes_too():
    empty = np.zeros((0, 3), np.int32)
    validate_codes(empty, [2, 2, 2])
    assert [len(array) for array in group_ids(empty)] == [0, 0]
    assert to_tokens(empty).shape == (0, 3)
    assert prefixes(empty, 2)[0].shape == (0, 2)


def test_any_number_of_codes_per_level():
    levels = [65_536, 1, 70_000]
    codes_nl = np.array([[65_535, 0, 69_999], [0, 0, 0]])
    assert np.array_equal(unpack_keys(pack_keys(codes_nl, levels), levels), codes_nl)
