"""Codes that learn from interactions: pairs, partners, the loss, and what training makes of it."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import run_here
from hypothesis import given, settings
from hypothesis import strategies as st

import semid
from semid.contrast import Pairs, contrast_loss
from semid.cooccurrence import Partners, count_partners
from semid.errors import SemidError
from semid.fit_config import ContrastConfig
from semid.met_items import steps_left_out
from semid.tables import open_table

IDS = pa.array(["a", "b", "c", "d", "e"])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def interactions(histories: dict[int, str], **columns: Any) -> Any:
    rows = [(user, item, at) for user, items in histories.items() for at, item in enumerate(items)]
    user, item, position = zip(*rows, strict=True)
    table = pa.table({"user_id": user, "item_id": item, "position": position, **columns})
    pq.write_table(table, "met.parquet")
    return open_table("met.parquet")


def shares(partners: Partners) -> dict[tuple[str, str], float]:
    """How likely each pair is drawn, by name."""
    row_e = np.ceil(partners.reach_e - 1).astype(int)
    begin_e = np.maximum(row_e, np.concatenate([[0.0], partners.reach_e[:-1]]))
    names = IDS.to_pylist()
    return {
        (names[row], names[partner]): pytest.approx(reach - begin)
        for row, partner, reach, begin in zip(
            row_e, partners.partner_e, partners.reach_e, begin_e, strict=True
        )
    }


# pairs


def test_pairs_of_a_history_within_the_window() -> None:
    config = ContrastConfig(window=2, exclude_last=1, popularity=0)
    found = count_partners(interactions({1: "abcde"}), IDS, config)
    # a b c d are left: ab ac bc bd cd, each met once
    assert shares(found) == {
        **{("a", "b"): 0.5, ("a", "c"): 0.5, ("d", "b"): 0.5, ("d", "c"): 0.5},
        **{("b", item): 1 / 3 for item in "acd"},
        **{("c", item): 1 / 3 for item in "abd"},
    }
    assert found.has_n.tolist() == [True, True, True, True, False]
    assert found.facts == {
        **{"interactions": 5, "interactions_used": 4, "users": 1, "items": 4},
        **{"pairs": 5, "items_with_partners": 4},
    }


def test_popular_partners_are_drawn_more_seldom() -> None:
    table = interactions({1: "ab", 2: "ac", 3: "bd"})
    config = ContrastConfig(window=1, exclude_last=0, popularity=1)
    # As a partner b is met twice, c once: a draws c twice as often.
    found = shares(count_partners(table, IDS, config))
    assert found["a", "b"] == 1 / 3
    assert found["a", "c"] == 2 / 3


def test_only_the_partners_met_most_often_are_kept() -> None:
    table = interactions({1: "ab", 2: "ab", 3: "ac", 4: "ad"})
    config = ContrastConfig(window=1, exclude_last=0, partners=1)
    found = shares(count_partners(table, IDS, config))
    assert {pair for pair in found if pair[0] == "a"} == {("a", "b")}


def test_what_an_evaluation_uses_teaches_nothing() -> None:
    # The last two of every user could be anything.
    config = ContrastConfig()
    one = count_partners(interactions({1: "abcde", 2: "bcae"}), IDS, config)
    other = count_partners(interactions({1: "abced", 2: "bcdd"}), IDS, config)
    assert shares(one) == shares(other)
    # A user whose history is no longer than that does not count.
    with pytest.raises(SemidError, match="of 2 interactions 0 are used"):
        count_partners(interactions({1: "ab"}), IDS, config)


def steps(table: Any, config: ContrastConfig, **more: Any) -> list[str]:
    """The steps that are left out, by name, in the order of the alphabet."""
    names = IDS.to_pylist()
    return sorted(names[a] + names[b] for a, b in steps_left_out(table, IDS, config, **more))


def test_steps_that_are_left_out_by_hand() -> None:
    table = interactions({1: "abcde", 2: "bc", 3: "dd", 4: "a", 5: "axb"})
    # x is no item of the catalog, and a step from an item to itself is none.
    assert steps(table, ContrastConfig(exclude_last=1)) == ["bc", "de"]
    assert steps(table, ContrastConfig()) == ["bc", "cd", "de"]
    assert steps(table, ContrastConfig(exclude_last=9)) == ["ab", "bc", "bc", "cd", "de"]
    with pytest.raises(SemidError, match="has no step between items that the contrast leaves out"):
        steps(table, ContrastConfig(exclude_last=0))


def test_steps_that_are_left_out_are_no_partners() -> None:
    table = interactions({1: "abcde"})
    for exclude in (1, 2, 3):
        config = ContrastConfig(window=1, exclude_last=exclude)
        learnt = {"".join(sorted(pair)) for pair in shares(count_partners(table, IDS, config))}
        left = set(steps(table, config))
        assert learnt | left == {"ab", "bc", "cd", "de"}
        assert not learnt & left


def test_of_many_steps_the_same_are_chosen() -> None:
    histories = {user: "abcde"[user % 5 :] + "abcde"[: user % 5] for user in range(40)}
    config = ContrastConfig(exclude_last=4)
    found = steps(interactions(histories), config, most=30)
    turned = interactions(dict(reversed(histories.items())))
    assert len(found) == 30
    assert steps(turned, config, most=30) == found


def test_a_time_split() -> None:
    days = pa.array([np.datetime64(f"2025-01-0{day}", "us") for day in (1, 2, 3, 4)])
    table = interactions({1: "abcd"}, timestamp=days)
    config = ContrastConfig(window=1, exclude_last=0, before="2025-01-03")
    assert set(shares(count_partners(table, IDS, config))) == {("a", "b"), ("b", "a")}
    assert steps(table, config) == ["bc", "cd"]
    with pytest.raises(SemidError, match=r"contrast\.before is 'soon', which is no timestamp"):
        count_partners(table, IDS, ContrastConfig(before="soon"))
    with pytest.raises(SemidError, match=r"has no column 'timestamp'; use contrast\.exclude_last"):
        count_partners(interactions({1: "ab"}), IDS, ContrastConfig(before="2025-01-03"))


def test_items_that_are_not_trained_on_keep_their_places() -> None:
    config = ContrastConfig(window=1, exclude_last=0)
    with pytest.raises(SemidError, match="leaves no pair of items to learn from"):
        count_partners(interactions({1: "axb"}), IDS, config)
    found = count_partners(interactions({1: "axb"}), IDS, ContrastConfig(window=2, exclude_last=0))
    assert set(shares(found)) == {("a", "b"), ("b", "a")}


def test_columns_may_have_any_name() -> None:
    table = interactions({1: "abcde"})
    expected = shares(count_partners(table, IDS, ContrastConfig()))
    odd = 'my "item"'
    renamed = pq.read_table("met.parquet").rename_columns(["user_id", odd, "position"])
    pq.write_table(renamed, "odd.parquet")
    found = count_partners(open_table("odd.parquet"), IDS, ContrastConfig(), item_id=odd)
    assert shares(found) == expected


def test_columns_may_be_dictionaries() -> None:
    expected = shares(count_partners(interactions({1: "abcde"}), IDS, ContrastConfig()))
    table = pq.read_table("met.parquet")
    coded = {name: table[name].dictionary_encode() for name in ("user_id", "item_id")}
    pq.write_table(pa.table({**coded, "position": table["position"]}), "coded.parquet")
    found = count_partners(open_table("coded.parquet"), IDS, ContrastConfig())
    assert shares(found) == expected


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    histories = dict.fromkeys(range(400), "abcde" * 40)
    table = interactions(histories)
    small = tmp_path / "small"
    small.mkdir()
    size = ["-t", "tmpfs", "-o", "size=300k", "tmpfs"]
    if subprocess.run(["mount", *size, small], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(SemidError, match=r"^the disk is full: no space left below .* counting"):
            count_partners(table, IDS, ContrastConfig(), folder=small)
    finally:
        subprocess.run(["umount", small], check=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text("abcde", min_size=1, max_size=7), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_counts_are_those_of_a_plain_count(
    histories: list[str], window: int, exclude_last: int
) -> None:
    met: Counter[tuple[str, str]] = Counter()
    for items in histories:
        kept = items[: len(items) - exclude_last] if exclude_last else items
        for first, one in enumerate(kept):
            for other in kept[first + 1 : first + 1 + window]:
                if one != other:
                    met.update([(one, other), (other, one)])
    table = interactions(dict(enumerate(histories)))
    config = ContrastConfig(window=window, exclude_last=exclude_last, popularity=0)
    if not met:
        with pytest.raises(SemidError, match="leaves no pair"):
            count_partners(table, IDS, config)
        return
    of = Counter[str]()
    for (one, _), times in met.items():
        of[one] += times
    expected = {pair: times / of[pair[0]] for pair, times in met.items()}
    assert shares(count_partners(table, IDS, config)) == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user_id": [1], "item_id": ["a"]}, "has neither a column 'timestamp' nor 'position'"),
        ({"user_id": [1], "position": [1]}, "has no column 'item_id'"),
        (
            {"user_id": [1, None], "item_id": ["a", "b"], "position": [0, 1]},
            "met.parquet, row 1: column 'user_id' is null; drop the row",
        ),
        (
            {"user_id": [1, 1], "item_id": ["a", "b"], "position": [0.0, float("nan")]},
            "met.parquet, row 1: column 'position' is null; drop the row",
        ),
        (
            {"user_id": [1, 1], "item_id": ["a", "b"], "position": ["9", "10"]},
            "column 'position' is string, but it must hold numbers, dates or timestamps; cast it",
        ),
        (
            {"user_id": [1], "item_id": ["a"], "timestamp": [[1]]},
            "column 'timestamp' is list<.*>, but it must hold numbers",
        ),
        (
            {"user_id": [1, 2, 2, 2], "item_id": list("abca"), "position": [7, 0.5, 1, 1]},
            "met.parquet: user 2 has 2 rows with position 1.0; it must count up within a user",
        ),
        (
            {"user_id": [[1]], "item_id": ["a"], "position": [1]},
            "column 'user_id' is list<.*>, but it must hold text or integers",
        ),
    ],
)
def test_bad_interactions(table: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(table), "met.parquet")
    with pytest.raises(SemidError, match=message):
        count_partners(open_table("met.parquet"), IDS, ContrastConfig())


def test_partners_are_drawn_in_proportion_and_by_the_seed() -> None:
    partners = Partners(
        np.array([1, 2, 0]), np.array([0.25, 1.0, 2.0]), np.array([True, True, False])
    )
    drawn = partners.draw(np.zeros(20_000, np.int64), seed=1)
    assert np.mean(drawn == 1) == pytest.approx(0.25, abs=0.02)
    assert set(drawn) == {1, 2}
    assert partners.draw(np.ones(5, np.int64), seed=1).tolist() == [0] * 5
    np.testing.assert_array_equal(drawn, partners.draw(np.zeros(20_000, np.int64), seed=1))


# the loss


def pairs(item: list[int], partner: list[int]) -> Pairs:
    empty = torch.empty(0)
    return Pairs(torch.arange(len(item)), empty, torch.tensor(item), torch.tensor(partner))


def test_the_loss_worked_out_by_hand() -> None:
    latent_nz = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    partner_mz = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Cosines (1 1; 0 0), so both rows see two equal candidates: log 2; of the columns each sees
    # itself and the other: log(1 + e^-1) and log(1 + e). Over log 2.
    found = contrast_loss([latent_nz], [partner_mz], pairs([0, 1], [2, 3]), temperature=1.0)
    columns = 0.5 * (np.log(1 + np.exp(-1)) + np.log(1 + np.exp(1)))
    assert float(found) == pytest.approx(0.5 * (np.log(2) + columns) / np.log(2))


def test_what_is_no_negative_is_left_out() -> None:
    latents, partners = [torch.randn(3, 4)], [torch.randn(3, 4)]
    # All share a partner: no negatives are left.
    assert float(contrast_loss(latents, partners, pairs([0, 1, 2], [7, 7, 7]), temperature=1)) == 0
    # Each is the other's partner; there is only one.
    latents, partners = [latents[0][:2]], [partners[0][:2]]
    assert float(contrast_loss(latents, partners, pairs([0, 1], [1, 0]), temperature=1)) == 0
    latents, partners = [latents[0][:1]], [partners[0][:1]]
    assert float(contrast_loss(latents, partners, pairs([0], [1]), temperature=1)) == 0


@pytest.mark.parametrize("size", [8, 64, 512])
def test_chance_is_1_whatever_the_batch(size: int) -> None:
    random = torch.Generator().manual_seed(0)
    latent, partner = (torch.randn(size, 64, generator=random) for _ in range(2))
    apart = pairs(list(range(size)), list(range(size, 2 * size)))
    assert float(contrast_loss([latent], [partner], apart, temperature=1.0)) == pytest.approx(
        1, abs=0.05
    )


# training


def world(items: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Any]:
    """Embeddings in two views: content, which reconstructs, and a weak direction users follow."""
    random = np.random.default_rng(seed)
    taste_n = random.integers(8, size=items)
    x_nd = 2 * random.standard_normal((items, 24)).astype(np.float32)
    x_nd[:, :3] /= 4
    x_nd[:, :3] += ((taste_n[:, None] >> np.arange(3)) & 1) * 2 - 1
    by_taste = [np.flatnonzero(taste_n == taste) for taste in range(8)]
    rows = [
        (user, int(item), at)
        for user in range(300)
        for at, item in enumerate(random.choice(by_taste[user % 8], 8))
    ]
    user, item, position = zip(*rows, strict=True)
    pq.write_table(
        pa.table({"user_id": user, "item_id": item, "position": position}), "met.parquet"
    )
    return x_nd, taste_n, "met.parquet"


SMALL: dict[str, Any] = {
    "model": {"latent_dim": 8, "hidden": [32]},
    "training": {"epochs": 60, "batch_size": 64},
    "holdout": 0.2,
}


def alike(codes_nl: np.ndarray, taste_n: np.ndarray) -> float:
    """Share of pairs with the same first code that have the same taste too."""
    same_nn = codes_nl[:, None, 0] == codes_nl[None, :, 0]
    np.fill_diagonal(same_nn, False)
    return float((taste_n[:, None] == taste_n[None])[same_nn].mean())


def test_codes_follow_behaviour_and_of_new_items_too() -> None:
    x_nd, taste_n, met = world()
    config = {**SMALL, "contrast": {"weight": 10.0}}
    plain = semid.fit(x_nd, levels=[8, 8], config=SMALL, device="cpu")
    taught = semid.fit(
        x_nd,
        levels=[8, 8],
        config=config,
        interactions=met,
        item_ids=np.arange(len(x_nd)),
        device="cpu",
    )
    fresh_nd, fresh_n, _ = world(seed=1)  # items that nobody has met
    assert alike(taught.encode(x_nd), taste_n) > 2 * alike(plain.encode(x_nd), taste_n)
    assert alike(taught.encode(fresh_nd), fresh_n) > 2 * alike(plain.encode(fresh_nd), fresh_n)
    assert min(level["used"] for level in taught.metrics["levels"]) == 8
    assert taught.metrics["interactions"]["users"] == 300
    losses = [epoch["contrast_loss"] for epoch in taught.history]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", ["vqvae", "fsq", "vae", "autoencoder"])
def test_every_network_takes_it(kind: str) -> None:
    x_nd, _, met = world()
    levels = [8] if kind == "vqvae" else [8, 8]
    few = {**SMALL, "training": {"epochs": 2, "batch_size": 128}}
    model = semid.fit(
        x_nd,
        kind,
        levels,
        config=few,
        interactions=met,
        item_ids=np.arange(len(x_nd)),
        device="cpu",
    )
    assert "contrast_loss" in model.history[-1]


def test_contrast_and_interactions_need_each_other() -> None:
    x_nd, _, met = world()
    with pytest.raises(SemidError, match="settings of contrast do not apply here"):
        semid.fit(x_nd, levels=[8], config={**SMALL, "contrast": {"weight": 2.0}})
    with pytest.raises(SemidError, match="a rqkmeans cannot learn from interactions"):
        semid.fit(x_nd, "rqkmeans", [8], interactions=met, item_ids=np.arange(len(x_nd)))
    with pytest.raises(SemidError, match="give item_ids, one for each row"):
        semid.fit(x_nd, levels=[8], interactions=met)


def test_from_the_command_line() -> None:
    x_nd, _, met = world()
    ids = pa.array(np.arange(len(x_nd)))
    column = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), 24)
    pq.write_table(pa.table({"item_id": ids, "embedding": column}), "embeddings.parquet")
    few = ("--levels", "8,8", "--set", "training.epochs=2", "--set", "model.hidden=[16]")
    train = ("train", "embeddings.parquet", "--output", "model", *few)
    done = run_here(*train, "--interactions", met)
    assert done.code == 0, done.err
    assert "up to date" in run_here(*train, "--interactions", met).out
    assert run_here(*train).code == 2  # another model; --overwrite makes it
    streamed = run_here(
        *train[:3], "other", *few, "--interactions", met, "--set", "memory_gib=0.00001"
    )
    assert "contrast looks up partners" in streamed.error
