"""The life of a table in memory: the same operations as the commands, on arrays and frames."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import run_here

import semid
from semid import IdTable, SemidError
from semid.collisions import CollisionConfig

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog():
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 8))
    x_nd = centres[random.integers(0, 40, 600)] + 0.2 * random.standard_normal((600, 8))
    x_nd[100:130] = x_nd[:30]  # equal embeddings collide for certain
    ids = [f"item {n}" for n in range(600)]
    model = semid.fit(x_nd[:500], quantizer="rqkmeans", levels=(8, 8, 16))
    return model, np.array(ids, dtype=object), x_nd.astype(np.float32)


def by_item(table):
    return dict(zip(table.item_ids.to_pylist(), map(tuple, table.sids.tolist()), strict=True))


@pytest.mark.parametrize("policy", ["suffix", "reassign", "none"])
def test_a_life(catalog, policy):
    model, ids, x_nd = catalog
    first = IdTable.assign(model, ids[:400], x_nd[:400], collisions=policy)
    assert (first.codes == model.encode(x_nd[:400])).all()
    second, drifted = first.append(model, ids[300:500], x_nd[300:500], now=NOON)
    assert second.item_ids.to_pylist() == ids[:500].tolist()
    assert (second.sids[:400] == first.sids).all()
    assert len(drifted) == 0
    again, _ = second.append(model, ids[:500], x_nd[:500], now=NOON)
    assert again.to_arrow().equals(second.to_arrow())
    third = second.retire(ids[:20].tolist(), now=NOON)
    assert len(third) == 480
    assert third.retired["retired_at"].to_pylist() == [NOON] * 20
    fourth, _ = third.append(model, ids[500:], x_nd[500:], now=NOON)
    held = set(map(tuple, third.retired["sid"].to_pylist()))
    if policy != "none":
        assert len(set(by_item(fourth).values())) == 580
        assert not held & set(by_item(fourth).values())
    back, _ = fourth.append(model, ids[:20], x_nd[:20], now=NOON)
    assert back.retired is None
    assert by_item(back) == by_item(second) | by_item(fourth)
    late, _ = third.append(
        *(model, ids[500:], x_nd[500:]), reclaim_after=30, now=NOON + timedelta(days=31)
    )
    if policy != "none":  # who had an ID is known until it is another's
        assert not set(by_item(late).values()) & set(map(tuple, late.retired["sid"].to_pylist()))


def test_the_command_and_the_library_agree(catalog, tmp_path):
    model, ids, x_nd = catalog
    model.save(tmp_path / "model")
    frame = pd.DataFrame({"item_id": ids[:400], "embedding": list(x_nd[:400])})
    frame.to_parquet(tmp_path / "e.parquet")
    for policy in ("suffix", "reassign", "sinkhorn", "none"):
        output = tmp_path / f"{policy}.parquet"
        done = run_here(
            *("assign", tmp_path / "e.parquet", "--model", tmp_path / "model"),
            *("--output", output, "--collisions", policy),
        )
        assert done.code == 0, done.err
        mine = IdTable.assign(model, ids[:400], x_nd[:400], collisions=policy)
        theirs = semid.read_ids(output)
        assert by_item(mine) == by_item(theirs)
        assert mine.metadata["model_fingerprint"] == theirs.metadata["model_fingerprint"]
        if policy != "sinkhorn":  # which keeps nothing
            more, _ = theirs.append(model, ids, x_nd, now=NOON)
            assert by_item(more).items() >= by_item(mine).items()


def test_suffixes_go_by_what_is_given(catalog):
    model, ids, x_nd = catalog
    same_nd = np.repeat(x_nd[:1], 4, axis=0)
    by_sales = CollisionConfig("suffix", suffix_order="sales:desc")
    table = IdTable.assign(model, ids[:4], same_nd, collisions=by_sales, order=[3, None, 9, 3])
    assert table.sids[:, -1].tolist() == [1, 3, 0, 2]


def test_drift_is_listed_and_moves_when_asked(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:100], x_nd[:100])
    other_nd = x_nd[:100].copy()
    other_nd[7] = x_nd[450]
    kept, drifted = table.append(model, ids[:100], other_nd, now=NOON)
    assert kept.to_arrow().equals(table.to_arrow())
    assert drifted["item_id"].to_pylist() == ["item 7"]
    error = float(np.square(other_nd[7] - model.decode(table.codes[7:8])[0]).sum())
    fresh = float(model.quantize(other_nd[7:8]).distance_n[0])
    mean = float(table.distance.mean(dtype=np.float64))
    assert drifted["drift"].to_pylist() == pytest.approx([(error - fresh) / mean], rel=1e-4)
    limit = drifted["drift"][0].as_py()
    moved, _ = table.append(model, ids[:100], other_nd, move_drifted=limit, now=NOON)
    assert by_item(moved)["item 7"][:3] == tuple(model.encode(other_nd[7:8])[0].tolist())
    assert moved.retired["reason"].to_pylist() == ["moved"]
    assert moved.retired["sid"].to_pylist() == [list(by_item(table)["item 7"])]
    still, _ = table.append(model, ids[:100], other_nd, move_drifted=limit * 1.01, now=NOON)
    assert by_item(still) == by_item(table)


def test_frames_and_arrow_tables_come_in(catalog, tmp_path):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:50], x_nd[:50])
    for rows in (table.to_pandas(), table.to_arrow(), table.to_arrow().to_pandas()):
        assert by_item(IdTable.from_arrow(rows)) == by_item(table)
    pq.write_table(table.to_arrow(), tmp_path / "ids.parquet")
    assert semid.read_ids(tmp_path / "ids.parquet").metadata == table.metadata
    with pytest.raises(SemidError, match="the rows have no column 'codes'; theirs are item_id"):
        IdTable.from_arrow(pd.DataFrame({"item_id": [1]}))


def test_what_is_refused(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:50], x_nd[:50])
    other = semid.fit(x_nd[:500], quantizer="rqkmeans", levels=(8, 8, 16), seed=1)
    with pytest.raises(SemidError, match=r"assigned by the model \w{16}, but the one given is \w"):
        table.append(other, ids[50:60], x_nd[50:60])
    bare = IdTable.from_arrays(["a"], [[1, 2, 3]])
    with pytest.raises(SemidError, match="does not say which model assigned it"):
        bare.append(model, ids[50:60], x_nd[50:60])
    with pytest.raises(SemidError, match="3 item ids were given for 2 embeddings"):
        IdTable.assign(model, ids[:3], x_nd[:2])
    with pytest.raises(SemidError, match=r"does not have the items 'x'; take them out"):
        table.retire(["x"])
    with pytest.raises(SemidError, match="cannot be empty"):
        table.retire(ids[:50].tolist())
    once = table.retire(["item 3"])
    again = once.retire(["item 3"])
    assert again.to_arrow().equals(once.to_arrow())
    assert again.retired.equals(once.retired)
    for attempt in (table.lookup, table.retire, lambda one: IdTable.assign(model, one, x_nd[:6])):
        with pytest.raises(SemidError, match="'item_id' is 'item 3', one item id; pass a list"):
            attempt("item 3")
    with pytest.raises(SemidError, match="3 is no prefix; give its codes as a list"):
        table.with_prefix(3)


def test_a_table_says_where_it_comes_from_and_what_differs(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:50], x_nd[:50], encoder="e1")
    assert table.metadata["encoder_fingerprint"] == "e1"
    same, _ = table.append(model, ids[:60], x_nd[:60])
    assert same.metadata["encoder_fingerprint"] == "e1"
    with pytest.raises(SemidError, match="assigned from embeddings of the encoder e1, but those "):
        table.append(model, ids[:60], x_nd[:60], encoder="e2")
    other = semid.fit(x_nd[:500], quantizer="rqkmeans", levels=(8, 8, 16), seed=1)
    with pytest.raises(
        SemidError, match=r"is \w{16}, fitted on the same input statistics \(\w{16}\)"
    ):
        table.append(other, ids[:60], x_nd[:60])
    other = semid.fit(x_nd[:400], quantizer="rqkmeans", levels=(8, 8, 16))
    with pytest.raises(
        SemidError, match=r"other input statistics \(\w{16}, not \w{16}\); use that"
    ):
        table.append(other, ids[:60], x_nd[:60])
    changed = replace(table, metadata={**table.metadata, "input_fingerprint": "0123"})
    with pytest.raises(
        SemidError, match="by a model with the input statistics 0123, but those of "
    ):
        changed.append(model, ids[:60], x_nd[:60])
    older = {k: v for k, v in table.metadata.items() if k != "input_fingerprint"}
    assert len(replace(table, metadata=older).append(model, ids[:60], x_nd[:60])[0]) == 60


def test_embeddings_of_another_encoder_are_refused(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:100], x_nd[:100])
    strange_nd = np.random.default_rng(5).standard_normal((200, 8)).astype(np.float32)[:, ::-1]
    with pytest.raises(
        SemidError, match="embeddings given: these embeddings look like another encoder's"
    ):
        table.append(model, ids[100:300], strange_nd * 30)


def test_what_suffixes_go_by_stays_the_same(catalog):
    model, ids, x_nd = catalog
    by_sales = CollisionConfig("suffix", suffix_order="sales:desc")
    table = IdTable.assign(model, ids[:4], x_nd[:4], collisions=by_sales, order=[3, 1, 9, 3])
    with pytest.raises(SemidError, match="suffixes go by sales:desc, but no order was given"):
        table.append(model, ids[:6], x_nd[:6])
    assert len(table.append(model, ids[:6], x_nd[:6], order=range(6))[0]) == 6
    with pytest.raises(SemidError, match="suffixes go by the item id, but an order was given"):
        IdTable.assign(model, ids[:4], x_nd[:4], order=[3, 1, 9, 3])


@pytest.mark.parametrize("name", ["codes", "sid", "distance", "margin", "retired_at", "reason"])
def test_ids_are_not_called_as_another_column(catalog, name):
    model, ids, x_nd = catalog
    said = f"the id column of .* is called '{name}', as one of the columns of an ids table"
    with pytest.raises(SemidError, match=said):
        IdTable.assign(model, ids[:4], x_nd[:4], item_id=name)
    with pytest.raises(SemidError, match=said):
        IdTable.from_arrays(["a"], [[1]], item_id=name)


def test_a_table_verifies_itself(catalog):
    model, ids, x_nd = catalog
    for policy in ("suffix", "reassign", "none"):
        table = IdTable.assign(model, ids[:400], x_nd[:400], collisions=policy)
        found = table.verify(model, ids[:400], x_nd[:400])
        assert found.total == 0, found.examples
        assert {"model fingerprint", "input fingerprint", "codes"} <= found.counts.keys()
        assert ("needless move" in found.counts) == (policy == "reassign")
    assert table.verify().total == 0
    assert table.verify(model, ids[200:], x_nd[:400]).counts["codes"] > 100
    other = semid.fit(x_nd[:400], quantizer="rqkmeans", levels=(8, 8, 16), seed=1)
    counts = table.verify(other).counts
    assert counts["model fingerprint"] == counts["input fingerprint"] == 1
    with pytest.raises(SemidError, match="embeddings are given codes only by a model; give it"):
        table.verify(item_ids=ids[:400], x=x_nd[:400])


def test_an_item_that_was_moved_for_nothing_is_found(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:400], x_nd[:400], collisions="reassign")
    live = set(map(tuple, table.sids.tolist()))
    free = next(sid for sid in np.ndindex(8, 8, 16) if sid not in live)
    alone = int(np.flatnonzero((table.codes == table.sids).all(1))[0])
    sids_ns = table.sids.copy()
    sids_ns[alone] = free
    raw = table.codes[alone]
    found = replace(table, sids=sids_ns).verify()
    assert found.counts["needless move"] == found.total
    moved = (table.codes != table.sids).any(1) & (table.codes == raw).all(1)
    assert found.counts["needless move"] == 1 + moved.sum()
    # Of a table that went on, somebody may have been forgotten: it is no violation.
    noted = {**table.metadata, "summary": {**table.metadata["summary"], "kept": 1}}
    assert replace(table, sids=sids_ns, metadata=noted).verify().total == 0


def test_a_table_tells_drift_and_aligns_a_model(catalog):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:500], x_nd[:500])
    told = table.drift(model, ids[400:], x_nd[400:])
    assert told["items"] == {"table": 500, "fresh": 200, "known": 100, "new": 100}
    assert told["verdict"].startswith("no retrain is due for these 200 items")
    assert not told["retrain_due"]
    assert told["changed"] == [0, 0, 0]
    assert table.drift(model, ids[400:], 3 - x_nd[400:])["retrain_due"]
    other = semid.fit(x_nd[:500], quantizer="rqkmeans", levels=(8, 8, 16), seed=3)
    with pytest.raises(SemidError, match=r"table was assigned by the model \w{16}, but the one "):
        table.drift(other, ids[400:], x_nd[400:])
    like = table.align(other, ids, x_nd)
    same, before = ((m.encode(x_nd[:500]) == table.codes)[:, 0].mean() for m in (like, other))
    assert same > 0.7 > before
    assert (like.decode(like.encode(x_nd)) == other.decode(other.encode(x_nd))).all()
    with pytest.raises(SemidError, match="none of the items is in the table, whose codes theirs"):
        table.align(other, ids[550:], x_nd[550:])
    bare = replace(table, distance=None)
    with pytest.raises(SemidError, match="the table has no distances, which drift compares"):
        bare.drift(model, ids[:5], x_nd[:5])


def test_what_is_saved_comes_back_and_goes_on(catalog, tmp_path):
    model, ids, x_nd = catalog
    table = IdTable.assign(model, ids[:100], x_nd[:100]).retire(["item 4"], now=NOON)
    assert table.metadata["summary"]["items"] == 99
    table.save(tmp_path / "ids")
    back = semid.read_ids(tmp_path / "ids")
    assert by_item(back) == by_item(table)
    assert back.retired.equals(table.retired)
    more, _ = back.append(model, ids[:120], x_nd[:120], now=NOON)
    assert len(more) == 120
    assert more.retired is None
    with pytest.raises(SemidError, match=r"ids exists; choose another path, or overwrite=True"):
        more.save(tmp_path / "ids")
    more.save(tmp_path / "ids", overwrite=True)
    assert by_item(semid.read_ids(tmp_path / "ids")) == by_item(more)
    more.save(tmp_path / "ids.parquet")
    assert semid.read_ids(tmp_path / "ids.parquet").metadata == more.metadata
    with pytest.raises(SemidError, match="for which a single file has no place"):
        table.save(tmp_path / "other.parquet")
    frame = more.to_pandas()
    on, _ = IdTable.from_arrow(frame).append(model, ids[:130], x_nd[:130], now=NOON)
    assert len(on) == 130
    with pytest.raises(SemidError, match="item ids given are int64 but the table's are string"):
        more.append(model, list(range(5)), x_nd[:5])
    with pytest.raises(SemidError, match="item ids given are int64"):
        more.retire([3])
