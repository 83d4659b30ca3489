"""Probes: what is trained on which table, where targets rank, what is written and refused."""

from __future__ import annotations

import multiprocessing
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import run_here, start
from hypothesis import given
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.id_reading import read_ids
from semid.id_table import IdTable
from semid.jobs.named_tables import name_and_path
from semid.jobs.probe_runs import devices_of, listening, memory_told, runs_of
from semid.jobs.progress import bar
from semid.metrics.ranking import MISSED, ndcg_at, recall_at
from semid.probe.judging import GROUPS, Ranks, figures
from semid.probe.page import by_group, html, lead, markdown, overview
from semid.probe.run import Protocol
from semid.probe.settings import (
    MODELS,
    PRESETS,
    NetworkSettings,
    ProbeSettings,
    settings_of,
    unlike_preset,
)
from semid.probe.summary import Spread, spread, summarise

# ranks


def test_recall_and_ndcg_by_hand():
    before = np.array([0, 4, 5, 3, MISSED])
    tied = np.array([1, 1, 1, 4, 2])
    # The fourth shares the places 3, 4, 5 and 6, two of which are among the first five.
    np.testing.assert_allclose(recall_at(before, tied, 5), [1, 1, 0, 0.5, 0])
    gain = 1 / np.log2([2, 6, 5, 6])
    expected = [gain[0], gain[1], 0, (gain[2] + gain[3]) / 4, 0]
    np.testing.assert_allclose(ndcg_at(before, tied, 5), expected)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(1, 8), st.data())
def test_ties_are_the_mean_over_orders(scores, k, data):
    """Every order of tied items, one after the other, in place of the formula."""
    scores = np.array(scores)
    target = data.draw(st.integers(0, len(scores) - 1))
    before, tied = (scores > scores[target]).sum(), (scores == scores[target]).sum()
    places = before + np.arange(tied)
    recall = np.mean(places < k)
    gain = np.mean(np.where(places < k, 1 / np.log2(places + 2), 0))
    asked = np.array([before]), np.array([tied]), k
    assert recall_at(*asked)[0] == pytest.approx(recall)
    assert ndcg_at(*asked)[0] == pytest.approx(gain)


def test_groups_by_hand():
    # Ten items: item 0 is the head, 1 to 4 the torso, the others the tail; 9 was never met.
    met = np.array([50, 20, 19, 18, 17, 5, 4, 3, 2, 0])
    ranks = Ranks(np.array([0, 9, 0, MISSED]), np.ones(4, np.int64), np.array([0, 3, 9, 9]))
    found = figures(ranks, met)
    assert list(found) == list(GROUPS)
    assert {name: group["targets"] for name, group in found.items()} == {
        **{"all": 4, "head": 1, "torso": 1, "tail": 2, "cold": 2}
    }
    assert found["all"]["recall@10"] == pytest.approx(3 / 4)
    assert found["all"]["recall@5"] == pytest.approx(2 / 4)
    assert found["torso"]["ndcg@10"] == pytest.approx(1 / np.log2(11))
    assert found["cold"] == found["tail"]
    none = figures(Ranks(*(array[:1] for array in ranks)), met)
    assert none["cold"]["targets"] == 0
    assert none["cold"]["recall@5"] is None


# settings


def test_presets_are_settings():
    for name in PRESETS:
        settings_of(name, {})
    assert settings_of("tiny", {"generative.epochs": 3}).generative.epochs == 3
    assert settings_of("tiny", {"generative": {"epochs": 3}}).generative.width == 128
    assert settings_of("paper", {}).generative.layers == 8


@pytest.mark.parametrize(
    ("preset", "given", "message"),
    [
        ("huge", {}, "unknown preset 'huge'; use one of tiny, paper"),
        ("tiny", {"generative.depth": 1}, "probe: unknown setting 'generative.depth'; the valid"),
        ("tiny", {"beams": 3}, "probe: beams is 3; it must be at least 20"),
        ("tiny", {"sequential.epochs": 0}, "probe: sequential.epochs is 0; it must be above 0"),
        ("tiny", {"item_ids": {"batch": -1}}, "probe: item_ids.batch is -1; it must be above 0"),
        (
            *("tiny", {"generative.dropout": 1.0}),
            "probe: generative.dropout is 1.0; it must be from 0 to below 1",
        ),
        (
            *("tiny", {"epochs": 3}),
            "probe: unknown setting 'epochs'; did you mean generative.epochs, sequential.epochs or "
            "item_ids.epochs?",
        ),
        ("tiny", {"precision": "float16"}, "float16"),
    ],
)
def test_settings_that_cannot_be(preset, given, message):
    with pytest.raises(SemidError, match=re.escape(message)):
        settings_of(preset, given)


