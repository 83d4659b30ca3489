"""Outputs are absent, the old ones whole or the new ones whole, whatever ends a job and when."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import make_catalog, run_here


def pipeline(folder, *, items="items.parquet", dim=16, seed=0, brand=False):
    """Write a pipeline over ``folder/items`` and return its path; steps as in the demo."""
    text = '["title", "brand"]' if brand else '["title"]'
    (folder / "pipeline.toml").write_text(f"""
[steps.embed]
items = "{folder}/{items}"
output = "{folder}/out/embeddings.parquet"
settings = {{ text = {text}, dim = {dim}, features = 1024, char_ngrams = [0, 0] }}

[steps.train]
embeddings = "{folder}/out/embeddings.parquet"
output = "{folder}/out/model"
settings = {{ levels = [8, 8], seed = {seed}, training = {{ epochs = 2 }}, model = {{ hidden = [16] }} }}

[steps.assign]
embeddings = "{folder}/out/embeddings.parquet"
model = "{folder}/out/model"
output = "{folder}/out/ids"

[steps.export]
ids = "{folder}/out/ids"
format = "tokens-json"
output = "{folder}/out/tokens.json"

[steps.evaluate]
ids = "{folder}/out/ids"
embeddings = "{folder}/out/embeddings.parquet"
model = "{folder}/out/model"
output = "{folder}/out/metrics.json"
baseline = false
""")
    return folder / "pipeline.toml"


OUTPUTS = ("embeddings.parquet", "model", "ids", "tokens.json", "metrics.json")
STEPS = ("embed", "train", "assign", "export", "evaluate")


def statuses(done):
    """What `semid run` said of every step: 'up to date', 'written' or 'written again'."""
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if ": " in line and "/out/" in line]
    lines = [line for line in lines if line.split()[0] in STEPS]
    return {
        line.split()[0]: line.split(maxsplit=1)[1].split(":")[0].split(" (")[0] for line in lines
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a pipeline has run to its end, and how that run ended."""
    folder = tmp_path_factory.mktemp("finished")
    pq.write_table(make_catalog(), folder / "items.parquet")
    return folder, run_here("run", pipeline(folder))


@pytest.fixture
def again(finished, tmp_path):
    """A copy of the finished folder that a test may change, its pipeline up to date."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    pipeline(tmp_path)
    return tmp_path


# running again


def test_a_pipeline_that_ran_is_up_to_date(finished, again):
    assert statuses(finished[1]) == dict.fromkeys(STEPS, "written")
    # The copy is in another place and, after this, of another time; its contents are the same.
    for file in again.rglob("*.*"):
        os.utime(file)
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")
    assert "everything is up to date" in done.out


def test_touching_an_input_runs_nothing_again(again):
    for name in ("items.parquet", "out/embeddings.parquet", "out/model/model.safetensors"):
        os.utime(again / name)
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")


def test_a_changed_setting_runs_its_step_and_what_depends_on_it(again):
    (again / "pipeline.toml").write_text(
        (again / "pipeline.toml").read_text().replace("seed = 0", "seed = 1")
    )
    done = run_here("run", again / "pipeline.toml")
    found = statuses(done)
    assert found.pop("embed") == "up to date"
    assert set(found.values()) == {"written again"}
    assert "settings.seed: 0 there, 1 now" in done.err


def test_a_changed_last_step_runs_alone(again):
    (again / "pipeline.toml").write_text(
        (again / "pipeline.toml").read_text().replace('"tokens-json"', '"npz"')
    )
    found = statuses(run_here("run", again / "pipeline.toml"))
    assert found.pop("export") == "written again"
    assert set(found.values()) == {"up to date"}


def test_changed_items_run_everything(again):
    items = pq.read_table(again / "items.parquet")
    pq.write_table(items.slice(1), again / "items.parquet")
    found = statuses(run_here("run", again / "pipeline.toml"))
    assert found == dict.fromkeys(STEPS, "written again")


def rewrite(path):
    """Change a table as a user would in a notebook, metadata kept."""
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def edit_text(path):
    path.write_text(path.read_text().replace("a_", "b_").replace('"items"', '"thing"'))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("embeddings.parquet", rewrite),
        ("model/model.safetensors", flip),
        ("model/config.json", lambda path: path.write_text(path.read_text() + " ")),
        ("model/metrics.json", Path.unlink),
        ("ids/part-00000.parquet", rewrite),
        ("ids/part-00000.parquet", lambda p: shutil.copy(p, p.with_name("part-00001.parquet"))),
        ("ids/part-00000.parquet", Path.unlink),
        ("tokens.json", edit_text),
        ("metrics.json", edit_text),
    ],
)
def test_an_output_edited_by_hand_is_noticed_and_kept(again, name, edit):
    target = again / "out" / name
    edit(target)
    before = target.read_bytes() if target.exists() else None
    done = run_here("run", again / "pipeline.toml")
    assert f"out/{name.split('/')[0]} exists and was" in done.error
    assert "--overwrite" in done.error
    assert (target.read_bytes() if target.exists() else None) == before
    done = run_here("run", again / "pipeline.toml", "--overwrite")
    assert done.code == 0, done.err
    assert (target.read_bytes() if target.exists() else None) != before


def test_notes_may_be_added_to_an_output_folder(again):
    (again / "out" / "model" / "notes.txt").write_text("the one in production")
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")
