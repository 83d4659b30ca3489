"""Tables as they live: every version keeps the contract, and embeddings of others do not join."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, TINY, WIDTH, make_embeddings, rewrite, run_here

from semid.explained import another_encoder, explained, explained_before
from semid.quantizer import load

ITEMS = make_embeddings(500)
# Known items that are described anew, by what belonged to others.
CHANGED = {f"P{number:06d}": 100 + number for number in range(20)}
POLICIES = {
    "suffix": ("--collisions", "suffix"),
    "none": ("--collisions", "none"),
    "reassign": ("--collisions", "reassign"),
    "moved": ("--collisions", "reassign", "--move-drifted", "0.1"),
    "overflow": ("--collisions", "reassign", "--overflow", "suffix"),
}


def embed(path: Path, rows: int, *, without: Any = (), changed: Any = None) -> Path:
    """Write the first rows of the catalog, some of them left out and some changed."""
    x_nd = np.stack(ITEMS["embedding"].to_numpy())[:rows].copy()
    ids = ITEMS["item_id"].to_pylist()[:rows]
    for item, other in (changed or {}).items():
        x_nd[ids.index(item)] = x_nd[other]
    kept = [row for row, item in enumerate(ids) if item not in without]
    return write(path, x_nd[kept], [ids[row] for row in kept])


def write(path: Path, x_nd: Any, ids: list[str]) -> Path:
    values = pa.array(np.ascontiguousarray(x_nd, np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, WIDTH)
    pq.write_table(pa.table({"item_id": ids, "embedding": column}), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with 1,000 SIDs, and with fewer than there are items."""
    folder = tmp_path_factory.mktemp("models")
    pq.write_table(ITEMS, folder / "all.parquet")
    sizes = {"wide": "10,10,10", "narrow": "8,8", "other": "10,10,10"}
    for name, levels in sizes.items():
        done = run_here(
            *("train", folder / "all.parquet", "-o", folder / name, "--quantizer", "rqkmeans"),
            *("--levels", levels, "--seed", len(name)),
        )
        assert done.code == 0, done.err
    return {name: folder / name for name in sizes}


def live(folder: Path, models: dict[str, Path], policy: str) -> list[tuple[Path, Path]]:
    """Three nights and a retirement; every version with the embeddings of its night."""
    store, model = folder / "ids", models["narrow" if policy == "overflow" else "wide"]
    gone = [f"P{number:06d}" for number in (3, 30, 31, 350)]
    nights = [
        embed(folder / "one.parquet", 300),
        embed(folder / "two.parquet", 400, changed=CHANGED),
        embed(folder / "three.parquet", 500, without=set(gone[2:]), changed=CHANGED),
    ]
    (folder / "gone.txt").write_text("\n".join(gone))
    assign = ("--model", model, "-o", store, "--publish", *POLICIES[policy])
    first = assign[:-2] if "--move-drifted" in assign else assign
    for command in (
        ("assign", nights[0], *first),
        ("assign", nights[1], *assign),
        ("retire", store, folder / "gone.txt"),
        ("assign", nights[2], *assign),
    ):
        done = run_here(*command)
        assert done.code == 0, done.err
    return list(zip(sorted(store.glob("v*")), [*nights[:2], nights[1], nights[2]], strict=True))


@pytest.fixture(scope="module")
def lives(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]
) -> dict[str, list[tuple[Path, Path]]]:
    return {policy: live(tmp_path_factory.mktemp(policy), models, policy) for policy in POLICIES}


def verify(ids: Path, embeddings: Path, model: Path, *more: Any) -> Any:
    done = run_here(*("verify", ids, "--embeddings", embeddings, "--model", model, "--json", *more))
    return json.loads(done.out)["summary"]


def broken(summary: Any) -> dict[str, int]:
    return {check: count for check, count in summary["checks"].items() if count}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_version_keeps_the_contract(
    lives: dict[str, Any], models: dict[str, Path], policy: str
) -> None:
    model = models["narrow" if policy == "overflow" else "wide"]
    found = [verify(ids, night, model) for ids, night in lives[policy]]
    assert [broken(summary) for summary in found] == [{}, {}, {}, {}], found
    assert [summary["rows"] for summary in found] == [300, 400, 396, 498]
    moved = len(pq.read_table(lives[policy][1][0] / "_retired.parquet")) if policy == "moved" else 0
    assert (moved > 10) == (policy == "moved")
    # Two of the retired came back.
    assert [summary.get("retired") for summary in found[2:]] == [4 + moved, 2 + moved]
    # The one with the same codes as before is told by its distance; one left, and came back so.
    there = {"moved": 0, "overflow": 19}.get(policy, 20)
    assert [summary["excused"] for summary in found] == [0, there, max(there - 1, 0), there]
    outdated = [int(policy == "overflow")] * 3
    assert [summary["outdated"] for summary in found] == [0, *outdated]
    version, night = lives[policy][-1]
    assert broken(verify(version.parent, night, model)) == {}


