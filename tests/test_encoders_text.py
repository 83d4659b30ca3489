"""Items to texts: exact strings."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.encoders.text import compose, text_columns
from semid.errors import SemidError

CATALOG = pa.table(
    {
        "title": ["Red lipstick", None, "  "],
        "brand": ["OPI", "", None],
        "categories": [["Makeup", None, "Lips", ""], None, []],
        "price": [12.5, float("nan"), 3.0],
        "stock": pa.array([7, None, 0]),
        "released": pa.array([datetime.date(2024, 1, 31), None, None]),
        "seen": pa.array([datetime.datetime(2024, 1, 31, 23, 59), None, None]),
    }
)


def test_labelled_text():
    assert compose(CATALOG, ("title", "brand", "categories")) == [
        "Title: Red lipstick Brand: OPI Categories: Makeup > Lips",
        "",
        "",
    ]


def test_labels_capitalise_only_the_first_letter():
    items = pa.table({"main_category": ["a"], "itemName": ["b"]})
    assert compose(items, ("main_category", "itemName")) == ["Main category: a ItemName: b"]


def test_numbers_and_dates_are_plain():
    assert compose(CATALOG, ("price", "stock", "released", "seen")) == [
        "Price: 12.5 Stock: 7 Released: 2024-01-31 Seen: 2024-01-31",
        "",
        "Price: 3 Stock: 0",
    ]


def test_template():
    template = "{{{title}}} by {brand}. In: {categories}, {price}"
    assert compose(CATALOG, (), template) == [
        "{Red lipstick} by OPI. In: Makeup > Lips, 12.5",
        "{} by . In: , ",
        "{} by . In: , 3",
    ]
    assert text_columns((), "{title}{brand}{title}") == ("title", "brand")


DICTIONARY = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY], ids=str
)
def test_every_string_type(type_):
    items = pa.table({"x": pa.array(["a", None, "c", "d"], type_)})
    assert compose(items.slice(1), ("x",)) == ["", "X: c", "X: d"]


@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_(DICTIONARY),
    ],
    ids=str,
)
def test_every_list_type(type_):
    items = pa.table({"x": pa.array([["a", "b"], None, ["c", None], ["d", "e"]], type_)})
    assert compose(items.slice(1), ("x",)) == ["", "X: c", "X: d > e"]


def test_nested_lists_are_refused():
    with pytest.raises(SemidError, match=r"column 'x' of type list.* cannot be read as text"):
        compose(pa.table({"x": [[["a"]]]}), ("x",))


def test_template_naming_an_unknown_column():
    with pytest.raises(SemidError, match="no column 'colour'; the columns there are: title, brand"):
        compose(CATALOG, (), "{title} {colour}")


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=5),
            st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
        ),
        max_size=8,
    )
)
def test_text_against_plain_python(rows):
    items = pa.table(
        {
            "title": pa.array([title for title, _ in rows], pa.string()),
            "tags": pa.array([tags for _, tags in rows], pa.list_(pa.string())),
        }
    )
    expected = []
    for title, tags in rows:
        parts = [f"Title: {title.strip()}"] if title and title.strip() else []
        kept = [tag.strip() for tag in tags or [] if tag and tag.strip()]
        expected.append(" ".join([*parts, *([f"Tags: {' > '.join(kept)}"] if kept else [])]))
    assert compose(items, ("title", "tags")) == expected
