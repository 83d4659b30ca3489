"""What a user can get wrong: one sentence, exit code 2, and outputs as they were."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, ROWS, TINY, WIDTH, make_catalog, run_apart, run_here

NAMES = {
    "embed": "embeddings.parquet",
    "train": "model",
    "assign": "ids.parquet",
    "export": "tokens.json",
    "evaluate": "metrics.json",
}
MAIN_INPUT = {
    "embed": "items.parquet",
    "train": "embeddings.parquet",
    "assign": "embeddings.parquet",
    "export": "ids.parquet",
    "evaluate": "embeddings.parquet",
}


def command(name, world, output, *more, **inputs):
    """The arguments of a command that reads from `world` what `inputs` does not name."""
    given = {key: world / file for key, file in MAIN_INPUT.items()} | {
        "ids": world / "ids.parquet",
        "model": world / "model",
    }
    given |= {name: inputs["table"]} if "table" in inputs else {}
    given |= inputs
    arguments = {
        "embed": (given["embed"], *LSA),
        "train": (given["train"], *TINY),
        "assign": (given["assign"], "--model", given["model"]),
        "export": (given["export"], "--format", "tokens-json"),
        "evaluate": (
            *(given["ids"], "--embeddings", given["evaluate"], "--model", given["model"]),
            "--no-baseline",
        ),
    }[name]
    return (name, *arguments, "--output", output, *more)


OTHER = {
    "embed": ("--set", "seed=5"),
    "train": ("--seed", "5"),
    "assign": ("--collisions", "none"),
    "export": ("--format", "npz"),
    "evaluate": ("--baseline",),
}


def contents(path):
    """All bytes of a file or folder, and of what stands beside it.

    Not of unfinished work that holds something to go on from: any other has no business there.
    """
    finished = ("raw/part-*", "encoder/encoder.json")
    beside = [p for p in path.parent.iterdir() if not any(any(p.glob(f)) for f in finished)]
    files = [p for entry in beside for p in (entry, *entry.rglob("*")) if p.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.fixture
def place(tmp_path, world, monkeypatch):
    """A working folder with the outputs of every command in ``out/``, which must stay."""
    shutil.copytree(world, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(place, world):
    """Run a command that must be refused, and return its sentence."""

    def refuse(name, *more, **inputs):
        output = place / "out" / NAMES[name]
        before = contents(output)
        more = (*OTHER[name], *more, "--overwrite")
        done = run_here(*command(name, world, output, *more, **inputs))
        assert done.out == ""
        assert contents(output) == before
        return done.error

    return refuse


def rows_of(world, name):
    """The main input of a command as a table."""
    return pq.read_table(world / MAIN_INPUT[name])


def write(table, path):
    pq.write_table(table, path)
    return path.name


def replaced(table, column, values):
    return table.set_column(table.schema.names.index(column), column, values)


every_command = pytest.mark.parametrize("name", list(NAMES))
reads_embeddings = pytest.mark.parametrize("name", ["train", "assign", "evaluate"])


# files


@every_command
def test_a_missing_file(refused, name):
    assert refused(name, table="none.parquet") == "none.parquet does not exist; check the path"


@every_command
def test_a_pattern_without_files(refused, name):
    said = refused(name, table="none/*.parquet")
    assert "no file matches none/*.parquet" in said


@every_command
def test_an_empty_folder(refused, place, name):
    (place / "empty").mkdir()
    assert "the folder empty holds no .parquet files" in refused(name, table="empty")


@every_command
def test_a_file_that_is_not_parquet(refused, place, name):
    (place / "items.csv").write_text("item_id,title\n1,cup\n")
    said = refused(name, table="items.csv")
    assert "items.csv is not a Parquet file (its first bytes are b'item')" in said
    assert "to_parquet" in said


@every_command
def test_a_truncated_file(refused, place, world, name):
    content = (world / MAIN_INPUT[name]).read_bytes()
    (place / "cut.parquet").write_bytes(content[: len(content) // 2])
    said = refused(name, table="cut.parquet")
    assert "cut.parquet is truncated: it begins as Parquet but its footer is missing after" in said
    assert "write or copy it again" in said


@every_command
def test_a_file_damaged_inside(refused, place, world, name):
    content = bytearray((world / MAIN_INPUT[name]).read_bytes())
    content[4:4000] = bytes(3996)
    (place / "bad.parquet").write_bytes(content)
    said = refused(name, table="bad.parquet")
    assert "bad.parquet is damaged and cannot be read" in said


@every_command
def test_an_unknown_kind_of_uri(refused, name):
    said = refused(name, table="gopher://host/items.parquet")
    assert "gopher://host/items.parquet cannot be opened" in said


@every_command
def test_a_pattern_that_matches_a_folder(refused, place, name):
    (place / "parts" / "one").mkdir(parents=True)
    assert "no file matches parts/*" in refused(name, table="parts/*")


@every_command
def test_a_table_without_rows(refused, place, world, name):
    source = write(rows_of(world, name).slice(0, 0), place / "empty.parquet")
    assert refused(name, table=source) == "empty.parquet has no rows; check the job that wrote it"


@every_command
def test_parts_that_disagree(refused, place, world, name):
    table = rows_of(world, name)
    (place / "parts").mkdir()
    write(table, place / "parts" / "a.parquet")
    write(replaced(table, "item_id", pa.array(range(ROWS))), place / "parts" / "b.parquet")
    said = refused(name, table="parts")
    assert "the parts disagree on column 'item_id': string" in said
    assert "in parts/a.parquet, int64 in parts/b.parquet" in said
    assert "int64 in parts/b.parquet" in said


# columns


@every_command
def test_a_missing_id_column(refused, name):
    said = refused(name, "--item-id", "sku")
    assert "has no column 'sku'; its columns are item_id" in said
    assert said.endswith("; name the one with the ids by --item-id")


@every_command
def test_an_id_column_that_is_there_twice(refused, place, world, name):
    table = rows_of(world, name)
    source = write(table.add_column(1, "item_id", table["item_id"]), place / "t.parquet")
    said = refused(name, table=source)
    assert "t.parquet has the column 'item_id' 2 times; rename the others" in said


@every_command
def test_ids_of_another_type(refused, place, world, name):
    ids = pa.array(np.arange(ROWS) + 0.5)
    source = write(replaced(rows_of(world, name), "item_id", ids), place / "t.parquet")
    said = refused(name, table=source)
    assert "'item_id' is double, but item ids must be string or int64" in said


@every_command
def test_a_null_id(refused, place, world, name):
    table = rows_of(world, name)
    ids = table["item_id"].to_pylist()
    ids[123] = None
    source = write(replaced(table, "item_id", pa.array(ids)), place / "t.parquet")
    said = refused(name, table=source)
    assert "t.parquet, row 123" in said
    assert "null" in said or "None" in said


@every_command
def test_duplicate_ids(refused, place, world, name):
    table = rows_of(world, name)
    ids = table["item_id"].to_pylist()
    twice = ids[300] = ids[5]
    source = write(replaced(table, "item_id", pa.array(ids)), place / "t.parquet")
    said = refused(name, table=source)
    assert repr(twice) in said
    assert "t.parquet, row 300" in said
    if name != "evaluate":  # which compares them with those of the ids table
        assert f"t.parquet: column 'item_id' holds {twice!r} 2 times (t.parquet, row 5; " in said
        assert "remove the duplicates" in said


def test_missing_text_columns(refused):
    said = refused("embed", "--text", "title,colour")
    assert "items.parquet has no column 'colour'; its columns are item_id, title, brand" in said


def test_a_missing_embedding_column(refused, place, world):
    source = write(rows_of(world, "train").select(["item_id"]), place / "t.parquet")
    said = refused("train", table=source)
    assert said.startswith("t.parquet has no column 'embedding'; its columns are item_id; name the")
    assert said.endswith("by --columns")


@reads_embeddings
def test_embeddings_that_are_not_lists_of_floats(refused, place, world, name):
    source = write(
        replaced(rows_of(world, name), "embedding", pa.array(["x"] * ROWS)), place / "t.parquet"
    )
    said = refused(name, table=source)
    assert "t.parquet: column 'embedding' is string, but embeddings must be lists of float" in said


@pytest.mark.parametrize("column", ["codes", "sid"])
def test_an_ids_table_without_codes(refused, place, world, column):
    source = write(pq.read_table(world / "ids.parquet").drop([column]), place / "t.parquet")
    assert f"t.parquet has no column '{column}'" in refused("export", table=source)


@pytest.mark.parametrize("name", ["assign"])
def test_an_id_column_named_as_one_of_the_results(refused, place, world, name):
    table = rows_of(world, name).rename_columns(["codes", "embedding"])
    source = write(table, place / "t.parquet")
    said = refused(name, "--item-id", "codes", table=source)
    assert "'codes'" in said
    assert "rename" in said


# vectors


def with_vector(world, row, vector):
    """The embeddings as plain lists, one of them replaced."""
    table = pq.read_table(world / "embeddings.parquet")
    lists = table["embedding"].to_pylist()
    lists[row] = vector
    return replaced(table, "embedding", pa.array(lists, pa.list_(pa.float32())))


@reads_embeddings
@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([1.0] * 5, f"the embedding has 5 values where {WIDTH} are expected"),
        ([1.0] * 3 + [np.nan] + [1.0] * (WIDTH - 4), "the embedding holds nan at position 3"),
        ([1.0] * 3 + [-np.inf] + [1.0] * (WIDTH - 4), "the embedding holds -inf at position 3"),
        ([0.0] * WIDTH, "the embedding is all zeros"),
        ([1.0, None] * (WIDTH // 2), "the embedding holds a null value"),
        ([], f"the embedding has 0 values where {WIDTH} are expected"),
        (None, "the embedding is null"),
    ],
    ids=["width", "nan", "infinity", "zeros", "null inside", "empty", "null"],
)
def test_a_bad_vector(refused, place, world, name, vector, said):
    source = write(with_vector(world, 77, vector), place / "t.parquet")
    found = refused(name, table=source)
    assert found.startswith(f"t.parquet, row 77: {said}")
    assert "; " in found


@reads_embeddings
def test_numbers_that_float32_cannot_hold(refused, place, world, name):
    table = rows_of(world, name)
    lists = table["embedding"].to_pylist()
    lists[60][4] = 1e300
    source = write(replaced(table, "embedding", pa.array(lists)), place / "t.parquet")
    said = refused(name, table=source)
    assert said.startswith("t.parquet, row 60: the embedding holds inf at position 4")


@reads_embeddings
@pytest.mark.parametrize("vector", [[], None])
def test_a_first_row_without_a_vector(refused, place, world, name, vector):
    source = write(with_vector(world, 0, vector), place / "t.parquet")
    assert refused(name, table=source).startswith("t.parquet, row 0: ")


@reads_embeddings
def test_a_bad_vector_in_a_later_part(refused, place, world, name):
    table = with_vector(world, 390, [np.nan] * WIDTH)
    (place / "parts").mkdir()
    write(table.slice(0, 250), place / "parts" / "a.parquet")
    write(table.slice(250), place / "parts" / "b.parquet")
    assert refused(name, table="parts").startswith("parts/b.parquet, row 140: ")


@pytest.mark.parametrize("name", ["assign", "evaluate"])
def test_another_width_than_the_models(refused, place, vectors, name):
    ids = pq.read_table(place / "out" / "ids.parquet")["item_id"]
    source = write(vectors(ROWS, 8, ids=ids), place / "narrow.parquet")
    said = refused(name, table=source)
    assert "narrow.parquet has embeddings of width 8 but the model " in said
    assert f"was trained on width {WIDTH}; " in said


def test_fewer_rows_than_codewords(refused):
    said = refused("train", "--levels", "8,512")
    assert "embeddings.parquet: " in said
    assert "training rows" in said
    assert "are fewer than the 512 codewords of level 1; use smaller levels" in said


def test_items_that_are_too_few_for_the_encoder(refused, place, world):
    source = write(rows_of(world, "embed").slice(0, 10), place / "few.parquet")
    said = refused("embed", table=source)
    assert said.startswith("few.parquet: ")
    assert f"dim={WIDTH} is more than the sample allows: it has 10 texts" in said


def test_a_bad_number_is_named_by_its_row(refused, place):
    items = make_catalog(9_000)
    prices = items["price"].to_pylist()
    prices[8_500] = "abc"
    items = replaced(items, "price", pa.array(map(str, prices)))
    (place / "parts").mkdir()
    write(items.slice(0, 4_000), place / "parts" / "a.parquet")
    write(items.slice(4_000), place / "parts" / "b.parquet")
    for fit_rows in (100, 20_000):  # seen by the encoder, and by the sample that it is fitted on
        done = run_here(
            *("embed", "parts", "--output", "e.parquet", "--encoder", "features"),
            *("--numeric", "price", "--set", f"fit_rows={fit_rows}", "--workers", "1"),
        )
        assert done.error.startswith("parts/b.parquet, row 4500: column 'price' is not a number")
        assert "'abc'" in done.error


# tables that do not belong together


def test_ids_of_other_items(refused, place, world):
    table = pq.read_table(world / "embeddings.parquet")
    strange = pa.array([f"X{i}" for i in range(ROWS)])
    source = write(replaced(table, "item_id", strange), place / "t.parquet")
    said = refused("evaluate", table=source)
    assert said.startswith("t.parquet has none of the items of ")
    assert said.endswith("evaluate needs the embeddings that the IDs were assigned from")


def test_ids_of_other_embeddings(refused, place, world):
    table = pq.read_table(world / "embeddings.parquet")
    turned = pa.array([row[::-1] for row in table["embedding"].to_pylist()])
    source = write(replaced(table, "embedding", turned), place / "t.parquet")
    said = refused("evaluate", table=source)
    assert said.startswith("t.parquet is not what ")
    assert f"of {ROWS} items that were encoded again have other codes there; evaluate" in said


def test_a_model_of_another_column(refused, place, world):
    table = pq.read_table(world / "embeddings.parquet")
    source = write(table.rename_columns(["item_id", "vector"]), place / "t.parquet")
    for name in ("assign", "evaluate"):
        said = refused(name, table=source)
        assert said.startswith("t.parquet has no column 'embedding', whose embeddings the model ")
        assert said.endswith("its columns are item_id, vector; rename the one with them")


def test_an_output_that_is_no_file(place, world):
    os.mkfifo(place / "pipe")
    done = run_here(*command("export", world, place / "pipe", "--overwrite"))
    assert done.error.startswith("pipe is a device or a pipe, which no output replaces")
    assert (place / "pipe").is_fifo()


def test_ids_of_another_type_than_the_embeddings(refused, place, world):
    table = pq.read_table(world / "embeddings.parquet")
    source = write(replaced(table, "item_id", pa.array(range(ROWS))), place / "t.parquet")
    said = refused("evaluate", table=source)
    assert "column 'item_id' is string in " in said
    assert "ids.parquet but int64 in t.parquet" in said


def test_ids_of_another_model(refused, place, world):
    done = run_here(
        "train", world / "embeddings.parquet", "--output", "other", *TINY, "--seed", "1"
    )
    assert done.code == 0, done.err
    said = refused("evaluate", model="other")
    assert "ids.parquet was assigned by another model (" in said
    assert "than other (" in said


# model directories


FILES = ["config.json", "model.safetensors", "history.csv", "metrics.json", "manifest.json"]
reads_a_model = pytest.mark.parametrize("name", ["assign", "evaluate"])


@pytest.fixture
def model(place, world):
    """A copy of the model to damage."""
    shutil.copytree(world / "model", place / "model")
    return place / "model"


@reads_a_model
def test_a_missing_model(refused, name):
    said = refused(name, model="none")
    assert said == "the model none does not exist; semid train writes one"


@reads_a_model
def test_a_model_that_is_a_file(refused, place, name):
    (place / "file").write_text("")
    assert "the model file is a file, not a model directory" in refused(name, model="file")


@reads_a_model
@pytest.mark.parametrize("file", FILES)
def test_an_incomplete_model(refused, model, name, file):
    (model / file).unlink()
    said = refused(name, model="model")
    assert f"the model directory model is incomplete: {file} missing; copy it again" in said


@reads_a_model
@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format_version": 1}', '{"format_'])
def test_a_damaged_config(refused, model, name, content):
    (model / "config.json").write_text(content)
    assert "model/config.json is damaged" in refused(name, model="model")


@reads_a_model
@pytest.mark.parametrize(
    ("key", "value"),
    [("levels", "8,8"), ("levels", [8, "x"]), ("width", "wide"), ("config", 3)],
)
def test_a_config_with_a_bad_value(refused, model, name, key, value):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {key: value}))
    assert f"model/config.json is damaged (its {key} " in refused(name, model="model")


@reads_a_model
def test_a_model_of_an_unknown_kind(refused, model, name):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"kind": "magic"}))
    assert "the model in model is a 'magic', which this semid does not know" in refused(
        name, model="model"
    )


@reads_a_model
@pytest.mark.parametrize("levels", [[8, 4], []])
def test_a_config_that_does_not_fit_the_weights(refused, model, name, levels):
    config = json.loads((model / "config.json").read_text())
    config["levels"] = levels
    (model / "config.json").write_text(json.dumps(config))
    said = refused(name, model="model")
    assert "the weights in model do not fit its config.json" in said


@reads_a_model
def test_damaged_weights(refused, model, name):
    content = (model / "model.safetensors").read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], b"\xff" * len(content)):
        (model / "model.safetensors").write_bytes(damaged)
        assert "model/model.safetensors is damaged" in refused(name, model="model")


@reads_a_model
def test_damaged_metrics(refused, model, name):
    (model / "metrics.json").write_text("{")
    assert "model/metrics.json is damaged" in refused(name, model="model")


@reads_a_model
def test_a_model_of_a_newer_format(refused, model, name):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    said = refused(name, model="model")
    assert "the model model has format 99 but semid " in said
    assert "upgrade semid" in said


@pytest.mark.parametrize("file", ["manifest.json", "metrics.json"])
def test_showing_a_damaged_model(model, file):
    (model / file).write_text("{")
    assert f"model/{file} is damaged" in run_here("show", "model").error


@pytest.mark.parametrize("file", ["encoder.json", "encoder.safetensors"])
def test_a_damaged_encoder(refused, place, world, file):
    shutil.copytree(world / "embeddings.encoder", place / "saved")
    (place / "saved" / file).write_text("{")
    output = place / "e.parquet"
    done = run_here("embed", world / "items.parquet", "--output", output, "--encoder", "saved")
    assert f"saved/{file} is damaged" in done.error
    assert not output.exists()


# outputs


@every_command
def test_an_output_of_other_settings_stays(place, world, name):
    output = place / "out" / NAMES[name]
    before = contents(output)
    other = OTHER[name]
    done = run_here(*command(name, world, output, *other))
    assert f"out/{NAMES[name]} exists and belongs to other settings (settings." in done.error
    assert " there, " in done.error
    assert done.error.endswith("choose another --output, or replace it with --overwrite")
    assert contents(output) == before
    done = run_here(*command(name, world, output, *other, "--overwrite", "--json"))
    assert done.json["up_to_date"] is False
    assert contents(output) != before
    assert run_here(*command(name, world, output, *other, "--json")).json["up_to_date"] is True


@every_command
def test_an_output_that_semid_did_not_make_stays(place, world, name):
    output = place / "mine" / NAMES[name]
    output.parent.mkdir()
    if name == "train":
        output.mkdir()
        (output / "thesis.txt").write_text("years of work")
    else:
        output.write_text("years of work")
    before = contents(output)
    done = run_here(*command(name, world, output))
    if name == "train":
        said = "is a folder with files that semid did not make"
        assert said in done.error
        assert said in run_here(*command(name, world, output, "--overwrite")).error
        assert contents(output) == before
        return
    assert f"mine/{NAMES[name]} exists and was not made by this command" in done.error
    assert "--overwrite" in done.error
    assert contents(output) == before
    done = run_here(*command(name, world, output, "--overwrite"))
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["embed", "assign"])
def test_a_folder_of_others_is_never_replaced(place, world, name):
    output = place / "project"
    (output / "src").mkdir(parents=True)
    (output / "src" / "thesis.txt").write_text("years of work")
    before = contents(output)
    said = run_here(*command(name, world, output, "--overwrite")).error
    assert said.startswith("project is a folder with files that semid did not make")
    assert contents(output) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_takes_no_files(world):
    said = run_here(*command("export", world, "/proc/x.npz")).error
    assert "/proc/x.npz cannot be written" in said


def test_a_folder_in_the_encoders_place_stays(place, world):
    (place / "mine.encoder").mkdir()
    (place / "mine.encoder" / "thesis.txt").write_text("years of work")
    done = run_here(*command("embed", world, "mine.parquet"))
    assert "mine.encoder exists and holds no saved encoder" in done.error
    assert (place / "mine.encoder" / "thesis.txt").exists()


def test_an_encoder_that_was_removed_is_made_again(place, world):
    done = run_here(*command("embed", world, "e.parquet"))
    assert done.code == 0
    shutil.rmtree("e.encoder")
    done = run_here(*command("embed", world, "e.parquet", "--json"))
    assert done.json["up_to_date"] is False
    assert (place / "e.encoder" / "encoder.json").exists()


@every_command
def test_an_output_is_never_an_input(place, world, name):
    inputs = {"table": f"out/{MAIN_INPUT[name]}"}
    before = contents(place / "out" / "x")
    more = ("--overwrite", "--format", "parquet") if name == "export" else ("--overwrite",)
    done = run_here(*command(name, world, inputs["table"], *more, **inputs))
    assert f"{inputs['table']} is also an input" in done.error
    done = run_here(*command(name, world, "out", "--overwrite", **inputs))
    assert "is also an input" in done.error
    assert contents(place / "out" / "x") == before


@every_command
def test_an_output_that_names_nothing(place, world, name):
    for output in (".", "..", "/", ""):
        assert "--output" in run_here(*command(name, world, output, "--overwrite")).error


@every_command
def test_an_output_on_another_machine(place, world, name):
    said = run_here(*command(name, world, "s3://bucket/x.parquet")).error
    assert "s3://bucket/x.parquet is a URI; outputs are written to local paths" in said


@every_command
def test_an_output_below_a_file(place, world, name):
    (place / "file").write_text("")
    said = run_here(*command(name, world, f"file/{NAMES[name]}")).error
    assert f"file/{NAMES[name]} cannot be written: a part of its path is a file" in said


@every_command
def test_an_output_with_a_name_that_is_too_long(place, world, name):
    said = run_here(*command(name, world, "x" * 300)).error
    assert "cannot be written" in said
    assert "too long" in said


def test_an_export_under_the_name_of_another_format(place, world):
    done = run_here("export", world / "ids.parquet", "--format", "npz", "--output", "x.parquet")
    assert "x.parquet" in done.error
    assert "npz" in done.error


@pytest.fixture
def locked(place):
    """A folder in which nobody may write, not even root: immutable, where the system can."""
    folder = place / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    changed = subprocess.run(["chattr", "+i", folder], capture_output=True)
    if changed.returncode and os.geteuid() == 0:
        pytest.skip("root may write everywhere here, and folders cannot be made immutable")
    yield folder
    subprocess.run(["chattr", "-i", folder], capture_output=True)
    folder.chmod(0o755)


@pytest.mark.parametrize("name", ["embed", "assign"])
def test_a_table_named_as_another_kind_of_file(world, tmp_path, name):
    said = run_here(*command(name, world, tmp_path / "out.csv")).error
    assert "out.csv ends in .csv, but a table is written as one .parquet file" in said
    assert list(tmp_path.iterdir()) == []


@every_command
def test_no_permission_to_write(locked, world, name):
    said = run_here(*command(name, world, f"locked/{NAMES[name]}")).error
    assert said.startswith(f"no permission to write locked/{NAMES[name]}; choose another --output")
    assert list(locked.iterdir()) == []


AS_NOBODY = """
import os, sys
sys.path.insert(0, {tests!r})
os.chdir({place!r})
from conftest import run_here
import test_bad_input as t
from pathlib import Path
world = Path("world")
for name in t.NAMES:  # once as root: whatever is imported late may lie where nobody may look
    assert run_here(*t.command(name, world, f"warm/{{t.NAMES[name]}}")).code == 0
