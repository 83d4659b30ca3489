"""Drift: figures by hand on tiny histograms and tables, sentences on figures, and the command."""

from __future__ import annotations

import json
from math import log2, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROWS, WIDTH, make_embeddings, run_here
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.drift import Coded, measure_drift
from semid.drift_verdicts import Limits, judge_drift, verdict
from semid.errors import GateError, SemidError
from semid.id_table import IdTable
from semid.jobs.run import run
from semid.metrics.drift import Mover, jensen_shannon, occupancy

# one level


def test_jensen_shannon_by_hand() -> None:
    even, left, right = np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(left, right) == 1.0
    assert jensen_shannon(even, even) == 0.0
    # The middle is (3/4, 1/4).
    expected = (log2(4 / 3) + (log2(2 / 3) + log2(2)) / 2) / 2
    assert jensen_shannon(left, even) == pytest.approx(expected)
    # A fifth of the items on codes that the table does not use: what the limit is made of.
    assert jensen_shannon(np.array([1, 0]), np.array([0.8, 0.2])) == pytest.approx(0.108, abs=5e-4)


def test_occupancy_by_hand() -> None:
    found = occupancy(np.array([60, 20, 20, 0]), np.array([100, 500, 200, 200]))
    assert found.variation == pytest.approx(0.5)
    assert found.movers == [
        Mover(0, 0.6, 0.1),
        Mover(1, 0.2, 0.5),
        Mover(3, 0.0, 0.2),
    ]  # code 2 has not moved
    usage = [0.6, 0.2, 0.2]
    assert found.perplexity_before == pytest.approx(np.exp(-sum(u * np.log(u) for u in usage)))
    assert found.shift == found.divergence - found.divergence_by_chance > 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any), st.randoms())
def test_what_divergence_always_is(counts: list[int], random: Any) -> None:
    before_k = np.array(counts)
    other = random.sample(counts, len(counts))
    now_k = np.array(other)
    found, turned = occupancy(before_k, now_k), occupancy(now_k, before_k)
    assert 0 <= found.divergence <= found.variation <= 1  # Lin, 1991
    assert found.divergence == pytest.approx(turned.divergence)
    assert (found.divergence < 1e-12) == (counts == other)
    assert found == occupancy(before_k, now_k)  # the draws are always the same


def test_a_small_sample_of_the_table_has_not_shifted() -> None:
    random = np.random.default_rng(1)
    table_k = random.integers(1, 100, 64)
    sample_k = np.bincount(random.choice(64, 20, p=table_k / table_k.sum()), minlength=64)
    found = occupancy(table_k, sample_k)
    assert found.divergence > 0.3  # by itself it would look bad
    assert found.shift == 0


# a table and fresh items


def items(ids: str, codes: list[list[int]], distance: list[float]) -> Coded:
    table = IdTable.from_arrays(list(ids), codes, distance=distance)
    return Coded(table.to_arrow().to_batches())


def test_figures_by_hand() -> None:
    table = items("abcde", [[0, 0], [0, 0], [0, 1], [1, 0], [2, 2]], [1, 1, 2, 4, 2])
    fresh = items("bcdxyz", [[0, 0], [0, 2], [2, 0], [0, 1], [0, 2], [1, 2]], [1, 3, 6, 4, 2, 3])
    found = measure_drift(table, fresh, levels=(4, 3))
    assert found["items"] == {"table": 5, "fresh": 6, "known": 3, "new": 3}
    # c keeps its first code only, d none.
    assert found["changed"] == [1 / 3, 2 / 3]
    one, two = found["prefixes"]
    assert one == {
        "depth": 1,
        "table_support": 3 / 5,
        "table_support_of": 5,
        "support": 1.0,
        "known_support": 1.0,
        "new_support": 1.0,
        "new_prefix_rate": 0.0,
    }
    # The table lacks 0,2 (twice), 2,0 and 1,2; five prefixes are distinct.
    assert two == {
        "depth": 2,
        "table_support": 2 / 5,
        "table_support_of": 5,
        "support": pytest.approx(2 / 6),
        "known_support": pytest.approx(1 / 3),
        "new_support": pytest.approx(1 / 3),
        "new_prefix_rate": 3 / 5,
    }
    error = found["error"]
    assert (error["table"], error["known"], error["new"]) == (2, pytest.approx(10 / 3), 3)
    assert error["known_before"] == pytest.approx(7 / 3)
    assert error["expected"] == pytest.approx((7 + 3 * 2) / 6)
    assert error["ratio"] == pytest.approx(19 / 13)
    spread = (1 + 1 + 4 + 16 + 4) / 5 - 4
    noise = 3 * sqrt(spread * (1 / 6 + 1 / 5)) / (13 / 6)
    assert error["noise"] == pytest.approx(noise)
    assert [level["size"] for level in found["levels"]] == [4, 3]
    assert found["levels"][0]["variation"] == pytest.approx(4 / 6 - 3 / 5)


