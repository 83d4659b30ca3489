"""`semid import`: what the other commands make of the tables that it writes."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROWS, run_here

from semid.export import FORMATS, write
from semid.id_reading import read_ids
from semid.id_table import IdTable
from semid.tables import open_table

FOLDERS = {name for name, format in FORMATS.items() if format.folder}


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """The world's table in every format."""
    folder = tmp_path_factory.mktemp("exported")
    for format in FORMATS:
        done = run_here(
            *("export", world / "ids.parquet", "--format", format, "--output", folder / format),
            *(("--width", "1000") if format in ("grid", "tiger") else ()),
        )
        assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_comes_back(format, exported, world, tmp_path):
    given = ("import", exported / format, "--format", format, "--output", tmp_path / "x.parquet")
    levels = () if format in FOLDERS else ("--levels", "8,8")
    summary = run_here(*given, *levels, "--json").json["summary"]
    assert (summary["items"], summary["policy"], summary["levels"]) == (ROWS, "suffix", [8, 8])
    was, back = read_ids(world / "ids.parquet"), read_ids(tmp_path / "x.parquet")
    assert back.item_ids.equals(was.item_ids)
    np.testing.assert_array_equal(back.codes, was.codes)
    np.testing.assert_array_equal(back.sids, was.sids)
    assert run_here(*given, *levels, "--json").json["up_to_date"] is True


def by_another_program(format, table, folder):
    """The file of a table as its program writes it, which notes nothing, and how to read it."""
    sids_ns = table.sids.astype(np.int64)
    items = folder / "Beauty.item2id"
    lines = [f"{item}\t{row}\n" for row, item in enumerate(table.item_ids.to_pylist())]
    items.write_text("".join(lines))
    if format == "lcrec":
        tokens = [[f"<a_{a}>", f"<b_{b}>", f"<c_{c}>"] for a, b, c in sids_ns.tolist()]
        (folder / "Beauty.index.json").write_text(json.dumps(dict(enumerate(tokens))))
        return (folder / "Beauty.index.json", "--items", items)
    if format == "grid":
        torch.save(torch.from_numpy(sids_ns.T.copy()), folder / "ids.pt")
        return (folder / "ids.pt", "--items", items)
    if format == "tiger":
        np.save(folder / "ids.npy", sids_ns)
        return (folder / "ids.npy", "--items", items)
    codes, place = table.codes.tolist(), sids_ns[:, -1]
    columns = {"item_id": table.item_ids, "origin_codebook": codes, "codebook": codes}
    pq.write_table(pa.table({**columns, "index": place}), folder / "item_to_sid.parquet")
    return (folder / "item_to_sid.parquet",)


@pytest.mark.parametrize("format", ["lcrec", "grid", "tiger", "torcheasyrec"])
def test_a_peers_file_is_evaluated_reported_compared_verified_and_looked_up(
    format, world, tmp_path
):
    was, ids = read_ids(world / "ids.parquet"), tmp_path / "ids.parquet"
    given = by_another_program(format, was, tmp_path)
    done = run_here("import", *given, "-f", format, "--levels", "8,8", "--output", ids, "--json")
    assert done.json["summary"]["levels_from"] == "given"

    embeddings, model = world / "embeddings.parquet", world / "model"
    measured = ("evaluate", ids, "--embeddings", embeddings, "--no-baseline", "--json", "--output")
    known = json.loads((world / "metrics.json").read_text())
    by_model = run_here(*measured, tmp_path / "m.json", "--model", model).json["summary"]
    alone = run_here(*measured, tmp_path / "alone.json").json["summary"]
    for figures in (by_model, alone):
        for name in ("levels", "uniqueness", "utilization"):
            assert figures[name] == known[name], name
    # Codes decode to nothing without the model.
    assert by_model["fidelity"] == known["fidelity"] is not None
    assert (alone["fidelity"]["item_error"], alone["quantizer"]) == (None, None)
    for metrics in ("m.json", "alone.json"):
        page = tmp_path / f"{metrics}.html"
        done = run_here("report", ids, "--metrics", tmp_path / metrics, "--output", page)
        assert done.code == 0, done.err
        assert f"{ROWS:,}" in page.read_text()
    assert run_here("diff", world / "ids.parquet", ids, "--json").json["summary"]["churn"] == 0
    assert run_here("verify", ids).code == 0
    item = was.item_ids[3].as_py()
    (found,) = run_here("lookup", ids, "--item", item, "--json").json["items"]
    assert found["sid"] == was.sids[3].tolist()

    # What needs to know the model says so.
    kept = run_here(
        *("assign", embeddings, "--model", model, "--previous", ids),
        *("--output", tmp_path / "next.parquet"),
    )
    assert "ids.parquet does not say which model assigned it" in kept.error
    checked = run_here("verify", ids, "--model", model)
    assert checked.code == 3
    assert "model fingerprint" in checked.out + checked.err