def test_what_differs_from_a_preset():
    given = {"sequential.epochs": 2, "generative.width": 64, "beams": 40, "seed": 5}
    settings = settings_of("tiny", given)
    sequential, others = ["sequential.epochs=2 (10)"], ["seed=5 (0)"]
    generative = ["generative.width=64 (128)"]
    assert unlike_preset(settings, "tiny") == [*generative, *sequential, "beams=40 (30)", *others]
    assert unlike_preset(settings, "tiny", ["sequential"]) == sequential + others
    assert unlike_preset(settings, "tiny", ["item-ids"]) == others
    assert unlike_preset(settings_of("paper", {}), "paper") == []
    with pytest.raises(SemidError, match="unknown preset 'huge'"):
        unlike_preset(settings, "huge")


# summaries


def row(model, table, seed, recall, *, cold=0.5):
    one = {f"{name}@{k}": recall for name in ("recall", "ndcg") for k in (5, 10, 20)}
    groups = {group: {"targets": 10, **one} for group in GROUPS}
    groups["cold"] = {"targets": 2, **dict.fromkeys(one, cold)}
    return {
        **{"model": model, "table": table, "seed": seed, "groups": groups, "parameters": 5},
        **{"fit_seconds": 3.0, "rank_seconds": 1.0},
        "recall_q": np.array([recall, recall + 0.02, recall - 0.02 * seed]),
    }


FACTS = {
    **{"items": 1_000, "users": 100, "interactions": 900, "seeds": 2, "preset": "tiny"},
    **{"machine": "a CPU", "part": "test", "unknown": 0, "unjudged": 0},
    **{"changed": []},
}
BEAUTY = {"items": 12_101, "users": 22_363, "interactions": 198_502}


def test_summaries_by_hand():
    rows = [row("generative", "a", 0, 0.25), row("generative", "a", 1, 0.75)]
    rows += [row("generative", "b", 0, 1.0), row("generative", "b", 1, 0.25)]
    rows += [row("item-ids", None, 0, 0.25, cold=None)]
    first, second, third = summarise(rows)
    assert first["groups"]["all"]["recall@10"] == Spread(0.5, 0.25, 0.75)
    assert (first["ratio"], second["ratio"], third["ratio"]) == (1.0, 1.25, None)
    assert (first["seeds"], third["seeds"]) == (2, 1)
    assert first["seconds"] == Spread(4.0, 4.0, 4.0)
    assert third["groups"]["cold"]["ndcg@5"] is None
    assert spread([None]) is None
    assert first["difference"] is None
    # Of three users: b less a, each the mean over seeds, is .125 for all of them.
    assert second["difference"].mean == pytest.approx(0.125)
    assert second["difference"].error == pytest.approx(0, abs=1e-9)
    assert second["difference"].sure


def test_a_difference_that_users_may_make_is_none():
    rows = [row("generative", "a", 0, 0.5), row("generative", "b", 0, 0.55)]
    rows[0]["recall_q"] = np.array([0.0, 1.0, 0.0, 1.0])
    rows[1]["recall_q"] = np.array([1.0, 1.0, 0.0, 0.0])
    found = summarise(rows)[1]["difference"]
    # Differences of 1, 0, 0 and -1: a mean of 0, deviations of 1, 0, 0, 1 over three.
    assert found == pytest.approx((0.0, (2 / 3) ** 0.5 / 2))
    assert not found.sure
    (said,) = lead(summarise(rows))
    assert said.startswith("With the generative model no table is ahead of a by more than")


