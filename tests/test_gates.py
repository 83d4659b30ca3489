"""Gates: how they are read and judged, and that a table which fails them is never published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROWS, WIDTH, make_embeddings, run_here
from hypothesis import given
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.gates import figure_names, judge, parse_gates, sentence
from semid.id_reading import read_ids

FIGURES: dict[str, Any] = {
    "uniqueness": 0.84,
    "held_out_error": None,
    "policy": "suffix",
    "ready": True,
    "perplexity_ratio": [0.8, 0.25, 0.45],
    "levels": [{"dead": 0, "parts": [1, None]}, {"dead": 3, "parts": []}],
}


def passed(*gates: str) -> list[bool]:
    return [one.passed for one in judge(FIGURES, parse_gates(gates))]


def test_every_operator_at_its_border() -> None:
    assert passed("uniqueness >= 0.84", "uniqueness<=0.84", "uniqueness == 0.84") == [True] * 3
    assert passed("uniqueness > 0.84", "uniqueness < 0.84", "uniqueness == 0.8") == [False] * 3


def test_lists_by_least_most_mean_and_place() -> None:
    gates = ("min == 0.25", "max == 0.8", "mean == 0.5", "1 == 0.25")
    assert passed(*(f"perplexity_ratio.{gate}" for gate in gates)) == [True] * 4
    assert passed("levels.1.dead <= 2", "levels.0.dead <= 2") == [False, True]


def test_what_is_not_known_fails() -> None:
    found = judge(FIGURES, parse_gates(["held_out_error <= 1", "levels.0.parts.min >= 0"]))
    assert [(one.value, one.passed) for one in found] == [(None, False)] * 2
    assert sentence(found) == (
        "2 of 2 gates failed: held_out_error <= 1, but it is not known; levels.0.parts.min >= 0, "
        "but it is not known"
    )


def test_the_sentence_has_all_gates_with_their_values() -> None:
    found = judge(FIGURES, parse_gates(["uniqueness>=0.9", "perplexity_ratio.min >= 0.2"]))
    assert sentence(found) == (
        "1 of 2 gates failed: uniqueness >= 0.9, but it is 0.84; held: perplexity_ratio.min >= "
        "0.2 (0.25)"
    )
    assert sentence(found[1:]) is None
    assert sentence([]) is None


@pytest.mark.parametrize(
    "text", ["", "uniqueness", "uniqueness 0.9", "uniqueness => 1", ">= 1", "a >= x", "a >= nan"]
)
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(SemidError, match="cannot be read; write a figure, one of >=, <="):
        parse_gates([text])


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("uniquenes", "uniqueness"),
        ("perplexity_ratio", "perplexity_ratio.min"),
        ("perplexity_ratio.3", "perplexity_ratio.min"),
        ("perplexity_ratio.least", "perplexity_ratio.min"),
        ("dead", "levels.0.dead, levels.1.dead"),
        ("policy", "uniqueness"),
        ("ready", "uniqueness"),
        ("levels.0", "levels.0.dead"),
        ("uniqueness.x", "uniqueness"),
    ],
)
def test_an_unknown_name_lists_near_ones(path: str, near: str) -> None:
    with pytest.raises(SemidError) as error:
        judge(FIGURES, parse_gates([f"{path} >= 0"]))
    assert f"names no figure: '{path}' is not among them; near are " in str(error.value)
    assert near in str(error.value).partition("near are")[2]


def test_every_name_that_is_listed_can_be_judged() -> None:
    names = figure_names(FIGURES)
    assert "perplexity_ratio.mean" in names
    judge(FIGURES, parse_gates([f"{name} >= 0" for name in names]))


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([">=", ">", "<=", "<"]))
def test_a_gate_is_read_back_from_its_text(limit: float, sign: str) -> None:
    (gate,) = parse_gates([f" uniqueness{sign}{limit!r} "])
    assert (gate.path, gate.operator, gate.limit) == ("uniqueness", sign, limit)
    assert parse_gates([gate.text]) == [gate]


# through the commands


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(world: Path, *more: Any) -> Any:
    return run_here(
        *("evaluate", world / "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", "--no-baseline", *more),
    )


def test_evaluate_writes_its_file_and_exits_with_3(world: Path, place: Path) -> None:
    done = evaluate(world, "--gate", "uniqueness >= 0.99", "--gate", "levels.0.size == 8")
    assert done.code == 3
    assert "gate FAILED: uniqueness >= 0.99 (it is 0." in done.out
    assert "gate held: levels.0.size == 8 (it is 8)" in done.out
    assert "error: 1 of 2 gates failed: uniqueness >= 0.99, but it is 0." in done.err
    metrics = json.loads((place / "metrics.json").read_text())
    assert "gates" not in metrics
    # Another gate measures nothing again.
    held = evaluate(world, "--gate", "levels.0.size == 8", "--json").json
    assert held["up_to_date"]
    assert held["summary"]["gates"] == [{"gate": "levels.0.size == 8", "value": 8, "passed": True}]


def test_a_gate_that_is_none_is_bad_input(world: Path, place: Path) -> None:
    assert "the gate 'uniqueness' cannot be read" in evaluate(world, "--gate", "uniqueness").error
    assert not (place / "metrics.json").exists()
    assert "near are uniqueness" in evaluate(world, "--gate", "uniquenes > 1").error


def assign(world: Path, *more: Any) -> Any:
    source = ("assign", world / "embeddings.parquet", "--model", world / "model")
    return run_here(*source, "--output", "store", *more)


def test_a_failed_gate_leaves_the_published_version(world: Path, place: Path) -> None:
    assert assign(world, "--publish", "--gate", "uniqueness >= 0.01").code == 0
    assert (place / "store" / "CURRENT").read_text() == "v0001\n"
    before = read_ids(place / "store")
    pq.write_table(make_embeddings(ROWS + 50, WIDTH), place / "more.parquet")
    done = run_here(
        *("assign", "more.parquet", "--model", world / "model", "--output", "store", "--publish"),
        *("--gate", "uniqueness >= 0.9", "--gate", "perplexity_ratio.min >= 0"),
    )
    assert done.code == 3
    assert "1 of 2 gates failed: uniqueness >= 0.9, but it is " in done.err
    assert "held: perplexity_ratio.min >= 0 (" in done.err
    assert (place / "store" / "CURRENT").read_text() == "v0001\n"
    assert [p.name for p in (place / "store").glob("v*")] == ["v0001"]
    assert read_ids(place / "store").item_ids.equals(before.item_ids)
    # Why it was refused can be looked up.
    assert "its figures would be those in store.refused.json" in done.err
    refused = json.loads((place / "store.refused.json").read_text())
    assert refused["items"] == ROWS + 50
    assert refused["gates"][0] == {
        **{"gate": "uniqueness >= 0.9", "passed": False},
        **{"value": refused["uniqueness"]},
    }
    # Without the gate the same night is published.
    again = run_here(
        *("assign", "more.parquet", "--model", world / "model", "--output", "store", "--publish"),
    )
    assert again.code == 0, again.err
    assert (place / "store" / "CURRENT").read_text() == "v0002\n"


def test_a_gate_holds_for_a_night_that_changes_nothing(world: Path, place: Path) -> None:
    assert assign(world, "--publish").code == 0
    assert assign(world, "--publish", "--gate", "uniqueness >= 0.9").code == 3
    assert (place / "store.refused.json").exists()
    assert assign(world, "--publish", "--gate", "uniqueness >= 0.01").code == 0
    assert not (place / "store.refused.json").exists()
    assert (place / "store" / "CURRENT").read_text() == "v0001\n"


def test_a_failed_gate_leaves_a_single_table_too(world: Path, place: Path) -> None:
    assert assign(world).code == 0
    before = {p.name: p.read_bytes() for p in (place / "store").iterdir()}
    assert assign(world, "--overwrite", "--gate", "uniqueness >= 0.9").code == 3
    assert {p.name: p.read_bytes() for p in (place / "store").iterdir()} == before


@pytest.mark.parametrize(
    ("figure", "limit"),
    [
        ("held_out_error", "<= 0.0001"),
        ("structure.jaccard", ">= 0.99"),
        ("collisions.harmful.share", "< 0"),
        ("fidelity.item_error.p95", "< 0"),
    ],
)
def test_gates_on_embeddings_keep_what_was_there(
    world: Path, place: Path, figure: str, limit: str
) -> None:
    assert assign(world, "--publish").code == 0
    pq.write_table(make_embeddings(ROWS + 50, WIDTH, seed=1), "more.parquet")
    night = ("assign", "more.parquet", "--model", world / "model", "--output", "store", "--publish")
    done = run_here(*night, "--gate", f"{figure} {limit}", "--gate", "uniqueness > 0")
    assert done.code == 3, done.err
    assert f"1 of 2 gates failed: {figure} {limit}, but it is " in done.err
    assert (place / "store" / "CURRENT").read_text() == "v0001\n"
    assert [p.name for p in (place / "store").glob("v*")] == ["v0001"]
    held = run_here(*night, "--gate", f"{figure} >= 0", "--json").json
    assert held["summary"]["gates"][0]["value"] >= 0
    assert (place / "store" / "CURRENT").read_text() == "v0002\n"


def test_a_name_that_is_none_is_found_before_anything_is_measured(world: Path, place: Path) -> None:
    # A table whose embeddings are of no use: what is asked for is said first.
    ids = pq.read_table(world / "ids.parquet")
    pq.write_table(ids.set_column(0, "item_id", [[f"Z{i}" for i in range(ROWS)]]), "ids.parquet")
    options = (
        *("evaluate", "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", "--no-baseline"),
    )
    assert "has none of the items" in run_here(*options, "--gate", "uniqueness > 0").error
    for path in ("uniquenes", "levels.2.dead", "behaviour.step", "policy"):
        assert "names no figure" in run_here(*options, "--gate", f"{path} > 0").error
    for path, option in (
        ("behaviour.steps", "--interactions"),
        ("structure.categories.depths.0.purity", "--items with --categories"),
        (
            "baseline.uniqueness",
            "the baseline of semid evaluate, beside a model that is not one itself,",
        ),
        (
            "baseline.train_rows",
            "the baseline of semid evaluate, beside a model that is not one itself,",
        ),
    ):
        error = run_here(*options, "--gate", f"{path} > 0").error
        assert f"the gate '{path} > 0' is on a figure that only {option} gives" in error
    for path in (
        "collisions.histogram.7.items",
        "fidelity.worst.9.error",
        "nulls.structure.jaccard",
    ):
        assert "has none of the items" in run_here(*options, "--gate", f"{path} > 0").error


def test_assign_refuses_gates_that_it_cannot_judge(world: Path, place: Path) -> None:
    said = assign(world, "--gate", "behaviour.prefix_recall.0 >= 0.5").error
    assert "gate other figures in semid evaluate" in said
    assert not (place / "store").exists()


PIPELINE = """
[steps.assign]
embeddings = "e.parquet"
model = "{model}"
output = "ids"
publish = true
gates = ["uniqueness >= {least}"]

