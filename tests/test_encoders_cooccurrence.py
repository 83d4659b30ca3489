"""Behaviour as an input: what vectors mean, cold items, items that come later, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.cooccurrence import Cooccurrences, count_cooccurrences
from semid.encoders import CooccurrenceConfig, CooccurrenceEncoder, load_encoder
from semid.encoders.pointwise_information import positive_information, smoothed_share
from semid.errors import SemidError
from semid.tables import open_table

CONFIG = CooccurrenceConfig(dim=2, window=1, exclude_last=0, smoothing=1)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(histories: list[str], *, seed: int | None = None) -> str:
    """Interactions of one user for each word, an item for each letter; shuffled by a seed."""
    rows = [
        (user, item, at) for user, items in enumerate(histories) for at, item in enumerate(items)
    ]
    if seed is not None:
        np.random.default_rng(seed).shuffle(rows)
    user, item, position = zip(*rows, strict=True)
    table = {"user_id": [*map(int, user)], "item_id": item, "position": [*map(int, position)]}
    pq.write_table(pa.table(table), "met.parquet")
    return "met.parquet"


def count(histories: list[str], ids: str, config: CooccurrenceConfig, **more: Any) -> Cooccurrences:
    return count_cooccurrences(open_table(write(histories, **more)), pa.array([*ids]), config)


def fit(
    histories: list[str], ids: str, config: CooccurrenceConfig = CONFIG, **more: Any
) -> CooccurrenceEncoder:
    counted = count(histories, ids, config, **more)
    return CooccurrenceEncoder(config).fit(items(ids), counted)


def items(ids: str) -> pa.Table:
    return pa.table({"item_id": pa.array([*ids], pa.string())})


def vectors(encoder: CooccurrenceEncoder, ids: str) -> dict[str, np.ndarray]:
    return dict(zip(ids, encoder.encode(items(ids)), strict=True))


# --- what the numbers are ------------------------------------------------------------------------


def test_information_of_three_items_by_hand() -> None:
    # a and b are met twice, b and c once: a is met 2 times, b 3, c 1.
    met = count(["ab", "ba", "bc"], "abc", CONFIG)
    rows = np.arange(3)
    share = smoothed_share(met.met_n, 1)
    np.testing.assert_allclose(share, [2 / 6, 3 / 6, 1 / 6])
    # P(b|a) = 1 over 1/2, P(a|b) = 2/3 over 1/3, P(c|b) = 1/3 over 1/6, P(b|c) = 1 over 1/2.
    found = positive_information(met, rows, rows, share).toarray()
    np.testing.assert_allclose(found, np.log(2) * np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))


def test_what_is_less_likely_than_its_share_counts_as_nothing() -> None:
    # Beside b, a comes 1 time in 4 and is 5/14 of all; d, 3 in 4, is 3/14.
    met = count(["ab", "ac", "ac", "ac", "ac", "bd", "bd", "bd"], "abcd", CONFIG)
    np.testing.assert_array_equal(met.met_n, [5, 4, 4, 3])
    share = smoothed_share(met.met_n, 1)
    found = positive_information(met, np.arange(4), np.arange(4), share).toarray()
    assert found[1, 0] == 0  # log((1/4) / (5/16)) is below 0
    assert found[1, 3] == pytest.approx(np.log((3 / 4) / (3 / 16)))


def test_smoothing_makes_seldom_partners_count_less() -> None:
    np.testing.assert_allclose(smoothed_share(np.array([1, 16]), 0.75), [1 / 9, 8 / 9])
    np.testing.assert_allclose(smoothed_share(np.array([1, 16]), 0.0), [1 / 2, 1 / 2])


def test_vectors_of_three_items_by_hand() -> None:
    # The information is log 2 between b and either of a and c: these two are alike, b is apart.
    found = vectors(fit(["ab", "ba", "bc"], "abc"), "abc")
    assert found["a"] @ found["c"] == pytest.approx(1, abs=1e-6)
    assert found["a"] @ found["b"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose([np.linalg.norm(x) for x in found.values()], 1, atol=1e-6)


def test_two_tastes_are_apart_and_each_is_together() -> None:
    config = CooccurrenceConfig(dim=2, window=3, exclude_last=0)
    found = vectors(fit(["abcd", "bdac", "wxyz", "zyxw", "ywzx"], "abcdwxyz", config), "abcdwxyz")
    for taste, other in (("abcd", "wxyz"), ("wxyz", "abcd")):
        for one in taste:
            assert all(found[one] @ found[two] > 0.9 for two in taste)
            assert all(abs(found[one] @ found[two]) < 1e-5 for two in other)


@settings(max_examples=25, deadline=None)
@given(
    histories=st.lists(st.text("abcdefg", min_size=2, max_size=6), min_size=3, max_size=12),
    smoothing=st.sampled_from([0.5, 0.75, 1.0]),
)
def test_cosines_are_those_of_the_exact_decomposition(
    histories: list[str], smoothing: float
) -> None:
    config = replace(CONFIG, smoothing=smoothing, window=2)
    ids = "".join(sorted({*"".join(histories)}))
    try:
        met = count(histories, ids, config)
    except SemidError:  # every user met one item, again and again
        return
    known = np.flatnonzero(met.met_n)
    share = met.met_n[known] ** smoothing / (met.met_n[known] ** smoothing).sum()
    exact = np.zeros((len(ids), len(ids)))
    likely = met.times_e / met.met_n[met.row_e]
    exact[met.row_e, met.partner_e] = likely
    exact = np.log(np.maximum(exact[np.ix_(known, known)] / share, 1))
    u, s, _ = np.linalg.svd(exact)
    rank = int((s > 1e-4 * s[0]).sum())
    expected = u[:, :rank] * np.sqrt(s[:rank])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    encoder = CooccurrenceEncoder(replace(config, dim=rank)).fit(items(ids), met)
    found = encoder.encode(items("".join(ids[row] for row in known)))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3)


# --- what they do not depend on ------------------------------------------------------------------

HISTORIES = ["abcde", "bcd", "aced", "ebda", "cab", "ddee", "edcba"]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    config = replace(CONFIG, dim=3, window=2)
    expected = vectors(fit(HISTORIES, "abcdef", config), "abcdef")
    order = "".join(np.random.default_rng(seed).permutation([*"abcdef"]))
    found = vectors(fit(HISTORIES, order, config, seed=seed), "abcdef")
    for id_ in "abcdef":
        np.testing.assert_array_equal(found[id_], expected[id_])


def test_items_that_nobody_meets_change_nothing() -> None:
    config = replace(CONFIG, dim=3, window=2)
    few, many = fit(HISTORIES, "abcde", config), fit(HISTORIES, "zabqcdxe", config)
    np.testing.assert_array_equal(few.encode(items("abcde")), many.encode(items("abcde")))


def test_what_an_evaluation_uses_teaches_nothing() -> None:
    config = replace(CONFIG, exclude_last=2, window=2)
    one, other = ["abcad", "bcaed", "cabee"], ["abcee", "bcaba", "cabdd"]
    found = [fit(histories, "abcde", config) for histories in (one, other)]
    np.testing.assert_array_equal(*(encoder.encode(items("abcde")) for encoder in found))


def test_integers_are_looked_up_as_such_and_as_text() -> None:
    met = count(["ab", "ba", "bc"], "abc", CONFIG)
    encoder = CooccurrenceEncoder(CONFIG).fit(pa.table({"item_id": [7, -1, 10]}), met)
    as_text = encoder.encode(pa.table({"item_id": ["7", "-1", "10"]}))
    np.testing.assert_array_equal(encoder.encode(pa.table({"item_id": [7, -1, 10]})), as_text)
    assert not encoder.is_cold(pa.table({"item_id": [7, -1, 10]})).any()


# --- items without a vector of their own ---------------------------------------------------------


def test_cold_items_get_the_mean_of_the_others() -> None:
    encoder = fit(["ab", "ba", "bc", "d"], "abcd")  # d is met alone
    known, cold = encoder.encode(items("abc")), encoder.encode(items("dq"))
    np.testing.assert_allclose(cold, np.tile(known.mean(axis=0), (2, 1)), atol=1e-6)
    assert 0 < np.linalg.norm(cold[0]) < 1
    assert encoder.is_cold(items("abcdq")).tolist() == [False, False, False, True, True]
    assert encoder.unknown(items("qbd")) == ["q", "d"]


def test_items_of_which_the_dims_say_nothing_are_cold() -> None:
    # Information beside e and f is the largest: one dim holds it, and nothing of a, b and c.
    encoder = fit(["abc", "bca", "cab", "efg", "gef"], "abcefg", replace(CONFIG, dim=1))
    assert encoder.is_cold(items("abcefg")).tolist() == [True] * 3 + [False] * 3
    np.testing.assert_allclose(np.abs(encoder.encode(items("abcefg"))), 1, atol=1e-6)


# --- items that come later -----------------------------------------------------------------------


def fold(encoder: CooccurrenceEncoder, later: str, histories: list[str]) -> CooccurrenceEncoder:
    ids = "".join([*encoder.context_ids, *later])
    return encoder.fold_in([*later], count(histories, ids, encoder.config))


def test_who_meets_what_a_known_item_met_gets_its_vector() -> None:
    config = replace(CONFIG, dim=3, window=2)
    encoder = fit(HISTORIES, "abcde", config)
    renamed = [history.replace("b", "n") for history in HISTORIES]
    folded = fold(encoder, "nm", renamed)
    np.testing.assert_array_equal(folded.encode(items("n")), encoder.encode(items("b")))
    # What was known stays; who is met with nothing known stays cold.
    np.testing.assert_array_equal(folded.encode(items("abcde")), encoder.encode(items("abcde")))
    assert folded.is_cold(items("nmb")).tolist() == [False, True, False]
    assert encoder.is_cold(items("n")).all()


def test_items_folded_in_are_not_saved_and_may_be_folded_in_again() -> None:
    encoder = fit(HISTORIES, "abcde", replace(CONFIG, dim=3, window=2))
    encoder.save(Path("one"))
    folded = fold(encoder, "n", ["anb", "cnd"])
    folded.save(Path("two"))
    for name in ("encoder.json", "encoder.safetensors"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    loaded = load_encoder(Path("two"))
    assert isinstance(loaded, CooccurrenceEncoder)
    again = fold(loaded, "n", ["anb", "cnd"])
    np.testing.assert_array_equal(again.encode(items("abn")), folded.encode(items("abn")))
    np.testing.assert_array_equal(
        fold(folded, "m", ["amb"]).encode(items("n")), folded.encode(items("n"))
    )


# --- what cannot be ------------------------------------------------------------------------------


def test_too_few_items_that_are_met_for_the_dims() -> None:
    with pytest.raises(SemidError, match=r"dim=4 is more than .*: 3 items are met with another"):
        fit(["ab", "ba", "bc"], "abcd", replace(CONFIG, dim=4))
    with pytest.raises(SemidError, match=r"dim=3 is more than .* items that are met span 2 dim"):
        fit(["ab", "ba", "bc"], "abc", replace(CONFIG, dim=3))


def test_without_interactions_there_is_nothing_to_learn() -> None:
    with pytest.raises(SemidError, match="learns from interactions; count them by"):
        CooccurrenceEncoder(CONFIG).fit(items("abc"))


def test_a_null_id() -> None:
    encoder = fit(["ab", "ba", "bc"], "abc")
    with pytest.raises(SemidError, match="row 1: 'item_id' is null"):
        encoder.encode(pa.table({"item_id": ["a", None]}))


# --- the command ---------------------------------------------------------------------------------

SMALL = ("--set", "dim=3", "--set", "window=2", "--set", "exclude_last=0")


def embed(ids: str, output: str, *more: str, column: str = "item_id") -> Any:
    table = items(ids).append_column("title", pa.array([f"title {id_}" for id_ in ids]))
    pq.write_table(table.rename_columns([column, "title"]), "items.parquet")
    return run_here("embed", "items.parquet", "--output", output, *more)


def read(path: str, column: str = "item_id") -> dict[str, list[float]]:
    table = pq.read_table(path)
    return dict(zip(table[column].to_pylist(), table["embedding"].to_pylist(), strict=True))


def test_embed_then_embed_new_items_then_with_their_interactions() -> None:
    first = ("--encoder", "cooccurrence", "--interactions", write(HISTORIES), *SMALL)
    done = embed("abcdef", "first.parquet", *first, "--json").json
    assert done["summary"]["cold"] == 1
    assert done["summary"]["width"] == 3
    expected = vectors(
        fit(HISTORIES, "abcdef", replace(CONFIG, dim=3, window=2, smoothing=0.75)), "abcdef"
    )
    assert read("first.parquet") == {id_: x.tolist() for id_, x in expected.items()}

    later = ("--encoder", "first.encoder")
    done = embed("ean", "later.parquet", *later, "--json").json
    assert done["summary"]["cold"] == 1  # n

    met = write([history.replace("b", "n") for history in HISTORIES])
    done = embed("ean", "folded.parquet", *later, "--interactions", met, "--json").json
    assert done["summary"]["cold"] == 0
    found = read("folded.parquet")
    assert found == {"e": found["e"], "a": read("first.parquet")["a"], "n": expected["b"].tolist()}
    # Both come from one encoder: a model of the first takes the others.
    digests = {Path(f"{name}.encoder/encoder.json").read_bytes() for name in ("first", "folded")}
    assert len(digests) == 1


def test_the_order_of_tables_does_not_matter_and_what_is_there_is_not_made_again() -> None:
    encoder = ("--encoder", "cooccurrence", *SMALL)
    embed("abcdef", "one.parquet", *encoder, "--interactions", write(HISTORIES))
    embed("fcbade", "two.parquet", *encoder, "--interactions", write(HISTORIES, seed=1))
    assert read("one.parquet") == read("two.parquet")
    again = embed("fcbade", "two.parquet", *encoder, "--interactions", "met.parquet", "--json").json
    assert again["up_to_date"]
    write([*HISTORIES, "af"])
    said = embed("fcbade", "two.parquet", *encoder, "--interactions", "met.parquet").error
    assert "two.parquet exists and" in said


def test_the_id_column_of_another_name() -> None:
    met = pq.read_table(write(HISTORIES)).rename_columns(["user_id", "sku", "position"])
    pq.write_table(met, "met.parquet")
    more = ("--encoder", "cooccurrence", "--interactions", "met.parquet", *SMALL)
    embed("abcde", "e.parquet", *more, "--item-id", "sku", column="sku")
    assert {*read("e.parquet", "sku")} == {*"abcde"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--encoder", "cooccurrence"), "cooccurrence learns from an interactions table"),
        (
            ("--encoder", "lsa", "--interactions", "met.parquet"),
            "the encoder lsa does not learn from interactions",
        ),
        (
            ("--encoder", "cooccurrence", "--interactions", "met.parquet"),
            "met.parquet: dim=128 is more than the interactions allow",
        ),
        (
            ("--encoder", "cooccurrence", "--interactions", "items.parquet"),
            "has no column 'user_id'",
        ),
        (
            *[("--encoder", "cooccurrence", "--interactions", "met.parquet", "--set", "before=9")],
            "before is 9 but met.parquet has no column 'timestamp'; use exclude_last",
        ),
        (
            ("--encoder", "cooccurrence", "--interactions", "met.parquet", "--set", "dims=3"),
            "unknown setting 'dims'",
        ),
        (
            ("--encoder", "cooccurrence", "--interactions", "met.parquet", "--set", "item_id=a"),
            "item_id is no setting; name the id column by --item-id",
        ),
    ],
)
def test_what_embed_refuses(more: tuple[str, ...], said: str) -> None:
    write([history + "aa" for history in HISTORIES])
    assert said in embed("abcde", "e.parquet", *more).error
    assert not Path("e.parquet").exists()
    assert not Path("e.encoder").exists()


def test_interactions_of_another_catalog() -> None:
    more = ("--encoder", "cooccurrence", "--interactions", write(HISTORIES), *SMALL)
    said = embed("uvwxyz", "e.parquet", *more).error
    assert (
        "leaves no pair of items to learn from: of 28 interactions 28 are used, with 0 of" in said
    )


def test_a_pipeline_with_an_encoder_that_needs_interactions_is_refused_before_it_begins() -> None:
    steps = (
        '[steps.embed]\nitems = "items.parquet"\nencoder = "cooccurrence"\noutput = "e.parquet"\n'
    )
    Path("p.toml").write_text(steps)
    pq.write_table(items("abcde"), "items.parquet")
    assert "step 'embed': the encoder cooccurrence learns from" in run_here("run", "p.toml").error
    write(HISTORIES)
    given = steps + 'interactions = "met.parquet"\nsettings = {dim = 3, exclude_last = 0}\n'
    later = given.replace("steps.embed]", 'steps.later]\ncommand = "embed"').replace(
        '"cooccurrence"', '"e.encoder"'
    )
    later = later.replace("e.parquet", "later.parquet").replace("settings", "# settings")
    Path("p.toml").write_text(given + later)
    run_here("run", "p.toml")
    assert read("later.parquet") == read("e.parquet")
