"""Several embedding columns of an item, fused: from Python, and through the command line."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here

import semid
from semid.errors import SemidError
from semid.metrics.measurement import Measurement
from semid.quantizer import Quantizer

Matrix = npt.NDArray[np.float32]
ROWS, TEXT, IMAGE = 600, 12, 20
SMALL: dict[str, Any] = {
    "model": {"latent_dim": 16, "hidden": [32]},
    "training": {"epochs": 30, "batch_size": 128},
}
fit = partial(semid.fit, levels=(16, 16), device="cpu", config=SMALL)


def drawn(seed: int = 0) -> dict[str, Matrix]:
    """Text and image that agree in nothing: each has clusters of its own."""
    random = np.random.default_rng(seed)
    found = {}
    for name, width in (("text", TEXT), ("image", IMAGE)):
        centres = 3 * random.standard_normal((8, width))
        noise = random.standard_normal((ROWS, width))
        found[name] = (centres[random.integers(8, size=ROWS)] + noise / 4).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def both() -> dict[str, Matrix]:
    return drawn()


@pytest.fixture(scope="module")
def model(both: dict[str, Matrix]) -> Quantizer:
    return fit(both)


@pytest.fixture(scope="module")
def world(both: dict[str, Matrix], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with both columns, and a model, ids and metrics made of it by commands."""
    folder = tmp_path_factory.mktemp("fused")
    write(folder / "t.parquet", both)
    settings = [f"{section}.{key}" for section in SMALL for key in SMALL[section]]
    values = [json.dumps(value) for section in SMALL.values() for value in section.values()]
    sets = [
        part for pair in zip(settings, values, strict=True) for part in ("--set", "=".join(pair))
    ]
    columns = ("--columns", "text,image", "--levels", "16,16")
    done = run_here("train", folder / "t.parquet", "-o", folder / "m", *columns, *sets)
    assert done.code == 0, done.err
    done = run_here(
        "assign", folder / "t.parquet", "-m", folder / "m", "-o", folder / "ids.parquet"
    )
    assert done.code == 0, done.err
    return folder


def write(path: Path, columns: dict[str, Any]) -> Path:
    lists = {name: pa.array(list(rows), pa.list_(pa.float32())) for name, rows in columns.items()}
    pq.write_table(pa.table({"item_id": np.arange(ROWS), **lists}), path)
    return path


# in Python


def test_a_model_remembers_its_columns(model: Quantizer, tmp_path: Path) -> None:
    assert model.widths == {"text": TEXT, "image": IMAGE}
    assert model.width == TEXT + IMAGE
    assert len(model.network.encoders) == len(model.network.decoders) == 2
    model.save(tmp_path / "model")
    loaded = semid.load(tmp_path / "model")
    assert list(loaded.widths.items()) == [("text", TEXT), ("image", IMAGE)]
    np.testing.assert_array_equal(loaded.encode(drawn()), model.encode(drawn()))


def test_columns_may_come_in_any_order_or_side_by_side(
    model: Quantizer, both: dict[str, Matrix]
) -> None:
    expected = model.encode(both)
    turned = {"image": both["image"], "text": both["text"]}
    np.testing.assert_array_equal(model.encode(turned), expected)
    together = np.concatenate([both["text"], both["image"]], axis=1)
    np.testing.assert_array_equal(model.encode(together), expected)
    decoded = model.decode(expected)
    assert decoded.shape == (ROWS, TEXT + IMAGE)
    np.testing.assert_array_equal(model.reconstruct(both), decoded)


def test_both_columns_are_reconstructed(model: Quantizer) -> None:
    errors = model.metrics["columns"]
    assert list(errors) == ["text", "image"]
    # Codes that follow one column alone leave the other at 1.
    assert max(errors[name]["held_out_error"] for name in errors) < 0.5


def test_codes_depend_on_each_column(model: Quantizer, both: dict[str, Matrix]) -> None:
    codes_nl = model.encode(both)
    for name in both:
        other = model.encode({**both, name: both[name][::-1].copy()})
        assert (other != codes_nl).any(1).mean() > 0.3, name


def test_the_size_of_a_column_does_not_matter(model: Quantizer, both: dict[str, Matrix]) -> None:
    larger = fit({"text": both["text"], "image": 1_000 * both["image"]})
    for name, errors in model.metrics["columns"].items():
        expected = pytest.approx(errors["held_out_error"], abs=0.05)
        assert larger.metrics["columns"][name]["held_out_error"] == expected


def test_one_column_may_have_any_name(both: dict[str, Matrix]) -> None:
    named, plain = fit({"text": both["text"]}), fit(both["text"])
    assert named.widths == {"text": TEXT}
    assert "columns" not in named.metrics
    np.testing.assert_array_equal(named.encode(both["text"]), plain.encode(both["text"]))


@pytest.mark.parametrize("kind", ["rqkmeans", "fsq", "autoencoder"])
def test_every_kind_takes_several(kind: str, both: dict[str, Matrix]) -> None:
    config = {} if kind == "rqkmeans" else SMALL
    found = fit(both, quantizer=kind, config=config)
    assert found.reconstruct(both).shape == (ROWS, TEXT + IMAGE)
    assert found.metrics["columns"]["image"]["held_out_error"] < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": None}, "x holds the columns 'text', but 'text', 'image' is expected"),
        ({"sound": np.ones((ROWS, 3))}, "x holds the columns 'text', 'image', 'sound', but"),
        ({"image": np.ones((ROWS, 3))}, r"have \[12, 3\] dimensions but .* on \[12, 20\]"),
        ({"image": np.zeros((ROWS, IMAGE))}, "column 'image': row 0: the embedding is all zeros"),
        ({"image": np.ones((5, IMAGE))}, "different numbers of rows"),
    ],
)
def test_other_columns_are_refused(
    model: Quantizer, both: dict[str, Matrix], change: dict[str, Any], said: str
) -> None:
    rows = {name: part for name, part in {**both, **change}.items() if part is not None}
    with pytest.raises(SemidError, match=said):
        model.encode(rows)