def test_the_verdict_names_all_tables():
    rows = [row("generative", "a", 0, 0.5)]
    rows += [row("generative", name, 0, recall) for name, recall in (("b", 0.25), ("c", 0.5))]
    rows += [row("sequential", "a", 0, 0.25)]
    rows += [row("sequential", name, 0, recall) for name, recall in (("b", 0.5), ("c", 0.375))]
    assert lead(summarise(rows)) == [
        "The generative model has a Recall@10 of 0.5000 with a; no table has more. Behind a by "
        "more than the choice of users may make: b (-0.2500); not told apart from a by "
        "these users: c.",
        "The sequential model does best with b: a Recall@10 of 0.5000, 2.00 times that with a. "
        "Ahead of a by more than the choice of users may make: c (+0.1250).",
    ]


def test_one_seed_has_no_range():
    facts = FACTS | {"seeds": 1}
    summaries = summarise([row("generative", "a", 0, 0.5), row("generative", "b", 0, 0.25)])
    for text in (markdown(summaries, facts), html(summaries, facts)):
        assert "range" not in text.lower()
        assert "Mean" not in text
    assert "Mean (range) over seeds" in markdown(summaries, FACTS)
    assert "from 0 to 0.5000" in html(summaries, facts)


def test_changed_settings_are_said():
    summaries = summarise([row("sequential", "a", 0, 0.5)])
    cut = FACTS | BEAUTY | {"changed": ["sequential.epochs=2 (10)"]}
    for text in (markdown(summaries, cut), html(summaries, cut)):
        assert "preset tiny with sequential.epochs=2 (10), the preset" in text
        assert text.count("; here settings of the preset were changed") == 4
    text = markdown(summaries, FACTS | BEAUTY)
    assert "preset tiny; on a CPU" in text
    assert "were changed" not in text


def test_the_page_and_the_text():
    rows = [row("generative", "<b>", 0, 0.25), row("generative", "<b>", 1, 0.75)]
    rows += [row("item-ids", None, 0, 0.25, cold=None)]
    summaries = summarise(rows)
    assert overview(summaries)[1][:3] == ["<b>", "0.5000", "0.5000 (0.2500–0.7500)"]
    rows[2:2] = [row("generative", "c", 0, 1.0), row("generative", "c", 1, 0.5)]
    assert lead(summarise(rows)) == [
        "The generative model does best with c: a Recall@10 of 0.7500, 1.50 times that with <b>.",
        "Plain item ids have a Recall@10 of 0.2500.",
    ]
    assert lead(summaries)[0] == "The generative model has a Recall@10 of 0.5000 with <b>."
    assert by_group(summaries)[2][:5] == ["item ids", "0.2500", "0.2500", "0.2500", "–"]
    text = markdown(summaries, FACTS)
    assert "## Generative model" in text
    assert "## Published" not in text  # of other data than this
    assert "## Published" in markdown(summaries, FACTS | BEAUTY)
    less = FACTS | BEAUTY | {"unknown": 1}
    assert "## Published" not in markdown(summaries, less)
    page = html(summaries, FACTS)
    assert "<b>" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)  # nothing to load


# the command

