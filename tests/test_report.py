"""The report: its parts by hand, and the page through the command."""

import base64
import gzip
import json
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.evaluation.findings import SHARED, Finding
from semid.id_reading import read_ids
from semid.id_table import IdTable
from semid.ids import prefixes
from semid.jobs.report import report
from semid.report import (
    code_usage,
    collision_sizes,
    error_by_level,
    item_map,
    prefix_treemap,
    training_losses,
    training_perplexity,
)
from semid.report.building import build_page
from semid.report.contents import NO_VALUE, NOBODY, RARE, Column, Held, contents, held_rows
from semid.report.looking import Known
from semid.report.packing import pack, rounded, smallest
from semid.report.page import image_sources, page
from semid.report.projection import SAMPLE, place
from semid.report.sections import all_metrics
from semid.report.subject import Subject, column_of, shortened, texts_of, whole_or_none
from semid.report.tree import means, most_frequent, prefix_tree
from semid.report.verdict import findings_of, gates_html, of_gates, own_findings, verdict_html

CODES = np.array([[0, 0], [0, 1], [0, 1], [2, 0]], np.int32)


def unpacked(text):
    """What the page's script sees of packed content: facts, arrays, texts."""
    whole = gzip.decompress(base64.b64decode(text))
    start = 4 + int.from_bytes(whole[:4], "little")
    header = json.loads(whole[4:start])
    arrays = {
        name: np.frombuffer(whole, f"<{kind}", count, start + at)
        for name, (kind, at, count) in header["arrays"].items()
    }
    texts = {
        name: whole[start + at : start + at + size].decode().split("\n") if lines else []
        for name, (at, size, lines) in header["texts"].items()
    }
    return header["facts"], arrays, texts


# the tree


def test_a_tree_by_hand():
    first, second = prefix_tree(CODES)
    assert first.code_p.tolist() == [0, 2]
    assert first.start_p.tolist() == [0, 3]
    assert first.size_p.tolist() == [3, 1]
    assert first.children_p.tolist() == [2, 1]
    assert second.code_p.tolist() == [0, 1, 0]
    assert second.size_p.tolist() == [1, 2, 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40))
def test_a_tree_has_the_prefixes_that_there_are(rows):
    codes_nl = np.array(sorted(rows), np.int32)
    tree = prefix_tree(codes_nl)
    for depth, found in enumerate(tree, start=1):
        prefix_pd, size_p = prefixes(codes_nl, depth)
        assert found.code_p.tolist() == prefix_pd[:, -1].tolist()
        assert found.size_p.tolist() == size_p.tolist()
        if depth < 3:
            assert found.children_p.sum() == len(tree[depth])


def test_means_and_labels_of_prefixes_by_hand():
    first, second = prefix_tree(CODES)
    assert means(np.array([1.0, np.nan, 3.0, np.nan]), first).tolist()[:1] == [2.0]
    assert np.isnan(means(np.array([1.0, np.nan, 3.0, np.nan]), first)[1])
    label_p, share_p = most_frequent(np.array([1, 0, 1, -1]), first)
    assert (label_p.tolist(), share_p.tolist()) == ([1, -1], [2 / 3, 0.0])
    label_p, share_p = most_frequent(np.array([-1, 3, 2, 0]), second)  # as frequent: the lowest
    assert (label_p.tolist(), share_p.tolist()) == ([-1, 2, 0], [0.0, 0.5, 1.0])


# what the page holds


def test_packing_gives_back_what_it_was_given():
    arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.array([1.5, np.nan], np.float32)}
    text = pack(arrays, {"t": ["a\nb", "</script>", "שלום 😀"], "none": []}, {"n": 2})
    facts, found, texts = unpacked(text)
    assert facts == {"n": 2}
    assert found["a"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found["b"], arrays["b"])
    assert texts == {"t": ["a b", "</script>", "שלום 😀"], "none": []}
    assert "<" not in text


def test_numbers_get_smaller():
    assert smallest(np.array([0, 255])).dtype == np.uint8
    assert smallest(np.array([0, 256])).dtype == np.uint16
    assert smallest(np.array([0, 1 << 16])).dtype == np.uint32
    values = np.array([1 / 3, -2e10, 0.0, np.nan])
    np.testing.assert_allclose(rounded(values), values, rtol=3e-4)


def test_what_is_kept_points_at_what_is_kept():
    near_mk = np.array([[1, 2], [2, NOBODY], [0, 1]], np.uint32)
    held = Held(np.array([4, 6, 9]), {"ids": ["a", "b", "c"]}, near_mk, np.zeros((3, 2), np.uint8))
    kept = held.kept(np.array([True, False, True]))
    assert kept.row_m.tolist() == [4, 9]
    assert kept.texts == {"ids": ["a", "c"]}
    assert kept.near_mk.tolist() == [[NOBODY, 1], [0, NOBODY]]


