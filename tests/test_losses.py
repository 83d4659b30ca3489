"""What training minimises, term by term, by hand."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch

import semid
from semid.losses import uniformity

RIGHT, UP = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([RIGHT, UP], 0.0),  # of independent directions
        ([RIGHT] * 4, 1.0),
        ([RIGHT, RIGHT, UP], 1 + log((2 + 4 * exp(-32)) / 6) / 32),
        ([RIGHT], 0.0),
    ],
)
def test_uniformity_by_hand(rows: list[list[float]], expected: float) -> None:
    assert uniformity(torch.tensor(rows)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_uniformity_does_not_depend_on_scale_or_batch(scale: float) -> None:
    rows = torch.randn(1_600, 16, generator=torch.Generator().manual_seed(0))
    expected = uniformity(rows).item()
    assert uniformity(scale * rows[:400]).item() == pytest.approx(expected, abs=0.03)


def test_uniformity_moves_near_rows_apart() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.2], [-1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(uniformity(rows), rows)
    apart = gradient[1] - gradient[0]
    assert apart @ (rows[1] - rows[0]) < 0  # a step against the gradient lengthens what is between
    assert gradient[2].norm() < 0.1 * gradient[0].norm()


def test_the_gradient_of_uniformity_is_its_derivative() -> None:
    chance = torch.Generator().manual_seed(1)
    rows = torch.randn(7, 3, dtype=torch.float64, generator=chance, requires_grad=True)
    assert torch.autograd.gradcheck(uniformity, rows)


def test_uniformity_of_rows_that_are_all_zero_has_a_gradient() -> None:
    rows = torch.zeros(5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(uniformity(rows), rows)
    assert gradient.isfinite().all()


def test_training_spreads_latents_as_far_as_it_is_asked_to() -> None:
    random = np.random.default_rng(0)
    families = 2 * random.standard_normal((40, 24))
    x_nd = (families[:, None] + 0.3 * random.standard_normal((40, 20, 24))).reshape(-1, 24)
    x_nd = x_nd.astype(np.float32)
    small = {"model": {"hidden": [32], "latent_dim": 12}, "training": {"epochs": 20}}

    def spread(weight: float) -> float:
        config = {**small, "loss": {"uniformity": weight}}
        model = semid.fit(x_nd, levels=(16, 16), config=config, device="cpu")
        assert model.history[-1]["uniformity_loss"] >= 0
        return uniformity(model.network.project(torch.from_numpy(x_nd))).item()

    without, some, much = (spread(weight) for weight in (0.0, 0.5, 5.0))
    assert without > some > much