ITEMS, USERS = 60, 120


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Three tastes of 20 items: users stay with theirs. Codes say the taste, or nothing."""
    folder = tmp_path_factory.mktemp("probe")
    random = np.random.default_rng(0)
    taste_n = np.arange(ITEMS) % 3
    met = [
        (f"u{user}", f"i{item}", place)
        for user in range(USERS)
        for place, item in enumerate(random.choice(np.flatnonzero(taste_n == user % 3), 9))
    ]
    columns = [pa.array(column) for column in zip(*met, strict=True)]
    interactions = pa.table(columns, names=["user_id", "item_id", "position"])
    pq.write_table(interactions, folder / "met.parquet")
    deal_n = random.permutation(ITEMS)
    for name, number_n in (
        ("taste", np.argsort(np.argsort(taste_n, kind="stable"))),
        ("any", deal_n),
    ):
        codes = np.stack([number_n // 20, number_n // 5 % 4, number_n % 5], 1).astype(np.int32)
        order = random.permutation(ITEMS)
        ids = pa.array([f"i{item}" for item in order])
        table = IdTable.from_arrays(ids, codes[order], codes[order])
        pq.write_table(table.to_arrow(), folder / f"{name}.parquet")
    sizes = {"width": 16, "heads": 2, "head_width": 8, "feedforward": 32, "batch": 16}
    lines = [
        f"[{model}]\n" + "".join(f"{k} = {v}\n" for k, v in sizes.items()) + "epochs = 6\n"
        for model in ("generative", "sequential")
    ]
    (folder / "small.toml").write_text("\n".join(lines))
    return folder


def command(folder, output, *tables):
    tables = tables or ("taste.parquet", "any.parquet")
    return (
        *("probe", *(folder / name for name in tables), "--interactions", folder / "met.parquet"),
        *("--output", output, "--config", folder / "small.toml"),
    )


@pytest.fixture(scope="module")
def probed(catalog, tmp_path_factory):
    output = tmp_path_factory.mktemp("probed") / "out"
    done = run_here(*command(catalog, output), "--seeds", "2", "--workers", "2", "--json")
    assert done.code == 0, done.err
    return output, done


SCHEMA = pa.schema(
    [
        *(("table", pa.string()), ("model", pa.string()), ("group", pa.string())),
        *(("seed", pa.int64()), ("targets", pa.int64())),
        *((f"recall@{k}", pa.float64()) for k in (5, 10, 20)),
        *((f"ndcg@{k}", pa.float64()) for k in (5, 10, 20)),
        *(("items", pa.int64()), ("users", pa.int64()), ("interactions", pa.int64())),
        *(("parameters", pa.int64()), ("distinct_sids", pa.int64())),
        *(("fit_seconds", pa.float64()), ("rank_seconds", pa.float64())),
        *(("machine", pa.string()), ("run", pa.string())),
    ]
)


def test_what_a_probe_writes(probed):
    output, done = probed
    names = ["_manifest.json", "probe.html", "probe.md", "probe.parquet", "runs"]
    assert sorted(path.name for path in output.iterdir()) == names
    suffixes = sorted(path.suffix for path in (output / "runs").iterdir())
    assert suffixes == [".json"] * 10 + [".npy"] * 10
    assert pq.read_schema(output / "probe.parquet").remove_metadata() == SCHEMA
    rows = pq.read_table(output / "probe.parquet").to_pylist()
    found = {(r["model"], r["table"], r["seed"], r["group"]) for r in rows}
    tables = [(m, t) for m in ("generative", "sequential") for t in ("taste", "any")]
    assert found == {
        (model, table, seed, group)
        for model, table in [*tables, ("item-ids", None)]
        for seed in (0, 1)
        for group in GROUPS
    }
    for r in rows:
        assert (r["items"], r["users"], r["interactions"]) == (ITEMS, USERS, USERS * 9)
        assert r["fit_seconds"] > 0
        if r["group"] == "all":
            assert r["targets"] == USERS
            assert 0 <= r["recall@5"] <= r["recall@10"] <= r["recall@20"] <= 1
    by_table = {one["table"]: one for one in done.json["summary"]["probed"][:2]}
    # Twenty items of a taste: a model that reads it finds half of them among ten.
    assert by_table["taste"]["recall@10"] > 0.35
    assert by_table["taste"]["ratio"] == 1
    assert by_table["any"]["recall@10"] < by_table["taste"]["recall@10"]


def test_seeds_differ_and_repeat(probed, catalog, tmp_path):
    output, _ = probed
    rows = pq.read_table(output / "probe.parquet").to_pylist()
    wanted = [r for r in rows if r["table"] == "taste" and r["group"] == "all"]
    first, second = ([r["ndcg@20"] for r in wanted if r["seed"] == seed] for seed in (0, 1))
    assert first != second
    only = command(catalog, tmp_path / "out", "taste.parquet")
    assert run_here(*only, "--seeds", "1", "--set", "seed=1").code == 0
    again = pq.read_table(tmp_path / "out/probe.parquet").to_pylist()
    found = [r["ndcg@20"] for r in again if r["table"] == "taste" and r["group"] == "all"]
    assert found == second


def test_the_order_of_rows_does_not_matter(probed, catalog, tmp_path):
    output, _ = probed
    table = pq.read_table(catalog / "taste.parquet")
    shuffled = table.take(np.random.default_rng(1).permutation(ITEMS))
    pq.write_table(shuffled, tmp_path / "taste.parquet")
    options = ("--models", "sequential", "--seeds", "1")
    done = run_here(*command(catalog, tmp_path / "out", tmp_path / "taste.parquet"), *options)
    assert done.code == 0, done.err
    (found,) = (
        r for r in pq.read_table(tmp_path / "out/probe.parquet").to_pylist() if r["group"] == "all"
    )
    expected = next(
        r
        for r in pq.read_table(output / "probe.parquet").to_pylist()
        if (r["model"], r["table"], r["seed"], r["group"]) == ("sequential", "taste", 0, "all")
    )
    assert found["ndcg@20"] == expected["ndcg@20"]


def test_a_second_time_nothing_is_done_and_more_tables_keep_runs(probed, catalog):
    output, _ = probed
    options = ("--seeds", "2", "--workers", "2")
    again = run_here(*command(catalog, output), *options, "--json")
    assert again.json["up_to_date"]
    before = {path.name: path.read_bytes() for path in (output / "runs").iterdir()}
    one = command(catalog, output, "any.parquet")
    assert "belongs to other settings" in run_here(*one, *options).error
    began = time.monotonic()
    less = run_here(*one, *options, "--models", "generative", "--overwrite")
    assert less.code == 0, less.err
    assert time.monotonic() - began < 60
    after = {path.name: path.read_bytes() for path in (output / "runs").iterdir()}
    assert after == before
    assert pq.read_table(output / "probe.parquet").num_rows == 2 * len(GROUPS)


@pytest.mark.parametrize(("part", "cold"), [("validation", 0), ("test", 12)])
def test_targets_are_the_last_interaction_or_the_one_before(catalog, tmp_path, part, cold):
    # All met the same four items in turn, and then, last, one that nobody else ever met.
    items = read_ids(catalog / "taste.parquet").item_ids.to_pylist()
    turns = [[*np.roll(items[:4], user), items[4 + user]] for user in range(12)]
    met = [(f"u{user}", item) for user, turn in enumerate(turns) for item in turn]
    columns = [*zip(*met, strict=True), range(len(met))]
    names = ("user_id", "item_id", "timestamp")
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), tmp_path / "m.pq")
    done = run_here(
        *("probe", catalog / "taste.parquet", "--interactions", tmp_path / "m.pq"),
        *("--output", tmp_path / "out", "--config", catalog / "small.toml", "--part", part),
        *("--models", "sequential", "--seeds", "1"),
    )
    assert done.code == 0, done.err
    rows = {r["group"]: r for r in pq.read_table(tmp_path / "out/probe.parquet").to_pylist()}
    assert (rows["all"]["targets"], rows["cold"]["targets"]) == (12, cold)


def rows_of(folder):
    """The files of finished runs and what is in them, the seconds of this very run included."""
    return {path.name: path.read_text() for path in folder.glob("*.json")}


def test_finished_runs_outlive_a_kill_and_another_plan(catalog, tmp_path):
    output = tmp_path / "out"
    options = ("--seeds", "1", "--models", "sequential,generative")
    process = start(*command(catalog, output, "taste.parquet"), *options)
    runs = tmp_path / ".out.partial/runs"
    deadline = time.monotonic() + 90
    while not list(runs.glob("*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    made = rows_of(runs)
    assert len(made) == 1
    done = run_here(*command(catalog, output), *options)
    assert done.code == 0, done.err
    assert made.items() <= rows_of(output / "runs").items()
    assert len(rows_of(output / "runs")) == 4
    assert not runs.exists()


def test_no_run_is_made_twice_whatever_is_asked_between(catalog, tmp_path):
    output = tmp_path / "out"
    options = ("--seeds", "1", "--models", "sequential,item-ids")
    made = []
    # The first table changes, and with it what the reference reads its items from.
    for tables in ((), ("any.parquet",), ("any.parquet", "taste.parquet"), ()):
        done = run_here(*command(catalog, output, *tables), *options, "--overwrite")
        assert done.code == 0, done.err
        made.append(rows_of(output / "runs"))
    assert len(made[0]) == 3
    assert made == made[:1] * 4


def test_tables_of_equal_contents_are_one_run(catalog, tmp_path):
    (tmp_path / "copy.parquet").write_bytes((catalog / "any.parquet").read_bytes())
    options = ("--seeds", "1", "--models", "sequential", "--workers", "2")
    tables = ("any.parquet", tmp_path / "copy.parquet")
    done = run_here(*command(catalog, tmp_path / "out", *tables), *options)
    assert done.code == 0, done.err
    assert len(rows_of(tmp_path / "out/runs")) == 1
    assert "7.0/7.0" in done.err  # of the bar: six epochs and a ranking, once
    assert re.search("s/steps| steps/s", done.err)
    rows = pq.read_table(tmp_path / "out/probe.parquet").to_pylist()
    one, other = ([row for row in rows if row["table"] == name] for name in ("any", "copy"))
    assert [row | {"table": "copy"} for row in one] == other


# what a run is known by

NETWORK = NetworkSettings(width=16, heads=2, head_width=8, feedforward=32)
PROTOCOL = Protocol(
    "met.parquet", "item_id", ProbeSettings(NETWORK, NETWORK, NETWORK), "test", "cpu"
)
DIGESTS = {"interactions": "m", "ids a": "1", "ids b": "2", "items": "i"}


def known(model, *, protocol=PROTOCOL, tables=("a", "b"), **digests):
    """What the one run of each table is called."""
    paths = {name: f"{name}.parquet" for name in tables}
    return [run.file for run in runs_of(paths, [model], 1, protocol, DIGESTS | digests)]


def changed(**settings):
    return replace(PROTOCOL, settings=replace(PROTOCOL.settings, **settings))


@pytest.mark.parametrize("model", MODELS)
def test_what_makes_another_run(model):
    assert known(model) == known(model)
    for other in MODELS:
        network = {other.replace("-", "_"): replace(NETWORK, epochs=3)}
        is_same = known(model, protocol=changed(**network)) == known(model)
        assert is_same == (other != model)
    for protocol in (
        replace(PROTOCOL, item_id="sku"),
        replace(PROTOCOL, part="validation"),
        changed(seed=1),
        changed(precision="bfloat16"),
    ):
        before = known(model, protocol=changed(precision="float32"))
        assert known(model, protocol=protocol) != before
    assert known(model, interactions="n") != known(model)
    is_searching = known(model, protocol=changed(beams=40)) != known(model)
    assert is_searching == (model == "generative")


def test_a_seed_is_the_same_run_whatever_the_first_one_was():
    paths = {"a": "a.parquet"}
    two = runs_of(paths, ["generative"], 2, PROTOCOL, DIGESTS)
    (one,) = runs_of(paths, ["generative"], 1, changed(seed=1), DIGESTS)
    assert two[1] == one


def test_item_ids_are_one_run_whatever_the_tables():
    assert known("item-ids", tables="b") == known("item-ids", tables="ab")
    assert known("item-ids", **{"ids a": "3"}) == known("item-ids")
    assert known("item-ids", items="j") != known("item-ids")
    first, second = known("sequential")
    assert first != second
    assert known("sequential", **{"ids a": "2"}) == [second, second]


# the processes of runs


class Counted:
    """A bar that remembers."""

    total = None

    def __init__(self):
        self.done, self.said = 0.0, []

    def update(self, n):
        self.done += n

    def set_postfix_str(self, s, refresh=True):
        self.said.append(s)


def test_what_is_told_last_is_heard():
    told, shown = multiprocessing.get_context("spawn").SimpleQueue(), Counted()
    with listening(told, shown):
        for number in range(8):
            told.put((0.125, f"{number}"))
    assert shown.done == 1
    assert shown.said[-1] == "7"


def test_a_slow_bar_has_no_stray_space(capsys):
    with bar("probe", 6, "steps", show=True) as shown:
        shown.start_t -= 60
        shown.update(1)
    assert re.search(r"\d\ds/steps\]", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 4, ["cuda:0", "cuda:1", "cuda:2"]),
        ("auto", 1, ["auto"] * 3),
        ("cuda:1", 2, ["cuda:1"] * 3),
        ("cpu", 2, ["cpu"] * 3),
    ],
)
def test_gpus_are_dealt_to_processes(asked, gpus, expected):
    assert devices_of(asked, 3, gpus) == expected


@pytest.mark.parametrize(
    ("model", "batch"), [("generative", "generative"), ("item-ids", "item_ids")]
)
def test_a_gpu_without_memory_is_said(model, batch):
    said = f"for a run of the {model} model.* fewer --workers, a smaller {batch}.batch or --preset"
    with pytest.raises(SemidError, match=said), memory_told(model):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_names_of_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_and_path("a=out/ids.parquet") == ("a", "out/ids.parquet")
    assert name_and_path("a=out/date=1/ids.parquet") == ("a", "out/date=1/ids.parquet")
    for path in ("out/date=1/ids.parquet", "./date=1/ids.parquet", "s3://b/date=1", "ids", "=ids"):
        assert name_and_path(path) == (None, path)
    assert name_and_path("date=1") == ("date", "1")
    (tmp_path / "date=1").mkdir()
    assert name_and_path("date=1") == (None, "date=1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0"), "seeds is 0; give at least 1"),
        (("--models", "tiger"), "models are tiger; use some of generative, sequential, item-ids"),
        (("--part", "training"), "unknown part 'training'; use test or validation"),
        (("--preset", "big"), "unknown preset 'big'; use one of tiny, paper"),
        (("--workers", "0"), "workers is 0; it must be at least 1"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--set", "generative.width=wide"), "generative.width = 'wide' is not valid"),
        (("--item-id", "sku"), "has no column 'sku'"),
    ],
)
def test_mistakes(catalog, tmp_path, options, message):
    done = run_here(*command(catalog, tmp_path / "out"), *options)
    assert message in done.error
    assert list(tmp_path.iterdir()) == []


def test_tables_that_do_not_go_together(catalog, tmp_path):
    table = pq.read_table(catalog / "any.parquet")
    pq.write_table(table.slice(2), tmp_path / "less.parquet")
    done = run_here(*command(catalog, tmp_path / "out", "any.parquet", tmp_path / "less.parquet"))
    assert "any.parquet has 2 items that" in done.error
    assert "give tables of one catalog" in done.error
    twice = run_here(*command(catalog, tmp_path / "out", "any.parquet", "any.parquet"))
    assert "two ids tables are called 'any'; give them as name=path" in twice.error
    missing = run_here(*command(catalog, tmp_path / "out", "nothing.parquet"))
    assert "nothing.parquet" in missing.error
    assert not (tmp_path / "out").exists()


def test_interactions_of_another_catalog(catalog, tmp_path):
    met = pq.read_table(catalog / "met.parquet")
    other = pa.array([f"x{number}" for number in range(met.num_rows)])
    pq.write_table(met.set_column(1, "item_id", other), tmp_path / "met.parquet")
    options = ("--interactions", tmp_path / "met.parquet", "--output", tmp_path / "out")
    done = run_here("probe", catalog / "any.parquet", *options)
    assert "is of an item of the ids table" in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["met.parquet"]


def written(folder, **columns):
    """The interactions with columns in place of theirs, in a folder of its own."""
    met = pq.read_table(folder / "met.parquet")
    for name, values in columns.items():
        met = met.set_column(met.schema.get_field_index(name), name, pa.array(values))
    return met


def test_interactions_of_items_without_an_id_are_said(catalog, tmp_path):
    # Of u0 all is of another catalog, of u1 the last two, of u2 the first, of u3 all but the last.
    items = pq.read_table(catalog / "met.parquet")["item_id"].to_pylist()
    for place in (*range(9), 16, 17, 18, *range(27, 35)):
        items[place] = f"x{place}"
    pq.write_table(written(catalog, item_id=items), tmp_path / "met.parquet")
    options = ("--interactions", tmp_path / "met.parquet", "--output", tmp_path / "out", "--json")
    options += ("--models", "sequential", "--seeds", "1", "--config", catalog / "small.toml")
    done = run_here("probe", catalog / "any.parquet", *options, "--set", "sequential.epochs=1")
    assert done.code == 0, done.err
    said = (
        "20 of the 1,080 interactions are of items without an ID and were left out; 1,060, of 119 "
        "users, were used; 3 users are not judged, since their last one, or all before it, was "
        "left out."
    )
    assert said in done.json["summary"]["lead"]
    assert (done.json["summary"]["unknown"], done.json["summary"]["unjudged"]) == (20, 3)
    assert said in (tmp_path / "out/probe.md").read_text()
    assert said in (tmp_path / "out/probe.html").read_text()
    assert "117 users are judged" in (tmp_path / "out/probe.md").read_text()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("item_id", None, "column 'item_id' is null; drop the row"),
        ("user_id", None, "column 'user_id' is null; drop the row"),
        ("position", 0, "user 'u0' has 2 rows with position 0"),
        ("ids", None, "is null"),
        ("ids", "i3", "holds 'i3' 2 times"),
    ],
)
def test_bad_rows_are_found_before_any_run(catalog, tmp_path, column, value, message):
    table, met = pq.read_table(catalog / "any.parquet"), pq.read_table(catalog / "met.parquet")
    if column == "ids":
        ids = table["item_id"].to_pylist()
        ids[next(row for row, item in enumerate(ids) if item != value)] = value
        kind = pa.field("item_id", table.schema.field("item_id").type)
        table = table.set_column(0, kind, pa.array(ids, kind.type))
    else:
        values = met[column].to_pylist()
        values[1] = value
        met = written(catalog, **{column: values})
    pq.write_table(table, tmp_path / "ids.parquet")
    pq.write_table(met, tmp_path / "met.parquet")
    options = ("--interactions", tmp_path / "met.parquet", "--output", tmp_path / "out")
    done = run_here("probe", tmp_path / "ids.parquet", *options)
    assert message in done.error
    assert "probe  " not in done.err  # no bar had begun
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.parquet", "met.parquet"]


def test_histories_that_are_too_short_are_found_before_any_run(catalog, tmp_path):
    met = pq.read_table(catalog / "met.parquet")
    users = pa.array([f"v{row}" for row in range(met.num_rows)])  # one interaction each
    pq.write_table(met.set_column(0, "user_id", users), tmp_path / "met.parquet")
    options = ("--interactions", tmp_path / "met.parquet", "--output", tmp_path / "out")
    done = run_here("probe", catalog / "any.parquet", *options, "--models", "sequential")
    assert (
        "met.parquet has an interaction for training with one before it; give longer" in done.error
    )
    assert "probe  " not in done.err  # no bar had begun
    assert [path.name for path in tmp_path.iterdir()] == ["met.parquet"]


def test_as_a_step_of_a_pipeline(catalog, tmp_path):
    text = f"""
