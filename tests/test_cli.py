"""Every command from end to end: inputs of every kind in, tables, files and exit codes out."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from conftest import LSA, ROWS, TINY, WIDTH, make_catalog, run_apart, run_here, start

from semid.export import read
from semid.fit_config import NETWORKS, WITHOUT_CODES
from semid.id_reading import read_ids
from semid.terminal import run_app

COMMANDS = (
    *("embed", "join", "train", "align", "assign", "export", "import", "evaluate", "run", "check"),
    *("show", "diff", "lookup", "retire", "rollback", "verify", "drift", "plan"),
)


def assign(embeddings, model, output, *more):
    done = run_here("assign", embeddings, "--model", model, "--output", output, *more)
    assert done.code == 0, done.err
    return read_ids(output)


def assert_same_ids(one, other):
    assert one.item_ids.equals(other.item_ids)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.sids, other.sids)
    np.testing.assert_array_equal(one.distance, other.distance)


# help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = run_apart(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"semid {command} " in " ".join(done.out.split()).partition("Example:")[2]


def test_the_help_of_semid_lists_every_command():
    listed = run_apart("--help")
    assert listed.code == 0
    assert all(f" {command} " in listed.out for command in COMMANDS)


def test_no_arguments_show_the_help():
    done = run_apart()
    assert (done.code, done.err) == (0, "")
    assert "Usage: semid" in done.out


def test_the_version_is_printed():
    from semid import __version__

    assert run_apart("--version").out == f"semid {__version__}\n"


# the whole way, each command in a process of its own


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """The outcome of every command, all with another id column and ``--json``."""
    folder = tmp_path_factory.mktemp("journey")
    items, embeddings, model, ids = (
        folder / name for name in ("items.parquet", "emb.parquet", "model", "ids.parquet")
    )
    pq.write_table(make_catalog().rename_columns(["sku", "title", "brand", "price"]), items)
    steps = {
        "embed": (items, "--output", embeddings, *LSA),
        "train": (embeddings, "--output", model, *TINY),
        "assign": (embeddings, "--model", model, "--output", ids),
        **{
            f"export {format}": (ids, "--format", format, "--output", folder / f"export.{suffix}")
            for format, suffix in (("tokens-json", "json"), ("npz", "npz"), ("parquet", "parquet"))
        },
        "evaluate": (
            *(ids, "--embeddings", embeddings, "--model", model),
            *("--output", folder / "metrics.json"),
        ),
        "check": (ids,),
        "show": (ids,),
    }
    outcomes = {
        name: run_apart(name.split()[0], *arguments, "--item-id", "sku", "--json")
        for name, arguments in steps.items()
    }
    return folder, outcomes


def test_every_command_succeeds_with_another_id_column(journey):
    _, outcomes = journey
    assert {name: done.code for name, done in outcomes.items()} == dict.fromkeys(outcomes, 0)


def test_stdout_is_one_json_object_and_progress_goes_to_stderr(journey):
    _, outcomes = journey
    for done in outcomes.values():
        assert isinstance(done.json, dict)
        assert "Traceback" not in done.err
        assert "{" not in done.err
    assert "rows" in outcomes["embed"].err


def test_the_summaries_agree_with_the_files(journey):
    folder, outcomes = journey
    embedded = outcomes["embed"].json
    assert embedded["command"] == "embed"
    assert embedded["output"] == str(folder / "emb.parquet")
    assert embedded["summary"]["items"] == ROWS
    assert outcomes["train"].json["summary"]["width"] == WIDTH
    assert outcomes["evaluate"].json["summary"] == json.loads((folder / "metrics.json").read_text())
    assert outcomes["evaluate"].json["summary"]["baseline"]["quantizer"] == "rqkmeans"
    assert outcomes["check"].json["problems"] == []
    assert outcomes["show"].json["what"] == "ids table"


def test_the_ids_table_holds_every_item_once_with_codes_in_range(journey):
    folder, _ = journey
    ids = read_ids(folder / "ids.parquet", item_id="sku")
    items = pq.read_table(folder / "items.parquet")
    assert ids.item_ids.to_pylist() == items["sku"].to_pylist()
    assert ids.codes.shape == (ROWS, 2)
    assert ids.codes.min() >= 0
    assert ids.codes.max() < 8
    assert len(np.unique(ids.sids, axis=0)) == ROWS
    assert np.isfinite(ids.distance).all()


@pytest.mark.parametrize(
    ("format", "name"),
    [("tokens-json", "export.json"), ("npz", "export.npz"), ("parquet", "export.parquet")],
)
def test_every_export_holds_the_same_ids(journey, format, name):
    folder, _ = journey
    ids = read_ids(folder / "ids.parquet", item_id="sku")
    back = read(folder / name, format, levels=2)
    assert back.item_ids.to_pylist() == ids.item_ids.to_pylist()
    np.testing.assert_array_equal(back.sids, ids.sids)


def test_a_second_run_does_nothing(journey):
    folder, _ = journey
    exports = [
        *("export", folder / "ids.parquet", "--item-id", "sku", "--json"),
    ]
    for format, name in (("tokens-json", "json"), ("npz", "npz"), ("parquet", "parquet")):
        output = folder / f"export.{name}"
        before = output.stat()
        again = run_here(*exports, "--format", format, "--output", output)
        assert again.json["up_to_date"] is True
        assert output.stat().st_ino == before.st_ino


# exit codes


def test_a_mistake_is_exit_code_2_and_one_sentence(tmp_path):
    done = run_apart("train", tmp_path / "none.parquet", "--output", tmp_path / "model")
    assert "none.parquet does not exist" in done.error
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train",), "Missing argument"),
        (("train", "a.parquet"), "Missing option '--output'"),
        (("train", "a.parquet", "--outptu", "b"), "--outptu"),
        (("trian",), "No such command 'trian'"),
        (("embed", "a.parquet", "--output", "b.parquet", "--workers", "two"), "--workers"),
    ],
)
def test_a_bad_command_line_names_the_help(arguments, said):
    done = run_here(*arguments)
    assert said in done.error
    assert "--help" in done.error


def test_a_defect_is_exit_code_1_with_a_traceback(tmp_path, world):
    # A package that is not what it says stands for whatever nobody foresaw.
    (tmp_path / "duckdb.py").write_text("version = 'nothing else is in here'\n")
    done = run_apart(
        *("assign", world / "embeddings.parquet", "--model", world / "model"),
        *("--output", tmp_path / "ids.parquet"),
        before=f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
    )
    assert done.code == 1
    assert "Traceback" in done.err
    assert "this is a defect, please report" in done.err


def test_a_reader_that_closes_early_is_no_defect(world):
    import subprocess
    import sys

    show = subprocess.Popen(
        [sys.executable, "-m", "semid", "show", str(world / "ids.parquet")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    show.stdout.close()
    err = show.stderr.read()
    show.stderr.close()
    show.wait()
    assert err == ""


# check and show


def test_check_finds_nothing_wrong_with_good_tables(world):
    for name in ("items", "embeddings", "ids"):
        done = run_here("check", world / f"{name}.parquet")
        assert done.code == 0
        assert "nothing is wrong" in done.out
        assert f"rows: {ROWS}" in done.out


def test_check_lists_everything_that_is_wrong(tmp_path, vectors):
    table = vectors(50)
    ids = table["item_id"].to_pylist()
    ids[7] = ids[3]
    x_nd = np.array(table["embedding"].to_pylist())
    x_nd[40, 2] = np.nan
    bad = pa.table({"item_id": ids, "embedding": x_nd.tolist()})
    pq.write_table(bad, tmp_path / "bad.parquet")
    done = run_here("check", tmp_path / "bad.parquet", "--json")
    assert done.code == 2
    duplicate, broken = json.loads(done.out)["problems"]
    assert "'P000003' 2 times" in duplicate
    assert "row 3" in duplicate
    assert "row 7" in duplicate
    assert "row 40: the embedding holds nan at position 2" in broken


def test_check_finds_a_null_or_empty_embedding_in_the_first_row(tmp_path):
    for first in (None, []):
        lists = pa.array([first, [1.0, 2.0]], pa.list_(pa.float32()))
        pq.write_table(
            pa.table({"item_id": ["a", "b"], "embedding": lists}), tmp_path / "t.parquet"
        )
        done = run_here("check", tmp_path / "t.parquet")
        assert done.code == 2
        assert "row 0" in done.out


def test_check_finds_a_bad_code(tmp_path, world):
    table = pq.read_table(world / "ids.parquet")
    codes = table["codes"].to_pylist()
    codes[9] = [1]
    pq.write_table(table.set_column(1, "codes", pa.array(codes)), tmp_path / "ids.parquet")
    done = run_here("check", tmp_path / "ids.parquet")
    assert done.code == 2
    assert "row 9" in done.out
    assert "'codes' has 1 codes" in done.out


def test_check_finds_an_id_of_two_items(tmp_path, world):
    table = pq.read_table(world / "ids.parquet")
    sids = table["sid"].to_pylist()
    sids[9] = sids[4]
    pq.write_table(table.set_column(2, "sid", pa.array(sids)), tmp_path / "ids.parquet")
    done = run_here("check", tmp_path / "ids.parquet")
    assert done.code == 2
    assert f"column 'sid' holds {sids[4]} 2 times" in done.out
    assert "row 4; " in done.out
    assert "row 9); no two items share an ID" in done.out
    # Raw codes may repeat.
    raw = table.set_column(2, "sid", pa.array([sid[:-1] for sid in table["sid"].to_pylist()]))
    pq.write_table(raw, tmp_path / "raw.parquet")
    assert run_here("check", tmp_path / "raw.parquet").code == 0


def test_show_describes_a_model(world):
    facts = run_here("show", world / "model", "--json").json
    assert facts["what"] == "rqvae model"
    assert (facts["width"], facts["levels"]) == (WIDTH, [8, 8])
    assert facts["settings"]["training"]["epochs"] == 2
    assert len(facts["model_fingerprint"]) == 16


def test_show_describes_a_saved_encoder(world):
    facts = run_here("show", world / "embeddings.encoder", "--json").json
    assert (facts["what"], facts["width"]) == ("lsa encoder", WIDTH)
    assert facts["settings"]["text"] == ["title", "brand"]


def test_check_of_what_is_no_table_points_to_show(world):
    for name, what in (("model", "model directory"), ("embeddings.encoder", "saved encoder")):
        said = run_here("check", world / name).error
        assert f"{name} is a {what}, not a table; semid show" in said


def test_show_describes_tables(world):
    ids = run_here("show", world / "ids.parquet", "--json").json
    assert (ids["what"], ids["rows"]) == ("ids table", ROWS)
    assert len(ids["first rows"]) == 5
    model = run_here("show", world / "model", "--json").json
    assert ids["model_fingerprint"] == model["model_fingerprint"]
    embeddings = run_here("show", world / "embeddings.parquet", "--json").json
    assert (embeddings["what"], embeddings["rows"]) == ("embeddings", ROWS)
    items = run_here("show", world / "items.parquet", "--json").json
    assert items["what"] == "table"
    assert "not written by semid" in items["note"]
    assert "levels: 8, 8" in run_here("show", world / "model").out


@pytest.mark.parametrize("format", ["npz", "lcrec", "torcheasyrec"])
def test_show_describes_other_outputs(world, tmp_path, format):
    output = tmp_path / "out"
    export = ("export", world / "ids.parquet", "--format", format, "--output", output)
    assert run_here(*export).code == 0
    facts = run_here("show", output, "--json").json
    assert (facts["what"], facts["settings"]["format"]) == ("output of semid export", format)
    assert facts["summary"]["items"] == ROWS
    held = [p.name for p in output.iterdir()] if output.is_dir() else ["out"]
    assert facts["files"] == sorted(name for name in held if name[0] != "_")
    assert facts["inputs"] == {"ids": str(world / "ids.parquet")}
    said = run_here("show", output).out
    assert "not written by semid" not in said


# settings


def test_show_of_what_lies_beside_a_table(tmp_path):
    # A check that found nothing writes no rows; what a store holds beside its parts is its own.
    empty = pa.table(
        {"item_id": pa.array([], pa.string()), "sid": pa.array([], pa.list_(pa.int32()))}
    )
    pq.write_table(empty, tmp_path / "violations.parquet")
    assert run_here("show", tmp_path / "violations.parquet", "--json").json["rows"] == 0
    for name, foreign in (("_drifted.parquet", False), ("drifted.parquet", True)):
        pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / name)
        assert ("note" in run_here("show", tmp_path / name, "--json").json) is foreign


def test_settings_come_from_a_file_and_are_overridden(tmp_path, world):
    (tmp_path / "fit.toml").write_text(
        'quantizer = "rqkmeans"\nlevels = [4, 4]\nseed = 3\n[kmeans]\niterations = 5\n'
    )
    done = run_here(
        *("train", world / "embeddings.parquet", "--output", tmp_path / "model", "--json"),
        *("--config", tmp_path / "fit.toml", "--set", "levels=[4,2]", "--seed", "7"),
    )
    assert done.json["summary"]["quantizer"] == "rqkmeans"
    settings = run_here("show", tmp_path / "model", "--json").json["settings"]
    assert settings["levels"] == [4, 2]
    assert settings["seed"] == 7
    assert settings["kmeans"]["iterations"] == 5


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "epochs=3",
            "unknown setting 'epochs'; the valid ones are quantizer, levels, columns, seed",
        ),
        ("training.epoch=3", "'training.epoch'; the valid ones are training.epochs"),
    ],
)
def test_an_unknown_setting_lists_the_valid_ones(tmp_path, world, setting, said):
    done = run_here(
        *("train", world / "embeddings.parquet", "--output", tmp_path / "m", "--set", setting)
    )
    assert said in done.error


def test_an_unknown_encoder_setting_lists_the_valid_ones(tmp_path, world):
    done = run_here(
        *("embed", world / "items.parquet", "--output", tmp_path / "e.parquet", "--set", "dims=8")
    )
    assert "unknown setting 'dims'; the valid ones are text, template, dim" in done.error


def test_a_seed_repeats_a_run(tmp_path, world):
    codes = []
    for name in ("one", "two"):
        run_here("train", world / "embeddings.parquet", "--output", tmp_path / name, *TINY)
        codes.append(
            assign(world / "embeddings.parquet", tmp_path / name, tmp_path / f"{name}.parquet")
        )
    assert_same_ids(*codes)


# inputs and outputs of every kind


def test_parts_globs_and_uris_give_the_ids_of_the_single_file(tmp_path, world):
    table = pq.read_table(world / "embeddings.parquet")
    (tmp_path / "parts").mkdir()
    for number, first in enumerate(range(0, ROWS, 150)):
        pq.write_table(table.slice(first, 150), tmp_path / "parts" / f"p{number}.parquet")
    expected = read_ids(world / "ids.parquet")
    inputs = (
        tmp_path / "parts",
        tmp_path / "parts" / "p?.parquet",
        (world / "embeddings.parquet").as_uri(),
        (tmp_path / "parts").as_uri(),
    )
    for number, source in enumerate(inputs):
        found = assign(source, world / "model", tmp_path / f"{number}.parquet")
        assert_same_ids(found, expected)


def test_a_table_may_be_in_other_row_groups_and_another_order(tmp_path, world):
    table = pq.read_table(world / "embeddings.parquet")
    order = np.random.default_rng(5).permutation(ROWS)
    pq.write_table(table.take(order), tmp_path / "shuffled.parquet", row_group_size=37)
    found = assign(tmp_path / "shuffled.parquet", world / "model", tmp_path / "ids.parquet")
    expected = read_ids(world / "ids.parquet")
    assert found.item_ids.equals(expected.item_ids.take(pa.array(order)))
    np.testing.assert_array_equal(found.codes, expected.codes[order])
    np.testing.assert_array_equal(found.sids, expected.sids[order])


def test_a_folder_of_parts_holds_what_the_single_file_holds(tmp_path, world):
    found = assign(world / "embeddings.parquet", world / "model", tmp_path / "ids")
    assert_same_ids(found, read_ids(world / "ids.parquet"))
    assert (tmp_path / "ids" / "_manifest.json").exists()
    done = run_here("embed", world / "items.parquet", "--output", tmp_path / "emb", *LSA)
    assert done.code == 0
    assert pq.read_table(tmp_path / "emb").equals(pq.read_table(world / "embeddings.parquet"))
    from_parts = assign(tmp_path / "emb", world / "model", tmp_path / "again.parquet")
    assert_same_ids(from_parts, read_ids(world / "ids.parquet"))


def test_integer_ids_stay_integers(tmp_path, catalog):
    items = catalog(300).set_column(0, "item_id", pa.array(np.arange(300, 0, -1) * 10**10))
    pq.write_table(items, tmp_path / "items.parquet")
    run_here("embed", tmp_path / "items.parquet", "--output", tmp_path / "e.parquet", *LSA)
    run_here("train", tmp_path / "e.parquet", "--output", tmp_path / "model", *TINY)
    ids = assign(tmp_path / "e.parquet", tmp_path / "model", tmp_path / "ids.parquet")
    assert ids.item_ids.equals(items["item_id"].combine_chunks())
    done = run_here(
        *("evaluate", tmp_path / "ids.parquet", "--embeddings", tmp_path / "e.parquet"),
        *("--model", tmp_path / "model", "--output", tmp_path / "m.json", "--no-baseline"),
    )
    assert done.code == 0, done.err
    for format, name in (("tokens-json", "t.json"), ("npz", "t.npz"), ("parquet", "t.parquet")):
        done = run_here(
            *("export", tmp_path / "ids.parquet", "--format", format, "--output", tmp_path / name)
        )
        assert done.code == 0, done.err
        back = read(tmp_path / name, format)
        assert back.item_ids.to_pylist() == items["item_id"].to_pylist()


@pytest.mark.parametrize(
    "ids", [pa.large_string(), pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_strings_are_ids(tmp_path, world, ids):
    table = pq.read_table(world / "embeddings.parquet")
    table = table.set_column(0, "item_id", table["item_id"].cast(ids))
    pq.write_table(table, tmp_path / "e.parquet")
    found = assign(tmp_path / "e.parquet", world / "model", tmp_path / "ids.parquet")
    assert_same_ids(found, read_ids(world / "ids.parquet"))


def as_type(table, kind):
    """The table with its embeddings as lists of another type."""
    return table.set_column(1, "embedding", table["embedding"].cast(kind))


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float64(), WIDTH)],
    ids=str,
)
def test_every_kind_of_list_gives_the_same_ids(tmp_path, world, kind):
    pq.write_table(
        as_type(pq.read_table(world / "embeddings.parquet"), kind), tmp_path / "e.parquet"
    )
    found = assign(tmp_path / "e.parquet", world / "model", tmp_path / "ids.parquet")
    assert_same_ids(found, read_ids(world / "ids.parquet"))


def test_float16_gives_the_codes_of_the_float16_values(tmp_path, world):
    table = pq.read_table(world / "embeddings.parquet")
    x_nd = np.array(table["embedding"].to_pylist(), np.float16)
    for name, dtype in (("half", np.float16), ("single", np.float32)):
        values = pa.array(x_nd.astype(dtype).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(values, WIDTH)
        pq.write_table(table.set_column(1, "embedding", lists), tmp_path / f"{name}.parquet")
    half, single = (
        assign(tmp_path / f"{name}.parquet", world / "model", tmp_path / f"{name}_ids.parquet")
        for name in ("half", "single")
    )
    assert_same_ids(half, single)


def test_embeddings_may_be_written_in_float16(tmp_path, world):
    output = tmp_path / "e.parquet"
    done = run_here(
        *("embed", world / "items.parquet", "--output", output, *LSA, "--set", "dtype=float16")
    )
    assert done.code == 0, done.err
    assert pq.read_schema(output).field("embedding").type.value_type == pa.float16()
    done = run_here("train", output, "--output", tmp_path / "model", *TINY)
    assert done.code == 0, done.err


def test_a_saved_encoder_embeds_new_items_alike(tmp_path, world):
    items = pq.read_table(world / "items.parquet").slice(100, 20)
    pq.write_table(items, tmp_path / "new.parquet")
    done = run_here(
        *("embed", tmp_path / "new.parquet", "--output", tmp_path / "e.parquet"),
        *("--encoder", world / "embeddings.encoder"),
    )
    assert done.code == 0, done.err
    expected = pq.read_table(world / "embeddings.parquet").slice(100, 20)
    assert pq.read_table(tmp_path / "e.parquet").equals(expected)


def test_more_processes_give_the_same_tables(tmp_path, catalog):
    pq.write_table(catalog(5_000, words=3), tmp_path / "items.parquet", row_group_size=1_000)
    for workers in (1, 2):
        output = tmp_path / f"{workers}.parquet"
        done = run_apart(
            *("embed", tmp_path / "items.parquet", "--output", output, *LSA, "--workers", workers)
        )
        assert done.code == 0, done.err
    one, two = (pq.read_table(tmp_path / f"{workers}.parquet") for workers in (1, 2))
    assert one.equals(two)


def test_the_table_may_lie_in_the_working_folder(tmp_path, world, monkeypatch):
    shutil.copy(world / "embeddings.parquet", tmp_path)
    monkeypatch.chdir(tmp_path)
    found = assign("embeddings.parquet", world / "model", "ids.parquet")
    assert_same_ids(found, read_ids(world / "ids.parquet"))
    assert Path("ids.parquet").exists()


# quantizers


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_trains_and_those_with_codes_assign(tmp_path, world, kind):
    model, ids = tmp_path / "model", tmp_path / "ids.parquet"
    levels = "8" if kind == "vqvae" else "8,8"
    chosen = ("--quantizer", kind, *TINY, "--levels", levels)
    done = run_here("train", world / "embeddings.parquet", "--output", model, *chosen)
    assert done.code == 0, done.err
    assert f"{kind} model" in run_here("show", model).out
    done = run_here("assign", world / "embeddings.parquet", "--model", model, "--output", ids)
    if kind in WITHOUT_CODES:
        assert f"model is a model of the kind {kind}, which has no codes" in done.error
        assert not ids.exists()
    else:
        assert done.code == 0, done.err
        assert read_ids(ids).codes.shape == (ROWS, levels.count(",") + 1)


def test_check_takes_interactions(tmp_path):
    met = pa.table({"user_id": [1, 1], "item_id": ["a", "a"], "position": [1, 2]})
    pq.write_table(met, tmp_path / "met.parquet")
    assert run_here("check", tmp_path / "met.parquet", "--json").json["problems"] == []


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"user_id": [1, 1], "item_id": ["a", None], "position": [1, 2]},
            "row 1: column",
        ),
        ({"user_id": [1, None], "item_id": ["a", "b"], "timestamp": [1, 2]}, "column 'user_id' is"),
        ({"user_id": [1, 1], "item_id": ["a", "b"], "position": [1, None]}, "column 'position' is"),
        ({"user_id": [1, 1], "item_id": ["a", "b"], "position": [2, 2]}, "user 1 has 2 rows with"),
        ({"user_id": [1, 1], "item_id": ["a", "a"]}, "'item_id' holds 'a' 2 times"),
        (
            {"user_id": [1], "asin": ["a"], "position": [1]},
            "the one with the ids by --item-id",
        ),
        ({"user_id": [1.5], "item_id": ["a"], "position": [1]}, "'user_id' is double, but it must"),
    ],
)
def test_check_finds_what_is_wrong_with_interactions(tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "met.parquet")
    done = run_here("check", tmp_path / "met.parquet")
    assert done.code == 2
    assert said in done.out


def test_check_takes_interactions_of_equal_times(tmp_path):
    met = pa.table({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 1]})
    pq.write_table(met, tmp_path / "met.parquet")
    assert run_here("check", tmp_path / "met.parquet").code == 0


# the process


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("show",), ("show", "--json"), ("check",)])
def test_stdout_on_a_full_disk(world, arguments):
    with Path("/dev/full").open("w") as full:
        done = start(*arguments, world / "ids.parquet", stdout=full)
        _, said = done.communicate(timeout=120)
    assert done.returncode == 2
    assert said.splitlines()[-1].startswith("error: the disk is full")
    assert "Traceback" not in said


def test_a_reader_that_has_seen_enough(world):
    done = start("show", world / "ids.parquet")
    done.stdout.close()
    said = done.stderr.read()
    assert done.wait(timeout=120) != 0
    assert said == ""


def test_the_process_ends_after_its_exit_functions_with_all_it_printed():
    before = "import atexit, sys; atexit.register(lambda: print('last', file=sys.stderr))"
    before += "; print('x' * 2_000_000)"
    done = run_apart("show", "nowhere", before=before)
    assert done.code == 2
    assert len(done.out) == 2_000_001
    assert done.err.splitlines()[-1] == "last"


@pytest.mark.parametrize("date", ["contrast.before=2025-06-30", "contrast.before=17"])
def test_dates_and_numbers_are_moments(tmp_path, world, date):
    met = pa.table({"user_id": [1, 1], "item_id": ["a", "b"], "position": [1, 2]})
    pq.write_table(met, tmp_path / "met.parquet")
    command = ("train", world / "embeddings.parquet", "-o", tmp_path / "m", "--set", date)
    said = run_here(*command, "--interactions", tmp_path / "met.parquet").error
    assert "has no column 'timestamp'; use contrast.exclude_last" in said


@pytest.mark.parametrize("workers", ["0", "-3"])
def test_processes_that_cannot_be(tmp_path, world, workers):
    table, model = world / "embeddings.parquet", world / "model"
    command = ("assign", table, "--model", model, "-o", tmp_path / "i.parquet")
    said = run_here(*command, "--workers", workers).error
    assert said == f"workers is {workers}; it must be at least 1"


# interrupts


def test_an_interrupt_that_an_import_wraps_is_still_one(capsys):
    app = typer.Typer()

    @app.command()
    def wrapped():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Error calling __set_name__") from interrupt

    before, sys.argv = sys.argv, ["semid"]
    try:
        with pytest.raises(SystemExit) as end:
            run_app(app, "semid")
    finally:
        sys.argv = before
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("interrupted: finished outputs are kept")
    assert "Traceback" not in said