def test_drifted_items_stay_known_when_others_come(tmp_path: Path, models: dict[str, Path]) -> None:
    model, store = models["wide"], tmp_path / "ids"
    one, two = (
        embed(tmp_path / "a.parquet", 300),
        embed(tmp_path / "b.parquet", 301, changed=CHANGED),
    )
    more = pq.read_table(embed(tmp_path / "c.parquet", 310)).slice(301)
    pq.write_table(more, tmp_path / "d.parquet")
    for night in (one, two, tmp_path / "d.parquet"):
        assert run_here("assign", night, "-m", model, "-o", store, "--publish").code == 0
    assert len(pq.read_table(store / "v0003" / "_drifted.parquet")) == len(CHANGED)
    found = verify(store, two, model)
    assert (broken(found), found["excused"]) == ({}, len(CHANGED))
    # Some are again as they were.
    four = embed(tmp_path / "e.parquet", 311, changed=dict(list(CHANGED.items())[:5]))
    assert run_here("assign", four, "-m", model, "-o", store, "--publish").code == 0
    assert len(pq.read_table(store / "v0004" / "_drifted.parquet")) == 5
    assert broken(verify(store, four, model)) == {}


def test_an_item_that_comes_back_changed_is_not_moved(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    model, store = models["wide"], tmp_path / "ids"
    assign = ("-m", model, "-o", store, "--publish", "--move-drifted", "0.0")
    one = embed(tmp_path / "a.parquet", 300)
    two = embed(tmp_path / "b.parquet", 300, changed={"P000003": 103})
    (tmp_path / "gone.txt").write_text("P000003")
    assert run_here("assign", one, *assign[:-2]).code == 0
    assert run_here("retire", store, tmp_path / "gone.txt").code == 0
    summary = run_here("assign", two, *assign, "--json").json["summary"]
    assert (summary["came_back"], summary["drifted"], summary["moved_for_drift"]) == (1, 1, 0)
    found = verify(store, two, model)
    assert (broken(found), found["rows"], found["excused"]) == ({}, 300, 1)


def test_sinkhorn(tmp_path: Path, models: dict[str, Path]) -> None:
    night = embed(tmp_path / "one.parquet", 300)
    command = (
        *("assign", night, "--model", models["wide"], "--publish", "-o", tmp_path / "ids"),
        *("--collisions", "sinkhorn"),
    )
    assert run_here(*command).code == 0
    assert broken(verify(tmp_path / "ids", night, models["wide"])) == {}
    (tmp_path / "gone.txt").write_text("P000007")
    assert run_here("retire", tmp_path / "ids", tmp_path / "gone.txt").code == 0
    assert broken(verify(tmp_path / "ids", night, models["wide"])) == {}
    rewrite(tmp_path / "ids" / "v0002" / "part-00000.parquet", "sid", {9: [0, 0, 0]})
    found = broken(verify(tmp_path / "ids", night, models["wide"]))
    assert found == {"manifest": 1, "sid policy": 1}


# damage


@pytest.fixture(params=["suffix", "reassign", "overflow"])
def last(
    tmp_path: Path, request: pytest.FixtureRequest, lives: dict[str, Any], models: dict[str, Path]
) -> tuple[str, Path, Any]:
    """The last version of a life, to be damaged, and what verifies it."""
    policy = request.param
    version, night = lives[policy][-1]
    shutil.copytree(version, tmp_path / "ids")
    model = models["narrow" if policy == "overflow" else "wide"]
    return policy, tmp_path / "ids", lambda: broken(verify(tmp_path / "ids", night, model))


def test_another_items_sid(last: tuple[str, Path, Any]) -> None:
    policy, ids, found = last
    part = ids / "part-00000.parquet"
    rows = pq.read_table(part)
    codes = rows["codes"].to_pylist()
    other = next(row for row in range(400, 480) if codes[row][:2] != codes[200][:2])
    rewrite(part, "sid", {200: rows["sid"][other].as_py()})
    elsewhere = {"sid policy": 1} if policy == "suffix" else {}
    assert found() == {"manifest": 1, "repeated sid": 1} | elsewhere


def test_a_code_out_of_another_row(last: tuple[str, Path, Any]) -> None:
    policy, ids, found = last
    part = ids / "part-00000.parquet"
    codes = pq.read_table(part)["codes"][200].as_py()
    rewrite(part, "codes", {200: [*codes[:-1], (codes[-1] + 1) % 8]})
    elsewhere = {"sid policy": 1} if policy == "suffix" else {}
    assert found() == {"manifest": 1, "codes": 1} | elsewhere


def test_an_item_that_stands_twice(last: tuple[str, Path, Any]) -> None:
    _, ids, found = last
    rows = pq.read_table(ids / "part-00000.parquet")
    rewrite(ids / "part-00000.parquet", "item_id", {200: rows["item_id"][201].as_py()})
    checks = found()
    assert checks.pop("repeated item_id") == 1
    assert checks.pop("manifest") == 1
    assert set(checks) <= {"codes", "distance", "margin"}  # of the other item


def test_a_retired_sid_given_away(last: tuple[str, Path, Any]) -> None:
    policy, ids, found = last
    retired = pq.read_table(ids / "_retired.parquet")
    rewrite(ids / "part-00000.parquet", "sid", {200: retired["sid"][0].as_py()})
    elsewhere = {"sid policy": 1} if policy == "suffix" else {}
    assert found() == {"manifest": 1, "retired sid is live": 1} | elsewhere


def test_a_retired_item_that_is_live(last: tuple[str, Path, Any]) -> None:
    _, ids, found = last
    live = pq.read_table(ids / "part-00000.parquet")["item_id"][200].as_py()
    rewrite(ids / "_retired.parquet", "item_id", {0: live})
    assert found() == {"manifest": 1, "retired item_id is live": 1}
    rewrite(ids / "_retired.parquet", "reason", {0: "moved"})
    assert found() == {"manifest": 1}
    second = pq.read_table(ids / "_retired.parquet")["item_id"][1].as_py()
    rewrite(ids / "_retired.parquet", "item_id", {0: second})
    assert found() == {"manifest": 1}
    rewrite(ids / "_retired.parquet", "reason", {0: "retired"})
    assert found() == {"manifest": 1, "tombstone repeated item_id": 1}


def test_a_suffix_below_zero_and_a_sid_too_short(
    tmp_path: Path, lives: dict[str, Any], models: dict[str, Path]
) -> None:
    version, night = lives["overflow"][-1]
    shutil.copytree(version, tmp_path / "ids")
    sids = pq.read_table(version / "part-00000.parquet")["sid"]
    changes = {200: [*sids[200].as_py()[:-1], -1], 201: sids[201].as_py()[:-1]}
    rewrite(tmp_path / "ids" / "part-00000.parquet", "sid", changes)
    found = broken(verify(tmp_path / "ids", night, models["narrow"]))
    assert found == {"manifest": 1, "sid range": 1, "sid length": 1}


def test_another_model(lives: dict[str, Any], models: dict[str, Path]) -> None:
    version, night = lives["reassign"][-1]
    found = broken(verify(version, night, models["other"]))
    assert found["model fingerprint"] == 1
    assert found["codes"] > 100


def test_embeddings_of_an_encoder_with_another_fingerprint(tmp_path: Path, world: Path) -> None:
    other = tmp_path / "e.parquet"
    done = run_here(*("embed", world / "items.parquet", "-o", other, *LSA, "--set", "features=512"))
    assert done.code == 0
    summary = verify(world / "ids.parquet", other, world / "model")
    assert summary["checks"]["encoder fingerprint"] == 1
    assert summary["checks"]["model fingerprint"] == 0
    same = verify(world / "ids.parquet", world / "embeddings.parquet", world / "model")
    assert same["checks"]["encoder fingerprint"] == 0


# embeddings that may not join


def turned(path: Path, first: int, stop: int) -> Path:
    """Write items as another encoder might embed them: turned at random."""
    random = np.random.default_rng(0)
    turn_dd = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    x_nd = np.stack(ITEMS["embedding"].to_numpy())[first:stop] @ turn_dd
    return write(path, x_nd, ITEMS["item_id"].to_pylist()[first:stop])


@pytest.fixture
def store(tmp_path: Path, models: dict[str, Path]) -> Path:
    night = embed(tmp_path / "one.parquet", 300)
    ids = tmp_path / "ids"
    assert run_here("assign", night, "-m", models["wide"], "-o", ids, "--publish").code == 0
    return ids


SAID = "look like another encoder's: the model explains "


def test_new_items_of_another_encoder_are_refused(
    tmp_path: Path, store: Path, models: dict[str, Path]
) -> None:
    more = turned(tmp_path / "more.parquet", 300, 500)
    said = run_here("assign", more, "-m", models["wide"], "-o", store, "--publish").error
    assert f"more.parquet: these embeddings {SAID}" in said
    own = explained_before(json.loads((models["wide"] / "metrics.json").read_text()))
    assert own is not None
    assert f"of their variance but {own:.0%} of its own items'; embed the items with" in said
    assert [path.name for path in store.glob("v*")] == ["v0001"]
    said = run_here(
        *("assign", more, "-m", models["wide"], "--previous", store, "-o", tmp_path / "out")
    ).error
    assert SAID in said
    assert not (tmp_path / "out").exists()


def test_the_new_ones_among_known_items_are_judged(
    tmp_path: Path, store: Path, models: dict[str, Path]
) -> None:
    whole = [pq.read_table(embed(tmp_path / "a.parquet", 300))]
    whole.append(pq.read_table(turned(tmp_path / "b.parquet", 300, 370)))
    pq.write_table(pa.concat_tables(whole), tmp_path / "mixed.parquet")
    command = ("-m", models["wide"], "-o", store, "--publish")
    assert SAID in run_here("assign", tmp_path / "mixed.parquet", *command).error
    # None of these is new: all of them are judged.
    assert SAID in run_here("assign", turned(tmp_path / "t.parquet", 0, 300), *command).error


def test_what_cannot_be_judged_joins(
    tmp_path: Path, store: Path, models: dict[str, Path], world: Path
) -> None:
    few = turned(tmp_path / "few.parquet", 300, 363)
    assert run_here("assign", few, "-m", models["wide"], "-o", store, "--publish").code == 0
    # A model that explains little.
    poor = tmp_path / "poor"
    noise = np.random.default_rng(0).normal(size=(300, WIDTH))
    items = [f"n{number}" for number in range(300)]
    write(tmp_path / "noise.parquet", noise, items)
    for command in (
        ("train", tmp_path / "noise.parquet", "-o", poor, *TINY),
        ("assign", tmp_path / "noise.parquet", "-m", poor, "-o", tmp_path / "n", "--publish"),
        ("assign", few.with_name("one.parquet"), "-m", poor, "-o", tmp_path / "n", "--publish"),
    ):
        done = run_here(*command)
        assert done.code == 0, done.err


def test_items_of_one_kind_join(tmp_path: Path, store: Path, models: dict[str, Path]) -> None:
    centre_d = np.stack(ITEMS["embedding"].to_numpy())[5]
    noise_nd = 0.3 * np.random.default_rng(0).normal(size=(100, WIDTH))
    kind = write(tmp_path / "kind.parquet", centre_d + noise_nd, [f"k{n}" for n in range(100)])
    assert run_here("assign", kind, "-m", models["wide"], "-o", store, "--publish").code == 0


def test_explained_by_hand(models: dict[str, Path]) -> None:
    model = load(models["wide"])
    x_nd = np.stack(ITEMS["embedding"].to_numpy())
    codes_nl = model.quantize(x_nd).codes_nl
    decoded_nd = model.decode(codes_nl)
    mean_d = decoded_nd.mean(0)
    expected = 1 - np.square(x_nd - decoded_nd).sum() / np.square(x_nd - mean_d).sum()
    halves = [(x_nd[:200], codes_nl[:200]), (x_nd[200:], codes_nl[200:])]
    assert explained(model, codes_nl, halves) == pytest.approx(expected, rel=1e-5)
    # What decodes to itself is explained wholly.
    assert explained(model, codes_nl, [(decoded_nd, codes_nl)]) == pytest.approx(1)


def test_who_is_told_from_how_much_is_explained() -> None:
    assert explained_before({"held_out_error": 0.4, "train_error": 0.3}) == pytest.approx(0.6)
    assert explained_before({"held_out_error": None, "train_error": 0.3}) == pytest.approx(0.7)
    assert explained_before({}) is None
    assert another_encoder(0.15, 0.6, 64) is None
    assert another_encoder(0.14, 0.6, 63) is None
    assert another_encoder(-1.0, 0.19, 1_000) is None
    assert another_encoder(None, 0.6, 64) is None
    assert another_encoder(0.14, 0.6, 64) == (
        "these embeddings look like another encoder's: the model explains 14% of their variance "
        "but 60% of its own items'"
    )
