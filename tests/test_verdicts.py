"""The collapse guard: what it says of levels and of the data, on histories made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.data_facts import DataFacts, examine, perplexity_ceiling
from semid.fit_config import FitConfig, TrainingConfig
from semid.metrics.codes import Utilization, utilization
from semid.model_config import CodebookConfig, ModelConfig
from semid.verdicts import judge_data, missed, verdicts

EVEN = DataFacts(np.ones(1_000, np.int64), Utilization(8, 8, 7.5, 0.2), 0.02, 0.01)


def history_of(*perplexities: float) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "used_0": 8 if value else 0, "perplexity_0": value}
        for epoch, value in enumerate(perplexities, 1)
    ]


def metrics_of(perplexity: float) -> dict[str, Any]:
    level = Utilization(8, 8, perplexity, 0.3)._asdict()
    return {"levels": [level], "train_rows": 1_000}


def said(
    history: list[dict[str, Any]], perplexity: float, facts: DataFacts = EVEN, **settings: Any
) -> dict[str, str]:
    config = FitConfig(**{"levels": (8,), "quantizer": "vqvae", **settings})
    return verdicts(history, metrics_of(perplexity), config, facts)


def test_all_is_well() -> None:
    assert said(history_of(0, 5, 7, 7.5), 7.5) == {}


def test_below_the_floor_since_an_epoch() -> None:
    # Epochs 1 and 2 are the autoencoder's; it was low in 3, well in 4, and low from 5 on.
    found = said(history_of(0, 0, 3, 6, 3.9, 3.5, 3.4, 3.4), 3.4)
    assert found == {
        "level 0": "perplexity 3.4 of 8 misses the floor of 4.0 (training.utilization_floor 0.5) "
        "since epoch 5; raise codebooks.balance, which is 0.1"
    }


def test_decay_above_the_floor() -> None:
    found = said(history_of(0, 7, 8, 7, 5.9, 5.5), 5.5)
    assert found == {
        "level 0": "perplexity decayed from 8.0 in epoch 3 to 5.5 in epoch 6, below 75% of it "
        "since epoch 5; raise codebooks.balance, which is 0.1"
    }


@pytest.mark.parametrize(
    ("books", "advice"),
    [
        ({"init": "random"}, "set codebooks.init=kmeans, which is random"),
        ({"layer_norm": True}, "set codebooks.layer_norm=false, which is true"),
        ({"restart_below": 0.0}, "set codebooks.restart_below=0.1, which is 0.0"),
        ({"balance": 0.0}, "set codebooks.balance=0.1, which is 0.0"),
        ({"balance": 0.3}, "raise codebooks.balance, which is 0.3"),
    ],
)
def test_the_setting_to_change(books: dict[str, Any], advice: str) -> None:
    found = said(history_of(3, 3, 3, 3, 3), 3, codebooks=CodebookConfig(**books))
    assert found["level 0"].endswith(f"since epoch 1; {advice}")


def test_neighbours_that_weigh_too_much() -> None:
    books = CodebookConfig(separation=0.9)
    settings = {"quantizer": "rqvae", "levels": (8, 8), "codebooks": books}
    found = said(history_of(3, 3, 3, 3, 3), 3, **settings)
    assert found["level 0"].endswith("; set codebooks.separation=0.5, which is 0.9")


def test_training_that_was_too_short() -> None:
    training = TrainingConfig(epochs=6)
    found = said(history_of(1, 1, 1.5, 2, 2.5, 3), 3, training=training)
    assert found["level 0"].endswith("raise training.epochs, which is 6: it still rises")


def test_a_level_that_was_used_well_only_while_it_was_trained() -> None:
    sentence = (
        "in the kept model, though not while it was trained; rows differ less than training moves "
        "them, so lower {}"
    )
    lower = sentence.format("training.learning_rate, which is 0.003")
    assert said(history_of(7, 7), 3)["level 0"].endswith(lower)
    found = said(history_of(7, 7), 3, model=ModelConfig(encoder_dropout=0.1))
    lower = sentence.format("model.encoder_dropout, which is 0.1")
    assert found["level 0"].endswith(lower)


def test_too_few_rows() -> None:
    config = FitConfig(levels=(8,), quantizer="vqvae")
    found = verdicts(history_of(3, 3, 3, 3, 3), metrics_of(3) | {"train_rows": 39}, config, EVEN)
    assert found["level 0"].endswith("use smaller levels: 39 training rows are few for 8 codewords")


def test_the_baseline_has_no_epochs() -> None:
    assert said([], 3, quantizer="rqkmeans") == {
        "level 0": "perplexity 3.0 of 8 misses the floor of 4.0 (training.utilization_floor 0.5); "
        "use quantizer rqvae, or smaller levels"
    }


def test_copies_are_not_blamed_for_what_they_leave_room_for() -> None:
    # 880 distinct rows, 120 of which stand there twice: 8 codewords can be used evenly.
    copies_m = np.ones(880, np.int64)
    copies_m[:120] = 2
    copied = DataFacts(copies_m, EVEN.probe, 0.02, 0.01)
    found = said(history_of(3, 3, 3, 3, 3), 3, copied, codebooks=CodebookConfig(balance=0.0))
    assert found["level 0"].endswith("since epoch 1; set codebooks.balance=0.1, which is 0.0")
    assert "raw uniqueness cannot exceed 0.880" in found["data"]


def test_codes_that_are_worse_than_the_mean() -> None:
    def judged(quantizer: str, facts: DataFacts = EVEN, **errors: float | None) -> str | None:
        config = FitConfig(levels=(8,), quantizer=quantizer)
        metrics = metrics_of(7.5) | errors
        return verdicts(history_of(7.5), metrics, config, facts).get("error")

    assert judged("vqvae", held_out_error=1.0, train_error=1.2) is None
    assert judged("vqvae", held_out_error=1.25, train_error=0.3) == (
        "the held-out error is 1.25 of what the catalog's mean alone leaves; lower "
        "training.learning_rate, which is 0.003, or raise training.epochs, which is 28"
    )
    assert judged("kmeans", held_out_error=None, train_error=1.25) == (
        "the training error is 1.25 of what the catalog's mean alone leaves; use larger levels"
    )
    contrasted = [row | {"contrast_loss": 0.4} for row in history_of(7.5)]
    config = FitConfig(levels=(8,), quantizer="vqvae")
    metrics = metrics_of(7.5) | {"held_out_error": 1.25}
    assert verdicts(contrasted, metrics, config, EVEN)["error"].endswith(
        f"lower contrast.weight, which is {config.contrast.weight:g}"
    )
    uneven = DataFacts(np.ones(1_000, np.int64), Utilization(8, 8, 2.5, 0.8), 0.3, 0.01)
    found = judged("vqvae", uneven, held_out_error=1.25)
    assert found is not None
    assert found.endswith("; the data is the cause, so mend it")


def test_the_data_is_named_as_the_cause() -> None:
    copies_m = np.array([93, 1, 1, 1, 1, 1, 1, 1])
    facts = DataFacts(copies_m, Utilization(8, 8, 1.4, 0.93), 0.02, 0.01)
    found = said(history_of(1.4, 1.4), 1.4, facts)
    assert found["level 0"].endswith("the data is the cause, so use smaller levels or mend it")
    # Seven rows alone and 93 alike, eight codewords.
    ceiling = math.exp(-0.93 * math.log(0.93) - 0.07 * math.log(0.01))
    assert found["data"] == (
        "92.0% of the 100 sampled rows repeat another bit for bit, one row stands there 93 times: "
        f"raw uniqueness cannot exceed 0.080 and no level's perplexity {ceiling:.1f} of 8"
    )


def test_data_that_is_uneven() -> None:
    few = DataFacts(np.array([5, 5, 5]), Utilization(3, 8, 3, 0.3), 0.02, 0.01)
    assert judge_data(few, (2, 8)) == (
        "the 15 sampled rows hold 3 distinct ones, fewer than the 8 codewords of a level"
    )
    dense = DataFacts(EVEN.copies_m, Utilization(8, 8, 4, 0.75), 0.05, 0.01)
    assert judge_data(dense, (8,)) == (
        "k-means itself reaches only perplexity 4.0 of 8 on it, since it is dense in places: one "
        "codeword holds 75% of the rows"
    )
    tails = DataFacts(EVEN.copies_m, Utilization(8, 8, 4, 0.75), 0.4, 0.01)
    assert judge_data(tails, (8,)) == (
        "k-means itself reaches only perplexity 4.0 of 8 on it, since its tails are heavy: the "
        "farthest 1% of the rows hold 40% of the variance; clip such features or take their "
        "logarithm"
    )
    crowded = DataFacts(EVEN.copies_m, EVEN.probe, 0.02, 0.8)
    assert judge_data(crowded, (8,)) == (
        "the catalog is dense in places: 80% of the rows are nearer to their k-means codeword than "
        "a fifth of the mean squared distance, which the others make up"
    )
    assert judge_data(EVEN, (8,)) is None


def test_missed() -> None:
    config = FitConfig(levels=(8, 4))
    levels = [{"perplexity": 4.0, "size": 8}, {"perplexity": 1.9, "size": 4}]
    assert missed({"levels": levels}, config) == [1]


# Facts of the data


def test_examine() -> None:
    x_nd = np.zeros((10, 2), np.float32)
    x_nd[4:, 0] = [1, 2, 3, 4, 5, 100]
    facts = examine(x_nd, 2, seed=0)
    assert sorted(facts.copies_m.tolist()) == [1, 1, 1, 1, 1, 1, 4]
    assert (facts.rows, facts.repeated) == (10, 3)
    assert facts.probe == utilization(np.array([9, 1]))
    square_n = (x_nd[:, 0].astype(float) - 11.5) ** 2
    assert facts.tail_share == pytest.approx(square_n[-1] / square_n.sum(), rel=1e-5)
    # Codewords at 15/9 and 100: squared distances of 30 in all, and 1, 2 and 100 nearer than 0.6.
    assert facts.dense_share == 0.3


def test_one_row_again_and_again() -> None:
    facts = examine(np.ones((20, 3), np.float32), 4, seed=0)
    assert facts.as_plain()["distinct_rows"] == 1
    assert facts.tail_share == 0.0


@pytest.mark.parametrize(
    ("copies", "k", "entropy"),
    [
        ([1, 1, 1, 1], 4, math.log(4)),
        ([1, 1, 1, 1], 8, math.log(4)),
        ([7], 4, 0.0),
        ([2, 1, 1], 2, math.log(2)),
        ([6, 1, 1], 2, -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
    ],
)
def test_the_ceiling_by_hand(copies: list[int], k: int, entropy: float) -> None:
    assert perplexity_ceiling(np.array(copies), k) == pytest.approx(math.exp(entropy))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=12))
def test_no_codes_exceed_the_ceiling(rows: list[tuple[int, int]]) -> None:
    copies_m, code_m = np.array(rows).T
    count_k = np.bincount(code_m, weights=copies_m, minlength=4).astype(np.int64)
    assert utilization(count_k).perplexity <= perplexity_ceiling(copies_m, 4) + 1e-9
