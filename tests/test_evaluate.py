"""`semid evaluate`: tables in any order, what is known beside them, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROWS, WIDTH, make_embeddings, run_here

import semid
from semid import coded_items
from semid.artifact import read_header
from semid.data_facts import examine
from semid.evaluation.findings import Fit, findings
from semid.evaluation.names import expected_figures
from semid.fit_config import FitConfig
from semid.gates import figure_names, parse_gates, require_names
from semid.metrics.neighbours import prefix_purity
from semid.neighbours import Nearest, nearest_neighbours
from semid.printing import metrics_table
from semid.training_data import held_out


def evaluate(world: Path, *more: Any, ids: Any = None, embeddings: Any = None) -> Any:
    done = run_here(
        *("evaluate", ids or world / "ids.parquet"),
        *("--embeddings", embeddings or world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", "--overwrite", *more),
    )
    assert done.code == 0, done.err
    return json.loads(Path("metrics.json").read_text())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shuffled(source: Path, target: str, seed: int, rows: int = ROWS) -> pa.Table:
    table = pq.read_table(source)
    order = np.random.default_rng(seed).permutation(ROWS)[:rows]
    pq.write_table(table.take(pa.array(order)), target)
    return pq.read_table(target)


def met(world: Path, users: int = 60) -> pa.Table:
    """Interactions: users walk along items that stand beside each other, one is of no item."""
    names = pq.read_table(world / "ids.parquet")["item_id"].to_pylist()
    random = np.random.default_rng(0)
    rows = [
        (user, names[(start + step) % ROWS], step)
        for user, start in enumerate(random.integers(0, ROWS, users).tolist())
        for step in range(6)
    ]
    columns = zip(*[*rows, (0, "no item", 9)], strict=True)
    return pa.table(dict(zip(("user_id", "item_id", "position"), map(list, columns), strict=True)))


def known(world: Path) -> tuple[Any, ...]:
    """Write items and interactions, and return the options that name them."""
    pq.write_table(met(world), "met.parquet")
    return (
        *("--items", world / "items.parquet", "--categories", "brand"),
        *("--interactions", "met.parquet"),
    )


def flat(figures: Any, path: str = "") -> dict[str, Any]:
    if isinstance(figures, dict):
        pairs = figures.items()
    elif isinstance(figures, list):
        pairs = enumerate(figures)
    else:
        return {path: figures}
    return {k: v for key, value in pairs for k, v in flat(value, f"{path}.{key}").items()}


def test_neither_table_has_to_be_in_order(world: Path, place: Path) -> None:
    more = known(world)
    one = evaluate(world, *more, "--no-baseline")
    shuffled(world / "ids.parquet", "ids.parquet", 1)
    shuffled(world / "embeddings.parquet", "e.parquet", 2)
    two = evaluate(world, *more, "--no-baseline", ids="ids.parquet", embeddings="e.parquet")
    one, two = flat(one), flat(two)
    assert list(one) == list(two)
    for name, value in one.items():
        if isinstance(value, float):
            assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        else:
            assert two[name] == value, name


def test_figures_agree_with_the_table(world: Path, place: Path) -> None:
    found = evaluate(world, *known(world))
    ids = pq.read_table(world / "ids.parquet")
    codes = np.array(ids["codes"].to_pylist())
    distinct = len(np.unique(codes, axis=0))
    assert (found["format_version"], found["quantizer"], found["policy"]) == (1, "rqvae", "suffix")
    assert found["items"] == found["embedded"] == ROWS
    assert found["uniqueness"] == pytest.approx(distinct / ROWS)
    assert found["utilization"]["sids"] == distinct
    assert found["perplexity_ratio"] == [level["perplexity_ratio"] for level in found["levels"]]
    suffix = np.array(ids["sid"].to_pylist())[:, 2]
    assert found["change"]["suffixes"] == found["collisions"]["largest_group"] == suffix.max() + 1
    assert found["change"]["moved"] == 0
    x = np.array(pq.read_table(world / "embeddings.parquet")["embedding"].to_pylist(), np.float32)
    near = nearest_neighbours(x, np.arange(ROWS), 10)
    purity = prefix_purity(codes, np.arange(ROWS), near)
    assert found["structure"]["prefix_purity"] == pytest.approx(purity.tolist(), abs=1e-3)
    categories = found["structure"]["categories"]
    assert (categories["column"], categories["items"], categories["categories"]) == (
        "brand",
        ROWS,
        4,
    )
    behaviour = found["behaviour"]
    assert (behaviour["interactions"], behaviour["of_other_items"]) == (361, 1)
    assert behaviour["steps"] == 300
    baseline = found["baseline"]
    assert baseline["items"] == ROWS
    assert {"uniqueness", "levels", "structure", "held_out_error"} <= set(baseline)
    brands = found["fidelity"]["categories"]
    assert sum(one["items"] for one in brands) == ROWS
    for side in ("train", "held_out"):
        assert all(one[f"{side}_r2"] == 1 - one[f"{side}_error"] for one in brands)
        low, high = (pick(one[f"{side}_cosine"] for one in brands) for pick in (min, max))
        assert low <= found["fidelity"]["depths"][-1][f"{side}_cosine"] <= high
    whole = sum(one["items"] * one["cosine"] for one in brands) / ROWS
    assert min(one["error"] for one in brands) <= found["train_error"] * 1.05
    assert whole == pytest.approx(np.mean([one["cosine"] for one in brands]), abs=0.05)
    assert 0 < found["structure"]["standard_errors"]["jaccard"] < 0.05
    for name in ("prefix_purity", "cohesion"):
        assert 0 < found["structure"]["standard_errors"][name][0] < 0.05
    titles = {item["item"]["title"] for item in found["fidelity"]["worst"]}
    assert titles <= set(pq.read_table(world / "items.parquet")["title"].to_pylist())


def test_categories_may_be_paths_of_some_items(world: Path, place: Path) -> None:
    items = pq.read_table(world / "items.parquet").slice(0, ROWS - 9)
    paths = [["all", brand] for brand in items["brand"].to_pylist()]
    paths[0] = None
    items = items.append_column("path", pa.array(paths))
    pq.write_table(items, "items.parquet")
    found = evaluate(world, "--items", "items.parquet", "--categories", "path", "--no-baseline")
    assert found["structure"]["categories"]["items"] == ROWS - 10
    assert {one["category"] for one in found["fidelity"]["categories"]} == {
        f"all > {brand}" for brand in set(items["brand"].to_pylist())
    }


def test_errors_are_relative_to_their_own_column(world: Path, place: Path) -> None:
    """However much larger the numbers of another column are, one that is ruined is seen."""
    random = np.random.default_rng(0)
    small, large = (random.standard_normal((ROWS, 4)) * scale for scale in (1, 100))
    lists = {
        name: pa.array(x.astype(np.float32).tolist(), pa.list_(pa.float32(), 4))
        for name, x in (("text", small), ("image", large))
    }
    names = [f"i{row}" for row in range(ROWS)]
    pq.write_table(pa.table({"item_id": names, **lists}), "e.parquet")
    groups = ["a" if row % 3 else "b" for row in range(ROWS)]
    pq.write_table(pa.table({"item_id": names, "title": names, "group": groups}), "items.parquet")
    fit = ("--levels", "4,4", "--quantizer", "rqkmeans", "--columns", "text,image")
    assert run_here("train", "e.parquet", *fit, "--output", "model").code == 0
    assert run_here("assign", "e.parquet", "--model", "model", "--output", "ids.parquet").code == 0
    done = run_here(
        *("evaluate", "ids.parquet", "--embeddings", "e.parquet", "--model", "model"),
        *("--items", "items.parquet", "--categories", "group", "--output", "m.json", "--json"),
    )
    found = done.json["summary"]
    by_group = found["fidelity"]["categories"]
    held = semid.load("model").metrics["held_out_rows"]
    whole = found["fidelity"]["depths"][-1]
    x_nd = np.concatenate([small, large], 1).astype(np.float32)
    codes_nl = np.array(pq.read_table("ids.parquet")["codes"].to_pylist(), np.int32)
    off_nd = np.square(x_nd - semid.load("model").decode(codes_nl))
    held_n = held_out(pa.array(names), 0.1)
    assert held_n.sum() == held
    errors = []
    for dims in (slice(0, 4), slice(4, 8)):
        train_nd = x_nd[~held_n, dims].astype(np.float64)
        unit = np.square(train_nd - train_nd.mean(0)).sum(1).mean()
        errors.append(off_nd[:, dims].sum(1) / unit)
    error_n = np.mean(errors, 0)
    assert whole["train_error"] == pytest.approx(error_n[~held_n].mean(), rel=1e-4)
    group_n = np.array(groups)
    for one in by_group:
        here_n = group_n == one["category"]
        assert one["error"] == pytest.approx(error_n[here_n].mean(), rel=1e-4)
        assert one["train_error"] == pytest.approx(error_n[here_n & ~held_n].mean(), rel=1e-4)
    assert len(by_group) == 2
    worst = found["fidelity"]["worst"][0]
    assert worst["error"] == pytest.approx(error_n.max(), rel=1e-4)


def test_categories_of_another_catalog_are_refused(world: Path, place: Path) -> None:
    ids = pq.read_table(world / "ids.parquet")["item_id"]
    given = (
        *("evaluate", world / "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "m.json", "--no-baseline"),
        *("--items", "items.parquet", "--categories", "c"),
    )
    other = pa.table({"item_id": [f"other {i}" for i in range(9)], "c": ["a"] * 9})
    empty = pa.table({"item_id": ids, "c": pa.nulls(len(ids), pa.string())})
    for table in (other, empty, empty.set_column(1, "c", [[""] * len(ids)])):
        pq.write_table(table, "items.parquet")
        assert "column 'c' of items.parquet has no category of any item" in run_here(*given).error
    few = ["a" if row < 100 else "" for row in range(len(ids))]
    pq.write_table(pa.table({"item_id": ids, "c": few}), "items.parquet")
    assert f"100 of {len(ids)} items have a category" in run_here(*given).out


def test_items_without_embeddings_are_counted_and_said(world: Path, place: Path) -> None:
    shuffled(world / "embeddings.parquet", "e.parquet", 3, rows=ROWS - 50)
    found = evaluate(world, "--no-baseline", embeddings="e.parquet")
    assert (found["items"], found["embedded"]) == (ROWS, ROWS - 50)
    said = {one["about"]: one for one in found["findings"]}
    assert said["items"]["severity"] == "note"
    assert said["items"]["says"].startswith(f"50 of {ROWS} items have no embedding")


def test_the_baseline_and_the_ceiling_are_of_the_same_items(world: Path, place: Path) -> None:
    # Twins of every item, without embeddings: each shares its ID with one that is not measured.
    model, source = world / "model", pq.read_table(world / "embeddings.parquet")
    twins = source.set_column(0, "item_id", pa.array([f"T{row}" for row in range(ROWS)]))
    pq.write_table(pa.concat_tables([source, twins.cast(source.schema)]), "e.parquet")
    done = run_here("assign", "e.parquet", "--model", model, "--output", "ids.parquet")
    assert done.code == 0, done.err
    alone, both = evaluate(world), evaluate(world, ids="ids.parquet")
    assert (both["items"], both["embedded"]) == (2 * ROWS, ROWS)
    assert both["uniqueness"] == pytest.approx(alone["uniqueness"] / 2)
    for name in ("uniqueness", "perplexity_ratio"):
        assert both["of_embedded"][name] == alone["of_embedded"][name] == alone[name]
        assert both["baseline"][name] == alone["baseline"][name]
    said = [next(f for f in one["findings"] if f["about"] == "uniqueness") for one in (alone, both)]
    assert said[0]["severity"] == said[1]["severity"]
    assert f"uniqueness is {alone['uniqueness']:.3f} where" in said[1]["says"]
    table = metrics_table(both)
    assert "items with embeddings" in table
    for value in (alone["uniqueness"], alone["baseline"]["uniqueness"]):
        assert f"{value:.4f}" in table


def test_unlike_items_collide_however_large_the_mean_is(world: Path, place: Path) -> None:
    # Codes that say nothing of the embeddings, whose mean is a hundred times their spread.
    table = make_embeddings(ROWS, WIDTH)
    x = np.array(table["embedding"].to_pylist()) + 100
    table = table.set_column(1, "embedding", pa.array(x.tolist(), pa.list_(pa.float32(), WIDTH)))
    pq.write_table(table, "e.parquet")
    options = ("--levels", "2,2", "--quantizer", "rqkmeans", "--output", "model")
    assert run_here("train", "e.parquet", *options).code == 0
    done = run_here("assign", "e.parquet", "--model", "model", "--output", "ids.parquet")
    assert done.code == 0, done.err
    found = []
    for more in ((), ("--unlike-below", "-0.9"), ("--seed", "1")):
        done = run_here(
            *("evaluate", "ids.parquet", "--embeddings", "e.parquet", "--model", "model"),
            *("--output", "metrics.json", "--no-baseline", "--overwrite", *more),
        )
        assert done.code == 0, done.err
        found.append(json.loads((place / "metrics.json").read_text()))
    harmful, null = (one["collisions"]["harmful"] for one in (found[0], found[0]["nulls"]))
    assert 0.1 < harmful["share"] < null["share"]
    assert null["cosine"] < harmful["cosine"] < 0.9
    assert abs(null["cosine"]) < 0.1
    assert found[1]["collisions"]["harmful"]["share"] < 0.05
    assert found[2]["uniqueness"] == found[0]["uniqueness"]
    # The model is the baseline itself.
    done = run_here(
        *("evaluate", "ids.parquet", "--embeddings", "e.parquet", "--model", "model"),
        *("--output", "alone.json", "--json"),
    )
    assert "baseline" not in done.json["summary"]
    assert found[2]["nulls"]["levels"] != found[0]["nulls"]["levels"]


def test_embeddings_may_be_of_many_other_items(
    world: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded_items, "BATCH_ROWS", 64)
    # Batches before the first item, between items, and after the last have none of them.
    ids = pq.read_table(world / "ids.parquet")
    pq.write_table(pa.concat_tables([ids.slice(200, 10), ids.slice(300, 10)]), "ids.parquet")
    found = evaluate(world, "--no-baseline", ids="ids.parquet")
    assert found["items"] == found["embedded"] == 20
    x = np.array(pq.read_table(world / "embeddings.parquet")["embedding"].to_pylist(), np.float32)
    facts = examine(x[np.r_[200:210, 300:310]], 8, seed=0).as_plain()
    assert found["data"]["tail_share"] == pytest.approx(facts["tail_share"])


def test_a_store_that_lived_is_measured(world: Path, place: Path) -> None:
    pq.write_table(make_embeddings(ROWS + 40, WIDTH, seed=5), "more.parquet")
    for source in (world / "embeddings.parquet", "more.parquet"):
        done = run_here(
            *("assign", source, "--model", world / "model", "--output", "ids", "--publish"),
            *("--collisions", "suffix"),
        )
        assert done.code == 0, done.err
    found = evaluate(world, "--no-baseline", ids="ids")
    assert found["items"] > found["embedded"] == ROWS


def test_items_that_a_policy_moved_cost_what_their_ids_say(world: Path, place: Path) -> None:
    from semid.quantizer import load

    table = pq.read_table(world / "embeddings.parquet").slice(0, 30)
    pq.write_table(table, "few.parquet")
    done = run_here(
        *("assign", "few.parquet", "--model", world / "model", "--output", "ids.parquet"),
        *("--collisions", "reassign"),
    )
    assert done.code == 0, done.err
    found = evaluate(world, "--no-baseline", ids="ids.parquet", embeddings="few.parquet")
    model, ids = load(world / "model"), pq.read_table("ids.parquet")
    x = np.array(table["embedding"].to_pylist(), np.float32)
    codes, sids = (np.array(ids[name].to_pylist()) for name in ("codes", "sid"))
    moved = (codes != sids).any(1)
    assert found["change"]["moved"] == moved.sum() > 0
    raw, kept = (float(np.square(x - model.decode(c)).sum()) for c in (codes, sids))
    assert found["change"]["added_error"] == pytest.approx((kept - raw) / raw, rel=1e-4)
    assert found["change"]["suffixes"] is None


def test_every_figure_can_be_a_gate(world: Path, place: Path) -> None:
    figures = evaluate(world, *known(world))
    names = figure_names(figures)
    header = read_header(world / "model")
    several = {"met": True, "categories": True, "baseline": True}
    schema = expected_figures(header["levels"], header["columns"], **several)
    of_fit = {"baseline": schema["baseline"] | dict.fromkeys(("train_rows", "fitted_rows"))}
    of_fit["baseline"] |= {"held_out_rows": None}
    severities = dict.fromkeys(("bad", "warning", "note"))
    schema = {**schema, **of_fit, "format_version": 1, "severities": severities}
    require_names(schema, parse_gates([f"{name} > 0" for name in names]))
    for name in ("uniqueness", "perplexity_ratio.min", "levels.1.branching.effective"):
        assert name in names
    done = run_here(
        *("evaluate", world / "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", *known(world)),
        *("--gate", "structure.common_prefix_ratio > 1", "--gate", "baseline.uniqueness > 0"),
        *("--gate", "structure.categories.levels.0.ami > -1"),
    )
    assert done.code == 0, done.err
    assert done.out.count("gate held") == 3


def test_a_table_without_its_model_is_measured_but_for_what_codes_decode_to(
    world: Path, place: Path
) -> None:
    whole = evaluate(world, *known(world), "--no-baseline")
    table = pq.read_table(world / "ids.parquet").replace_schema_metadata(None)
    pq.write_table(table.drop_columns(["distance", "margin"]), "ids.parquet")
    given = ("ids.parquet", "--embeddings", world / "embeddings.parquet", *known(world))
    done = run_here("evaluate", *given, "--output", "alone.json", "--gate", "uniqueness > 0")
    assert done.code == 0, done.err
    alone = json.loads(Path("alone.json").read_text())
    assert (alone["quantizer"], alone["train_error"], alone["held_out_error"]) == (None,) * 3
    assert alone["fidelity"] == {"depths": [], "item_error": None, "worst": []}
    assert "baseline" not in alone
    # What codes, embeddings and users say is as with the model; the items held out are not known.
    sizes = [level["size"] for level in alone["levels"]]
    assert sizes == [int(size) for size in np.array(table["codes"].to_pylist()).max(0) + 1]
    assert alone["collisions"] == whole["collisions"]
    assert alone["uniqueness"] == whole["uniqueness"]
    for part, left_out in (
        ("structure", {"jaccard", "rank_biased_overlap"}),
        ("behaviour", {"hit_rate"}),
    ):
        assert set(whole[part]) - set(alone[part]) == left_out
    for name in ("common_prefix", "prefix_purity", "cohesion", "categories"):
        assert alone["structure"][name] == whole["structure"][name], name
    assert alone["behaviour"]["prefix_recall"] == whole["behaviour"]["prefix_recall"]
    of_the_model = [one for one in whole["findings"] if one not in alone["findings"]]
    assert {one["about"].split()[0] for one in of_the_model} <= {"level", "error", "data", "cold"}
    assert "not looked at: what codes decode to, and how levels were trained (--model)" in done.out
    assert "error" not in done.out.split("\n\n")[1]
    for gate, said in (
        ("structure.jaccard > 0", "'structure.jaccard > 0' is on a figure that only --model gives"),
        ("structure.jacard > 0", "'structure.jacard'"),
    ):
        refused = run_here("evaluate", *given, "--output", "b.json", "--gate", gate)
        assert (refused.code, said in refused.err) == (2, True), refused.err
    page = run_here(
        *("report", "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--metrics", "alone.json", "--output", "report.html"),
    )
    assert page.code == 0, page.err


def test_levels_that_an_imported_table_notes_are_held_against_it(world: Path, place: Path) -> None:
    exported = ("export", world / "ids.parquet", "--format", "npz", "--output", "ids.npz")
    assert run_here(*exported).code == 0
    imported = ("import", "ids.npz", "--format", "npz", "--output", "again.parquet")
    assert run_here(*imported, "--levels", "9,9").code == 0
    done = run_here(
        *("evaluate", "again.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--output", "alone.json"),
    )
    assert done.code == 0, done.err
    levels = json.loads(Path("alone.json").read_text())["levels"]
    assert [level["size"] for level in levels] == [9, 9]


def test_interactions_of_another_catalog_are_refused_or_told(world: Path, place: Path) -> None:
    table = met(world)
    strange = pa.array([f"other {row}" for row in range(len(table))])
    pq.write_table(table.set_column(1, "item_id", strange), "strange.parquet")
    arguments = ("--embeddings", world / "embeddings.parquet", "--model", world / "model")
    more = ("--no-baseline", "--output", "m.json", "--interactions", "strange.parquet")
    done = run_here("evaluate", world / "ids.parquet", *arguments, *more)
    assert "none of the 361 interactions in strange.parquet is of an item of the" in done.error
    half = pa.array(
        [
            a if row % 2 else b
            for row, (a, b) in enumerate(
                zip(table["item_id"].to_pylist(), strange.to_pylist(), strict=True)
            )
        ]
    )
    pq.write_table(table.set_column(1, "item_id", half), "half.parquet")
    found = evaluate(world, "--no-baseline", "--interactions", "half.parquet")["findings"]
    (one,) = (one for one in found if one["about"] == "interactions")
    assert one["says"].startswith("181 of 361 interactions are of items that the table does not")


def test_a_catalog_too_small_for_the_baseline(world: Path, place: Path) -> None:
    pq.write_table(pq.read_table(world / "embeddings.parquet").slice(0, 3), "few.parquet")
    assert run_here("assign", "few.parquet", "--model", world / "model", "-o", "few").code == 0
    more = ("--embeddings", "few.parquet", "--model", world / "model", "--output", "m.json")
    done = run_here("evaluate", "few", *more)
    assert done.error.startswith("the baseline cannot be fitted: ")
    assert done.error.endswith("; or leave it out by --no-baseline")
    assert run_here("evaluate", "few", *more, "--no-baseline").code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--categories", "brand"), "categories is 'brand', a column of the items table; give it"),
        (("--items", "ITEMS", "--categories", "price"), "column 'price' is double, but categories"),
        (("--items", "ITEMS", "--categories", "kind"), "has no column 'kind'"),
        (("--items", "ITEMS", "--title", "name"), "has no column 'name'"),
        (("--interactions", "ITEMS"), "has no column 'user_id'"),
        (("--memory", "0"), "the memory is 0.0 GiB"),
    ],
)
def test_bad_input(world: Path, place: Path, more: tuple[str, ...], said: str) -> None:
    more = tuple(str(world / "items.parquet") if one == "ITEMS" else one for one in more)
    done = run_here(
        *("evaluate", world / "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", "--no-baseline", *more),
    )
    assert said in done.error
    assert not (place / "metrics.json").exists()


def test_the_worst_finding_comes_first(world: Path, place: Path) -> None:
    done = run_here(
        *("evaluate", world / "ids.parquet", "--embeddings", world / "embeddings.parquet"),
        *("--model", world / "model", "--output", "metrics.json", "--no-baseline"),
    )
    found = json.loads((place / "metrics.json").read_text())["findings"]
    order = [("bad", "warning", "note").index(one["severity"]) for one in found]
    assert order == sorted(order)
    assert found[0]["about"] == "uniqueness"
    assert "use more or larger levels: there are 64 raw IDs for 400 items" in found[0]["advice"]
    assert done.out.startswith(f"- bad: uniqueness: {found[0]['says']}")


# findings


def figures(**more: Any) -> dict[str, Any]:
    """Figures with which nothing is wrong."""
    level = {"size": 8, "perplexity": 7.0}
    found = {
        "items": 1000,
        "embedded": 1000,
        "uniqueness": 0.97,
        "perplexity_ratio": [0.875, 0.875],
        "levels": [level, level],
        "train_error": 0.4,
        "held_out_error": 0.45,
        "collisions": {
            "share_in_groups": 0.06,
            "largest_group": 3,
            "uniqueness_ceiling": 1.0,
            "harmful": {
                **{"share": 0.0, "share_of_items": 0.0},
                **{"threshold": 0.8, "examples": []},
            },
        },
        "utilization": {"space": 64},
        "structure": {"common_prefix_ratio": 20.0, "cold_support": []},
        "change": {"added_error": 0.0, "moved_share": 0.0, "suffixes": 3},
        "nulls": {
            "uniqueness": {"random": 0.999},
            "levels": [{"perplexity_ratio": 0.99}, {"perplexity_ratio": 0.99}],
            "structure": {"prefix_purity": [0.14]},
            "behaviour": {"prefix_recall": [0.5]},
        },
    } | more
    like = {"collisions": {"share_in_groups": found["collisions"]["share_in_groups"]}}
    return {"of_embedded": {"uniqueness": found["uniqueness"], **like}, **found}


def near(ratio: float, purity: float) -> dict[str, Any]:
    return {"common_prefix_ratio": ratio, "prefix_purity": [purity], "cold_support": []}


def steps(recall: float, error: float) -> dict[str, Any]:
    return {"prefix_recall": [recall], "standard_errors": {"prefix_recall": [error]}}


def said(**more: Any) -> list[tuple[str, str]]:
    x = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    fit = Fit(FitConfig(levels=(8, 8)), [], 900)
    found = findings(figures(**more), examine(x, 8, seed=0), fit)
    return [(one["severity"], one["about"]) for one in found]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert said() == []


def test_what_is_found_and_how_bad_it_is() -> None:
    collisions = figures()["collisions"] | {"share_in_groups": 0.5}
    pair = {"items": [{"item_id": "a"}, {"item_id": "b", "title": "B"}], "cosine": 0.1}
    harmful = {"share": 0.3, "share_of_items": 0.15, "threshold": 0.8, "examples": [pair]}
    bad = {"size": 8, "perplexity": 1.5}
    usual = {"size": 8, "perplexity": 7.0}
    poor = {"quantizer": "rqkmeans", "held_out_error": 0.4, "uniqueness": 0.99}
    one_code = figures()["nulls"] | {"behaviour": {"prefix_recall": [1.0]}}
    cases: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        ({"uniqueness": 0.85}, [("warning", "uniqueness")]),
        ({"uniqueness": 0.7}, [("bad", "uniqueness")]),
        ({"collisions": collisions | {"harmful": harmful}}, [("warning", "collisions")]),
        (
            {"perplexity_ratio": [0.1875, 0.875], "levels": [bad, usual]},
            [("bad", "level 0")],
        ),
        ({"held_out_error": 0.7}, [("warning", "error")]),
        ({"baseline": poor}, [("warning", "error"), ("warning", "uniqueness")]),
        ({"structure": near(1.1, 0.15)}, [("bad", "structure")]),
        # With few codes, no more than a few times as many are possible.
        ({"structure": near(2.3, 0.58)}, []),
        (
            {"structure": near(20, 0.9) | {"categories": {"items": 400}}},
            [("warning", "categories")],
        ),
        ({"behaviour": steps(0.5, 0.01)}, [("warning", "behaviour")]),
        # Two clean clusters; all items in one; and three steps.
        ({"behaviour": steps(0.97, 0.01)}, []),
        ({"behaviour": steps(1.0, 0.0), "nulls": one_code}, []),
        ({"behaviour": steps(0.33, 0.33)}, []),
        ({"embedded": 990, "uniqueness": 0.85}, [("warning", "uniqueness"), ("note", "items")]),
        (
            {"change": {"added_error": 0.1, "moved_share": 0.2, "suffixes": 9}},
            [("warning", "change"), ("warning", "change")],
        ),
    ]
    for more, expected in cases:
        assert said(**more) == expected, more


def test_few_items_are_not_held_against_their_levels() -> None:
    few = [{"perplexity_ratio": 0.375}, {"perplexity_ratio": 0.375}]
    nulls = {"uniqueness": {"random": 0.999}, "levels": few}
    low = [{"size": 8, "perplexity": 3.0}] * 2
    found = said(items=3, embedded=3, perplexity_ratio=[0.375, 0.375], levels=low, nulls=nulls)
    assert found == [("note", "items")]


def test_of_one_severity_the_farthest_beyond_its_threshold_comes_first() -> None:
    # Held-out error 1.04 times as much as may be; or 1.3; suffixes 2, or 1.1 times.
    for suffixes, first in ((16, "change"), (8, "error")):
        change = {"added_error": 0.0, "moved_share": 0.0, "suffixes": suffixes + 1}
        held = 0.4 * 1.5 * (1.04 if first == "change" else 1.3)
        assert said(held_out_error=held, change=change)[0] == ("warning", first)
    bad, worse = ({"size": 8, "perplexity": 8 * ratio} for ratio in (0.2, 0.15))
    found = said(perplexity_ratio=[0.2, 0.15], levels=[bad, worse], uniqueness=0.2)
    assert found == [("bad", "uniqueness"), ("bad", "level 1"), ("bad", "level 0")]


# neighbours in a stream


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_nearest_of_a_stream_are_those_of_all(parts: int) -> None:
    x = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    nearest = Nearest(x[:40], 7, np.arange(300))
    for rows in np.array_split(np.random.default_rng(1).permutation(300), parts):
        nearest.add(x[rows], rows)
    found = nearest.result(np.arange(40))
    np.testing.assert_array_equal(found, nearest_neighbours(x, np.arange(40), 7))


def test_nearest_of_few_rows_and_of_twins() -> None:
    x = np.array([[0], [1], [1], [3]], np.float32)
    nearest = Nearest(x[:1], 5, np.array([0, 2, 1, 3]))
    nearest.add(x, np.arange(4))
    assert nearest.result(np.array([0])).tolist() == [[2, 1, 3, -1, -1]]


@pytest.mark.parametrize("kind", ["copies", "equidistant"])
@pytest.mark.parametrize("parts", [1, 7])
def test_ties_go_by_the_given_order_however_many_they_are(kind: str, parts: int) -> None:
    random = np.random.default_rng(0)
    if kind == "copies":
        x = random.standard_normal((12, 5)).astype(np.float32)[random.integers(0, 12, 900)]
    else:  # all corners of a cube: 7 at distance 1, 21 at 2, 35 at 3
        x = ((np.arange(128)[:, None] >> np.arange(7)) & 1).astype(np.float32)
    n = len(x)
    tie_n = random.permutation(n)
    nearest = Nearest(x[:30], 20, tie_n)
    for rows in np.array_split(random.permutation(n), parts):
        nearest.add(x[rows], rows)
    apart_qn = np.square(x[:30, None] - x).sum(2)
    apart_qn[np.arange(30), np.arange(30)] = np.inf
    expected = [np.lexsort((tie_n, apart_n))[:20].tolist() for apart_n in apart_qn]
    assert nearest.result(np.arange(30)).tolist() == expected