def test_rows_are_spread_with_those_that_are_wanted():
    assert held_rows(5, 10, np.array([2])).tolist() == [0, 1, 2, 3, 4]
    assert held_rows(101, 5, np.array([7])).tolist() == [0, 7, 25, 50, 75, 100]


def test_a_catalog_too_large_is_thinned_and_says_so():
    n = 20_000
    random = np.random.default_rng(0)
    sids_ns = np.sort(random.integers(0, 256, n)).astype(np.int32)[:, None]
    held = Held(np.arange(n), {"ids": [str(row) for row in random.permutation(n)]})
    wanted = np.array([3, 17_171])
    tree, columns = prefix_tree(sids_ns), [Column("price", random.random(n))]
    whole, notes, _ = contents(sids_ns, tree, columns, held, wanted)
    assert notes == []
    most = len(whole) // 3
    text, notes, items = contents(sids_ns, tree, columns, held, wanted, most_bytes=most)
    facts, arrays, texts = unpacked(text)
    assert len(text) <= len(whole) // 3
    assert f"Of 20,000 items the page holds {items:,}" in notes[-1]
    assert set(wanted) <= set(arrays["row"].tolist())
    assert len(texts["ids"]) == len(arrays["row"]) == items > 1_000
    assert facts["neighbours_said"] == "among the items that the page holds"
    assert arrays["size_1"].sum() == facts["items"] == n  # of all items, held or not


def test_what_is_left_out_comes_in_an_order(monkeypatch):
    """Long prefixes first, then items, colours from the last, prefixes, and items again."""
    n, random = 3_000, np.random.default_rng(0)
    sids_ns = random.integers(0, 8, (n, 5)).astype(np.int32)
    sids_ns = sids_ns[np.lexsort(sids_ns.T[::-1])]
    held = Held(np.arange(n), {"ids": [str(row) for row in random.permutation(n)]})
    tree = prefix_tree(sids_ns)
    columns = [Column(name, random.random(n)) for name in ("one", "two")]
    monkeypatch.setattr("semid.report.contents.LEAST_ITEMS", 2_000)
    seen, most = [], 1 << 60
    while most > 1_000:
        text, _, items = contents(sids_ns, tree, columns, held, np.array([7]), most_bytes=most)
        facts = unpacked(text)[0]
        seen.append((facts["depths"], items, len(facts["columns"])))
        assert len(text) <= most
        most = len(text) - 1
    assert seen[:3] == [(5, 3_000, 2), (4, 3_000, 2), (3, 3_000, 2)]
    assert seen[3][1] < 3_000
    at = [one[1] for one in seen].index(2_000)
    assert seen[at : at + 5] == [
        *((3, 2_000, 2), (3, 2_000, 1), (3, 2_000, 0)),
        *((2, 2_000, 0), (1, 2_000, 0)),
    ]
    assert seen[-1][0::2] == (1, 0)


def test_a_page_has_room_for_what_its_other_parts_leave(subject):
    whole, _ = build_page(Known(subject, "ids"))
    n = 22_000
    ids = [str(row) for row in np.random.default_rng(0).permutation(n)]
    codes_nl = np.random.default_rng(0).integers(0, 256, (n, 3)).astype(np.int32)
    large = Known(Subject(IdTable.from_arrays(ids, codes_nl, codes_nl)), "ids")
    most = len(whole) + 180_000
    text, summary = build_page(large, most_bytes=most)
    assert len(text.encode()) <= most
    assert f"the page holds {summary['items_held']:,}, spread" in text


# the policy


def test_only_where_images_are_may_be_asked():
    images = ["https://a.b/1", "https://a.b/2?x", "http://c:80/", "data:image/gif;base64,AA", ""]
    images += ["javascript:alert(1)", "data:text/html,x", "https://x;y/", "https://u@h/", "/local"]
    assert image_sources(images) == ["data:", "http://c:80", "https://a.b"]
    assert image_sources(f"https://h{n}.b/" for n in range(101)) == ["https:"]
    assert "img-src 'none'\"" in page("", [], None, [])
    assert 'img-src https://a.b"' in page("", [], None, ["https://a.b"])


# columns of items


@pytest.fixture
def subject():
    ids = ["c", "a", "d", "b"]
    sids_ns = np.concatenate([CODES[[2, 0, 3, 1]], [[1], [0], [0], [0]]], axis=1)
    return Subject(IdTable.from_arrays(ids, CODES[[2, 0, 3, 1]], sids_ns), (3, 2))


def test_a_subject_is_sorted_by_sid(subject):
    assert subject.table.item_ids.to_pylist() == ["a", "b", "c", "d"]
    assert subject.figures["uniqueness"] == 0.75
    assert subject.figures["collisions"]["share_in_groups"] == 0.5
    assert subject.sharing_n.tolist() == [1, 2, 2, 1]
    assert subject.group_sizes.tolist() == [1, 2, 1]
    assert subject.table_row_n.tolist() == [1, 3, 0, 2]
    assert [count_k.tolist() for count_k in subject.counts] == [[3, 0, 1], [2, 2]]
    assert subject.spelled(2) == "0,1,1"


