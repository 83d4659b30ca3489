"""What changed between two tables: figures worked out by hand, of any size, and as files."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.diff_page import html
from semid.errors import GateError
from semid.id_table import IdTable
from semid.jobs.diff import diff
from semid.jobs.run import run

# a stays; b changes at the suffix, c at level 1, d at level 0 and the last; e goes, f comes.
OLD = {"a": [0, 1, 0], "b": [0, 1, 1], "c": [0, 2, 0], "d": [1, 1, 0], "e": [1, 1, 1]}
NEW = {"f": [2, 2, 0], "d": [0, 1, 1], "c": [0, 3, 0], "b": [0, 1, 2], "a": [0, 1, 0]}
NOTE = {"model_fingerprint": "f00d", "summary": {"policy": "suffix", "levels": [4, 4]}}


def table(sids, metadata=NOTE, codes=2):
    sids_ns = np.array(list(sids.values()), np.int32)
    return IdTable.from_arrays(list(sids), sids_ns[:, :codes], sids_ns, metadata=metadata)


def write(path, sids, **more):
    pq.write_table(table(sids, **more).to_arrow(), path)
    return path


@pytest.fixture
def files(tmp_path):
    return write(tmp_path / "old.parquet", OLD), write(tmp_path / "new.parquet", NEW)


def test_figures_by_hand():
    found = table(OLD).diff(table(NEW))
    assert (found.added, found.retired, found.common) == (1, 1, 4)
    assert found.changed == [1, 2, 3]
    assert found.churn == 0.75
    assert found.distances == [1, 2, 1, 0]
    assert found.differs == {}


def test_prefixes_that_items_left_by_hand():
    moves = table(OLD).diff(table(NEW)).summary()["moves"]
    d = {"item_id": "d", "old_sid": [1, 1, 0], "new_sid": [0, 1, 1]}
    c = {"item_id": "c", "old_sid": [0, 2, 0], "new_sid": [0, 3, 0]}
    assert [(m["prefix"], m["items"], m["left"], m["to"], m["to_items"]) for m in moves] == [
        ([1], 1, 1, [0], 1),
        ([0, 2], 1, 1, [0, 3], 1),
        ([1, 1], 1, 1, [0, 1], 1),
    ]
    assert [m["examples"] for m in moves] == [[d], [c], [d]]


def test_where_most_went_and_the_first_examples():
    old = {f"i{n}": [0, n] for n in range(6)}
    new = {f"i{n}": [[0, 1, 1, 2, 2, 2][n], n] for n in range(6)}
    first, *_ = table(old).diff(table(new)).moves
    assert (first.items, first.left, first.to, first.to_items) == (6, 5, [2], 3)
    assert [example["item_id"] for example in first.examples] == ["i1", "i2", "i3"]


def test_another_length_and_policy():
    note = {"model_fingerprint": "beef", "summary": {"policy": "none", "levels": [4, 4]}}
    shorter = {item: sid[:2] for item, sid in OLD.items()}
    found = table(OLD).diff(table(shorter, note))
    assert found.changed == [0, 0, 5]
    assert found.distances == [0, 5, 0, 0]
    assert found.churn == 1.0
    assert found.differs == {
        "policy": ["suffix", "none"],
        "sid_length": [3, 2],
        "model_fingerprint": ["f00d", "beef"],
    }


def test_a_table_and_itself():
    found = table(OLD).diff(table(OLD))
    assert (found.churn, found.distances, found.moves) == (0.0, [5, 0, 0, 0], [])


sids = st.dictionaries(
    st.integers(-5, 5), st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1
)


@settings(max_examples=25, deadline=None)
@given(old=sids, new=sids)
def test_figures_are_those_of_a_loop(old, new):
    found = table(old).diff(table(new))
    both = old.keys() & new.keys()
    distances = Counter(sum(a != b for a, b in zip(old[i], new[i], strict=True)) for i in both)
    assert found.distances == [distances[d] for d in range(4)]
    assert found.changed == [sum(old[i][:d] != new[i][:d] for i in both) for d in (1, 2, 3)]
    assert (found.added, found.retired) == (len(new) - len(both), len(old) - len(both))
    left = Counter(old[i][0] for i in both if old[i][0] != new[i][0])
    assert {m.prefix[0]: m.left for m in found.moves if len(m.prefix) == 1} == left


def test_the_changes_as_a_file(tmp_path, files):
    result = diff(*map(str, files), output=str(tmp_path / "out"))
    rows = pq.read_table(tmp_path / "out" / "changes.parquet").to_pylist()
    names = ("item_id", "change", "old_sid", "new_sid", "first_level", "distance")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("b", "changed", [0, 1, 1], [0, 1, 2], 2, 1),
        ("c", "changed", [0, 2, 0], [0, 3, 0], 1, 1),
        ("d", "changed", [1, 1, 0], [0, 1, 1], 0, 2),
        ("e", "retired", [1, 1, 1], None, None, None),
        ("f", "added", None, [2, 2, 0], None, None),
    ]
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written == result.summary == table(OLD).diff(table(NEW)).summary()
    assert diff(*map(str, files), output=str(tmp_path / "out")).up_to_date


def test_the_page_loads_nothing_and_escapes_titles(tmp_path, files):
    titles = pa.table({"item_id": list("abcdef"), "name": ["x", "x", "<b>&", None, "x", "x"]})
    pq.write_table(titles, tmp_path / "items.parquet")
    more = ("--items", tmp_path / "items.parquet", "--title", "name")
    done = run_here("diff", *files, "--output", tmp_path / "out", *more)
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "diff.html").read_text()
    assert "c &lt;b&gt;&amp;: 0,2,0 → 0,3,0" in page
    assert "75.00% of the 4 items in both tables have another semantic ID now." in page
    for word in ("http", "src=", "<script", "<link", "<b>"):
        assert word not in page


def test_the_printed_figures(files):
    done = run_here("diff", *files)
    lines = [line.split() for line in done.out.splitlines()]
    assert ["first", "code", "changed", "1", "25.00%"] in lines
    assert ["whole", "SID", "changed", "(3", "codes)", "3", "75.00%"] in lines
    assert ["2", "1", "25.00%"] in lines
    assert ["1", "1", "of", "1", "100.0%", "0", "(1)", "d"] in lines
    assert run_here("diff", *files, "--json").json["summary"]["churn"] == 0.75


@pytest.mark.parametrize(("gone", "come"), [("x", "y"), (7, 9)])
def test_nothing_in_common(tmp_path, gone, come):
    old = write(tmp_path / "old.parquet", {gone: [0, 0]})
    new = write(tmp_path / "new.parquet", {come: [0, 0]})
    summary = diff(str(old), str(new)).summary
    assert (summary["churn"], summary["changed"], summary["common"]) == (None, [0, 0], 0)
    assert "No item is in both tables" in html(summary)
    done = run_here("diff", old, new, "--max-churn", "1")
    assert done.code == 3
    assert "no item is in both tables (1 were retired and 1 added)" in done.err


def test_a_limit_is_a_gate_and_the_output_is_written(tmp_path, files):
    out = tmp_path / "out"
    for _ in range(2):  # also when nothing is left to do
        done = run_here("diff", *files, "--output", out, "--max-churn", "0.5")
        assert done.code == 3
        assert "error: the churn is 0.75, above the limit of 0.5: 3 of the 4 items" in done.err
        assert "whole SID changed" in done.out
    assert (out / "diff.html").exists()
    assert run_here("diff", *files, "--output", out, "--max-churn", "0.75").code == 0
    result = diff(*map(str, files), output=str(out), max_churn=0.1)
    assert result.failure is not None
    assert result.failure.startswith("the churn is 0.75")
    assert diff(*map(str, files), max_churn=0.75).failure is None


def test_a_limit_in_a_pipeline(tmp_path, files):
    steps = tmp_path / "steps.toml"
    step = f'[steps.diff]\nold = "{files[0]}"\nnew = "{files[1]}"\noutput = "{tmp_path / "out"}"\n'
    steps.write_text(step)
    (_, result), *_ = run(steps)
    assert result.summary["churn"] == 0.75
    steps.write_text(step + "max_churn = 0.5\n")
    with pytest.raises(GateError, match=r"step 'diff': the churn is 0\.75"):
        list(run(steps))
    steps.write_text(step + "max_churn = 5\n")
    assert "step 'diff': the largest churn is 5.0; give a share" in run_here("run", steps).error


def test_other_kinds_of_ids(tmp_path, files):
    new = write(tmp_path / "numbers.parquet", {7: [0, 0, 0]})
    said = run_here("diff", files[0], new).error
    assert "column 'item_id' is string in" in said
    assert "numbers.parquet; cast one of them, or no item is in both" in said


def test_an_item_that_occurs_twice(tmp_path, files):
    twice = pa.concat_tables([pq.read_table(files[1])] * 2)
    pq.write_table(twice, tmp_path / "twice.parquet")
    out = tmp_path / "out"
    said = run_here("diff", files[0], tmp_path / "twice.parquet", "--output", out).error
    assert "twice.parquet: column 'item_id' holds 'f' 2 times" in said
    assert not out.exists()


def test_items_without_titles(tmp_path, files):
    pq.write_table(pa.table({"item_id": ["a"], "name": ["x"]}), tmp_path / "items.parquet")
    said = run_here("diff", *files, "--items", tmp_path / "items.parquet").error
    assert "items.parquet has no column 'title'; its columns are item_id, name" in said


@pytest.mark.parametrize("limit", ["-0.1", "1.5", "nan"])
def test_limits_that_cannot_be(files, limit):
    said = run_here("diff", *files, "--max-churn", limit).error
    assert said.startswith("the largest churn is")


def test_rows_of_a_bad_table_are_named(tmp_path, files):
    bad = pa.table({"item_id": ["a", "b"], "codes": [[0], [1]], "sid": [[0], [0, 1]]})
    pq.write_table(bad, tmp_path / "bad.parquet")
    said = run_here("diff", files[0], tmp_path / "bad.parquet").error
    assert "bad.parquet, row 1: column 'sid' has 2 codes where row 0 has 1" in said