def test_only_new_and_only_known_items() -> None:
    table = items("ab", [[0], [1]], [1, 1])
    new = measure_drift(table, items("x", [[1]], [2]), levels=(2,))
    assert new["changed"] == []
    assert new["error"]["known"] is None
    assert new["prefixes"][0]["known_support"] is None
    known = measure_drift(
        items("ab", [[0], [1]], [1, 1]), items("ba", [[1], [0]], [1, 1]), levels=(2,)
    )
    assert known["changed"] == [0.0]
    assert known["error"]["new"] is None
    assert known["error"]["ratio"] == 1
    assert known["prefixes"][0]["new_support"] is None


def test_unseen_items_are_compared_with_those_held_out() -> None:
    from semid.training_data import held_out

    ids = [f"i{i}" for i in range(1_000)]
    held_n = held_out(ids, 0.2)
    assert held_n.sum() > 100
    table = IdTable.from_arrays(ids, np.zeros((1_000, 1), int), distance=1 + held_n)
    fresh = items("x", [[0]], [2])
    found = measure_drift(Coded(table.to_arrow().to_batches()), fresh, levels=(2,), holdout=0.2)
    assert found["error"]["table_held_out"] == found["error"]["expected"] == 2
    assert found["error"]["ratio"] == 1
    assert found["prefixes"][0]["table_support_of"] == held_n.sum()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_support_and_changes_as_sets_have_them(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    levels = (3, 2, 4)
    old = {f"i{i}": tuple(random.integers(0, levels)) for i in range(n)}
    new = {f"i{i}": tuple(random.integers(0, levels)) for i in random.permutation(100)[:m]}
    coded = [
        Coded(
            IdTable.from_arrays(list(x), list(x.values()), distance=np.ones(len(x)))
            .to_arrow()
            .to_batches()
        )
        for x in (old, new)
    ]
    found = measure_drift(*coded, levels=levels)
    known = old.keys() & new.keys()
    for d, at in enumerate(found["prefixes"], 1):
        there = {codes[:d] for codes in old.values()}
        fresh = {codes[:d] for codes in new.values()}
        assert at["support"] == pytest.approx(sum(codes[:d] in there for codes in new.values()) / m)
        assert at["new_prefix_rate"] == pytest.approx(len(fresh - there) / len(fresh))
        if known:
            changed = sum(old[i][:d] != new[i][:d] for i in known) / len(known)
            assert found["changed"][d - 1] == pytest.approx(changed)


def test_a_code_out_of_range_is_a_mistake() -> None:
    with pytest.raises(SemidError, match="row 1 holds the code 5 at level 0"):
        measure_drift(items("ab", [[0], [5]], [1, 1]), items("x", [[0]], [1]), levels=(2,))


# verdicts


def figures(**changed: Any) -> dict[str, Any]:
    """Figures of items that have not drifted."""
    level = {
        "divergence": 0.02,
        "divergence_by_chance": 0.02,
        "shift": 0.0,
        "movers": [{"code": 7, "before": 0.01, "now": 0.2}],
    }
    usual = {"new_support": 0.6, "table_support": 0.62, "table_support_of": 1_000}
    return {
        "items": {"table": 10_000, "fresh": 2_000, "known": 1_000, "new": 1_000},
        "levels": [level, dict(level)],
        "prefixes": [{"depth": 1, **usual}, {"depth": 2, **usual}],
        "error": {"ratio": 1.02, "noise": 0.05, "fresh": 0.51, "expected": 0.5},
        "changed": [0.01, 0.05],
        "explained": 0.5,
        "explained_before": 0.55,
        **changed,
    }


def test_no_retrain_is_due() -> None:
    assert judge_drift(figures(), Limits()) == []
    assert verdict([], figures()) == (
        "no retrain is due for these 2,000 items: their error is 1.02 times the expected one"
    )


def test_reasons_come_worst_first_and_shifts_are_none() -> None:
    drifted = figures(
        error={"ratio": 1.5, "noise": 0.05, "fresh": 0.75, "expected": 0.5}, changed=[0.4, 0.9]
    )
    drifted["levels"][1] |= {"shift": 0.9, "divergence": 0.92}
    drifted["prefixes"][0] |= {"new_support": 0.3}
    found = judge_drift(drifted, Limits())
    assert [finding.about for finding in found] == ["changed", "support", "error", "level 1"]
    assert [finding.sentence for finding in found] == [
        "40.0% of the 1,000 items that the table knows have another first code now (limit 10%)",
        "30.0% of the new items begin with a code that the table has, where 62.0% of its own items "
        "share theirs with another (limit 0.75 of that)",
        "fresh items have 1.50 times the expected quantisation error (0.75 where 0.5 is expected; "
        "limit 1.25)",
        "level 1 is used differently: 0.92 bits of divergence where chance makes 0.02 (limit 0.1); "
        "code 7 went from 1.0% to 20.0% of the items",
    ]
    assert verdict(found, drifted) == (
        f"a retrain is due because {found[0].sentence} (the first of 3 reasons)"
    )
    assert verdict(found[3:], drifted).startswith("no retrain is due")


def test_another_encoder_is_told_before_all_else() -> None:
    found = judge_drift(figures(explained=-0.02, changed=[1.0, 1.0]), Limits())
    assert [finding.about for finding in found] == ["encoder", "changed"]
    assert verdict(found, figures()) == (
        "check the encoder before a retrain: these embeddings look like another encoder's: the "
        "model explains -2% of their variance but 55% of its own items'"
    )


def test_few_items_are_not_judged_by_chance() -> None:
    few = figures(
        items={"table": 10_000, "fresh": 5, "known": 2, "new": 3},
        error={"ratio": 1.5, "noise": 0.9, "fresh": 0.75, "expected": 0.5},
        changed=[0.5, 0.5],
    )
    few["prefixes"][0] |= {"new_support": 1 / 3}
    assert judge_drift(few, Limits()) == []


def test_whole_codes_need_not_be_shared() -> None:
    drifted = figures()
    drifted["prefixes"][1] |= {"new_support": 0.0}
    assert judge_drift(drifted, Limits()) == []


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_error_ratio": 0.5}, "max_error_ratio is 0.5; it must be at least 1"),
        ({"min_support": 2}, "min_support is 2; it must be at least 0 and at most 1"),
        ({"max_shift": float("nan")}, "max_shift is nan; it must be at least 0 and at most 1"),
    ],
)
def test_limits_that_cannot_be(limit: dict[str, float], said: str) -> None:
    with pytest.raises(SemidError, match=said):
        Limits(**limit)