@pytest.mark.parametrize(
    ("values", "labels", "found"),
    [
        ([["x", "y"], [], None, ["x"]], ("x",), [0, -1, -1, 0]),
        (["q", "p", "q", ""], ("q", "p"), [0, 1, 0, -1]),
        ([True, False, None, True], ("true", "false"), [0, 1, -1, 0]),
    ],
)
def test_labels_are_numbered_by_how_many_have_them(subject, values, labels, found):
    table = pa.table({"id": ["a", "b", "c", "d"], "of": values})
    column = column_of(subject, "of", table.schema.field("of").type, table.to_batches())
    assert (column.labels, column.value_n.tolist()) == (labels, found)
    assert column.name == ("of, the first" if labels == ("x",) else "of")


def test_no_value_is_told_from_a_rare_one(subject, monkeypatch):
    monkeypatch.setattr("semid.report.subject.MOST_LABELS", 1)
    table = pa.table({"id": ["a", "b", "c", "d"], "of": ["x", "x", "y", None]})
    column = column_of(subject, "of", pa.string(), table.to_batches())
    assert (column.labels, column.value_n.tolist()) == (("x",), [0, 0, RARE, NO_VALUE])
    assert column.missing_n.tolist() == [False, False, False, True]
    price = Column("price", np.array([1.0, np.nan, np.nan, 2.0]))
    held = Held(np.arange(4), {"ids": ["a", "b", "c", "d"]})
    packed = contents(subject.table.sids, subject.tree, [column, price], held, np.arange(1)).text
    facts, arrays, _ = unpacked(packed)
    assert facts["columns"] == [
        {"name": "of", "missing": 1, "kind": "label", "labels": ["x"], "rare": True},
        {"name": "price", "missing": 2, "kind": "number"},
    ]
    assert arrays["item_0"].tolist() == [0, 0, 2, 1]
    assert arrays["missing_0_1"].tolist() == [0, 1]
    assert arrays["missing_1_1"].tolist() == [2, 0]
    assert arrays["share_0_1"].tolist() == [170, 0]  # of all three items of the prefix


def test_numbers_and_texts_come_in_any_order_with_strangers(subject):
    table = pa.table(
        {"id": ["d", "?", "a"], "price": pa.array([1, 2, None]), "title": ["x" * 9, "y", None]}
    )
    batches = table.to_batches()
    price = column_of(subject, "price", pa.int64(), batches)
    np.testing.assert_array_equal(price.value_n, [np.nan, np.nan, np.nan, 1.0])
    titles = [batch.select(["id", "title"]) for batch in batches]
    for cut, found in ((shortened, "xxxx…"), (whole_or_none, "")):
        cuts = [lambda text, cut=cut: cut(text, 5)]
        assert texts_of(subject, np.array([0, 3]), titles, cuts) == [["", found]]


# the map


def test_places_are_in_the_unit_square_and_repeat():
    x_nd = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    for method in ("pca", "tsne"):
        place_n2, said = place(x_nd, method)
        assert place_n2.shape == (60, 2)
        assert place_n2.min() >= 0
        assert place_n2.max() <= 1
    np.testing.assert_array_equal(place(x_nd)[0], place_n2)
    assert said == "t-SNE of the first 50 principal components."
    line_nd = np.outer(np.arange(4, dtype=np.float32), [1, 1])
    assert place(line_nd)[1] == "The first two principal components, 100% of the variance."
    assert SAMPLE > 60
    with pytest.raises(SemidError, match="one of tsne, pca"):
        place(x_nd, "umap")


# the verdict


def test_own_findings_come_worst_first():
    levels = [
        {"dead": 0, "size": 8, "perplexity": 7.5, "perplexity_ratio": 0.94},
        {"dead": 5, "size": 8, "perplexity": 1.5, "perplexity_ratio": 0.19},
        {"dead": 0, "size": 8, "perplexity": 3.9, "perplexity_ratio": 0.49},
    ]
    figures = {"levels": levels, "uniqueness": 0.85, "collisions": {"largest_group": 4}}
    assert [(one.severity, one.about) for one in own_findings(figures)] == [
        ("bad", "level 1"),
        ("warning", "uniqueness"),
        ("warning", "level 2"),
    ]
    assert own_findings({**figures, "levels": levels[:1], "uniqueness": 1 - SHARED}) == []


def test_findings_and_gates_are_escaped():
    metrics = {"findings": [{"severity": "bad", "about": "<b>", "says": "a & b", "advice": None}]}
    page = verdict_html(findings_of(metrics), "")
    assert "&lt;b&gt;" in page
    assert "<b>A &amp; b.</b>" in page
    assert "<b>b" not in page
    gates = gates_html([{"gate": "uniqueness >= 0.9", "value": 0.25, "passed": False}])
    assert "uniqueness &gt;= 0.9" in gates
    assert ">0.25<" in gates
    assert "failed" in gates
    assert gates_html([]) == ""
    assert "Nothing that was looked at is amiss." in verdict_html([], "")
    assert "amiss in codes." in verdict_html([], "", nothing="nothing is amiss in codes")
    assert Finding("bad", "x", "y", "") in findings_of(
        {"findings": [{"severity": "bad", "about": "x", "says": "y"}]}
    )