def test_levels_are_inferred_and_said(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[3, 0, 0], [1, 5, 1]]))
    given = ("import", tmp_path / "x.npy", "--format", "tiger", "--output", tmp_path / "ids")
    summary = run_here(*given, "--item-id", "sku", "--json").json["summary"]
    assert summary == {
        "format": "tiger",
        "items": 2,
        "policy": "suffix",
        "levels": [4, 6],
        "levels_from": "codes",
        "sid_length": 3,
    }
    assert open_table(tmp_path / "ids").schema.names == ["sku", "codes", "sid"]
    assert run_here("verify", tmp_path / "ids", "--item-id", "sku").code == 0


@pytest.mark.parametrize("format", FORMATS)
def test_ids_that_are_decimals_come_back_as_what_they_were(format, tmp_path):
    """Of text formats strings look like integers, and a table of strings is not compared to it."""
    ids, given = [str(number) for number in range(10, 70)], tmp_path / "ids.parquet"
    codes = np.stack([np.arange(60) // 8, np.arange(60) % 8], 1)
    IdTable.from_arrays(ids, codes).save(given)
    width = ("--width", "8") if format in ("grid", "tiger") else ()
    out = tmp_path / "out"
    assert run_here("export", given, "-f", format, "--output", out, *width).code == 0
    # Grid's and TIGER's last digit is a suffix by custom.
    back = ("import", out, "-f", format, "--levels", "8,8", "--overwrite", "--output")
    assert run_here(*back, tmp_path / "back.parquet", "--id-type", "string").code == 0
    assert read_ids(tmp_path / "back.parquet").item_ids.to_pylist() == ids
    differing = run_here("diff", given, tmp_path / "back.parquet", "--json")
    assert differing.json["summary"]["churn"] == 0
    assert run_here(*back, tmp_path / "numbers.parquet", "--id-type", "int64").code == 0
    assert read_ids(tmp_path / "numbers.parquet").item_ids.to_pylist() == list(map(int, ids))


def test_the_type_of_ids_is_one_that_they_have(tmp_path):
    given, output = tmp_path / "x.json", tmp_path / "ids.parquet"
    given.write_text('{"7": ["<a_1>"], "007": ["<a_2>"], "x": ["<a_3>"]}')
    back = ("import", given, "-f", "tokens-json", "--output", output, "--id-type")
    assert (
        "x.json: the item id '007' is no int64; import the ids as string"
        in run_here(*back, "int64").error
    )
    assert "the type 'int' of item ids is none of string, int64" in run_here(*back, "int").error
    assert run_here(*back, "string").code == 0
    assert read_ids(output).item_ids.to_pylist() == ["7", "007", "x"]
    # Another type is another table.
    given.write_text('{"7": ["<a_1>"], "8": ["<a_2>"]}')
    assert run_here(*back, "int64", "--overwrite").code == 0
    assert "exists" in run_here(*back, "string").error


def test_what_cannot_be_imported(tmp_path):
    path, output = tmp_path / "x.npy", tmp_path / "ids.parquet"
    np.save(path, np.array([[3, 0], [1, 5]]))
    given = ("import", path, "--format", "tiger", "--output", output)
    assert run_here(*given).code == 0
    before = output.read_bytes()
    for more, message in (
        (("--levels", "8,5"), "x.npy, row 1 holds the code 5 at level 1"),
        (("--levels", "3"), "x.npy, row 0 holds the code 3 at level 0"),
        (("--levels", "8,8,8"), "x.npy"),
        (("--items", tmp_path / "none"), "none does not exist"),
        (("--format", "xml"), "the format 'xml' is none of"),
    ):
        assert message in run_here(*given, *more, "--overwrite").error
    assert "exists" in run_here(*given, "--levels", "8").error
    assert output.read_bytes() == before


def test_what_cannot_be_exported(tmp_path):
    ids, output = tmp_path / "ids.parquet", tmp_path / "out"
    columns = {"item_id": ["a", "b"], "codes": [[1], [300]], "sid": [[1], [300]]}
    pq.write_table(pa.table(columns), ids)
    given = ("export", ids, "--output", output, "--format")
    assert run_here(*given, "csv").code == 0
    before = output.read_bytes()
    said = run_here(*given, "semantic-ids-llm", "--overwrite").error
    assert "ids.parquet, row 1: the code 300 at level 0 is beyond the 256 codes" in said
    assert output.read_bytes() == before
    assert run_here(*given, "semantic-ids-llm", "--overwrite", "--width", "512").code == 0
    said = run_here("export", ids, "--output", tmp_path / "x.pt", "--format", "grid").error
    assert "x.pt is named as a file but grid is a folder of files" in said


def test_a_folder_is_replaced_whole(world, tmp_path):
    given = ("export", world / "ids.parquet", "--output", tmp_path / "out", "--format")
    assert run_here(*given, "lcrec").code == 0
    assert (tmp_path / "out/out.index.json").is_file()
    assert run_here(*given, "datasets").code == 2
    assert run_here(*given, "datasets", "--overwrite").code == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["README.md", "_manifest.json", "data"]


def test_a_table_of_parts_is_the_same(world, tmp_path):
    table = open_table(world / "ids.parquet")
    write(table, tmp_path / "one", "csv")
    rows = pq.read_table(world / "ids.parquet")
    (tmp_path / "parts").mkdir()
    for place, start in enumerate(range(0, ROWS, 150)):
        pq.write_table(rows.slice(start, 150), tmp_path / f"parts/{place}.parquet")
    write(open_table(tmp_path / "parts"), tmp_path / "two", "csv")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_as_a_step_of_a_pipeline(exported, tmp_path):
    text = f"""
[steps.import]
path = "{exported}/tiger"
format = "tiger"
items = "{exported}/none"
levels = [8, 8]
output = "{tmp_path}/ids.parquet"
"""
    (tmp_path / "bad.toml").write_text(text)
    assert "none does not exist" in run_here("run", tmp_path / "bad.toml").error
    (tmp_path / "other.toml").write_text(text.replace('"tiger"\n', '"tigers"\n'))
    assert "format = 'tigers' is none of" in run_here("run", tmp_path / "other.toml").error
    (tmp_path / "type.toml").write_text(text + 'id_type = "text"\n')
    assert (
        "id_type = 'text' is none of string, int64" in run_here("run", tmp_path / "type.toml").error
    )
    (tmp_path / "p.toml").write_text(
        text.replace(f'items = "{exported}/none"\n', "").replace("levels = [8, 8]\n", "")
    )
    done = run_here("run", tmp_path / "p.toml")
    assert done.code == 0, done.err
    assert len(read_ids(tmp_path / "ids.parquet")) == ROWS
    assert "everything is up to date" in run_here("run", tmp_path / "p.toml").out


@pytest.mark.parametrize("actual", FORMATS)
def test_a_file_of_another_format_is_named_as_what_it_is(actual, exported, tmp_path):
    """Formats that read it all the same aside, every other says which format to give."""
    path, output = exported / actual, tmp_path / "ids.parquet"
    assert run_here("import", path, "--format", actual, "--output", output).code == 0
    whole = pq.read_table(output)["sid"]
    for format in FORMATS:
        done = run_here("import", path, "--format", format, "--output", output, "--overwrite")
        assert format == actual or done.code == 0 or f"{format} file" in done.error, done.error
        if done.code:
            assert f"{actual} is no {format} file but looks like " in done.error
            assert actual in done.error.partition("looks like ")[2]
        else:  # alike, so that no harm is done
            assert pq.read_table(output)["sid"] == whole


def test_a_file_of_no_format_gets_no_advice_for_another_fault(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind\n")
    (tmp_path / "empty").mkdir()
    for format in FORMATS:
        for given in (path, tmp_path / "empty"):
            said = run_here("import", given, "--format", format, "--output", tmp_path / "o").error
            assert given.name in said
            assert "pickle" not in said
            assert "looks like" not in said


def test_what_a_file_does_not_say_is_said(exported, tmp_path):
    """Row numbers in place of ids, and levels that are taken for granted."""
    shutil.copytree(exported / "grid", tmp_path / "grid")
    whole = run_here("import", tmp_path / "grid", "--format", "grid", "--output", tmp_path / "a")
    assert "import: " not in whole.err
    (tmp_path / "grid" / "item_ids.parquet").unlink()
    bare = run_here("import", tmp_path / "grid", "--format", "grid", "--output", tmp_path / "b")
    assert bare.code == 0
    assert "no map is beside the file, so item ids are row numbers; --items names one" in bare.err
    assert "and a suffix are taken, --levels says otherwise" in bare.err
    tokens = ("import", exported / "tokens-json", "--format", "tokens-json", "--output")
    assert "and no suffix are taken, --levels" in run_here(*tokens, tmp_path / "c").err
    assert "are taken" not in run_here(*tokens, tmp_path / "d", "--levels", "8,8").err


def test_a_folder_or_an_ids_table_is_named_as_what_it_is(world, tmp_path):
    (tmp_path / "empty").mkdir()
    for format in ("csv", "jsonl", "npz", "safetensors", "tokens-json", "forge", "recbole"):
        done = run_here(
            "import", tmp_path / "empty", "--format", format, "--output", tmp_path / "o"
        )
        assert f"empty is a folder, but {format} is a file; name the file" in done.error
    done = run_here("import", world / "ids.parquet", "--format", "csv", "--output", tmp_path / "o")
    assert "ids.parquet is an ids table already, which needs no import" in done.error
    for command in ("lookup", "check"):
        said = run_here(command, world / "model", *(("--item", "a") if command == "lookup" else ()))
        assert "model is a model directory, not a table" in said.error