def test_one_column_of_several_is_too_little(model: Quantizer, both: dict[str, Matrix]) -> None:
    alone = next(iter(both.values()))
    widths = ", ".join(f"{column} ({x_nd.shape[1]})" for column, x_nd in both.items())
    with pytest.raises(SemidError, match=re.escape(f"give the columns {widths}, by name")):
        model.encode(alone)


def test_no_columns_are_refused() -> None:
    with pytest.raises(SemidError, match=r"x holds the columns \(none\), but 'at least one'|none"):
        fit({})


def test_errors_of_columns_by_hand() -> None:
    x = np.array([[0, 0], [2, 4]], np.float32)
    off = np.array([[1, 0], [0, 1]], np.float32)
    measurement = Measurement((1,), {"a": slice(0, 1), "b": slice(1, 2)})
    codes, held_n = np.zeros((2, 1), np.int32), np.zeros(2, np.bool_)
    measurement.add(x, codes, x + off, held_n)
    found = measurement.result()
    # a: 1 over (1 + 1); b: 1 over (4 + 4); their mean, whatever their sizes.
    assert found["columns"]["a"] == {"train_error": 0.5, "held_out_error": None}
    assert found["columns"]["b"] == {"train_error": 0.125, "held_out_error": None}
    assert found["train_error"] == 0.3125
    assert found["held_out_error"] is None


# through the command line


def test_the_commands_agree_with_the_library(world: Path, both: dict[str, Matrix]) -> None:
    expected = semid.load(world / "m").encode(both)
    np.testing.assert_array_equal(semid.read_ids(world / "ids.parquet").codes, expected)
    facts = run_here("show", world / "m", "--json").json
    assert facts["columns"] == {"text": TEXT, "image": IMAGE}


def test_streaming_fuses_too(world: Path, tmp_path: Path) -> None:
    done = run_here(
        *("train", world / "t.parquet", "-o", tmp_path / "m", "--columns", "text,image"),
        *("--levels", "16,16", "--set", "memory_gib=0", "--set", "training.epochs=2"),
    )
    assert done.code == 0, done.err
    assert semid.load(tmp_path / "m").widths == {"text": TEXT, "image": IMAGE}


def test_evaluate_measures_both_and_a_baseline_of_both(world: Path, tmp_path: Path) -> None:
    found = run_here(
        *("evaluate", world / "ids.parquet", "--embeddings", world / "t.parquet"),
        *("-m", world / "m", "-o", tmp_path / "metrics.json", "--json"),
    ).json["summary"]
    assert list(found["columns"]) == list(found["baseline"]["columns"]) == ["text", "image"]


def test_compare_fuses(world: Path, tmp_path: Path) -> None:
    done = run_here(
        *("compare", world / "t.parquet", "-o", tmp_path / "c", "--quantizers", "rqkmeans,random"),
        *("--seeds", "1", "--levels", "8,8", "--set", 'columns=["text","image"]', "--json"),
    )
    assert done.json["summary"]["width"] == TEXT + IMAGE


def test_check_looks_at_every_list_of_floats(world: Path, both: dict[str, Matrix]) -> None:
    facts = run_here("check", world / "t.parquet", "--json").json
    assert facts["problems"] == []
    assert facts["facts"]["width of image"] == IMAGE


def bad(both: dict[str, Matrix], name: str, row: int, value: Any) -> dict[str, Any]:
    rows = list(both[name])
    rows[row] = value
    return {**both, name: rows}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([np.nan] * IMAGE, "the embedding holds nan at position 0"),
        ([0.0] * IMAGE, "the embedding is all zeros"),
        ([1.0] * 3, "the embedding has 3 values where 20 are expected"),
        (None, "the embedding is null"),
    ],
)
def test_a_bad_row_names_its_column(
    world: Path, both: dict[str, Matrix], tmp_path: Path, value: Any, said: str
) -> None:
    source = write(tmp_path / "bad.parquet", bad(both, "image", 77, value))
    train = ("train", source, "-o", tmp_path / "m", "--columns", "text,image", "--levels", "8")
    assign = ("assign", source, "-m", world / "m", "-o", tmp_path / "ids.parquet")
    for command in (train, assign):
        error = run_here(*command).error
        assert error.startswith("column 'image': ")
        assert "row 77" in error
        assert said in error
    problems = run_here("check", source, "--json")
    assert said in problems.out


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("text,sound", "has no column 'sound'"),
        ("text,item_id", "column 'item_id' is int64, but embeddings must be lists"),
        ("text,text", "columns are ['text', 'text']; name at least one, and none of them twice"),
        ("", "columns are []; name at least one"),
    ],
)
def test_columns_that_are_not_there(world: Path, tmp_path: Path, columns: str, said: str) -> None:
    done = run_here("train", world / "t.parquet", "-o", tmp_path / "m", "--columns", columns)
    assert said in done.error


def test_a_table_of_other_widths_is_refused(
    world: Path, both: dict[str, Matrix], tmp_path: Path
) -> None:
    source = write(tmp_path / "t.parquet", {**both, "image": both["image"][:, :7].copy()})
    error = run_here("assign", source, "-m", world / "m", "-o", tmp_path / "i.parquet").error
    assert "embeddings 'image' of width 7" in error