def test_gates_that_failed_come_first():
    gates = [
        {"gate": "uniqueness >= 0.9", "value": 0.25, "passed": False},
        {"gate": "uniqueness >= 0.1", "value": 0.25, "passed": True},
    ]
    (found,) = of_gates(gates)
    assert (found.severity, found.about) == ("bad", "gates")
    assert found.says.startswith("1 of 2 gates failed: uniqueness >= 0.9, but it is 0.25; held:")
    assert of_gates(gates[1:]) == of_gates([]) == []


def test_a_page_says_what_was_looked_at_when_little_was():
    codes_nl = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
    table = IdTable.from_arrays(list("abcd"), codes_nl, codes_nl)
    known = Known(Subject(table, (2, 2)), "ids")
    text, summary = build_page(known)
    assert summary["verdict"].startswith("nothing is amiss in the codes' use")
    assert "Nothing is amiss in the codes&#x27; use and in how many items share them" in text
    gates = [{"gate": "uniqueness >= 2", "value": 1.0, "passed": False}]
    figures = {**known.subject.figures, "findings": [], "gates": gates}
    text, summary = build_page(replace(known, metrics=figures))
    assert summary["verdict"] == "1 of 1 gates failed: uniqueness >= 2, but it is 1"
    assert "is amiss" not in text
    assert text.index('class="verdict bad first"') < text.index("<h3>Gates</h3>")


def test_all_metrics_are_laid_out_whatever_they_are():
    page = all_metrics(
        {
            "items": 1200,
            "perplexity_ratio": [0.5, 0.25],
            "levels": [{"size": 8, "used": 7}],
            "structure": {"recall": {"k 10": 0.5}, "<odd>": None},
            "fidelity": {"depths": [{"depth": 1, "cosine": 0.7}, {"depth": 2, "error": 0.25}]},
            "baseline": {"items": 1100, "structure": {"recall": {"k 10": 0.4}}},
        }
    )
    assert all_metrics({"items": 2, "embedded": 2, "of_embedded": {"same": 1}}).count("same") == 0
    assert all_metrics({"items": 3, "embedded": 2, "of_embedded": {"same": 1}}).count("same") == 1
    assert "<td>10,840</td>" in all_metrics(
        {"use": {"perplexity": 10840.4, "worst": [{"item": 1}]}}
    )
    for said in ("1,200", "1,100", "0.5, 0.25", "recall: k 10", "<td>0.4</td>", "&lt;odd&gt;"):
        assert said in page
    # Figures of several of a kind are a table of their own, a row each.
    assert "<th>depth</th><th>cosine</th><th>error</th>" in page
    assert "<tr><td>2</td><td>–</td><td>0.25</td></tr>" in page


# plots


def test_plots_by_hand():
    usage = code_usage([np.array([1, 0, 3, 0])])
    assert usage.data[0].y.tolist() == [3.0, 1.0, 0.0, 0.0]
    assert usage.data[0].x.tolist() == [0.125, 0.375, 0.625, 0.875]
    sizes = collision_sizes(np.array([1, 1, 3]))
    assert (list(sizes.data[0].x), sizes.data[0].y.tolist()) == ([1, 3], [2, 1])
    errors = error_by_level({"training items": [0.5, 0.25]})
    assert (errors.data[0].x, errors.data[0].y) == ((1, 2), (0.5, 0.25))
    dots = item_map(np.zeros((2, 2)), np.array([0, 1]), ["a", "b"])
    assert list(dots.data[0].text) == ["0: a", "1: b"]
    tree = prefix_treemap(CODES)
    assert dict(zip(tree.data[0].ids, tree.data[0]["values"], strict=True)) == {
        **{"all": 4, "0": 3, "2": 1},
        **{"0,0": 1, "0,1": 2, "2,0": 1},
    }


def test_training_is_drawn_where_it_is_known():
    history = [
        {"epoch": 0, "perplexity_0": 0.0, "codebook_loss": 0.0, "held_out_error": None},
        {"epoch": 1, "perplexity_0": 2.0, "codebook_loss": None, "held_out_error": 0.5},
        {"epoch": 2, "perplexity_0": 3.0, "codebook_loss": 1.0, "held_out_error": 0.25},
    ]
    (perplexity,) = training_perplexity(history).data
    assert (perplexity.name, perplexity.y) == ("level 0", (2.0, 3.0))
    losses = {trace.name: (trace.x, trace.y) for trace in training_losses(history).data}
    assert losses == {"codebook": ((2,), (1.0,)), "held out error": ((1, 2), (0.5, 0.25))}
    warm = [{"epoch": 1, "used_0": 0}, {"epoch": 2, "used_0": 3}, {"epoch": 3, "used_0": 3}]
    (line,) = training_losses(warm).layout.shapes
    assert (line.x0, line.x1) == (2, 2)
    assert not training_losses(warm[1:]).layout.shapes


