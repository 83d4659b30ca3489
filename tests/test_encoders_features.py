"""Features: exact values worked by hand, unknown and missing values, bad input."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.encoders import FeaturesConfig, FeaturesEncoder, load_encoder, make_encoder
from semid.errors import SemidError


def encode(config: FeaturesConfig, sample: pa.Table, items: pa.Table | None = None) -> np.ndarray:
    return make_encoder(config).fit(sample).encode(sample if items is None else items)


def column(values: list[object], type_: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(values, type_)})


NUMERIC = FeaturesConfig(numeric=("x",))
CATEGORY = FeaturesConfig(category=("x",))
LISTS = FeaturesConfig(lists=("x",))
DATES = FeaturesConfig(dates=("x",))


def test_numeric_by_hand():
    # mean 3, variance 14/3, median 2
    std = (14 / 3) ** 0.5
    x = encode(NUMERIC, column([1.0, 2.0, None, 6.0]))
    expected = [[-2 / std, -0.5], [-1 / std, -0.5], [-1 / std, 0.5], [3 / std, -0.5]]
    np.testing.assert_allclose(x, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        column([1, 2, None, 6]),
        column(["1", " 2.0 ", "", "6e0"]),
        column([1.0, 2.0, float("nan"), 6.0], pa.float32()),
        column([1, 2, None, 6], pa.decimal128(9, 2)),
        column(["1", "2", None, "6"], pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=lambda table: str(table.schema.types[0]),
)
def test_numbers_of_every_type(values):
    np.testing.assert_array_equal(encode(NUMERIC, values), encode(NUMERIC, column([1, 2, None, 6])))


def test_boolean_numbers():
    np.testing.assert_array_equal(encode(NUMERIC, column([True, False]))[:, 0], [1, -1])


def test_signed_log_by_hand():
    e = np.e
    config = FeaturesConfig(numeric=("x",), signed_log=("x",))
    x = encode(config, column([e - 1, 1 - e, 0, None]))
    # logarithms 1, -1, 0: mean and median 0, variance 2/3
    np.testing.assert_allclose(x[:, 0], [1.5**0.5, -(1.5**0.5), 0, 0], atol=1e-7)


def test_constant_column_is_zero_but_the_row_is_not():
    x = encode(NUMERIC, column([0.1] * 7 + [None]), column([0.1, None, 0.3]))
    np.testing.assert_allclose(x, [[0, -0.5], [0, 0.5], [0.2, -0.5]], atol=1e-7)


def test_category_by_hand():
    x = encode(CATEGORY, column(["b", "a", None, "b"]), column(["a", "b", "new", None, ""]))
    np.testing.assert_array_equal(
        x,
        [[1, 0, 0, -0.5], [0, 1, 0, -0.5], [0, 0, 1, -0.5], [0, 0, 0, 0.5], [0, 0, 0, 0.5]],
    )


def test_categories_of_other_types():
    np.testing.assert_array_equal(
        encode(CATEGORY, column([1, 2, None])), encode(CATEGORY, column([1.0, 2.0, float("nan")]))
    )
    assert encode(CATEGORY, column([True, False, True])).shape == (3, 4)


def test_rare_category_is_other():
    config = replace(CATEGORY, min_count=2)
    x = encode(config, column(["a", "a", "b"]))
    np.testing.assert_array_equal(x, [[1, 0, -0.5], [1, 0, -0.5], [0, 1, -0.5]])


def test_lists_by_hand():
    x = encode(
        LISTS,
        column([["a", "b"], ["c"], []]),
        column([["a", "b"], ["c", "c", None], ["a", "new"], [], None, ["a", "b", "c", ""]]),
    )
    half, third = np.float32(1) / np.sqrt(np.float32(2)), np.float32(1) / np.sqrt(np.float32(3))
    np.testing.assert_allclose(
        x,
        [
            [half, half, 0, 0, -0.5],
            [0, 0, 1, 0, -0.5],
            [half, 0, 0, half, -0.5],
            [0, 0, 0, 0, 0.5],
            [0, 0, 0, 0, 0.5],
            [third, third, third, 0, -0.5],
        ],
        atol=1e-7,
    )


def test_dates_by_hand():
    dates = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 3), None]  # Monday, Wednesday
    x = encode(DATES, column(dates), column([*dates, datetime.date(2024, 4, 4)]))  # Thursday
    angle = 2 * np.pi / 7
    expected = [
        [-1, 0, 1, 0, 1, -0.5],
        [1, 0, 1, np.sin(2 * angle), np.cos(2 * angle), -0.5],
        [0, 0, 0, 0, 0, 0.5],
        [93, 1, 0, np.sin(3 * angle), np.cos(3 * angle), -0.5],
    ]
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        column(["2024-01-01", "1969-12-31T23:59:59", ""]),
        column(
            [datetime.datetime(2024, 1, 1), datetime.datetime(1969, 12, 31, 23, 59, 59), None],
            pa.timestamp("ns"),
        ),
        column(
            [datetime.datetime(2024, 1, 1, 1), datetime.datetime(1969, 12, 31, 1), None],
            pa.timestamp("s", "+01:00"),
        ),
        column([datetime.date(2024, 1, 1), datetime.date(1969, 12, 31), None], pa.date64()),
    ],
    ids=lambda table: str(table.schema.types[0]),
)
def test_dates_of_every_type(values):
    expected = column([datetime.date(2024, 1, 1), datetime.date(1969, 12, 31), None])
    np.testing.assert_array_equal(encode(DATES, values), encode(DATES, expected))


@pytest.mark.parametrize("config", [CATEGORY, LISTS])
def test_many_values_are_hashed(config):
    values = [f"value{i}" for i in range(40)]
    sample = column([*values, None] if config.category else [*[[v] for v in values], None])
    config = replace(config, max_categories=39, hash_dim=8)
    x = encode(config, sample)
    assert x.shape == (41, 9)
    np.testing.assert_array_equal(np.abs(x[:40, :8]).sum(axis=1), 1)  # one signed one each
    assert set(x[:40, :8].ravel()) == {-1, 0, 1}
    np.testing.assert_array_equal(x[40], [0] * 8 + [0.5])
    assert encode(replace(config, max_categories=40), sample).shape == (41, 42)


def test_hashing_is_the_same_in_another_process(tmp_path):
    sample = column([f"value{i}" for i in range(40)])
    encoder = make_encoder(replace(CATEGORY, max_categories=2, hash_dim=8)).fit(sample)
    encoder.save(tmp_path)
    code = (
        "import sys, pathlib, numpy as np, pyarrow as pa\n"
        "from semid.encoders import load_encoder\n"
        "items = pa.table({'x': [f'value{i}' for i in range(40)]})\n"
        "x = load_encoder(pathlib.Path(sys.argv[1])).encode(items)\n"
        "sys.stdout.buffer.write(x.tobytes())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "12345"},
    )
    assert result.stdout == encoder.encode(sample).tobytes()


def test_block_order_and_width():
    sample = pa.table(
        {"n": [1, 3], "c": ["a", "b"], "d": ["2024-01-01", "2024-01-02"], "l": [["p"], ["q", "r"]]}
    )
    config = FeaturesConfig(numeric=("n",), category=("c",), dates=("d",), lists=("l",))
    encoder = make_encoder(config).fit(sample)
    assert encoder.columns == ("n", "c", "d", "l")
    assert encoder.width == 2 + (2 + 2) + 6 + (3 + 2)
    x = encoder.encode(sample)
    np.testing.assert_array_equal(x[:, 0], [-1, 1])
    np.testing.assert_array_equal(x[:, 2:6], [[1, 0, 0, -0.5], [0, 1, 0, -0.5]])
    np.testing.assert_array_equal(x[:, 6], [-1, 1])
    np.testing.assert_array_equal(x[0, 12:], [1, 0, 0, 0, -0.5])


def test_all_missing_row_is_not_zero():
    sample = pa.table(
        {"n": [0.0, None], "c": ["a", None], "d": ["2024-01-01", None], "l": [["p"], None]}
    )
    config = FeaturesConfig(numeric=("n",), category=("c",), dates=("d",), lists=("l",))
    assert np.abs(encode(config, sample)).max(axis=1).min() == pytest.approx(1, abs=0.5)


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=30))
@settings(deadline=None)
def test_numeric_columns_are_standardised(values):
    if all(value is None for value in values):
        return
    x = encode(NUMERIC, column(values, pa.float64())).astype(np.float64)
    there = np.array([value is not None for value in values])
    assert np.linalg.norm(x, axis=1).min() >= 0.5
    np.testing.assert_allclose(x[there, 0].mean(), 0, atol=1e-4)
    assert x[there, 0].std() == pytest.approx(1, abs=1e-3) or np.allclose(x[there, 0], 0, atol=1e-2)


@given(st.lists(st.lists(st.sampled_from("abcdefgh")), min_size=1, max_size=20))
@settings(deadline=None)
def test_lists_have_norm_one(lists):
    sample = column([list("abcdefgh")])
    x = make_encoder(LISTS).fit(sample).encode(column(lists, pa.list_(pa.string())))
    np.testing.assert_allclose(
        np.linalg.norm(x[:, :-1], axis=1), [float(bool(values)) for values in lists], atol=1e-6
    )


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (NUMERIC, ["1", "$2"], r"'x' is not a number in row 1 \('\$2'\)"),
        (NUMERIC, [1.0, float("-inf")], r"'x' is infinite in row 1 \(-inf\)"),
        (NUMERIC, ["1", None, "inf"], r"'x' is infinite in row 2 \(inf\)"),
        (NUMERIC, [datetime.date(2024, 1, 1)], r"type date32\[day\], which is not numeric"),
        (NUMERIC, [[1.0]], "which is not numeric; name it under 'dates', 'lists'"),
        (NUMERIC, [None, float("nan")], "'x' has no value in the sample's 2 rows"),
        (NUMERIC, [1e308, -1e308], "'x' is too widely spread to standardise"),
        (DATES, ["2024-01-01", "31/01/2024"], r"ISO 8601 date .* in row 1 \('31/01/2024'\)"),
        (DATES, [20240101], "type int64, which holds no dates"),
        (CATEGORY, [["a"]], "'x' holds lists; name it under 'lists'"),
        (CATEGORY, [None, ""], "'x' has no value in the sample"),
        (LISTS, [[], None], "'x' has no value in the sample"),
        (CATEGORY, [{"a": 1}], "cannot be read as text"),
    ],
)
def test_bad_columns(config, values, message):
    with pytest.raises(SemidError, match=message):
        make_encoder(config).fit(column(values))


def test_bad_values_at_encode_time():
    encoder = make_encoder(NUMERIC).fit(column([1.0, 2.0]))
    with pytest.raises(SemidError, match=r"infinite in row 2 \(inf\)"):
        encoder.encode(column([1.0, 2.0, float("inf")]))
    with pytest.raises(SemidError, match=r"too far from the sample for float32 in row 1 \(1e\+300"):
        encoder.encode(column([1.0, 1e300]))
    half = make_encoder(replace(NUMERIC, dtype="float16")).fit(column([1.0, 2.0]))
    with pytest.raises(SemidError, match="float16 in row 0"):
        half.encode(column([1e6]))


def test_width_before_fit():
    with pytest.raises(SemidError, match="not fitted"):
        _ = FeaturesEncoder(NUMERIC).width


def test_saved_file_is_readable(tmp_path):
    encoder = make_encoder(replace(CATEGORY, numeric=("n",))).fit(
        pa.table({"x": ["é", "b"], "n": [0.1, 0.3]})
    )
    encoder.save(tmp_path)
    assert '"é"' in (tmp_path / "encoder.json").read_text()
    assert load_encoder(tmp_path).scales_ == encoder.scales_
    assert load_encoder(tmp_path).vocabularies_ == encoder.vocabularies_
