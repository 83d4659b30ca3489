"""`semid plan` from end to end."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_embeddings, rewrite, run_here

ROWS = 1_500


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "embeddings.parquet"
    pq.write_table(make_embeddings(ROWS, 8), path)
    return path


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("_seconds")}
    return [without_seconds(one) for one in value] if isinstance(value, list) else value


def test_a_table_for_people(table):
    done = run_here("plan", table, "--levels", "8,4")
    assert done.code == 0, done.err
    assert "1,500 items x 8 dims; 1,500 embeddings differ" in done.out
    assert "measured on all of them" in done.out
    assert "8,4 " in done.out
    assert "falls short" in done.out
    assert "- predictions are for RQ-KMeans" in done.out


def test_a_file_that_is_the_same_for_every_order_of_rows_and_parts(table, tmp_path):
    output = tmp_path / "plan.json"
    arguments = ("--levels", "32,32,32", "--levels", "32,32", "--target-uniqueness", "0.8")
    done = run_here("plan", table, *arguments, "--output", output, "--json").json
    assert not done["up_to_date"]
    assert json.loads(output.read_text()) == done["summary"]
    assert run_here("plan", table, *arguments, "--output", output, "--json").json["up_to_date"]
    assert [32, 32, 32] in [one["levels"] for one in done["summary"]["candidates"]]

    parts = tmp_path / "parts"
    parts.mkdir()
    shuffled = pq.read_table(table).take(np.random.default_rng(0).permutation(ROWS))
    pq.write_table(shuffled.slice(0, 600), parts / "a.parquet")
    pq.write_table(shuffled.slice(600), parts / "b.parquet")
    again = run_here("plan", parts, *arguments, "--json").json["summary"]
    assert without_seconds(again) == without_seconds(done["summary"])


def test_a_part_is_drawn_and_several_columns_stand_side_by_side(tmp_path):
    path = tmp_path / "both.parquet"
    text, image = make_embeddings(3_000, 4), make_embeddings(3_000, 6, seed=1)
    pq.write_table(text.rename_columns(["sku", "text"]).append_column("image", image[1]), path)
    names = ("--columns", "text,image", "--item-id", "sku")
    done = run_here("plan", path, *names, "--sample", 1_000, "--levels", "16,16,16", "--json")
    facts = done.json["summary"]["catalog"]
    assert (facts["items"], facts["distinct"], facts["width"]) == (3_000, 3_000, 10)
    assert 850 < facts["sample"] < 1_150
    assert not facts["counted"]
    for one in done.json["summary"]["candidates"]:
        assert one["uniqueness_range"][0] < one["uniqueness"] <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target-uniqueness", "1.5"], "the target uniqueness is 1.5; it must be above 0"),
        (["--levels", "a,b"], "--levels 'a,b': expected whole numbers"),
        (["--levels", "2000"], "levels [2000] have more codewords than the 1,350 different"),
        (["--sample", "10"], "the sample is 10 rows; it must be at least 1,000"),
        (["--memory", "0"], "the memory is 0.0 GiB; it must be above 0"),
        (["--seed", "-1"], "seed is -1; it must be at least 0"),
        (["--columns", "picture"], "has no column 'picture'"),
        (["--columns", "embedding,embedding"], "name at least one, and none of them twice"),
        (["--item-id", "sku"], "has no column 'sku'"),
        (["--output", "s3://bucket/plan.json"], "is a URI; outputs are written to local paths"),
    ],
)
def test_what_cannot_be_planned(table, arguments, said):
    assert said in run_here("plan", table, *arguments).error


def test_bad_rows_and_ids_are_named(table, tmp_path):
    path = tmp_path / "bad.parquet"
    good = pq.read_table(table)
    pq.write_table(good, path)
    rewrite(path, "embedding", {7: [float("nan")] * 8})
    assert "bad.parquet, row 7: the embedding holds nan" in run_here("plan", path).error
    pq.write_table(pa.concat_tables([good, good.slice(0, 1)]), path)
    assert "holds 'P000000' 2 times" in run_here("plan", path).error


def test_a_bad_wish_leaves_the_plan_that_is_there(table, tmp_path):
    output = tmp_path / "plan.json"
    output.write_text("kept")
    assert "plan.json" in run_here("plan", table, "--output", output).error
    assert output.read_text() == "kept"