def test_the_terms_of_the_loss_are_explained(subject):
    history = [{"epoch": 1, "uniformity_loss": 0.5, "kl_loss": 0.0, "held_out_error": 0.25}]
    text, _ = build_page(Known(subject, "ids", history=history))
    said = text[text.index("Loss over training") :][:600]
    assert "Uniformity, what latents lack to being spread evenly" in said
    assert "; held out error, what decoding misses of items that are not trained on" in said
    assert "normal distribution" not in said


def test_a_group_of_its_own_size_is_seen():
    (bars,) = collision_sizes(np.array([1, 1, 1, 9])).data
    assert (bars.x.tolist(), bars.y.tolist()) == ([1, 9], [3, 1])
    low, high = collision_sizes(np.array([1, 1, 1, 9])).layout.yaxis.range
    assert 10**low == pytest.approx(0.5)
    assert 10**high > 3


# the command


def arguments(world, *more):
    given = ("--model", world / "model", "--embeddings", world / "embeddings.parquet")
    return ("report", world / "ids.parquet", *given, "--projection", "pca", *more)


def test_the_page_of_all_that_there_is(tmp_path, world):
    page, shuffled = tmp_path / "report.html", tmp_path / "shuffled.parquet"
    rows = pq.read_table(world / "embeddings.parquet")
    pq.write_table(rows.take(np.random.default_rng(0).permutation(len(rows))), shuffled)
    metrics = json.loads((world / "metrics.json").read_text())
    metrics["findings"] = [{"severity": "bad", "about": "level 0", "says": "it is", "advice": "x"}]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    more = ("--items", world / "items.parquet", "--color-by", "brand,price")
    more += ("--metrics", tmp_path / "metrics.json", "--against", world / "ids.parquet")
    more += ("--gate", "uniqueness >= 2")
    done = run_here(*arguments(world, *more, "--output", page, "--json"))
    assert done.code == 3
    assert "uniqueness >= 2, but it is" in done.err
    summary = json.loads(done.out)["summary"]
    assert summary["items"] == summary["items_held"] == 400
    assert summary["verdict"].startswith("1 of 1 gates failed: uniqueness >= 2, but it is 0.")
    text = page.read_text()
    assert len(text) < 15e6
    for said in ("uniqueness &gt;= 2", "It is.", "0.00% of the 400 items in both", "Worst cases"):
        assert said in text
    for loads in ('src="http', "<link", "@import", "url(http"):
        assert loads not in text.replace("<\\/script", "")[:4_000] + text[-4_000:]
    error = f"{metrics['train_error']:.3f}"
    assert f"<b>{error}</b><span>error of training items" in text
    again = run_here(*arguments(world, *more, "--output", page, "--json"))
    assert json.loads(again.out)["up_to_date"]
    other = report(
        *map(str, [world / "ids.parquet"]),
        **{"model": str(world / "model"), "embeddings": str(shuffled), "projection": "pca"},
        output=str(tmp_path / "other.html"),
    )
    assert other.summary["items"] == 400
    assert f"<b>{error}</b><span>error of training items" in other.output.read_text()


