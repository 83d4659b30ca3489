"""Pipelines: the ones that semid ships parse, and one like the demo runs from items to metrics."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROWS, make_catalog, run_here

from semid.export import read
from semid.id_reading import read_ids
from semid.jobs.run import read_pipeline, run

PIPELINES = sorted((Path(__file__).parent.parent / "pipelines").glob("*.toml"))


def quick(toml):
    """Make the demo's pipeline small: few codewords, few epochs, few dims."""
    toml = toml.replace("[256, 256, 256], seed = 0", "[8, 8], seed = 0, training = { epochs = 2 }")
    texts = '["title", "brand"], dim = 16, features = 1024, char_ngrams = [0, 0]'
    return re.sub(r'\["title", "brand", [^\]]*\]', texts, toml)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with a small catalog where the demo has run, and what the command printed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "data").mkdir()
    pq.write_table(make_catalog(), folder / "data" / "items.parquet")
    demo = next(path for path in PIPELINES if path.name == "demo.toml")
    (folder / "demo.toml").write_text(quick(demo.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = run_here("run", "demo.toml")
    assert done.code == 0, done.err
    return folder, done


# the pipelines in the repository


def test_there_are_pipelines():
    assert [path.name for path in PIPELINES] == [
        "beauty.toml",
        "beauty_behaviour.toml",
        "beauty_embeddings.toml",
        "compare_beauty.toml",
        "demo.toml",
        "nightly.toml",
    ]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_every_pipeline_parses(path, monkeypatch):
    monkeypatch.setenv("SEMID_DATA", "/some/where")
    for name in ("ITEMS", "MODEL", "ENCODER"):
        monkeypatch.setenv(name, f"data/{name}")
    monkeypatch.setenv("UNIQUENESS", "0.8")
    steps = read_pipeline(path)
    expected = ["train", "assign", "export", "evaluate"]
    if path.name == "compare_beauty.toml":
        expected = ["compare"]
    if path.name == "nightly.toml":
        expected = ["embed", "assign", "verify"]
    if path.name == "beauty_behaviour.toml":
        expected = ["join", "train", "assign", "evaluate"]
    assert [step.command for step in steps][-4:] == expected
    written = [step.parameters["output"] for step in steps]
    assert len(set(written)) == len(written)
    read = {
        value.partition("=")[2] or value
        for step in steps
        for key, given in step.parameters.items()
        if key in ("embeddings", "model", "ids", "items")
        for value in ([given] if isinstance(given, str) else given)
    }
    # What no step makes is where the data lies; nothing else is left open.
    outside = {path for path in read if path not in written}
    assert all(path.startswith(("/some/where/beauty/", "data/")) for path in outside)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_a_pipeline_says_how_to_run_it(path):
    assert f"semid run pipelines/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", PIPELINES[:2], ids=lambda path: path.name)
def test_a_variable_that_is_not_set_is_named(path, monkeypatch):
    monkeypatch.delenv("SEMID_DATA", raising=False)
    assert "the environment variable SEMID_DATA is not set" in run_here("run", path).error


# the demo


def test_the_demo_makes_every_output(demo):
    folder, done = demo
    names = {path.name for path in (folder / "out" / "demo").iterdir()}
    assert names >= {"embeddings.parquet", "embeddings.encoder", "model", "ids.parquet"}
    assert names >= {"tokens.json", "metrics.json"}
    assert not any(name.startswith(".") for name in names)
    assert "held-out error" in done.out
    assert "rqkmeans" in done.out
    assert done.out.splitlines()[-5:] == [
        f"  out/demo/{name}"
        for name in ("embeddings.parquet", "model", "ids.parquet", "tokens.json", "metrics.json")
    ]


def test_the_demos_outputs_agree_with_each_other(demo):
    folder, _ = demo
    out = folder / "out" / "demo"
    items = pq.read_table(folder / "data" / "items.parquet")["item_id"].to_pylist()
    ids = read_ids(out / "ids.parquet")
    assert ids.item_ids.to_pylist() == items
    tokens = read(out / "tokens.json", "tokens-json", levels=2)
    assert tokens.item_ids.to_pylist() == items
    np.testing.assert_array_equal(tokens.sids, ids.sids)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["items"] == ROWS
    for level, figures in enumerate(metrics["levels"]):
        assert figures["used"] == len(np.unique(ids.codes[:, level]))
    distinct = len(np.unique(ids.codes, axis=0))
    assert metrics["uniqueness"] == pytest.approx(distinct / ROWS)
    assert metrics["baseline"]["levels"][0]["size"] == 8


def test_a_pipeline_as_json(demo, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder)
    found = run_here("run", "demo.toml", "--json").json
    assert list(found) == ["embed", "train", "assign", "export", "evaluate"]
    assert all(step["up_to_date"] for step in found.values())
    assert found["evaluate"]["summary"]["items"] == ROWS


# steps


def test_steps_run_from_python_one_after_the_other(tmp_path, world):
    (tmp_path / "p.toml").write_text(f"""
[steps.words]
command = "export"
ids = "{world}/ids.parquet"
format = "tokens-json"
output = "{tmp_path}/tokens.json"

[steps.numbers]
command = "export"
ids = "{world}/ids.parquet"
format = "npz"
output = "{tmp_path}/ids.npz"
""")
    running = run(tmp_path / "p.toml")
    step, result = next(running)
    assert (step.name, step.command) == ("words", "export")
    assert result.output.exists()
    assert not (tmp_path / "ids.npz").exists()
    assert [step.name for step, _ in running] == ["numbers"]
    assert (tmp_path / "ids.npz").exists()


def test_variables_are_put_in_everywhere(tmp_path, world, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("COLUMN", "title")
    (tmp_path / "p.toml").write_text(f"""
[steps.embed]
items = "{world}/items.parquet"
output = "${{HERE}}/e.parquet"
settings = {{ text = ["${{COLUMN}}"], dim = 4, features = 256, char_ngrams = [0, 0] }}
""")
    done = run_here("run", tmp_path / "p.toml")
    assert done.code == 0, done.err
    assert pq.read_schema(tmp_path / "e.parquet").field("embedding").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), 4
    )


