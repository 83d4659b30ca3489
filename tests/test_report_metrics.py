"""The metrics that a report is given: what is none of them, and what is of another table."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from conftest import run_here


@pytest.fixture
def written(world, tmp_path):
    """Write the world's metrics with something changed; returns the path."""

    def write(change):
        figures = json.loads((world / "metrics.json").read_text())
        change(figures)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(figures))
        return path

    return write


def reported(world, tmp_path, metrics, *more):
    page = tmp_path / "report.html"
    done = run_here("report", world / "ids.parquet", "--metrics", metrics, "--output", page, *more)
    assert not page.exists()
    return done.error


def put(path, value):
    """Return what sets a figure; of `...` what takes it away."""

    def change(figures):
        *before, last = (int(one) if one.isdigit() else one for one in path.split("."))
        for name in before:
            figures = figures[name]
        if value is ...:
            del figures[last]
        else:
            figures[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format_version", 2, "its format_version is 2, that of this semid is 1"),
        ("uniqueness", "high", "its uniqueness is 'high', not a number"),
        ("uniqueness", None, "its uniqueness is null, not a number"),
        ("uniqueness", float("nan"), "its uniqueness is nan, not a number"),
        ("uniqueness", ..., "it has no uniqueness"),
        ("items", True, "its items is true, not a count"),
        ("levels", ..., "it has no levels"),
        ("levels", {}, "its levels is an object, not a list"),
        ("levels.1.used", ..., "it has no levels.1.used"),
        ("findings", None, "its findings is null, not a list"),
        ("findings", ["x"], "its findings.0 is 'x', not an object"),
        ("findings", [{"severity": "bad", "about": "x", "says": 1}], "its findings.0.says is 1"),
        ("fidelity", None, "its fidelity is null, not an object"),
        ("fidelity.worst.0.item", 3, "its fidelity.worst.0.item is 3, not an object"),
        ("fidelity.worst.0.item.item_id", [], "is a list, not an item id"),
        ("fidelity.depths.0.train_error", "x", "depths.0.train_error is 'x', not a number or null"),
        ("collisions", [], "its collisions is a list, not an object"),
        ("collisions.harmful", ..., "it has no collisions.harmful"),
        ("collisions.harmful.examples", [{"items": [], "cosine": 1}], "is a list, not one of 2"),
        ("train_error", "x" * 99, "not a number or null"),
        ("baseline", None, "its baseline is null, not an object"),
        ("baseline", {"levels": [3]}, "its baseline.levels.0 is 3, not an object"),
    ],
)
def test_what_is_nearly_metrics_is_refused(world, tmp_path, written, path, value, said):
    found = reported(world, tmp_path, written(put(path, value)))
    assert "changed.json is no metrics.json of semid evaluate: " in found
    assert said in found
    assert "; measure the table by semid evaluate" in found
    assert len(found) < 400


def test_another_file_is_called_what_it_is(world, tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    found = reported(world, tmp_path, tmp_path / "empty.json")
    assert "is no metrics.json of semid evaluate: it has no format_version" in found
    model = shutil.copytree(world / "model", tmp_path / "model")
    found = reported(world, tmp_path, model / "metrics.json")
    assert f"it is a part of {model}, which semid train wrote; measure the table by" in found
    other, levels = tmp_path / "plan.json", ("--levels", "4,4")
    done = run_here("plan", world / "embeddings.parquet", *levels, "--output", other)
    assert done.code == 0, done.err
    assert "evaluate: semid plan wrote it; measure" in reported(world, tmp_path, other)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("uniqueness", 0.5, "whose uniqueness is 0.5, but that of"),
        ("collisions.groups", 0, "whose raw SIDs of several items is 0, but that of"),
        ("levels.1.used", 3, "whose used codes is [8, 3], but that of"),
    ],
)
def test_figures_of_other_codes_are_refused(world, tmp_path, written, path, value, said):
    found = reported(world, tmp_path, written(put(path, value)))
    assert said in found
    assert "ids.parquet is " in found
    assert "measure this one by semid evaluate" in found


def test_figures_of_another_number_of_levels_are_refused(world, tmp_path, written):
    found = reported(world, tmp_path, written(lambda figures: figures["levels"].pop()))
    assert "whose used codes is [8], but that of" in found


def test_items_of_another_type_are_of_another_table(world, tmp_path, written):
    ids = pq.read_table(world / "ids.parquet")
    rows = ids.set_column(0, "item_id", [list(range(len(ids)))])
    pq.write_table(rows, tmp_path / "ids.parquet")
    metrics = written(lambda figures: None)
    page = tmp_path / "report.html"
    done = run_here("report", tmp_path / "ids.parquet", "--metrics", metrics, "--output", page)
    assert "which the ids table has not" in done.error


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("structure.jaccard", "much"),
        ("structure.jaccard", float("nan")),
        ("nulls", None),
        ("nulls.structure.jaccard", []),
        ("structure", 3),
    ],
)
def test_what_cannot_be_compared_is_left_out(world, tmp_path, written, path, value):
    page, metrics = tmp_path / "report.html", world / "metrics.json"
    other = ("--against", world / "ids.parquet", "--against-metrics", written(put(path, value)))
    given = ("--metrics", metrics, *other, "--output", page)
    done = run_here("report", world / "ids.parquet", *given)
    assert done.code == 0, done.err
    text = page.read_text()
    assert "<td>error of training items</td>" in text
    kept = "<td>neighbours kept (Jaccard)</td>" in text
    assert kept == path.startswith("nulls")