def test_what_is_not_given_is_named(tmp_path, world):
    done = run_here("report", world / "ids.parquet", "--output", tmp_path / "report.html")
    assert done.code == 0, done.err
    text = (tmp_path / "report.html").read_text()
    for said in ("--items", "--embeddings", "--model", "--against"):
        assert f"{said}." in text
    assert 'href="#tables"' not in text
    assert "Judged by codes alone: --model and --embeddings show what more" in text
    assert 'id="map"' not in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--output", "report.pdf"), "must end in .html"),
        (("--output", "r.html", "--projection", "umap"), "one of tsne, pca"),
        (("--output", "r.html", "--image-column", "image"), "name it by --items"),
        (
            ("--output", "r.html", "--items", "{world}/items.parquet", "--url-column=x"),
            "no column",
        ),
        (("--output", "r.html", "--metrics", "{world}/ids.parquet"), "cannot be read as JSON"),
        (("--output", "r.html", "--metrics", "none.json"), "is not a file"),
        (("--output", "r.html", "--gate", "uniqueness"), "uniqueness"),
        (("--output", "r.html", "--gate", "nobody >= 1"), "nobody"),
    ],
)
def test_mistakes(tmp_path, world, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    done = run_here(*arguments(world, *(str(one).format(world=world) for one in more)))
    assert said in done.error
    assert list(tmp_path.iterdir()) == []


def test_gates_are_printed_as_those_of_evaluate(tmp_path, world):
    asked = ("--gate", "uniqueness >= 0.01", "--gate", "uniqueness >= 2")
    value = json.loads((world / "metrics.json").read_text())["uniqueness"]
    given = ("report", world / "ids.parquet", "--metrics", world / "metrics.json")
    out = run_here(*given, *asked, "--output", tmp_path / "report.html").out
    assert f"gate held: uniqueness >= 0.01 (it is {value:.6g})" in out
    assert f"gate FAILED: uniqueness >= 2 (it is {value:.6g})" in out
    assert "gates:" not in out
    assert "verdict: 1 of 2 gates failed: uniqueness >= 2" in out
    without = run_here(*given, "--output", tmp_path / "other.html").out
    assert "gates:" not in without
    assert "gate held" not in without


def test_it_is_a_step_of_a_pipeline(tmp_path, world):
    pipeline = tmp_path / "report.toml"
    inputs = f"""
        [steps.report]
        ids = "{world}/ids.parquet"
        items = "{world}/items.parquet"
        color_by = ["brand"]
        metrics = "{world}/metrics.json"
        against = "{world}/ids.parquet"
        against_metrics = "{world}/metrics.json"
        output = "{tmp_path}/report.html"
    """
    pipeline.write_text(inputs)
    done = run_here("run", pipeline)
    assert done.code == 0, done.err
    assert "report.html" in done.out
    assert "up to date" in run_here("run", pipeline).out
    pipeline.write_text(inputs + 'projection = "umap"')
    assert "projection = 'umap' is none of tsne, pca" in run_here("run", pipeline).error


def test_gates_need_figures(tmp_path, world):
    asked = ("--output", tmp_path / "report.html", "--gate", "uniqueness >= 0.1")
    done = run_here("report", world / "ids.parquet", *asked)
    assert done.error.startswith("gates are on the figures of semid evaluate; give --metrics, or")


def test_a_table_with_its_model_is_measured(tmp_path, world):
    page = tmp_path / "report.html"
    asked = ("--output", page, "--gate", "uniqueness >= 2")
    done = run_here(*arguments(world, *asked))
    assert done.code == run_here(*arguments(world, *asked)).code == 3  # up to date, as failed
    text = page.read_text()
    assert "uniqueness &gt;= 2" in text
    assert "All figures" in text


def test_gates_are_held_against_names_before_anything_is_measured(tmp_path, world):
    asked = ("--output", tmp_path / "report.html", "--gate", "behaviour.prefix_recall.0 > 0")
    assert (
        "is on a figure that only --interactions gives" in run_here(*arguments(world, *asked)).error
    )
    asked = ("--output", tmp_path / "report.html", "--gate", "uniquenes > 0")
    assert "'uniquenes' is not among them; near are" in run_here(*arguments(world, *asked)).error


@pytest.mark.parametrize("model", [True, False])
def test_embeddings_of_other_items_are_refused(tmp_path, world, model):
    rows = pq.read_table(world / "embeddings.parquet")
    names = pa.array([f"other {i}" for i in range(len(rows))])
    pq.write_table(rows.set_column(0, "item_id", names), tmp_path / "e.parquet")
    given = ("--embeddings", tmp_path / "e.parquet", "--output", tmp_path / "report.html")
    given += ("--model", world / "model") if model else ()
    done = run_here("report", world / "ids.parquet", *given)
    assert "has none of the items of" in done.error
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("more", [(), ("--color-by", "brand")])
def test_items_of_another_catalog_are_refused(tmp_path, world, more):
    rows = pq.read_table(world / "items.parquet")
    names = pa.array([f"other {i}" for i in range(len(rows))])
    pq.write_table(rows.set_column(0, "item_id", names), tmp_path / "i.parquet")
    given = ("--items", tmp_path / "i.parquet", *more, "--output", tmp_path / "report.html")
    done = run_here("report", world / "ids.parquet", *given)
    assert "i.parquet has none of the items of" in done.error
    assert "; give the items of this catalog" in done.error
    assert not (tmp_path / "report.html").exists()


def test_an_embedding_that_comes_twice_is_refused(tmp_path, world):
    rows = pq.read_table(world / "embeddings.parquet")
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), tmp_path / "e.parquet")
    given = ("--embeddings", tmp_path / "e.parquet", "--output", tmp_path / "report.html")
    done = run_here("report", world / "ids.parquet", *given)
    assert repr(rows["item_id"][0].as_py()) in done.error


def test_another_model_is_refused(tmp_path, world):
    table = pq.read_table(world / "ids.parquet")
    note = json.loads(table.schema.metadata[b"semid"]) | {"model_fingerprint": "another"}
    other = table.replace_schema_metadata({b"semid": json.dumps(note)})
    pq.write_table(other, tmp_path / "ids.parquet")
    given = ("--model", world / "model", "--output", tmp_path / "report.html")
    done = run_here("report", tmp_path / "ids.parquet", *given)
    assert "was assigned by another model (another) than" in done.error


