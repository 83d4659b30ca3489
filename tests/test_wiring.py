"""Settings that reach what they are about: each changes what training does, as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import semid
from semid.codebooks import ResidualCodebooks
from semid.contrast import Pairs, contrast_loss
from semid.fit_config import ContrastConfig, FitConfig, LossConfig, TrainingConfig
from semid.losses import batch_loss
from semid.model_config import CodebookConfig, ModelConfig
from semid.quantised import Moment
from semid.quantization import search
from semid.quantizer import make_network
from semid.training import Trainer
from semid.training_data import ArrayData, Matrix, held_out

WIDTH = 12


def rows(n: int = 600) -> Matrix:
    random = np.random.default_rng(0)
    centre_cd = random.standard_normal((40, WIDTH))
    noise_nd = 0.3 * random.standard_normal((n, WIDTH))
    return (centre_cd[random.integers(0, 40, n)] + noise_nd).astype(np.float32)


def trainer_of(**sections: Any) -> Trainer:
    model = ModelConfig(latent_dim=6, hidden=(16,))
    training = TrainingConfig(epochs=6, batch_size=128)
    config = FitConfig(levels=(16, 8), **{"model": model, "training": training, **sections})
    x_nd = rows()
    data = ArrayData(x_nd, held_out(range(len(x_nd)), 0.1))
    return Trainer(make_network(config, data.widths), data, config)


def codebooks_of(trainer: Trainer) -> ResidualCodebooks:
    assert trainer.network.codes is not None
    return trainer.network.codes


def by_hand(**chosen: Any) -> ResidualCodebooks:
    """Two levels of two codewords in the plane."""
    plain = {"balance": 0.0, "locality": 0.0, "separation": 0.0}
    codes = ResidualCodebooks((2, 2), 2, CodebookConfig(**{**plain, **chosen}))
    for home in range(2):
        codes.get_buffer(f"codebook_{home}").copy_(torch.tensor([[1.0, 0.0], [10.0, 10.0]]))
    codes.started = 2
    return codes


def test_cosine_chooses_by_angle() -> None:
    latent_nz, chance = torch.tensor([[2.0, 1.9]]), torch.Generator()
    for metric, code in (("l2", 0), ("cosine", 1)):
        codes = by_hand(metric=metric)
        assert codes(latent_nz, Moment(1), chance).codes_nl[0].tolist() == [code]
        assert int(search(latent_nz, codes.search_levels).codes_nl[0, 0]) == code


def test_sinkhorn_balances_the_levels_that_it_is_asked_for() -> None:
    # Seven rows of eight are near the first codeword, and what they leave is near the first too.
    latent_nz = torch.tensor([[2.0 + 0.1 * n, 0.1 * n] for n in range(7)] + [[20.0, 20.0]])
    counts = {}
    for sinkhorn in ("none", "last", "all"):
        codes = by_hand(sinkhorn=sinkhorn, sinkhorn_iterations=50)
        codes_nl = codes(latent_nz, Moment(2), torch.Generator()).codes_nl
        counts[sinkhorn] = [torch.bincount(level, minlength=2).tolist() for level in codes_nl.T]
    assert counts["none"] == [[7, 1], [7, 1]]
    assert counts["last"] == [[7, 1], [4, 4]]
    assert counts["all"][0] == [4, 4]


def test_gumbel_is_annealed() -> None:
    trainer = trainer_of(codebooks=CodebookConfig(estimator="gumbel"))
    codes, said = codebooks_of(trainer), []
    forward = codes.forward

    def heard(latent_nz: Tensor, moment: Moment, chance: torch.Generator) -> Any:
        said.append(moment.temperature)
        return forward(latent_nz, moment, chance)

    codes.forward = heard  # type: ignore[method-assign]
    trainer.run([], None)
    assert said[0] == 1.0
    assert said == sorted(said, reverse=True)
    assert said[-1] == pytest.approx(0.05, rel=0.2)


class Restarts:
    """Notes which codewords of the first level are restarted, and below which use."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.below, self.rows = trainer, list[float](), Tensor()
        codes = codebooks_of(trainer)
        restart = codes.restart

        def heard(*batch: Any, below: float, chance: torch.Generator) -> list[Tensor]:
            self.below.append(below)
            moved = restart(*batch, below=below, chance=chance)
            self.rows = moved[0]
            return moved

        codes.restart = heard  # type: ignore[method-assign]

    def on_step(self, step: int, total: int) -> None:
        """Hear of a step; see what the optimiser remembers."""

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Hear of an epoch."""


def test_restarts_keep_to_what_is_unused_while_training_settles() -> None:
    books = CodebookConfig(restart_below=0.4, restart_until=0.5)
    trainer = trainer_of(codebooks=books)
    heard = Restarts(trainer)
    trainer.run([], None)
    early = trainer.total_steps // 2 - trainer.codebook_start
    assert heard.below[:early] == [0.4] * early
    assert heard.below[early:] == [pytest.approx(0.02)] * (len(heard.below) - early)


def test_the_optimiser_forgets_codewords_that_are_restarted() -> None:
    books = CodebookConfig(update="gradient", init="random", restart_below=0.6, restart_until=1.0)
    trainer = trainer_of(codebooks=books)
    seen = []

    class Look(Restarts):
        def on_step(self, step: int, total: int) -> None:
            remembered = trainer.optimizer.state.get(codebooks_of(trainer).codebooks[0], {})
            if len(self.rows) and "exp_avg" in remembered:
                for name in ("exp_avg", "exp_avg_sq"):
                    assert not remembered[name][self.rows].any()
                assert remembered["exp_avg"].any()
                seen.append(len(self.rows))
            self.rows = Tensor()

    trainer.run([Look(trainer)], None)
    assert seen


def loss_of(pairs: Pairs | None = None, entropy: bool = False, **sections: Any) -> Any:
    trainer = trainer_of(codebooks=CodebookConfig(locality=0, separation=0), **sections)
    trainer._initialise()
    network, x_nd = trainer.network, torch.from_numpy(rows()[:64])
    with torch.no_grad():
        codebooks_of(trainer).initialise(network.project(x_nd), batch_rows=64, seed=0)
    x_nd, moment = network.standardise(x_nd), Moment(2, entropy=entropy)
    chance = torch.Generator().manual_seed(0)
    return network, x_nd, batch_loss(network, x_nd, trainer.config, moment, chance, pairs)


def test_cosine_reconstruction_by_hand() -> None:
    model = ModelConfig(latent_dim=6, hidden=(16,), dropout=0.0)
    network, x_nd, loss = loss_of(model=model, loss=LossConfig(reconstruction="cosine"))
    codes_nl = loss.quantised.codes_nl
    total_nz = sum(book[codes_nl[:, level]] for level, book in enumerate(network.codebooks))
    wanted = (1 - torch.cosine_similarity(network.decode(total_nz), x_nd)).mean().detach()
    assert float(loss.terms["reconstruction"]) == pytest.approx(float(wanted), rel=1e-4)


def test_diversity_is_part_of_the_loss() -> None:
    _, _, without = loss_of(entropy=True)
    _, _, loss = loss_of(entropy=True, loss=LossConfig(diversity=2.0))
    assert float(loss.terms["diversity"]) > 0
    gap = 2.0 * float(loss.terms["diversity"])
    assert float(loss.total - without.total) == pytest.approx(gap, rel=1e-4)
    trainer = trainer_of(loss=LossConfig(diversity=0.1))
    trainer.run([], None)
    assert trainer.history[-1]["diversity_loss"] > 0


def test_contrast_is_of_every_prefix_or_of_the_last() -> None:
    place = torch.arange(64)
    pairs = Pairs(place, torch.from_numpy(rows()[64:128]), place, place + 64)
    found = {}
    for levels in ("all", "last"):
        contrast = ContrastConfig(levels=levels, temperature=0.5)
        network, x_nd, loss = loss_of(pairs, contrast=contrast)
        found[levels] = float(loss.terms["contrast"])
    both = torch.cat([x_nd, network.standardise(pairs.x_md)])
    latent_nz, totals = network.encode(both), []
    for depth in (1, 2):
        codes_nl = search(latent_nz, network.search_levels).codes_nl
        parts = [network.codebooks[level][codes_nl[:, level]] for level in range(depth)]
        totals.append(sum(parts))
    by_prefix = [
        float(contrast_loss([total[:64]], [total[64:]], pairs, temperature=0.5)) for total in totals
    ]
    assert found["last"] == pytest.approx(by_prefix[1], rel=1e-4)
    assert found["all"] == pytest.approx(np.mean(by_prefix), rel=1e-4)


@pytest.mark.parametrize("loaded", [True, False])
def test_training_on_starts_nothing_again(tmp_path: Path, loaded: bool) -> None:
    x_nd = rows()
    sections: dict[str, Any] = {
        "model": {"latent_dim": 6, "hidden": [16]},
        "training": {"epochs": 6, "batch_size": 128},
    }
    model = semid.fit(x_nd, levels=(16, 8), config=sections)
    if loaded:
        model.save(tmp_path / "model")
        model = semid.load(tmp_path / "model")
    network, before_nl = model.network, model.encode(x_nd)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = ArrayData(x_nd, held_out(range(len(x_nd)), 0.1))
    slow = TrainingConfig(epochs=1, max_steps=1, learning_rate=1e-6, batch_size=128, weight_decay=0)
    shape = ModelConfig(latent_dim=6, hidden=(16,))
    trainer = Trainer(network, data, FitConfig(levels=(16, 8), model=shape, training=slow))
    trainer.run([], None)
    # One tiny step: a fresh start would have moved everything. Codebooks follow as one batch asks.
    for name, value in network.state_dict().items():
        if "offset" not in name:
            assert (value - before[name]).abs().max() <= 0.1 * before[name].abs().max(), name
    assert (model.encode(x_nd) == before_nl).mean() > 0.8


def test_neighbours_count_every_column_alike() -> None:
    random = np.random.default_rng(0)
    # A wide column of clusters and a narrow one of other clusters.
    of_wide, of_narrow = random.integers(0, 8, 600), random.integers(0, 8, 600)
    wide = random.standard_normal((8, 96))[of_wide] + 0.3 * random.standard_normal((600, 96))
    narrow = random.standard_normal((8, 4))[of_narrow] + 0.05 * random.standard_normal((600, 4))
    data = ArrayData(
        np.concatenate([wide, narrow], 1).astype(np.float32),
        np.zeros(600, np.bool_),
        {"wide": 96, "narrow": 4},
    )
    config = FitConfig(levels=(8, 8), columns=("wide", "narrow"))
    trainer = Trainer(make_network(config, data.widths), data, config)
    trainer._initialise()
    mates = [batch for batch in trainer.feed.epoch(0) if batch.mate_n is not None]
    same = np.concatenate(
        [of_narrow[b.row_n] == of_narrow[b.row_n[b.mate_n.numpy()]] for b in mates]
    )
    assert same.mean() > 0.8
