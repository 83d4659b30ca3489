"""Comparisons: what is run, what is measured, what is written, and what is refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROWS, make_embeddings, run_here

from semid.comparison.entries import DEFAULT, NAMES, entries
from semid.comparison.page import html, markdown
from semid.comparison.run import RandomCodes, measure, peak_mib
from semid.comparison.scatter import Point, scatter
from semid.comparison.summary import Spread, not_dominated, spread, summarise
from semid.errors import SemidError
from semid.fit_config import FitConfig

QUICK = (
    *("--quantizers", "rqvae,autoencoder,rqkmeans,kmeans,random", "--levels", "8,4"),
    *("--seeds", "2", "--set", "training.epochs=1", "--set", "model.hidden=[8]"),
)


def row(quantizer, seed, error, unique, *, levels=(4,), held=True):
    return {
        "quantizer": quantizer,
        "seed": seed,
        "levels": list(levels),
        "train_error": [error / 2],
        "held_out_error": [error if held else None],
        "train_cosine": [0.5],
        "held_out_cosine": [0.25],
        "utilization": [1.0],
        "perplexity": [3.5],
        "prefix_purity": [0.5],
        "step_purity": [],
        "raw_uniqueness": unique,
        "seconds": 2.0,
        "peak_mib": 100.0,
    }


# what is compared


def test_settings_go_where_they_apply():
    found = entries(
        ["rqvae", "rqkmeans", "rqkmeans-pca", "kmeans", "random"],
        levels=[16, 8],
        settings={
            "seed": 7,
            "training": {"epochs": 3},
            "kmeans": {"iterations": 5, "pca": 32},
        },
    )
    configs = {entry.name: entry.config for entry in found}
    assert {config.seed for config in configs.values()} == {7}
    epochs = [configs[name].training.epochs for name in ("rqvae", "rqkmeans")]
    assert epochs == [3, FitConfig().training.epochs]
    assert [configs[name].kmeans.iterations for name in ("rqkmeans", "kmeans")] == [5, 5]
    # A variant's own setting leaves the plain kind alone.
    assert [configs[n].kmeans.pca for n in ("rqkmeans", "rqkmeans-pca", "kmeans")] == [0, 32, 0]
    assert configs["rqkmeans-pca"].quantizer == "rqkmeans"
    assert configs["kmeans"].levels == (16,)
    assert configs["rqvae"].levels == (16, 8)


def test_flat_quantizers_get_the_size_asked_for():
    found = entries(["vqvae", "kmeans", "pq"], levels=[16, 8], flat=100)
    assert [entry.config.levels for entry in found] == [(100,), (100,), (16, 8)]


def test_every_name_makes_an_entry():
    assert [entry.name for entry in entries(NAMES, levels=[8, 4])] == list(NAMES)
    assert set(DEFAULT) <= set(NAMES)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["rqvae", "dpq"], {}, "unknown quantizer 'dpq'; use one of rqvae, vqvae"),
        (["pq", "pq"], {}, "the quantizer 'pq' is given twice"),
        ([], {}, "no quantizer is given"),
        (["pq"], {"training": {"epochs": 3}}, "training.epochs applies to none of pq"),
        (["rqkmeans"], {"kmeans": {"pca": 3}}, "kmeans.pca applies to none of rqkmeans"),
        (["pq"], {"kmeans": {"rounds": 3}}, "compare: unknown setting 'kmeans.rounds'"),
        (["pq"], {"levels": [3]}, "the settings hold levels, but a comparison takes it as"),
        (["pq"], {"seed": -1}, "compare, pq: seed is -1"),
    ],
)
def test_what_cannot_be_compared(names, settings, message):
    with pytest.raises(SemidError, match=re.escape(message)):
        entries(names, levels=[8, 8], settings=settings)


# what is measured


def test_random_codes_by_hand():
    x_nd = np.array([[1, 0], [3, 0], [0, 2], [0, 6]], np.float32)
    codes = RandomCodes((2, 1), x_nd, seed=0)
    codes_nl = codes.encode(x_nd)
    first = [x_nd[codes_nl[:, 0] == code].mean(0) for code in np.unique(codes_nl[:, 0])]
    np.testing.assert_allclose(codes.codebooks[0][np.unique(codes_nl[:, 0])], first)
    # What is left has mean zero within every code, so the second level adds nothing.
    np.testing.assert_allclose(codes.codebooks[1], [[0, 0]], atol=1e-7)
    np.testing.assert_array_equal(codes.encode(np.zeros((9, 2), np.float32))[:4], codes_nl)
    assert (
        RandomCodes((50,), x_nd, 0).encode(x_nd) != RandomCodes((50,), x_nd, 1).encode(x_nd)
    ).any()


def test_random_codes_are_uniform():
    x_nd = np.ones((8_000, 1), np.float32)
    codes_nl = RandomCodes((4, 5), x_nd, 0).encode(x_nd)
    for codes_n, size in zip(codes_nl.T, (4, 5), strict=True):
        count_k = np.bincount(codes_n, minlength=size)
        assert abs(count_k - 8_000 / size).max() < 5 * np.sqrt(8_000 / size)


class Doubling:
    """Codes whose first column decodes to (code, 0) and whose second adds (0, code)."""

    levels = (3, 2)

    def encode(self, x_nd):
        return x_nd.astype(np.int32)

    def decode(self, x_nd, codes_nl):
        out_nd = np.zeros_like(x_nd)
        out_nd[:, : codes_nl.shape[1]] = codes_nl
        return out_nd


def test_figures_by_hand():
    x_nd = np.array([[2, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    held_n = np.array([False, False, False, True])
    found = measure(x_nd, x_nd.astype(np.int32), Doubling(), held_n, {"embedding": x_nd.shape[1]})
    # The training mean is (1, 2/3), the deviations 1 + 4/9, 1 + 1/9 and 1/9. The first column
    # alone misses one dim of the second and third items.
    assert found["train_error"] == [pytest.approx(2 / (2 + 6 / 9)), 0]
    assert found["held_out_error"] == [0, 0]
    # Cosines of the first column: 1, 0 (nothing is left of (0, 1)) and 1/sqrt(2).
    assert found["train_cosine"] == [pytest.approx((1 + 0.5**0.5) / 3), pytest.approx(1)]
    assert found["held_out_cosine"] == [1, 1]
    assert found["raw_uniqueness"] == 1
    assert found["utilization"] == [1, 1]
    assert found["perplexity"] == [pytest.approx(2 * 2**0.5), pytest.approx(2)]


def test_the_peak_of_this_process():
    before = peak_mib()
    assert before > 10
    taken = np.ones(40 << 17)  # 40 MiB
    assert peak_mib() >= before
    del taken


# summaries


def test_a_spread():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([4.0]) == Spread(4.0, 4.0, 4.0)
    assert spread([None]) is None


def test_who_is_not_dominated():
    points = [(0.4, 0.8), (0.5, 0.9), (0.5, 0.8), (0.6, 0.7), (0.4, 0.8)]
    assert [not_dominated(at, points) for at in points] == [True, True, False, False, True]


def test_summaries_by_hand():
    rows = [row("a", 0, 0.4, 0.8), row("a", 1, 0.6, 0.9), row("b", 0, 0.7, 0.7)]
    rows.append(row("none", 0, 0.1, None, levels=()))
    first, second, third = summarise(rows)
    assert first["held_out_error"] == [Spread(0.5, 0.4, 0.6)]
    assert first["raw_uniqueness"] == pytest.approx(Spread(0.85, 0.8, 0.9))
    assert first["seeds"] == 2
    assert [first["best"], second["best"], third["best"]] == [True, False, False]


FACTS = {"items": 1_000, "width": 8, "held_out_rows": 100, "seeds": 2, "queries": 500, "steps": 0}


def test_the_page_and_the_text():
    rows = [row("a", 0, 0.4, 0.8), row("a", 1, 0.6, 0.9), row("<b>", 0, 0.7, 0.7)]
    summaries = summarise(rows)
    text = markdown(summaries, FACTS)
    assert "| a ★ | 4 | 0.5000 (0.4000–0.6000) | 0.2500 (0.2000–0.3000) |" in text
    page = html(summaries, FACTS)
    assert "<td>a ★</td>" in page
    assert "<b>" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)  # nothing to load


def test_steps_have_a_column_where_they_were_measured():
    rows = [row("a", 0, 0.4, 0.8), row("b", 0, 0.7, 0.7)]
    assert "steps" not in markdown(summarise(rows), FACTS).lower()
    text = markdown(summarise([r | {"step_purity": [0.125]} for r in rows]), FACTS | {"steps": 70})
    assert "| steps within a prefix |" in text
    assert "| 0.125 |" in text
    assert "Steps are 70 of users" in text


def test_without_held_out_items_the_training_error_counts():
    page = html(summarise([row("a", 0, 0.4, 0.8, held=False)]), FACTS)
    assert ">training error</text>" in page


def test_a_scatter_plot_is_svg():
    points = [
        Point("a", 0.2, 0.9, (0.1, 0.3), (0.9, 0.9), True),
        Point("b & c", 0.6, 0.5, (0.6, 0.6), (0.4, 0.6), False),
    ]
    drawing = ElementTree.fromstring(scatter(points, x_label="error", y_label="unique"))
    space = "{http://www.w3.org/2000/svg}"
    circles = drawing.findall(f"{space}circle")
    (ax, ay), (bx, by) = ((float(c.get("cx")), float(c.get("cy"))) for c in circles)
    assert ax < bx
    assert ay < by  # upwards is less
    assert circles[0].get("fill") != "white"
    assert circles[1].get("fill") == "white"
    texts = [text.text for text in drawing.iter(f"{space}text")]
    assert texts[:6] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]
    assert texts[6:] == ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "error", "unique", "a", "b & c"]
    one = scatter(points[:1], x_label="x", y_label="y")
    assert "nan" not in one


def test_names_of_points_side_by_side_do_not_cover_each_other():
    points = [Point(f"point {n}", 0.5, 0.5, (0.5, 0.5), (0.5, 0.5), False) for n in range(4)]
    far = Point("far", 0.9, 0.9, (0.9, 0.9), (0.9, 0.9), False)
    drawing = ElementTree.fromstring(scatter([*points, far], x_label="x", y_label="y"))
    texts = drawing.iter("{http://www.w3.org/2000/svg}text")
    heights = sorted(float(t.get("y")) for t in texts if t.text.startswith("point"))
    assert all(below - above >= 13 for above, below in pairwise(heights))


# the command


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    pq.write_table(make_embeddings(), folder / "e.parquet")
    done = run_here("compare", folder / "e.parquet", "--output", folder / "out", *QUICK, "--json")
    assert done.code == 0, done.err
    return folder, done


def test_what_a_comparison_writes(compared):
    folder, done = compared
    names = ["_manifest.json", "comparison.html", "comparison.md", "comparison.parquet"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == names
    assert sorted(path.name for path in folder.iterdir()) == ["e.parquet", "out"]
    rows = pq.read_table(folder / "out/comparison.parquet").to_pylist()
    named = ["rqvae", "autoencoder", "rqkmeans", "kmeans", "random"]
    assert [(r["quantizer"], r["seed"]) for r in rows] == [(n, s) for n in named for s in (0, 1)]
    by_name = {r["quantizer"]: r for r in rows}
    assert by_name["kmeans"]["levels"] == [8]
    assert by_name["autoencoder"]["raw_uniqueness"] is None
    assert by_name["random"]["held_out_error"][-1] > 0.9
    assert by_name["rqkmeans"]["held_out_error"][-1] < 0.5
    for r in rows:
        assert r["items"] == ROWS
        assert len(r["prefix_purity"]) == len(r["perplexity"]) == len(r["levels"])
        assert len(r["held_out_error"]) == max(1, len(r["levels"]))
        assert r["peak_mib"] > 50
        assert r["seconds"] > 0
    assert [q["quantizer"] for q in done.json["summary"]["quantizers"]] == named


def test_a_comparison_agrees_with_training(compared, tmp_path):
    folder, _ = compared
    options = ("--quantizer", "rqkmeans", "--levels", "8,4", "--seed", "1", "--json")
    done = run_here("train", folder / "e.parquet", "--output", tmp_path / "model", *options)
    rows = pq.read_table(folder / "out/comparison.parquet").to_pylist()
    (found,) = [r for r in rows if (r["quantizer"], r["seed"]) == ("rqkmeans", 1)]
    summary = done.json["summary"]
    assert found["held_out_error"][-1] == pytest.approx(summary["held_out_error"], rel=1e-12)
    assert found["train_error"][-1] == pytest.approx(summary["train_error"], rel=1e-12)
    assert found["raw_uniqueness"] == summary["raw_uniqueness"]
    assert found["perplexity"] == [level["perplexity"] for level in summary["levels"]]


def test_a_second_time_nothing_is_done_and_other_settings_are_refused(compared):
    folder, _ = compared
    again = run_here("compare", folder / "e.parquet", "--output", folder / "out", *QUICK, "--json")
    assert again.json["up_to_date"]
    before = (folder / "out/comparison.md").read_text()
    other = run_here("compare", folder / "e.parquet", "--output", folder / "out", "--seeds", "1")
    assert "belongs to other settings" in other.error
    assert (folder / "out/comparison.md").read_text() == before


def test_finished_runs_are_kept(tmp_path):
    pq.write_table(make_embeddings(300, 2), tmp_path / "e.parquet")
    # Three levels are too many for two dims, which only pq notices.
    command = ("compare", tmp_path / "e.parquet", "--output", tmp_path / "out", "--seeds", "1")
    options = ("--levels", "4,4,4", "--quantizers", "rqkmeans,pq")
    said = run_here(*command, *options).error
    assert "3 levels are more than the 2 dimensions" in said
    kept = tmp_path / ".out.partial/runs/rqkmeans-0.json"
    assert json.loads(kept.read_text())["quantizer"] == "rqkmeans"
    before = kept.stat().st_mtime_ns
    assert run_here(*command, *options).code == 2
    assert kept.stat().st_mtime_ns == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quantizers", "nope"), "unknown quantizer 'nope'"),
        (("--seeds", "0"), "seeds is 0; give at least 1"),
        (("--levels", "a"), "--levels 'a': expected whole numbers"),
        (("--levels", "999", "--quantizers", "pq"), "training rows"),
        (("--quantizers", "rqvae-contrast"), "learns from interactions; name them by --inter"),
        (("--set", "contrast.weight=2"), "contrast.weight applies to none of"),
    ],
)
def test_mistakes(compared, tmp_path, options, message):
    folder, _ = compared
    done = run_here("compare", folder / "e.parquet", "--output", tmp_path / "out", *options)
    assert message in done.error
    assert list(tmp_path.iterdir()) == []


def test_with_interactions_codes_are_measured_on_steps_too(tmp_path):
    """Two tastes that the embeddings hardly show: users stay with theirs."""
    random = np.random.default_rng(0)
    items, users = 400, 300
    taste_n = random.integers(2, size=items)
    x_nd = random.standard_normal((items, 8)).astype(np.float32)
    x_nd[:, 0] = (2 * taste_n - 1) * 0.8
    lists = pa.array(list(x_nd), pa.list_(pa.float32()))
    pq.write_table(
        pa.table({"item_id": np.arange(items), "embedding": lists}), tmp_path / "e.parquet"
    )
    met = [
        (user, int(item), position)
        for user in range(users)
        for position, item in enumerate(random.choice(np.flatnonzero(taste_n == user % 2), 8))
    ]
    names = ("user_id", "item_id", "position")
    columns = dict(zip(names, map(list, zip(*met, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "met.parquet")
    command = ("compare", tmp_path / "e.parquet", "-o", tmp_path / "out", "--seeds", "1", "--json")
    options = ("--quantizers", "rqvae,rqvae-contrast,random", "--levels", "2,2")
    sets = ("--set", "model.hidden=[32]", "--set", "training.batch_size=64")
    weight = ("--set", "contrast.weight=4", "--set", "training.utilization_floor=0")
    given = ("--interactions", tmp_path / "met.parquet")
    done = run_here(*command, *options, *sets, *weight, *given)
    assert done.json["summary"]["steps"] > 400
    rows = pq.read_table(tmp_path / "out/comparison.parquet").to_pylist()
    purity = {r["quantizer"]: r["step_purity"][0] for r in rows}
    assert purity["random"] == pytest.approx(0.5, abs=0.1)
    assert purity["rqvae-contrast"] > purity["rqvae"] + 0.1
    assert "steps within a prefix" in (tmp_path / "out/comparison.md").read_text()


def test_as_a_step_of_a_pipeline(compared, tmp_path):
    folder, _ = compared
    text = f"""
[steps.compare]
embeddings = "{folder}/e.parquet"
output = "{tmp_path}/out"
quantizers = ["pq", "random"]
levels = [4, 4]
seeds = 1
"""
    (tmp_path / "p.toml").write_text(text)
    assert run_here("run", tmp_path / "p.toml").code == 0
    assert "everything is up to date" in run_here("run", tmp_path / "p.toml").out
    (tmp_path / "bad.toml").write_text(text.replace('"pq"', '"qp"'))
    assert "unknown quantizer 'qp'" in run_here("run", tmp_path / "bad.toml").error