os.setuid(65534)
for name in t.NAMES:
    for output in ("mine", "closed", "closed/new"):
        more = (*t.OTHER[name], "--overwrite")
        print(run_here(*t.command(name, world, f"{{output}}/{{t.NAMES[name]}}", *more)).error)
    secret = Path("secret", t.MAIN_INPUT[name])
    print(run_here(*t.command(name, world, f"warm/x.{{name}}", table=secret)).error)
for name in ("assign", "evaluate"):
    print(run_here(*t.command(name, world, f"open/{{name}}", model="secret/model")).error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_no_permission_as_another_user(world):
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        for name in ("world", "mine", "closed", "warm", "open", "secret"):
            (place / name).mkdir()
        shutil.copytree(world, place / "world", dirs_exist_ok=True)
        shutil.copytree(world, place / "mine", dirs_exist_ok=True)
        shutil.copytree(world, place / "secret", dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
        for file in (place / "secret").rglob("*"):
            if file.is_file():
                file.chmod(0)
        (place / "open").chmod(0o777)
        before = contents(place / "mine" / "x")
        script = AS_NOBODY.format(tests=str(Path(__file__).parent), place=str(place))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        for number, name in enumerate(NAMES):
            mine, closed, new, secret = said[4 * number : 4 * number + 4]
            assert mine == f"no permission to write mine/{NAMES[name]}; choose another --output" + (
                " or change the folder's permissions"
            )
            assert closed.startswith(f"no permission to write closed/{NAMES[name]}; ")
            assert new.startswith(f"no permission to write closed/new/{NAMES[name]}; ")
            assert secret.startswith(f"no permission to read secret/{MAIN_INPUT[name]}; ")
        for line in said[-2:]:
            assert line.startswith("no permission to use secret/model/config.json; ")
        assert contents(place / "mine" / "x") == before
    finally:
        shutil.rmtree(place)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where the system lets one be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"]
    if subprocess.run(["mount", *size, folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@every_command
def test_a_full_disk(small_disk, world, name):
    output = small_disk / NAMES[name]
    source = world / NAMES[name]
    shutil.copytree(source, output) if source.is_dir() else shutil.copy(source, output)
    beside = world / f"{NAMES[name]}.manifest.json"
    if beside.exists():
        shutil.copy(beside, small_disk)
    ballast = small_disk / "ballast"
    before = contents(output)
    arguments = command(name, world, output, *OTHER[name], "--overwrite")
    failures = 0
    for free in range(0, 200, 4 if name in ("export", "evaluate") else 12):
        ballast.write_bytes(b"")
        room = shutil.disk_usage(small_disk).free - free * 1024
        ballast.write_bytes(b"x" * max(room, 0))
        done = run_here(*arguments)
        if done.code == 0:
            break
        assert done.error.startswith("the disk is full: no space left ")
        assert "ree some space and run the same command again" in done.error
        ballast.write_bytes(b"")
        assert contents(output) == {**before, str(ballast): b""}
        failures += 1
    assert failures
    assert done.code == 0, done.err
    assert contents(output) != before


@every_command
@pytest.mark.parametrize("limit", [0, 300, 3_000])
def test_a_limit_on_the_size_of_files(refused, name, limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        said = refused(name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"out/{NAMES[name]} cannot be written (file too large)" in said


# encoders and devices


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("embed", "sentence_transformers", "text"),
        ("train", "torch", "cpu"),
        ("train", "faiss", "cpu"),
        ("assign", "torch", "cpu"),
        ("evaluate", "torch", "cpu"),
    ],
)
def test_a_missing_package_names_the_extra(place, world, name, package, extra):
    output = place / "new"
    more = ("--encoder", "some-model") if name == "embed" else ()
    arguments = command(name, world, output, *more)
    if name == "embed":
        arguments = [a for a in arguments if a not in LSA or a in ("--text", "title,brand")]
    before = f"import sys; sys.modules[{package!r}] = None"
    said = run_apart(*arguments, before=before).error
    assert f"needs the package '{package}', which is not installed" in said
    assert f"pip install 'semid[{extra}]'" in said
    assert not output.exists()


@pytest.mark.parametrize("encoder", ["no-such-model", "./no/such/folder"])
def test_a_missing_text_model(place, world, encoder):
    done = run_apart(
        *("embed", world / "items.parquet", "--output", "e.parquet"),
        *("--encoder", encoder, "--text", "title"),
    )
    assert repr(encoder) in done.error
    assert "give a local folder with a sentence-transformers model" in done.error
    assert "lsa" in done.error
    assert not (place / "e.parquet").exists()


@pytest.mark.parametrize("name", ["train", "assign"])
def test_a_gpu_that_is_not_there(refused, name):
    import torch

    device = f"cuda:{torch.cuda.device_count()}"
    said = refused(name, "--device", device)
    assert f"device '{device}' was asked for but torch " in said
    assert "GPUs here; use cpu, or install" in said


@pytest.mark.parametrize("name", ["train", "assign"])
def test_an_unknown_device(refused, name):
    said = refused(name, "--device", "warp")
    assert said == "unknown device 'warp'; use auto, cpu, cuda or cuda:<number>"


# settings


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "dimension=8"), "unknown setting 'dimension'; the valid ones are text, "),
        (("--set", "dim=0"), "dim is 0; it must be at least 1"),
        (("--set", "dim=many"), "dim = 'many' is not valid"),
        (("--set", "dim"), "--set 'dim': expected key=value"),
        (("--set", "word_ngrams=[3,1]"), "word_ngrams is (3, 1); it must be (shortest, longest)"),
        (("--text", ""), "text names no column"),
        (("--template", "{title"), "template '{title' is malformed"),
        (("--config", "none.toml"), "none.toml does not exist; check the path"),
        (("--set", "dtype=float64"), "dtype"),
    ],
)
def test_a_bad_encoder_setting(refused, more, said):
    assert said in refused("embed", *more)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("8,x", "--levels '8,x': expected whole numbers separated by commas"),
        ("8,,8", "--levels '8,,8': expected whole numbers"),
        ("", "--levels '': expected whole numbers"),
        ("8,0", "levels are [8, 0]; give at least one, each of at least 1 codeword"),
        ("-8", "levels are [-8]"),
        ("8,8.5", "--levels '8,8.5': expected whole numbers"),
    ],
)
def test_bad_levels(refused, levels, said):
    assert said in refused("train", f"--levels={levels}")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--quantizer", "dpq"), "unknown quantizer 'dpq'; use one of rqvae, vqvae"),
        (("--seed", "-1"), "seed is -1; it must be at least 0"),
        (("--set", "training.epochs=0"), "training.epochs is 0; it must be at least 1"),
        (("--set", "training=3"), "'training' must be a table of settings, not 3"),
        (("--set", "holdout=1"), "holdout is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_a_bad_training_setting(refused, more, said):
    assert said in refused("train", *more)


def test_a_settings_file_that_is_not_toml(refused, place):
    (place / "bad.toml").write_text("levels = [8, 8]\nseed = = 3\n")
    said = refused("train", "--config", "bad.toml")
    assert "bad.toml is not valid TOML" in said
    assert "line 2" in said


def test_an_unknown_policy_and_an_unknown_format(refused):
    said = refused("assign", "--collisions", "shuffle")
    assert said == "the collision policy 'shuffle' is none of suffix, reassign, sinkhorn, none"
    said = refused("export", "--format", "xml")
    assert said.startswith("the format 'xml' is none of parquet, tokens-json, npz, csv, jsonl, ")


@pytest.mark.parametrize("memory", ["0", "-1", "0.0001"])
def test_memory_that_is_not_enough(refused, memory):
    said = refused("assign", f"--memory={memory}")
    assert "memory" in said


# pipelines


def step(name, **keys):
    """A step of a pipeline as TOML."""
    return f"[steps.{name}]\n" + "".join(f"{key} = {json.dumps(v)}\n" for key, v in keys.items())


EMBED = step("embed", items="items.parquet", output="out/e.parquet")
TRAIN = step("train", embeddings="out/e.parquet", output="out/model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[steps.embed\n", "not valid TOML"),
        ("# all\n\n[steps.embed]\nitems = = 'a'\n", "line 4"),
        ("", "has no steps; begin one with [steps.embed]"),
        ("steps = 3", "has no steps"),
        ("[steps]\nembed = 3", "step 'embed' must be a table of settings, not 3"),
        (EMBED + "[stages.x]\n", "unknown key 'stages'; the valid ones are steps"),
        (
            EMBED + "workrs = 2\n",
            "step 'embed': unknown key 'workrs'; the valid ones are command, items, output, enc",
        ),
        (
            EMBED + step("evaluation", output="x"),
            "step 'evaluation': unknown command 'evaluation'; use one of embed, join, train, "
            "align, assign, export, import, evaluate, compare, diff, verify, drift, report, probe, "
            "as the step's name or as its 'command'",
        ),
        (step("train", output="m"), "step 'train': 'embeddings' is missing; train needs it"),
        (step("embed", items="i.parquet"), "step 'embed': 'output' is missing; embed needs it"),
        (
            step("embed", items="${NO_SUCH_PLACE}/i.parquet", output="e.parquet"),
            "step 'embed': the environment variable NO_SUCH_PLACE is not set",
        ),
        (EMBED + step("train", embeddings="no.parquet", output="m"), "'no.parquet' does not exist"),
        (
            EMBED + TRAIN + step("again", command="train", embeddings="x", output="./out/model"),
            "steps 'train' and 'again' both write out/model; give each its own output",
        ),
        (
            EMBED + step("train", embeddings="out/e.parquet", output=5),
            "step 'train': output = 5 is not",
        ),
        (
            EMBED + step("train", embeddings=["out/e.parquet"], output="m"),
            "step 'train': embeddings = ['out/e.parquet'] is not",
        ),
        (
            EMBED + step("export", ids="out/ids", output="x.json", format="xml"),
            "step 'export': format = 'xml' is none of parquet, tokens-json, npz",
        ),
        (
            EMBED + step("assign", embeddings="a", model="b", output="c", collisions="no"),
            "step 'assign': collisions = 'no' is none of suffix, reassign, sinkhorn, none",
        ),
        (
            EMBED + step("assign", embeddings="a", model="b", output="c", memory_gib="much"),
            "step 'assign': memory_gib = 'much' is not valid: input should be a valid number",
        ),
        (EMBED + "settings = 3\n", "step 'embed': settings = 3 is not valid: it must be a table"),
        (EMBED + "workers = 'two'\n", "step 'embed': workers = 'two' is not valid"),
        (
            EMBED + TRAIN + "settings = { epochs = 3 }\n",
            "step 'train': train: unknown setting 'epochs'; the valid ones are quantizer",
        ),
        (EMBED.replace("items.p", "itmes.p"), "step 'embed': itmes.parquet does not exist"),
        (EMBED + "encoder = 'features'\n", "step 'embed': encoder features: the features name no"),
    ],
)
def test_a_bad_pipeline(place, world, text, said):
    shutil.copy(world / "items.parquet", place)
    (place / "p.toml").write_text(text)
    before = contents(place / "x")
    done = run_here("run", "p.toml")
    assert done.error.startswith("p.toml")
    assert said in done.error
    assert contents(place / "x") == before


def test_a_missing_pipeline(place):
    assert run_here("run", "none.toml").error == "none.toml does not exist; check the path"


def test_a_failing_step_is_named_and_the_ones_before_are_kept(place, world):
    shutil.copy(world / "items.parquet", place)
    (place / "p.toml").write_text(
        step("embed", items="items.parquet", output="new/e.parquet")
        + "settings = { text = ['title'], dim = 16, features = 1024 }\n"
        + step("train", embeddings="new/e.parquet", output="new/model")
        + "settings = { levels = [999] }\n"
    )
    done = run_here("run", "p.toml")
    assert done.error.startswith("p.toml, step 'train': new/e.parquet: 362 training rows")
    assert (place / "new" / "e.parquet").exists()
    assert not (place / "new" / "model").exists()
    (place / "p.toml").write_text((place / "p.toml").read_text().replace("999", "9"))
    done = run_here("run", "p.toml")
    assert done.code == 0, done.err
    assert "embed        up to date" in done.err
