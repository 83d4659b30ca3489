"""Verifying an ids table: every way to break its contract is found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROWS, make_embeddings, rewrite, run_here
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import GateError
from semid.id_table import IdTable
from semid.jobs.run import run
from semid.verification import verify_table

CODES = np.array([[0, 1], [0, 1], [2, 3], [3, 0]], np.int32)
SUFFIX = np.array([[0, 1, 0], [0, 1, 1], [2, 3, 0], [3, 0, 0]], np.int32)


def table(codes: Any = CODES, sids: Any = None, ids: Any = "abcd", **more: Any) -> IdTable:
    """A table that nothing has checked."""
    sids = codes if sids is None else sids
    return IdTable(pa.array(list(ids)), np.array(codes, np.int32), np.array(sids, np.int32), **more)


def found(of: IdTable, **more: Any) -> dict[str, list[tuple[Any, ...]]]:
    """What is wrong, check by check: item, row, found, expected."""
    violations = verify_table(of, **{"levels": (4, 4), **more})
    return {check: [tuple(one.values()) for one in e] for check, e in violations.examples.items()}


# tables in memory, by hand


def test_a_good_table_of_every_policy() -> None:
    unique = np.array([[0, 1], [0, 2], [2, 3], [3, 0]])
    assert found(table(sids=SUFFIX), policy="suffix") == {}
    assert found(table(), policy="none") == {}
    assert found(table(sids=unique), policy="reassign") == {}
    assert found(table(sids=unique), policy="sinkhorn") == {}
    violations = verify_table(table(sids=SUFFIX))
    assert violations.total == 0
    assert violations.counts["repeated sid"] == 0  # a longer SID has a suffix
    assert "repeated sid" not in verify_table(table()).counts


def test_codes_out_of_range() -> None:
    broken = CODES.copy()
    broken[2, 1], broken[3, 0] = 4, -1
    assert found(table(broken, SUFFIX), policy="suffix") == {
        "codes range": [("c", 2, "2,4", "from 0 to 3, 3"), ("d", 3, "-1,0", "from 0 to 3, 3")]
    }


def test_another_length_than_the_models() -> None:
    assert found(table(), levels=(4, 4, 4), policy="none") == {
        "codes length": [(*"abc"[i], i, t, "3 codes") for i, t in enumerate(("0,1", "0,1", "2,3"))],
        "sid length": [(*"abc"[i], i, t, "3 codes") for i, t in enumerate(("0,1", "0,1", "2,3"))],
    }


@pytest.mark.parametrize(
    ("policy", "sid", "expected"),
    [("suffix", [2, 2, 0], "2,3,*"), ("none", [2, 2], "2,3"), ("sinkhorn", [1, 3], "2,*")],
)
def test_sids_that_do_not_begin_as_their_policy_says(
    policy: str, sid: list[int], expected: str
) -> None:
    sids = SUFFIX.copy() if policy == "suffix" else CODES.copy()
    sids[2] = sid
    text = ",".join(map(str, sid))
    assert found(table(sids=sids), policy=policy) == {"sid policy": [("c", 2, text, expected)]}


def test_a_negative_suffix() -> None:
    sids = SUFFIX.copy()
    sids[3, 2] = -2
    assert found(table(sids=sids)) == {"sid range": [("d", 3, "3,0,-2", "from 0 to 3, 3, int32")]}


def test_repeated_sids_and_items() -> None:
    sids = SUFFIX.copy()
    sids[1, 2] = 0
    assert found(table(sids=sids)) == {
        "repeated sid": [("b", 1, "0,1,0 as in row 0", "a SID of its own")]
    }
    assert found(table(sids=SUFFIX, ids="abca")) == {
        "repeated item_id": [("a", 3, "a as in row 0", "once")]
    }
    # Every row after the first, though only a few are kept.
    sids = np.zeros((4, 2), np.int32)
    assert (
        verify_table(table(sids=sids), levels=(4, 4), policy="reassign").counts["repeated sid"] == 3
    )


def test_null_items() -> None:
    items = pa.array(["a", None, "c", None])
    broken = IdTable(items, CODES, SUFFIX)
    assert verify_table_arrow(broken) == {"null item_id": 2}


def verify_table_arrow(of: IdTable) -> dict[str, int]:
    counts = verify_table(of, levels=(4, 4)).counts
    return {check: count for check, count in counts.items() if count}


def test_distances_that_cannot_be() -> None:
    distance = np.array([0, np.nan, -1, np.inf], np.float32)
    margin = np.array([0, np.inf, np.nan, 1], np.float32)
    of = table(sids=SUFFIX, distance=distance, margin=margin)
    assert found(of) == {
        "distance value": [
            ("b", 1, "nan", "a finite number from 0"),
            ("c", 2, "-1", "a finite number from 0"),
            ("d", 3, "inf", "a finite number from 0"),
        ],
        "margin value": [("c", 2, "nan", "a number")],
    }


def test_integer_items_and_keys_beyond_63_bits() -> None:
    sizes = (1 << 31, 1 << 31, 1 << 31)
    codes = np.array([[2**31 - 1, 5, 2**31 - 1], [2**31 - 1, 5, 2**31 - 2]], np.int32)
    of = IdTable(pa.array([7, -7]), codes, codes)
    assert found(of, levels=sizes, policy="reassign") == {}
    same = IdTable(pa.array([7, -7]), codes, codes[[0, 0]])
    assert found(same, levels=sizes, policy="reassign") == {
        "repeated sid": [("-7", 1, "2147483647,5,2147483647 as in row 0", "a SID of its own")],
        "needless move": [("-7", 1, "2147483647,5,2147483647", "2147483647,5,2147483646")],
    }


def test_tombstones() -> None:
    gone = table([[0, 1], [1, 1], [1, 1]], [[0, 1, 2], [1, 1, 0], [1, 1, 0]], ids="xyy")
    of = table(sids=SUFFIX, retired=gone.to_arrow())
    violations = verify_table(of, levels=(4, 4))
    assert {check: count for check, count in violations.counts.items() if count} == {
        "tombstone repeated item_id": 1,
        "tombstone repeated sid": 1,
    }
    back = table([[0, 1], [2, 3]], [[0, 1, 1], [2, 3, 4]], ids="xd")
    assert found(table(sids=SUFFIX, retired=back.to_arrow())) == {
        "retired item_id is live": [("d", 3, "d retired in row 1", "live or retired")],
        "retired sid is live": [
            ("b", 1, "0,1,1 retired in row 0", "a SID that no retired item had")
        ],
    }


def test_codes_made_anew() -> None:
    distance = np.array([1, 1, 1, 1], np.float32)
    margin = np.array([0.5, np.inf, 0, 0.5], np.float32)
    of = table(sids=SUFFIX, distance=distance, margin=margin)
    same = table(distance=distance * 1.0001, margin=margin)  # within rounding
    assert found(of, again=same) == {}
    # In another order, one item more and one less; d's code differs, a's distance, b's margin.
    again = table(
        [[3, 1], [2, 3], [0, 1], [0, 1]],
        ids="deba",
        distance=np.array([1, 1, 1, 1.5], np.float32),
        margin=np.array([9, 0, 3, 0.5], np.float32),
    )
    assert found(of, again=again) == {
        "codes": [("d", 3, "3,0", "3,1")],
        "distance": [("a", 0, "1", "1.5")],
        "margin": [("b", 1, "inf", "3")],
    }


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_exactly_the_broken_rows_are_found_in_any_order(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = (3, 5, 2)
    codes = random.integers(0, levels, (rows, 3)).astype(np.int32)
    sids = np.concatenate([codes, random.permutation(rows)[:, None]], 1).astype(np.int32)
    ids = [f"i{row}" for row in range(rows)]
    broken = data.draw(st.sets(st.integers(0, rows - 1)))
    other = codes.copy()
    other[list(broken), 1] = (codes[list(broken), 1] + 1) % 5
    order = random.permutation(rows)
    again = IdTable.from_arrays([ids[row] for row in order], codes[order])
    violations = verify_table(IdTable.from_arrays(ids, other, sids), levels=levels, again=again)
    # The SIDs were made of the right codes.
    assert violations.counts["codes"] == violations.counts["sid policy"] == len(broken)
    assert violations.total == 2 * len(broken)
    assert [one["row"] for one in violations.examples.get("codes", [])] == sorted(broken)[:3]


# the command


@pytest.fixture
def ids(tmp_path: Path, world: Path) -> Path:
    """A folder table as `semid assign` wrote it."""
    done = run_here(
        *("assign", world / "embeddings.parquet", "--model", world / "model"),
        *("--output", tmp_path / "ids"),
    )
    assert done.code == 0
    return tmp_path / "ids"


def verify(ids: Path, world: Path, *more: Any) -> Any:
    return run_here(
        *("verify", ids, "--model", world / "model"),
        *("--embeddings", world / "embeddings.parquet", *more),
    )


def test_a_table_as_it_was_assigned(ids: Path, world: Path) -> None:
    summary = verify(ids, world, "--json").json["summary"]
    assert (summary["violations"], summary["examples"], summary["not_checked"]) == (0, {}, [])
    assert summary["rows"] == summary["compared"] == ROWS
    assert (summary["policy"], summary["levels"]) == ("suffix", [8, 8])
    assert {"model fingerprint", "levels", "policy", "manifest", "codes"} <= set(summary["checks"])
    done = verify(world / "ids.parquet", world)
    assert done.code == 0
    assert "repeated sid         ok" in done.out


def test_one_wrong_code_is_found_wherever_the_row_is(
    tmp_path: Path, ids: Path, world: Path
) -> None:
    part = ids / "part-00000.parquet"
    was = pq.read_table(part)
    codes = was["codes"][300].as_py()
    other = [(codes[0] + 1) % 8, codes[1]]
    sid = was["sid"][300].as_py()
    rewrite(part, "codes", {300: other})
    embedded = pq.read_table(world / "embeddings.parquet")
    order = np.random.default_rng(0).permutation(ROWS)
    pq.write_table(embedded.take(order), tmp_path / "shuffled.parquet")
    done = verify(
        ids, world, "-o", tmp_path / "v.parquet", "--embeddings", tmp_path / "shuffled.parquet"
    )
    assert done.code == 3
    text, item = ",".join(map(str, other)), was["item_id"][300].as_py()
    assert f"part-00000.parquet, row 300, item {item}: {text}, expected" in done.out
    assert "breaks its contract 3 times (manifest 1, sid policy 1, codes 1)" in done.err
    assert pq.read_table(tmp_path / "v.parquet").to_pylist()[1:] == [
        {
            "check": "sid policy",
            "item_id": item,
            "row": 300,
            "found": ",".join(map(str, sid)),
            "expected": f"{text},*",
        },
        {
            "check": "codes",
            "item_id": item,
            "row": 300,
            "found": text,
            "expected": ",".join(map(str, codes)),
        },
    ]
    again = verify(
        ids, world, "-o", tmp_path / "v.parquet", "--embeddings", tmp_path / "shuffled.parquet"
    )
    assert again.code == 3  # though it is up to date
    assert "v.parquet: up to date" in again.out


def test_rows_that_no_reader_would_take_are_listed(ids: Path, world: Path) -> None:
    part = ids / "part-00000.parquet"
    rewrite(part, "codes", {3: None, 5: [1], 6: [1, None], 7: [1, 9], 8: []})
    rewrite(part, "item_id", {10: None})
    rewrite(part, "distance", {12: None})
    summary = json.loads(verify(ids, world, "--json").out)["summary"]
    checks = {check: count for check, count in summary["checks"].items() if count}
    assert checks == {
        "manifest": 1,
        "null item_id": 1,
        "codes length": 3,
        "codes range": 2,
        "distance value": 1,
    }
    lengths = [(one["row"], one["found"]) for one in summary["examples"]["codes length"]]
    assert lengths == [(3, "null"), (5, "1"), (8, "")]
    ranges = [(one["row"], one["found"]) for one in summary["examples"]["codes range"]]
    assert ranges == [(6, "1,null"), (7, "1,9")]


def test_items_on_one_side_only_are_no_violations(tmp_path: Path, ids: Path, world: Path) -> None:
    embedded = pq.read_table(world / "embeddings.parquet")
    more = make_embeddings(5, ids=[f"new{i}" for i in range(5)]).cast(embedded.schema)
    pq.write_table(pa.concat_tables([embedded.slice(7), more]), tmp_path / "e.parquet")
    summary = verify(ids, world, "--embeddings", tmp_path / "e.parquet", "--json").json["summary"]
    assert summary["violations"] == 0
    assert (summary["compared"], summary["not_in_embeddings"], summary["only_in_embeddings"]) == (
        *(ROWS - 7, 7, 5),
    )


def test_without_a_model_only_the_table_is_checked(ids: Path) -> None:
    done = run_here("verify", ids)
    assert done.code == 0
    assert "not checked: the model's fingerprint, and codes made anew: no --model was" in done.out
    assert "  codes  " not in done.out


def test_without_embeddings_codes_are_not_made_anew(ids: Path, world: Path) -> None:
    done = run_here("verify", ids, "--model", world / "model")
    assert done.code == 0
    assert "not checked: codes made anew: no --embeddings were given" in done.out


def test_a_table_of_another_model(tmp_path: Path, ids: Path, world: Path) -> None:
    done = run_here(
        *("train", world / "embeddings.parquet", "--output", tmp_path / "other"),
        *("--quantizer", "rqkmeans", "--levels", "8,4"),
    )
    assert done.code == 0
    done = run_here("verify", ids, "--model", tmp_path / "other", "--json")
    assert done.code == 3
    summary = json.loads(done.out)["summary"]
    assert summary["checks"]["model fingerprint"] == summary["checks"]["levels"] == 1
    assert summary["examples"]["levels"] == [
        {"at": None, "item_id": None, "row": None, "found": "8, 8", "expected": "8, 4"}
    ]


def test_a_part_of_another_table(ids: Path, world: Path) -> None:
    part = pq.read_table(ids / "part-00000.parquet")
    noted = json.loads(part.schema.metadata[b"semid"]) | {"model_fingerprint": "0123"}
    other = part.replace_schema_metadata({"semid": json.dumps(noted)})
    pq.write_table(other.slice(0, 2), ids / "part-00001.parquet")
    summary = json.loads(verify(ids, world, "--json").out)["summary"]
    checks = {check: count for check, count in summary["checks"].items() if count}
    assert checks == {
        "model fingerprint": 1,
        "manifest": 1,
        "repeated item_id": 2,
        "repeated sid": 2,
    }
    assert summary["examples"]["repeated sid"][0]["at"].endswith("part-00001.parquet, row 0")
    found = summary["examples"]["model fingerprint"][0]["found"]
    assert found.startswith("0123 in ")


# mistakes


def test_what_cannot_be_read_is_a_mistake(tmp_path: Path, ids: Path, world: Path) -> None:
    assert (
        "name the one that assigned the table by --model"
        in run_here("verify", ids, "--embeddings", world / "embeddings.parquet").error
    )
    assert "no column 'codes'" in run_here("verify", world / "embeddings.parquet").error
    assert "must end in .parquet" in run_here("verify", ids, "-o", tmp_path / "v.json").error
    assert "memory is 0.0 GiB" in run_here("verify", ids, "--memory", 0).error
    part = ids / "part-00000.parquet"
    rows = pq.read_table(part)
    pq.write_table(rows.set_column(1, "codes", pa.array(["1,2"] * ROWS)), part)
    said = run_here("verify", ids).error
    assert "column 'codes' is string, but it must be lists of int32" in said
    part.write_bytes(part.read_bytes()[:-20])
    assert "is truncated" in run_here("verify", ids).error


def test_ids_of_another_type(tmp_path: Path, ids: Path, world: Path) -> None:
    embedded = pq.read_table(world / "embeddings.parquet")
    numbered = embedded.set_column(0, "item_id", pa.array(range(ROWS)))
    pq.write_table(numbered, tmp_path / "e.parquet")
    said = verify(ids, world, "--embeddings", tmp_path / "e.parquet").error
    assert "column 'item_id' is string in" in said
    assert "verify needs the embeddings that the IDs were assigned from" in said


def test_an_output_of_another_making_stays(tmp_path: Path, ids: Path) -> None:
    (tmp_path / "v.parquet").write_text("mine")
    assert "--overwrite" in run_here("verify", ids, "-o", tmp_path / "v.parquet").error
    assert (tmp_path / "v.parquet").read_text() == "mine"


def test_a_pipeline_stops_at_a_table_that_is_broken(tmp_path: Path, ids: Path) -> None:
    rewrite(ids / "part-00000.parquet", "codes", {3: [9, 9]})
    text = f'[steps.verify]\nids = "{ids}"\noutput = "{tmp_path}/v.parquet"\n'
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(GateError, match=r"step 'verify': .* breaks its contract 2 times"):
        list(run(tmp_path / "p.toml"))
    assert pq.read_table(tmp_path / "v.parquet").num_rows == 2
    assert run_here("run", tmp_path / "p.toml").code == 3
    (tmp_path / "p.toml").write_text(text.replace("output", "# output"))
    assert "'output' is missing; verify needs it" in run_here("run", tmp_path / "p.toml").error