def test_a_step_may_use_an_encoder_that_a_step_before_saved(tmp_path, world):
    settings = "{ text = ['title'], dim = 4, features = 256, char_ngrams = [0, 0] }"
    (tmp_path / "p.toml").write_text(f"""
[steps.embed]
items = "{world}/items.parquet"
output = "{tmp_path}/e.parquet"
settings = {settings}

[steps.new]
command = "embed"
items = "{world}/items.parquet"
encoder = "{tmp_path}/e.encoder"
output = "{tmp_path}/new.parquet"
""")
    done = run_here("run", tmp_path / "p.toml")
    assert done.code == 0, done.err
    assert pq.read_table(tmp_path / "new.parquet").equals(pq.read_table(tmp_path / "e.parquet"))
    assert "everything is up to date" in run_here("run", tmp_path / "p.toml").out


def test_what_another_made_is_replaced_only_when_asked(tmp_path, world):
    (tmp_path / "tokens.json").write_text("{}")
    (tmp_path / "p.toml").write_text(
        f'[steps.export]\nids = "{world}/ids.parquet"\nformat = "tokens-json"\n'
        f'output = "{tmp_path}/tokens.json"\n'
    )
    done = run_here("run", tmp_path / "p.toml")
    assert "tokens.json exists and was not made by this command" in done.error
    assert (tmp_path / "tokens.json").read_text() == "{}"
    assert run_here("run", tmp_path / "p.toml", "--overwrite").code == 0
    assert len(json.loads((tmp_path / "tokens.json").read_text())) == ROWS


def test_the_id_column_of_all_steps(tmp_path):
    items = make_catalog(300).rename_columns(["sku", "title", "brand", "price"])
    pq.write_table(items, tmp_path / "items.parquet")
    (tmp_path / "p.toml").write_text(f"""
[steps.embed]
items = "{tmp_path}/items.parquet"
output = "{tmp_path}/e.parquet"
settings = {{ text = ["title"], dim = 4, features = 256, char_ngrams = [0, 0] }}

[steps.train]
embeddings = "{tmp_path}/e.parquet"
output = "{tmp_path}/model"
settings = {{ quantizer = "rqkmeans", levels = [4, 4] }}
""")
    done = run_here("run", tmp_path / "p.toml", "--item-id", "sku")
    assert done.code == 0, done.err
    assert pq.read_schema(tmp_path / "e.parquet").names == ["sku", "embedding"]


# what a pipeline may replace, and what belongs together


def train_here(folder, levels, *more):
    embeddings = folder / "out/demo/embeddings.parquet"
    settings = ("--set", "training.epochs=1", "--set", "model.hidden=[8]", "--levels", levels)
    return run_here("train", embeddings, "--output", "prod", *settings, *more)


def pipeline_of(folder, name, levels):
    (folder / name).write_text(
        '[steps.train]\nembeddings = "out/demo/embeddings.parquet"\noutput = "prod"\n'
        f"settings = {{ levels = {levels}, training = {{ epochs = 1 }} }}\n"
    )
    return run_here("run", name)