def test_an_error_is_the_same_wherever_it_stands(tmp_path, world):
    """Of columns of other scales the mean counts, as in metrics.json, and not the larger one."""
    rows = pq.read_table(world / "embeddings.parquet")
    x_nd = np.stack(rows["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32)
    noise_nd = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    columns = {"large": 10 * x_nd, "small": noise_nd}
    lists = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
        for name, x in columns.items()
    }
    embeddings, model, ids = (tmp_path / one for one in ("e.parquet", "model", "ids.parquet"))
    pq.write_table(pa.table({"item_id": rows["item_id"], **lists}), embeddings)
    for command in (
        (
            "train",
            embeddings,
            "--output",
            model,
            "--levels",
            "8,8",
            "--columns",
            "large,small",
            "--quantizer",
            "rqkmeans",
        ),
        ("assign", embeddings, "--model", model, "--output", ids),
        (
            "evaluate",
            ids,
            "--embeddings",
            embeddings,
            "--model",
            model,
            "--no-baseline",
            "--output",
            tmp_path / "metrics.json",
        ),
        (
            "report",
            ids,
            "--embeddings",
            embeddings,
            "--model",
            model,
            "--projection",
            "pca",
            "--output",
            tmp_path / "report.html",
        ),
    ):
        done = run_here(*command)
        assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    text = (tmp_path / "report.html").read_text()
    for key, name in (("train_error", "training"), ("held_out_error", "held-out")):
        assert f"<b>{metrics[key]:.3f}</b><span>error of {name} items" in text
    worst = metrics["fidelity"]["worst"][:12]
    there = [text.index(f"<td>{one['error']:.2f}</td>") for one in worst]
    assert there == sorted(there)
    facts, arrays, texts = unpacked(re.search(r'id="packed">([^<]+)<', text)[1])
    place = [column["name"] for column in facts["columns"]].index("error")
    error_m = dict(zip(texts["ids"], arrays[f"item_{place}"].tolist(), strict=True))
    for one in worst:
        assert error_m[str(one["item"]["item_id"])] == pytest.approx(one["error"], rel=1e-3)


def test_metrics_of_another_table_or_model_are_refused(tmp_path, world):
    metrics = world / "metrics.json"
    rows = pq.read_table(world / "ids.parquet")
    pq.write_table(rows.take(list(range(len(rows)))[::-1]), tmp_path / "ids.parquet")
    asked = ("--output", tmp_path / "report.html", "--metrics")
    done = run_here("report", tmp_path / "ids.parquet", *asked, metrics)
    assert f"is of the ids table {world}/ids.parquet (" in done.error
    assert f"the report of {tmp_path}/ids.parquet (" in done.error
    # Changed by hand, it has no manifest: what it says of itself has to do.
    said = json.loads(metrics.read_text())
    (tmp_path / "metrics.json").write_text(json.dumps(said | {"items": 399}))
    done = run_here("report", world / "ids.parquet", *asked, tmp_path / "metrics.json")
    assert "whose items is 399, but that of" in done.error
    assert "is 400" in done.error
    said["fidelity"]["worst"][0]["item"]["item_id"] = "nobody"
    (tmp_path / "metrics.json").write_text(json.dumps(said))
    done = run_here("report", world / "ids.parquet", *asked, tmp_path / "metrics.json")
    assert "name the item 'nobody'" in done.error
    assert not (tmp_path / "report.html").exists()


def test_what_users_did_is_measured_and_coloured(tmp_path, world):
    ids = pq.read_table(world / "ids.parquet")["item_id"].to_pylist()
    met = {"user_id": ["a", "a", "b"], "item_id": [ids[0], ids[1], ids[0]], "position": [0, 1, 0]}
    pq.write_table(pa.table(met), tmp_path / "met.parquet")
    more = ("--interactions", tmp_path / "met.parquet", "--items", world / "items.parquet")
    more += ("--categories", "brand", "--output", tmp_path / "report.html")
    done = run_here(*arguments(world, *more))
    assert done.code == 0, done.err
    text = (tmp_path / "report.html").read_text()
    assert "<summary>behaviour</summary>" in text
    assert "categories: column" in text
    facts, arrays, texts = unpacked(re.search(r'id="packed">([^<]+)<', text)[1])
    assert facts["columns"][0] == {"name": "interactions", "missing": 0, "kind": "number"}
    met_m = dict(zip(texts["ids"], arrays["item_0"].tolist(), strict=True))
    assert (met_m[str(ids[0])], met_m[str(ids[1])], met_m[str(ids[2])]) == (2, 1, 0)


def test_both_tables_have_their_figures(tmp_path, world):
    more = ("--against", world / "ids.parquet", "--output", tmp_path / "report.html")
    done = run_here(*arguments(world, *more))
    assert done.code == 0, done.err
    error = json.loads((world / "metrics.json").read_text())["train_error"]
    row = f"<td>error of training items</td><td>{error:.3f}</td><td>{error:.3f}</td>"
    text = (tmp_path / "report.html").read_text()
    assert row in text
    assert 'href="#tables"' in text
    assert "More figures side by side: give --against-metrics." in text


def test_the_better_of_two_figures_is_marked(tmp_path, world):
    """In the other table all items have one first code."""
    ids, given = world / "ids.parquet", ("--embeddings", world / "embeddings.parquet")
    rows = pq.read_table(ids)
    codes = pa.array([[0, second] for _, second in rows["codes"].to_pylist()], rows["codes"].type)
    place = rows.schema.get_field_index("codes")
    other, metrics = tmp_path / "other.parquet", tmp_path / "other.json"
    pq.write_table(rows.set_column(place, rows.schema.field(place), codes), other)
    figures = json.loads((world / "metrics.json").read_text())
    figures |= Subject(read_ids(other)).figures
    figures["collisions"]["harmful"] = {"pairs": 0, "threshold": 1, "share": None, "examples": []}
    figures |= {"train_error": 0.0625, "held_out_error": 99.0}
    figures["structure"]["jaccard"], figures["structure"]["k"] = 0.0, figures["structure"]["k"] + 1
    metrics.write_text(json.dumps(figures))
    more = ("--metrics", world / "metrics.json", "--against", other, "--against-metrics", metrics)
    done = run_here("report", ids, *given, *more, "--output", tmp_path / "r.html")
    assert done.code == 0, done.err
    text = (tmp_path / "r.html").read_text()
    better = '<small class="passed">better</small> '
    ours = json.loads((world / "metrics.json").read_text())
    train, held_out = (f"{ours[f'{side}_error']:.3f}" for side in ("train", "held_out"))
    assert f"<td>error of training items</td><td>{better}0.062</td><td>{train}</td>" in text
    assert f"<td>error of held-out items</td><td>99.000</td><td>{better}{held_out}</td>" in text
    chance = f"{ours['nulls']['uniqueness']['random']:.2%}"
    assert re.search(rf"raw uniqueness</td><td>[^<]*</td><td>{better}[^<]*</td><td>{chance}<", text)
    assert "hence left out: neighbours kept (Jaccard), first codes shared" in text
    refused = run_here("report", ids, "--against-metrics", metrics, "--output", tmp_path / "x.html")
    assert "name that by --against" in refused.error
    swapped = ("--against", ids, "--against-metrics", metrics, "--output", tmp_path / "x.html")
    assert "measure this one by semid evaluate" in run_here("report", ids, *swapped).error


@pytest.mark.parametrize("errors", [1, 3])
def test_of_sampled_figures_none_is_better_within_two_standard_errors(tmp_path, world, errors):
    ids, given = world / "ids.parquet", ("--embeddings", world / "embeddings.parquet")
    figures = json.loads((world / "metrics.json").read_text())
    kept = figures["structure"]["jaccard"]
    off = figures["structure"]["standard_errors"]["jaccard"] * 2**0.5 * errors
    figures["structure"]["jaccard"] = kept + off
    (tmp_path / "other.json").write_text(json.dumps(figures))
    more = ("--metrics", world / "metrics.json", "--against", ids)
    more += ("--against-metrics", tmp_path / "other.json", "--output", tmp_path / "r.html")
    assert run_here("report", ids, *given, *more).code == 0
    (row,) = re.findall(
        r"<td>neighbours kept \(Jaccard\).*?</tr>", (tmp_path / "r.html").read_text()
    )
    assert f"{kept + off:.1%}" in row
    assert row.count("better") == (errors > 2)


def test_items_that_collide_are_compared_without_a_model(tmp_path, world):
    given = ("--embeddings", world / "embeddings.parquet", "--projection", "pca")
    done = run_here("report", world / "ids.parquet", *given, "--output", tmp_path / "report.html")
    assert done.code == 0, done.err
    text = (tmp_path / "report.html").read_text()
    harmful = json.loads((world / "metrics.json").read_text())["collisions"]["harmful"]
    assert f"{harmful['pairs']:,} pairs in all: {harmful['share']:.1%} have a cosine" in text
    for one in harmful["examples"][:12]:
        assert f"<td>{one['cosine']:.2f}</td>" in text


def test_scripts_are_of_files_and_lines_that_can_be_read():
    scripts = files("semid.report").joinpath("assets").iterdir()
    for script in (one for one in scripts if one.name.endswith(".js")):
        lines = script.read_text("utf-8").splitlines()
        assert len(lines) <= 300, script.name
        assert max(map(len, lines)) <= 100, script.name


def test_a_column_that_is_no_label_is_refused(tmp_path, world):
    items = pq.read_table(world / "items.parquet")
    odd = pa.array([{"a": row} for row in range(len(items))])
    pq.write_table(items.append_column("odd", odd), tmp_path / "items.parquet")
    given = ("--items", tmp_path / "items.parquet", "--color-by", "odd")
    done = run_here("report", world / "ids.parquet", *given, "--output", tmp_path / "r.html")
    assert "the column 'odd' is of the type struct<a: int64>, which is neither" in done.error


def test_a_table_knows_its_levels(tmp_path, world):
    few = pq.read_table(world / "ids.parquet").slice(0, 3)
    pq.write_table(few, tmp_path / "ids.parquet")
    done = run_here("report", tmp_path / "ids.parquet", "--output", tmp_path / "r.html", "--json")
    assert " of 8 codes effectively" in done.json["summary"]["verdict"]