[steps.probe]
ids = ["taste={catalog}/taste.parquet"]
interactions = "{catalog}/met.parquet"
output = "{tmp_path}/out"
models = ["sequential"]
seeds = 1
settings = {{ sequential = {{ width = 16, heads = 2, head_width = 8, epochs = 1 }} }}
"""
    (tmp_path / "p.toml").write_text(text)
    done = run_here("run", tmp_path / "p.toml")
    assert done.code == 0, done.err
    assert "everything is up to date" in run_here("run", tmp_path / "p.toml").out
    (tmp_path / "bad.toml").write_text(text.replace('"sequential"]', '"tiger"]'))
    assert "models are tiger" in run_here("run", tmp_path / "bad.toml").error
    (tmp_path / "gone.toml").write_text(text.replace("/taste.parquet", "/none.parquet"))
    assert "none.parquet' does not exist" in run_here("run", tmp_path / "gone.toml").error


def test_the_example_of_the_page_runs(catalog, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, source in (("out/ids", "taste"), ("data/interactions", "met")):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir()
        pq.write_table(pq.read_table(catalog / f"{source}.parquet"), path)
    page = Path(__file__).parent.parent / "docs" / "probe.md"
    (example,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.S | re.M)
    names: dict[str, Any] = {}
    exec(example, names)
    assert "'recall@5'" in capsys.readouterr().out
    found, met = set(names["best"].row[0].tolist()), set(names["batch"].seen_items.tolist())
    assert len(found) == 10
    assert not found & met


def test_what_is_printed(catalog, tmp_path):
    only = command(catalog, tmp_path / "out", "taste.parquet")
    done = run_here(*only, "--seeds", "1", "--models", "sequential,item-ids")
    assert done.code == 0, done.err
    header, _, first, second, *_ = done.out.splitlines()
    assert header.split() == [*("model", "table", "Recall@10", "NDCG@10", "ratio", "seconds")]
    assert first.split()[:2] == ["sequential", "taste"]
    assert second.split()[:2] == ["item-ids", "–"]
    assert "The sequential model has a Recall@10 of" in done.out