def test_a_pipeline_replaces_what_it_made_but_nothing_else(demo, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder)
    assert train_here(folder, "8,8").code == 0
    before = (folder / "prod/model.safetensors").read_bytes()
    said = pipeline_of(folder, "other.toml", [4, 4]).error
    assert "prod exists and belongs to other settings" in said
    assert (folder / "prod/model.safetensors").read_bytes() == before
    assert train_here(folder, "8,8").code == 0  # still current
    done = run_here("run", "other.toml", "--overwrite")
    assert done.code == 0, done.err
    assert pipeline_of(folder, "other.toml", [5, 5]).code == 0  # its own by now
    assert "belongs to other settings" in pipeline_of(folder, "third.toml", [6, 6]).error


def test_a_step_before_the_one_that_makes_its_input_is_refused(demo, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder)
    text = (folder / "demo.toml").read_text()
    embed, rest = text[text.index("[steps.embed]") :].split("[steps.train]")
    (folder / "order.toml").write_text(f"[steps.train]{rest}\n{embed}")
    said = run_here("run", "order.toml").error
    assert "is made by the step 'embed' that comes later; put 'embed' before 'train'" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('output = "out/ids.csv"', "step 'assign': the output out/ids.csv ends in .csv"),
        ('output = "s3://bucket/ids.parquet"', "outputs are written to local paths"),
        ('output = "out/ids.parquet"\nworkers = 0', "step 'assign': workers is 0; it must be at"),
        ('output = "out/ids.parquet"\nmemory_gib = -1', "step 'assign': the memory is -1.0 GiB"),
    ],
)
def test_a_mistake_in_a_late_step_is_found_before_the_first(tmp_path, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    pq.write_table(make_catalog(), tmp_path / "items.parquet")
    Path("p.toml").write_text(
        '[steps.embed]\nitems = "items.parquet"\noutput = "out/e.parquet"\n'
        'settings = { text = ["title"] }\n'
        f'[steps.assign]\nembeddings = "out/e.parquet"\nmodel = "m"\n{line}\n'
    )
    assert said in run_here("run", "p.toml").error
    assert not Path("out").exists()


def test_an_encoder_that_another_table_replaced_is_made_again(demo, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder)
    options = ("--text", "title", "--set", "features=512", "--set", "char_ngrams=[0,0]")
    first = ("embed", "data/items.parquet", "--output", "v.parquet", *options, "--set", "dim=8")
    assert run_here(*first).code == 0
    # The folder of parts `v` and the file `v.parquet` have one place for their encoder.
    other = ("embed", "data/items.parquet", "--output", "v", *options, "--set", "dim=6")
    assert run_here(*other).code == 0
    again = run_here(*first, "--json").json
    assert not again["up_to_date"]
    wide = run_here(
        "embed", "data/items.parquet", "--output", "w.parquet", "--encoder", "v.encoder"
    )
    assert wide.code == 0, wide.err
    assert pq.read_schema(folder / "w.parquet").field("embedding").type.list_size == 8


def test_nights_of_a_live_catalog(tmp_path, monkeypatch):
    """The nightly pipeline: the first night, then new items, then the same again."""
    root = Path(__file__).parent.parent
    items = pq.read_table(root / "data" / "items.parquet").slice(0, 900)
    monkeypatch.chdir(tmp_path)
    embeddings, model = Path("e.parquet"), Path("model")
    pq.write_table(items, "all.parquet")
    made = run_here(*("embed", "all.parquet", "--output", embeddings, "--text", "title,brand"))
    assert made.code == 0, made.err
    levels = ("--quantizer", "rqkmeans", "--levels", "16,16")
    assert run_here("train", embeddings, "--output", model, *levels).code == 0
    monkeypatch.setenv("MODEL", str(model))
    monkeypatch.setenv("ENCODER", "e.encoder")
    monkeypatch.setenv("UNIQUENESS", "0.01")
    ids = {}
    for night, rows in enumerate((600, 900, 900)):
        pq.write_table(items.slice(0, rows), "tonight.parquet")
        monkeypatch.setenv("ITEMS", "tonight.parquet")
        done = run_here("run", root / "pipelines" / "nightly.toml")
        assert done.code == 0, done.err
        table = read_ids("out/nightly/ids")
        now = dict(zip(table.item_ids.to_pylist(), map(tuple, table.sids.tolist()), strict=True))
        assert len(now) == rows
        assert now.items() >= ids.items()
        assert ("everything is up to date" in done.out) == (night == 2)
        ids = now
