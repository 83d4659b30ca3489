"""Every option of the bottlenecks: that it runs, survives saving, and does what it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import semid
from semid.autoencoder import Autoencoder
from semid.codebooks import ResidualCodebooks
from semid.errors import SemidError
from semid.estimators import gumbel_choice, rotate, sinkhorn_choice, straight_through
from semid.fit_config import NETWORKS, FitConfig, LossConfig, TrainingConfig
from semid.fitting import fit_data
from semid.fsq import Grid, grid_sizes
from semid.losses import batch_loss
from semid.model_config import ESTIMATORS, CodebookConfig, ModelConfig
from semid.principal import principal_components
from semid.quantised import Moment
from semid.quantization import Level, search
from semid.training import Trainer
from semid.training_data import ArrayData, held_out

Matrix = npt.NDArray[np.float32]
WIDTH = 12
SMALL: dict[str, Any] = {
    "training": {"epochs": 4, "batch_size": 128},
    "model": {"latent_dim": 5, "hidden": [16]},
}
CODED = [("rqvae", (16, 8, 4)), ("vqvae", (16,)), ("fsq", (16, 9))]
LEVELS = dict(CODED)


def drawn(n: int = 1_000, d: int = WIDTH, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    return (centres[rng.integers(0, 20, n)] + 0.4 * rng.normal(size=(n, d))).astype(np.float32)


def merged(more: dict[str, Any]) -> dict[str, Any]:
    return {
        section: {**SMALL.get(section, {}), **more.get(section, {})} for section in {*SMALL, *more}
    }


def fitted(kind: str, more: dict[str, Any] | None = None, levels: Any = None) -> Any:
    levels = levels or LEVELS.get(kind, (1,))
    return semid.fit(drawn(), kind, levels, config=merged(more or {}), device="cpu")


def trainer_of(kind: str = "rqvae", levels: Any = (16, 8, 4), **sections: Any) -> Trainer:
    x_nd = drawn()
    config = FitConfig(
        quantizer=kind,
        levels=levels,
        **{
            "model": ModelConfig(latent_dim=5, hidden=(16,)),
            "training": TrainingConfig(epochs=4, batch_size=128),
            **sections,
        },
    )
    from semid.quantizer import make_network

    data = ArrayData(x_nd, held_out(range(len(x_nd)), 0.1))
    return Trainer(make_network(config, {"embedding": WIDTH}), data, config)


# Every option, for every quantizer that it applies to


BOOKS = ("rqvae", "vqvae")
HIERARCHIES = ("rqvae", "fsq")
CODES = ("rqvae", "vqvae", "fsq")
OPTIONS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("codebooks.init", "random", BOOKS),
    ("codebooks.update", "gradient", BOOKS),
    ("codebooks.estimator", "rotation", BOOKS),
    ("codebooks.estimator", "gumbel", BOOKS),
    ("codebooks.metric", "cosine", BOOKS),
    ("codebooks.layer_norm", True, CODES),
    ("codebooks.balance", 0.5, BOOKS),
    ("codebooks.balance", 0.0, BOOKS),
    ("codebooks.locality", 0.0, ("rqvae",)),
    ("codebooks.locality", 1.0, ("rqvae",)),
    ("codebooks.separation", 0.0, ("rqvae",)),
    ("codebooks.separation", 1.0, ("rqvae",)),
    ("codebooks.sinkhorn", "last", BOOKS),
    ("codebooks.sinkhorn", "all", BOOKS),
    ("codebooks.restart_below", 0.0, BOOKS),
    ("codebooks.prefix_share", 0.5, HIERARCHIES),
    ("codebooks.progressive", 0.6, HIERARCHIES),
    ("codebooks.fsq", "last", ("rqvae",)),
    ("loss.reconstruction", "cosine", NETWORKS),
    ("loss.commitment", 1.0, CODES),
    ("loss.diversity", 0.1, BOOKS),
    ("loss.uniformity", 0.3, CODES),
    ("loss.kl", 0.1, ("vae",)),
    ("model.activation", "relu", NETWORKS),
    ("model.activation", "silu", NETWORKS),
    ("model.layer_norm", True, NETWORKS),
    ("model.dropout", 0.5, NETWORKS),
    ("model.dropout", 0.0, NETWORKS),
    ("model.encoder_dropout", 0.5, NETWORKS),
    ("model.skip", "identity", NETWORKS),
    ("model.skip", "none", NETWORKS),
    ("training.precision", "bfloat16", NETWORKS),
]
CASES = [(kind, name, value) for name, value, kinds in OPTIONS for kind in kinds]


@pytest.mark.parametrize(("kind", "name", "value"), CASES, ids=str)
def test_every_option_runs_and_survives_saving(
    tmp_path: Path, kind: str, name: str, value: Any
) -> None:
    section, key = name.split(".")
    with_it = {section: {key: value}}
    if value == "identity":  # the latents are as wide as the embeddings
        with_it[section]["latent_dim"] = ModelConfig().latent_dim
    model = fitted(kind, with_it)
    x_nd = drawn(200, seed=1)
    model.save(tmp_path / "model")
    loaded = semid.load(tmp_path / "model")
    assert loaded.config[section][key] == value
    np.testing.assert_array_equal(loaded.reconstruct(x_nd), model.reconstruct(x_nd))
    assert np.isfinite(model.reconstruct(x_nd)).all()
    # Four epochs; and a LayerNorm loses the scale of residuals, which the decoder has yet to learn.
    assert model.metrics["held_out_error"] < (2.0 if key == "layer_norm" else 1.05)
    if model.levels:
        codes_nl = model.encode(x_nd)
        np.testing.assert_array_equal(loaded.encode(x_nd), codes_nl)
        np.testing.assert_array_equal(model.decode(codes_nl), model.reconstruct(x_nd))
        rows = np.random.default_rng(0).permutation(200)
        np.testing.assert_array_equal(model.encode(x_nd[rows]), codes_nl[rows])


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_networks_without_codes_bound_the_others(kind: str) -> None:
    bound = fitted(kind)
    assert bound.levels == ()
    assert bound.metrics["held_out_error"] < fitted("rqvae").metrics["held_out_error"]
    assert bound.metrics["raw_uniqueness"] is None
    with pytest.raises(SemidError, match=f"of the kind {kind} has no codes"):
        bound.encode(drawn(10))


def test_a_vae_draws_in_training_only_and_kl_pulls_it_to_the_prior() -> None:
    loose, tight = (
        fitted("vae", {"loss": {"kl": kl}, "training": {"epochs": 60}}) for kl in (0.0, 10.0)
    )
    x_nd = drawn(300, seed=2)
    np.testing.assert_array_equal(loose.reconstruct(x_nd), loose.reconstruct(x_nd))
    assert tight.history[-1]["kl_loss"] < 0.5 * loose.history[-1]["kl_loss"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_commitment_reaches_the_encoder_from_every_level(estimator: str, update: str) -> None:
    books = CodebookConfig(estimator=estimator, update=update)
    codes = ResidualCodebooks((8, 4, 4), 5, books)
    sample = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    codes.initialise(sample, batch_rows=64, seed=0)
    latent_nz = sample[:64].clone().requires_grad_()
    found = []
    for depth in (1, 2, 3):
        batch = codes(latent_nz, Moment(depth), torch.Generator().manual_seed(0))
        found.append(torch.autograd.grad(batch.commitment, latent_nz, retain_graph=True)[0])
        through = torch.autograd.grad(batch.latent_nz.square().sum(), latent_nz)[0]
        assert through.abs().sum() > 0
    for before, after in zip([torch.zeros_like(sample[:64]), *found], found, strict=False):
        assert (after - before).abs().sum() > 1e-3


# Estimators and balanced choices, by hand


def test_straight_through_and_rotation_have_the_quantised_value() -> None:
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(50, 6, generator=draw).requires_grad_()
    quantised = torch.randn(50, 6, generator=draw)
    for estimator in (straight_through, rotate):
        torch.testing.assert_close(estimator(latent, quantised), quantised)


def test_the_rotation_trick_turns_gradients_as_it_turned_the_latent() -> None:
    # From (2, 0) to (0, 1): a quarter turn to the left and half the length.
    latent = torch.tensor([[2.0, 0.0]], requires_grad=True)
    out = rotate(latent, torch.tensor([[0.0, 1.0]]))
    (along,) = torch.autograd.grad(out, latent, torch.tensor([[0.0, 1.0]]), retain_graph=True)
    (across,) = torch.autograd.grad(out, latent, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(along, torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(across, torch.tensor([[0.0, -0.5]]))


def test_gumbel_draws_by_probability_and_cools_to_the_best() -> None:
    score = torch.tensor([[0.0, 1.0, 4.0]]).repeat(4_000, 1)
    draw = torch.Generator().manual_seed(0)
    cold, weight = gumbel_choice(score, 1e-4, draw)
    assert (cold == 0).all()
    assert torch.equal(weight, torch.tensor([[1.0, 0.0, 0.0]]).repeat(4_000, 1))
    warm, _ = gumbel_choice(score, 1.0, draw)
    # The temperature is 1 x the mean score above the best, (0 + 1 + 4) / 3.
    expected = torch.softmax(-torch.tensor([0.0, 1.0, 4.0]) / (5 / 3), 0)
    torch.testing.assert_close(
        torch.bincount(warm, minlength=3) / 4_000, expected, atol=0.03, rtol=0
    )


def test_sinkhorn_uses_all_codewords_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    score = torch.rand(400, 4, generator=draw) + torch.tensor([0.0, 0.5, 0.5, 0.5])
    nearest = torch.bincount(score.argmin(1), minlength=4)
    balanced = torch.bincount(sinkhorn_choice(score, epsilon=0.05, iterations=50), minlength=4)
    assert nearest.max() > 250
    assert balanced.max() < 115
    assert balanced.min() > 85


def test_balance_evens_use_out_and_encoding_chooses_as_training_did() -> None:
    uses = []
    for balance in (0.0, 0.5):
        model = fitted("rqvae", {"codebooks": {"balance": balance}}, (16, 8))
        uses.append([level["perplexity"] for level in model.metrics["levels"]])
    assert all(even > uneven for uneven, even in zip(*uses, strict=True))


def test_an_offset_moves_the_border_between_codewords() -> None:
    # Codewords at 0 and 2: the border is at 1, and at 1 - 0.5 when 0 costs 1 more.
    books = torch.tensor([[0.0], [2.0]])
    rows = torch.tensor([[0.4], [0.6], [0.9], [1.1]])
    assert search(rows, [Level(books)]).codes_nl.flatten().tolist() == [0, 0, 0, 1]
    offset = torch.tensor([1.0, 0.0])  # on half the squared distance
    assert search(rows, [Level(books, offset)]).codes_nl.flatten().tolist() == [0, 1, 1, 1]


def test_cosine_chooses_by_angle() -> None:
    books = torch.tensor([[10.0, 0.0], [0.1, 0.1]])
    rows = torch.tensor([[1.0, 0.1], [1.0, 0.9]])
    assert search(rows, [Level(books)]).codes_nl.flatten().tolist() == [1, 1]
    assert search(rows, [Level(books, cosine=True)]).codes_nl.flatten().tolist() == [0, 1]


# Finite scalar quantisation


def test_grids_have_as_many_points_as_the_level() -> None:
    found = {size: grid_sizes(size) for size in (1, 2, 3, 7, 16, 100, 240, 251, 256, 1000)}
    for size, sizes in found.items():
        assert np.prod(sizes) == size
        assert len(sizes) == 1 or min(sizes) >= 4
    assert found[256] == (4, 4, 4, 4)
    assert grid_sizes(256, (8, 8, 4)) == (8, 8, 4)
    with pytest.raises(SemidError, match=r"fsq_grid \[8, 8\] has 64 codes but the level has 256"):
        grid_sizes(256, (8, 8))


def test_a_grid_by_hand() -> None:
    grid = Grid((3, 2), 2)
    with torch.no_grad():
        grid.down.copy_(torch.eye(2))
        grid.up.copy_(torch.eye(2))
    # Bounded to 0..2 and 0..1: steps (2, 0), (1, 1), (0, 0); codes 2 x first + second.
    rows = torch.tensor([[3.0, -3.0], [0.1, 0.2], [-3.0, -0.1]])
    codes, points = grid(rows)
    assert codes.tolist() == [4, 3, 0]
    assert points.tolist() == [[1.0, -1.0], [0.0, 1.0], [-1.0, -1.0]]
    assert torch.equal(grid.table()[codes], points)
    assert search(rows, [Level(grid.table(), grid=grid)]).codes_nl.flatten().tolist() == [4, 3, 0]


# Starting, restarting, going on


def test_an_identity_skip_starts_as_residual_k_means() -> None:
    x_nd = drawn()
    config = {
        **{"model": {"hidden": [16], "skip": "identity"}, "codebooks": {"balance": 0.0}},
        "training": {"autoencoder_share": 0.0, "max_steps": 1, "learning_rate": 1e-12},
    }
    warm = semid.fit(x_nd, "rqvae", (16, 8), config=config, device="cpu")
    start = {"kmeans": {"init": "random"}}
    plain = semid.fit(x_nd, "rqkmeans", (16, 8), config=start, device="cpu")
    assert (warm.encode(x_nd) == plain.encode(x_nd)).mean() > 0.97
    assert warm.metrics["train_error"] == pytest.approx(plain.metrics["train_error"], rel=0.02)


def test_one_shared_codebook() -> None:
    model = fitted("rqvae", {"codebooks": {"shared": True}}, (16, 16, 16))
    first, second, third = model.network.codebooks
    assert first is second is third
    assert sum(name.startswith("codes.codebook") for name in model.network.state_dict()) == 1


def test_progressive_levels_start_one_after_the_other() -> None:
    trainer = trainer_of(codebooks=CodebookConfig(progressive=0.8))
    trainer.run([], None)
    first = [
        next(row["epoch"] for row in trainer.history if row[f"used_{level}"]) for level in range(3)
    ]
    assert first == sorted(first)
    assert first[2] > first[0]


def test_training_prefixes_makes_them_decode_better() -> None:
    x_nd, errors = drawn(), []
    for share in (0.0, 0.8):
        model = fitted("rqvae", {"codebooks": {"prefix_share": share}, "training": {"epochs": 15}})
        decoded = model.decode(model.encode(x_nd)[:, :1])
        errors.append(np.square(decoded - x_nd).mean())
    assert errors[1] < errors[0]


def test_restarts_reset_what_the_optimiser_remembers() -> None:
    trainer = trainer_of(codebooks=CodebookConfig(update="gradient"))
    trainer.run([], None)
    assert trainer.network.codes is not None
    codebook_kz = trainer.network.codes.codebooks[0]
    remembered = trainer.optimizer.state[codebook_kz]
    assert remembered["exp_avg"].abs().sum(1).min() > 0
    trainer._forget(codebook_kz, torch.tensor([2, 5]))
    assert torch.nonzero(remembered["exp_avg"].abs().sum(1) == 0).flatten().tolist() == [2, 5]
    assert torch.nonzero(remembered["exp_avg_sq"].sum(1) == 0).flatten().tolist() == [2, 5]


def test_principal_components_are_the_same_for_any_number_of_threads() -> None:
    random = np.random.default_rng(0)
    turned_dd = np.linalg.qr(random.standard_normal((257, 257)))[0]
    spread_nd = random.standard_normal((6_000, 257)) * np.logspace(0, -2, 257)
    drawn_nd = torch.from_numpy(spread_nd @ turned_dd).float()
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(principal_components(drawn_nd, 50))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("kind", ["rqvae", "fsq", "vae"])
def test_threads_change_nothing(kind: str) -> None:
    config = {"training": {"epochs": 2, "batch_size": 600}, "model": {"hidden": [16]}}
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            levels = LEVELS.get(kind, (1,))
            model = semid.fit(drawn(), kind, levels, config=config, device="cpu")
            found.append(model.to_artifact().weights)
    finally:
        torch.set_num_threads(before)
    assert all(found[0][name].tobytes() == found[1][name].tobytes() for name in found[0])


def test_the_best_epoch_is_kept_and_not_the_last() -> None:
    trainer = trainer_of(training=TrainingConfig(epochs=8, batch_size=128))

    class Spoil:
        """Ruin the network in the last epoch."""

        def on_step(self, step: int, total: int) -> None:
            if step == total - 2:
                with torch.no_grad():
                    for parameter in trainer.network.decoders.parameters():
                        parameter.add_(0.3)

        def on_epoch(self, metrics: dict[str, Any]) -> None:
            """Nothing."""

    trainer.run([Spoil()], None)
    errors = [row["held_out_error"] for row in trainer.history]
    assert errors[-1] > 1.2 * min(errors)
    assert trainer.best_metrics is not None
    best = trainer.best_metrics["held_out_error"]
    assert best == min(row["held_out_error"] for row in trainer.history if row["used_0"])
    assert trainer.monitor.end(0, coded=True)["held_out_error"] == pytest.approx(best, rel=1e-6)


def test_one_epoch_and_thirty_differ() -> None:
    one, thirty = (fitted("rqvae", {"training": {"epochs": epochs}}) for epochs in (1, 30))
    assert thirty.metrics["train_error"] < 0.95 * one.metrics["train_error"]


def test_the_balance_of_losses_moves_with_neither_batch_size_nor_width() -> None:
    books = CodebookConfig(balance=0.0)
    # Without uniformity, which tells rows that come twice from others; see test_losses.py.
    loss = LossConfig(commitment=0.5, uniformity=0.0)
    config = FitConfig(levels=(4, 4), codebooks=books, loss=loss)
    plain = ModelConfig(latent_dim=5, hidden=(), dropout=0.0)

    def terms(start_nd: torch.Tensor, rows_nd: torch.Tensor) -> dict[str, float]:
        network = Autoencoder(plain, widths=(rows_nd.shape[1],), levels=(4, 4), codebooks=books)
        network.initialise(start_nd, torch.Generator().manual_seed(0))
        assert network.codes is not None
        with torch.no_grad():
            network.codes.initialise(network.project(start_nd), batch_rows=64, seed=0)
        x_nd = network.standardise(rows_nd)
        found = batch_loss(network, x_nd, config, Moment(2), torch.Generator())
        return {name: float(term) for name, term in found.terms.items()}

    x_nd = torch.from_numpy(drawn(300, 8))
    once = terms(x_nd, x_nd)
    assert terms(x_nd, x_nd.repeat(3, 1)) == pytest.approx(once, rel=1e-5)
    # Every value written twice: twice the width, the same losses.
    assert terms(x_nd.repeat(1, 2), x_nd.repeat(1, 2)) == pytest.approx(once, rel=1e-3)


def test_fit_data_reports_an_epoch_for_every_callback() -> None:
    heard: list[int] = []

    class Listener:
        """Counts epochs."""

        def on_step(self, step: int, total: int) -> None:
            """Nothing."""

        def on_epoch(self, metrics: dict[str, Any]) -> None:
            heard.append(metrics["epoch"])
            for level in range(2):
                assert {f"churn_{level}", f"distance_{level}", f"perplexity_{level}"} <= set(
                    metrics
                )

    x_nd = drawn()
    data = ArrayData(x_nd, held_out(range(len(x_nd)), 0.1))
    config = FitConfig(levels=(8, 4), training=TrainingConfig(epochs=3, batch_size=128))
    fit_data(data, config, device="cpu", callbacks=[Listener()])
    assert heard == [1, 2, 3]