# the command


def drift(world: Path, fresh: Path, *more: Any) -> Any:
    return run_here(
        *("drift", world / "ids.parquet", "--model", world / "model"),
        *("--embeddings", fresh, *more),
    )


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `world` whose items stand in clusters that codes explain well.

    Beside it ``turned.parquet``, the same items as another encoder might embed them: dims in
    another order and of another sign.
    """
    folder = tmp_path_factory.mktemp("clusters")
    embedded = make_embeddings()
    pq.write_table(embedded, folder / "embeddings.parquet")
    model, ids = folder / "model", folder / "ids.parquet"
    for command in (
        ("train", folder / "embeddings.parquet", "-o", model, "--quantizer", "rqkmeans"),
        ("assign", folder / "embeddings.parquet", "-o", ids, "--model", model),
    ):
        levels = ("--levels", "8,8") if command[0] == "train" else ()
        assert run_here(*command, *levels).code == 0
    x_nd = -np.stack(embedded["embedding"].to_numpy())[:, ::-1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), WIDTH)
    pq.write_table(embedded.set_column(1, "embedding", column), folder / "turned.parquet")
    return folder


def test_the_tables_own_items_have_not_drifted(tmp_path: Path, world: Path) -> None:
    embedded = pq.read_table(world / "embeddings.parquet")
    pq.write_table(embedded.take(np.arange(ROWS)[::-1]), tmp_path / "fresh.parquet")
    output = tmp_path / "drift.json"
    done = drift(world, tmp_path / "fresh.parquet", "--strict", "-o", output)
    assert done.code == 0, done.err
    assert f"no retrain is due for these {ROWS} items: their error is 1.00 times" in done.out
    summary = json.loads(output.read_text())
    assert summary["changed"] == [0.0, 0.0]
    assert summary["error"]["ratio"] == pytest.approx(1)
    assert [level["divergence"] for level in summary["levels"]] == [0, 0]
    assert summary["prefixes"][1]["known_support"] == 1
    metrics = json.loads((world / "model" / "metrics.json").read_text())
    train, held_out = metrics["train_error"], metrics["held_out_error"]
    assert 1 - summary["explained_before"] == pytest.approx(held_out)
    between = sorted([train, held_out])
    assert between[0] - 0.05 < 1 - summary["explained"] < between[1] + 0.05
    again = drift(world, tmp_path / "fresh.parquet", "--strict", "-o", output, "--json")
    assert again.json["up_to_date"] is True
    assert again.json["summary"] == summary


def test_another_encoder(tmp_path: Path, clusters: Path) -> None:
    turned = clusters / "turned.parquet"
    output = tmp_path / "drift.json"
    done = drift(clusters, turned, "-o", output)
    assert done.code == 0
    assert "check the encoder before a retrain" in done.out
    done = drift(clusters, turned, "--strict", "-o", output)
    assert done.code == 3
    assert "check the encoder before a retrain" in done.err
    assert "drift.json: up to date" in done.out
    done = drift(clusters, turned, "--strict", "--json")
    assert (done.code, json.loads(done.out)["output"]) == (3, None)


def test_new_items_of_one_kind(tmp_path: Path, world: Path) -> None:
    embedded = pq.read_table(world / "embeddings.parquet")
    first = np.array(pq.read_table(world / "ids.parquet")["codes"].to_pylist())[:, 0]
    alike = embedded.filter(pa.array(first == np.bincount(first).argmax()))
    alike = alike.set_column(0, "item_id", pa.array([f"new{i}" for i in range(len(alike))]))
    pq.write_table(alike, tmp_path / "fresh.parquet")
    summary = drift(world, tmp_path / "fresh.parquet", "--json").json["summary"]
    assert summary["retrain_due"] is False
    assert "level 0" in {finding["about"] for finding in summary["findings"]}
    assert summary["items"]["new"] == len(alike)


def test_mistakes(tmp_path: Path, world: Path) -> None:
    embedded = world / "embeddings.parquet"
    assert "min_support is 7.0" in drift(world, embedded, "--min-support", 7).error
    assert "memory is -1.0 GiB" in drift(world, embedded, "--memory", -1).error
    assert "no column 'embedding'" in drift(world, world / "items.parquet").error
    pq.write_table(make_embeddings(10, WIDTH + 1), tmp_path / "wide.parquet")
    assert f"width {WIDTH + 1}" in drift(world, tmp_path / "wide.parquet").error
    pq.write_table(make_embeddings(10, ids=range(10)), tmp_path / "numbered.parquet")
    assert "is string in" in drift(world, tmp_path / "numbered.parquet").error
    done = run_here(
        *("train", embedded, "--output", tmp_path / "other"),
        *("--quantizer", "rqkmeans", "--levels", "8,8"),
    )
    assert done.code == 0
    said = run_here(
        *("drift", world / "ids.parquet", "--model", tmp_path / "other"),
        *("--embeddings", embedded),
    ).error
    assert "was assigned by the model" in said
    assert "use that model, or assign anew" in said
    rows = pq.read_table(world / "ids.parquet")
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), tmp_path / "twice.parquet")
    said = run_here(
        *("drift", tmp_path / "twice.parquet", "--model", world / "model"),
        *("--embeddings", embedded),
    ).error
    assert "ids must be unique" in said


def test_a_pipeline_with_a_strict_step(tmp_path: Path, clusters: Path) -> None:
    text = (
        f'[steps.drift]\nids = "{clusters}/ids.parquet"\nmodel = "{clusters}/model"\n'
        f'embeddings = "{clusters}/turned.parquet"\noutput = "{tmp_path}/drift.json"\n'
        "strict = true\n"
    )
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(GateError, match="step 'drift': check the encoder"):
        list(run(tmp_path / "p.toml"))
    assert json.loads((tmp_path / "drift.json").read_text())["retrain_due"] is True
    (tmp_path / "p.toml").write_text(text + "min_support = 3.0\n")
    assert "step 'drift': min_support is 3.0" in run_here("run", tmp_path / "p.toml").error