[steps.evaluate]
ids = "ids"
embeddings = "e.parquet"
model = "{model}"
output = "metrics.json"
baseline = false
gates = ["{gate}"]
"""


def pipeline(world: Path, *, least: float = 0, gate: str = "uniqueness >= 0") -> Any:
    text = PIPELINE.format(model=world / "model", least=least, gate=gate)
    Path("p.toml").write_text(text)
    return run_here("run", "p.toml")


def test_gates_of_a_pipeline(world: Path, place: Path) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet"), "e.parquet")
    assert pipeline(world).code == 0
    pq.write_table(make_embeddings(ROWS + 50, WIDTH, seed=1), "e.parquet")
    done = pipeline(world, least=0.9)
    assert done.code == 3
    assert "p.toml, step 'assign': 1 of 1 gates failed: uniqueness >= 0.9" in done.err
    assert (place / "ids" / "CURRENT").read_text() == "v0001\n"
    assert len(read_ids(place / "ids").item_ids) == ROWS


def test_a_gate_of_the_evaluate_step(world: Path, place: Path) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet"), "e.parquet")
    done = pipeline(world, gate="uniqueness >= 0.9")
    assert "held-out error" in done.out  # the table that shows why
    assert done.code == 3
    assert "p.toml, step 'evaluate': 1 of 1 gates failed" in done.err
    assert (place / "metrics.json").exists()
    # What is no gate is found before the first step.
    said = pipeline(world, gate="uniqueness").error
    assert "p.toml, step 'evaluate': the gate 'uniqueness' cannot be read" in said


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("structure.jacard >= 0.2", "'structure.jacard' is not among them; near are"),
        ("behaviour.steps > 0", "is on a figure that only --interactions gives"),
        ("levels.max.dead < 1", "names no figure"),
    ],
)
def test_gates_of_late_steps_are_read_first(world: Path, place: Path, gate: str, said: str) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet"), "e.parquet")
    done = pipeline(world, gate=gate)
    assert "p.toml, step 'evaluate': the gate" in done.error
    assert said in done.error
    assert not (place / "ids").exists()


def test_gates_of_columns_are_left_to_the_model(world: Path, place: Path) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet"), "e.parquet")
    done = pipeline(world, gate="fidelity.depths.0.columns.text.train_error < 1")
    assert "names no figure" in done.error
    assert (place / "ids").exists()


def test_no_bad_finding_can_be_a_gate(world: Path, place: Path) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet"), "e.parquet")
    done = pipeline(world, gate="severities.bad == 0")
    assert "severities.bad == 0, but it is 1" in done.err
    assert done.code == 3
