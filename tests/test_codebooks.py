"""Codebooks that learn, against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semid.codebooks import ResidualCodebooks
from semid.kmeans import kmeans
from semid.model_config import CodebookConfig
from semid.quantised import Moment, Quantised, Statistics
from semid.quantization import Level, look_up, search

PLAIN = {"balance": 0.0}


def quantise(codes: ResidualCodebooks, latents: Tensor, **moment: Any) -> Quantised:
    """Quantise a batch for training; every level takes part."""
    chance = torch.Generator().manual_seed(0)
    return codes(latents, Moment(len(codes.levels), **moment), chance)


def learn(codes: ResidualCodebooks, batch: Quantised) -> None:
    codes.update(codes.statistics(batch))


def codebooks_of(
    levels: list[list[list[float]]], count: float = 1.0, **config: Any
) -> ResidualCodebooks:
    """Codebooks with these codewords, each as if chosen `count` times a batch."""
    settings = CodebookConfig(**{**PLAIN, **config})
    codes = ResidualCodebooks([len(level) for level in levels], len(levels[0][0]), settings)
    for level, rows in enumerate(levels):
        codes.codebooks[level].data.copy_(torch.tensor(rows))
        codes.get_buffer(f"count_{level}").fill_(count)
        codes.get_buffer(f"sum_{level}").copy_(torch.tensor(rows) * count)
    return codes


def drawn_codebooks(sizes: tuple[int, ...], z: int, seed: int = 0) -> ResidualCodebooks:
    random = torch.Generator().manual_seed(seed)
    return codebooks_of(
        [(torch.randn(k, z, generator=random) / 2**i).tolist() for i, k in enumerate(sizes)]
    )


def drawn_latents(n: int, z: int, seed: int = 1) -> Tensor:
    return torch.randn(n, z, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_commitment_by_hand() -> None:
    codes = codebooks_of([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [-1.0, 0.0]]])
    batch = quantise(codes, torch.tensor([[3.0, 2.0], [0.0, 1.0]]))
    assert batch.codes_nl.tolist() == [[1, 1], [0, 0]]
    # Residuals after level 0: (-1, 2) and (0, 1), mean square 6 / 4; after level 1: (0, 2) and
    # (0, 1), mean square 5 / 4.
    assert [part.item() for part in batch.commitments] == [1.5, 1.25]
    assert batch.commitment.item() == 1.5 + 1.25
    assert batch.latent_nz.tolist() == [[3.0, 0.0], [0.0, 0.0]]
    assert [r.tolist() for r in batch.residuals] == [
        [[3.0, 2.0], [0.0, 1.0]],
        [[-1.0, 2.0], [0.0, 1.0]],
    ]


def test_training_chooses_the_codes_that_encoding_chooses() -> None:
    codes, latents = drawn_codebooks((16, 8, 4), 6), drawn_latents(500, 6)
    found = search(latents.detach(), codes.search_levels)
    assert torch.equal(quantise(codes, latents).codes_nl, found.codes_nl)


def test_commitment_is_a_mean_over_items() -> None:
    codes, weights = drawn_codebooks((8, 4), 6), torch.eye(6).requires_grad_()
    latents = drawn_latents(40, 6).detach()
    once = quantise(codes, latents @ weights).commitment
    twice = quantise(codes, latents.repeat(2, 1) @ weights).commitment
    assert once.item() == pytest.approx(twice.item(), rel=1e-6)
    gradients = [torch.autograd.grad(loss, weights)[0] for loss in (once, twice)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_commitment_is_a_mean_over_dimensions() -> None:
    # A mapping that writes every latent twice: twice the width, the same loss and gradient.
    codes, weights = drawn_codebooks((8, 4), 6), torch.eye(6).requires_grad_()
    wide = codebooks_of([c.repeat(1, 2).tolist() for c in codes.codebooks])
    latents = drawn_latents(40, 6).detach()
    narrow_loss = quantise(codes, latents @ weights).commitment
    wide_loss = quantise(wide, (latents @ weights).repeat(1, 2)).commitment
    assert narrow_loss.item() == pytest.approx(wide_loss.item(), rel=1e-6)
    gradients = [torch.autograd.grad(loss, weights)[0] for loss in (narrow_loss, wide_loss)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_commitment_gradient_reaches_the_encoder_from_every_level(levels: int) -> None:
    sizes, n, z = (8, 8, 4, 4, 2, 2), 30, 5
    whole = drawn_codebooks(sizes, z)
    books = [c.tolist() for c in whole.codebooks]
    latents = drawn_latents(n, z)

    def gradient(through: int) -> Tensor:
        if not through:
            return torch.zeros(n, z)
        return torch.autograd.grad(
            quantise(codebooks_of(books[:through]), latents).commitment, latents
        )[0]

    own = gradient(levels) - gradient(levels - 1)  # what the last of these levels adds
    codes_nl = quantise(whole, latents).codes_nl
    left = latents.detach() - look_up(codes_nl[:, :levels], whole.codebooks)
    torch.testing.assert_close(own, 2 * left / (n * z), rtol=1e-4, atol=1e-6)
    assert (own.abs().sum(1) > 0).all()


def test_straight_through_gradient_is_the_decoders() -> None:
    codes, latents = drawn_codebooks((8, 4), 6), drawn_latents(40, 6)
    decoder = torch.nn.Linear(6, 3, bias=False)
    target = torch.ones(40, 3)
    quantised = quantise(codes, latents).latent_nz
    loss = torch.nn.functional.mse_loss(decoder(quantised), target)
    through, at_decoder = torch.autograd.grad(loss, (latents, quantised))
    assert torch.equal(through, at_decoder)
    assert through.abs().sum() > 0
    torch.testing.assert_close(
        quantised, look_up(quantise(codes, latents).codes_nl, codes.codebooks)
    )


def batch_of(rows: list[list[float]], codes: list[int]) -> Quantised:
    residuals = torch.tensor(rows)
    zero, codes_nl = torch.zeros(()), torch.tensor(codes)[:, None]
    return Quantised(residuals, [zero], zero, zero, codes_nl, [residuals], [residuals])


def test_moving_average_by_hand() -> None:
    codes = codebooks_of([[[0.0], [10.0], [20.0]]], count=2.0, ema_decay=0.5)
    learn(codes, batch_of([[1.0], [2.0], [3.0], [12.0]], [0, 0, 0, 1]))
    # counts (2 + 3) / 2, (2 + 1) / 2, 2 / 2; sums (0 + 6) / 2, (20 + 12) / 2, 40 / 2
    assert codes.get_buffer("count_0").tolist() == [2.5, 1.5, 1.0]
    assert codes.get_buffer("sum_0").flatten().tolist() == [3.0, 16.0, 20.0]
    moved = torch.tensor([[3.0], [16.0], [20.0]]) / torch.tensor([[2.5], [1.5], [1.0]])
    assert torch.equal(codes.codebooks[0], moved)


def test_every_level_follows_its_own_residuals() -> None:
    codes = codebooks_of([[[0.0], [8.0]], [[0.0], [1.0]]], ema_decay=0.0)
    learn(codes, quantise(codes, torch.tensor([[9.5]])))
    # 9.5 is nearest to 8; the residual 1.5 is nearest to 1. Without decay both jump there.
    assert codes.codebooks[0].flatten().tolist() == [0.0, 9.5]
    assert codes.codebooks[1].flatten().tolist() == [0.0, 1.5]


def test_a_codeword_that_is_not_used_never_moves() -> None:
    codes = codebooks_of([[[0.0], [10.0]]], ema_decay=0.9)
    for _ in range(3_000):  # long after its moving average has decayed to nothing
        learn(codes, batch_of([[1.0]], [0]))
    assert codes.get_buffer("count_0")[1] < 1e-30
    assert codes.codebooks[0][1].item() == 10.0
    learn(codes, batch_of([[7.0]], [1]))
    assert codes.codebooks[0][1].item() == pytest.approx(7.0)


def test_restart_moves_only_dead_codes_and_to_rows_of_the_batch() -> None:
    codes = drawn_codebooks((6, 4), 3)
    codes.get_buffer("count_0").copy_(torch.tensor([9.0, 0.0, 0.49, 0.51, 9.0, 0.1]))
    codes.get_buffer("count_1").fill_(9.0)
    before = [c.clone() for c in codes.codebooks]
    batch = quantise(codes, drawn_latents(30, 3).detach())
    random_state = torch.get_rng_state()
    # 30 rows on 6 codewords: 5 each on average, dead below a tenth of that
    learned, chance = codes.statistics(batch), torch.Generator().manual_seed(0)
    moved = codes.restart(batch, learned, below=0.1, chance=chance)
    assert [len(rows) for rows in moved] == [3, 0]
    assert moved[0].tolist() == [1, 2, 5]
    dead = [1, 2, 5]
    for index, codeword in enumerate(codes.codebooks[0]):
        is_row = (batch.residuals[0] == codeword).all(1).any()
        assert is_row if index in dead else torch.equal(codeword, before[0][index])
    assert torch.equal(codes.codebooks[1], before[1])
    assert codes.get_buffer("count_0")[dead].tolist() == [2.5] * 3
    assert torch.equal(random_state, torch.get_rng_state())
    # Moved once, they have a while to live.
    again = codes.restart(batch, learned, below=0.1, chance=torch.Generator())
    assert [len(rows) for rows in again] == [0, 0]


def test_processes_that_add_up_what_they_learn_find_the_same_codewords_dead() -> None:
    codes = drawn_codebooks((6, 4), 3)
    batch = quantise(codes, drawn_latents(30, 3).detach())
    once = codes.statistics(batch)
    four = [Statistics(*(4 * part for part in level)) for level in once]
    # Counts of four processes beside a mean of four processes: as many of them are dead.
    for learned, times in ((once, 1), (four, 4)):
        codes.get_buffer("count_0").copy_(times * torch.tensor([9.0, 0.0, 0.4, 0.6, 9.0, 0.1]))
        codes.get_buffer("count_1").fill_(times * 9.0)
        moved = codes.restart(batch, learned, below=0.1, chance=torch.Generator())
        assert [rows.tolist() for rows in moved] == [[1, 2, 5], []]


@pytest.mark.parametrize(("init", "start"), [("kmeans", "random"), ("k-means++", "k-means++")])
def test_initialisation_is_k_means_level_by_level(init: str, start: str) -> None:
    sample = drawn_latents(400, 3).detach()
    codes = ResidualCodebooks((8, 4), 3, CodebookConfig(**{**PLAIN, "init": init}))
    codes.initialise(sample, batch_rows=40, seed=5)
    first = torch.from_numpy(kmeans(sample.numpy(), 8, seed=5, init=start))
    chosen = search(sample, [Level(first)]).codes_nl[:, 0]
    rest = (sample - first[chosen]).numpy()
    assert torch.equal(codes.codebooks[0], first)
    assert np.array_equal(codes.codebooks[1], kmeans(rest, 4, seed=6, init=start))
    # The averages begin as if every batch of 40 had looked like the sample.
    assert torch.equal(codes.get_buffer("count_0"), torch.bincount(chosen, minlength=8) * 0.1)
    for level, codebook in enumerate(codes.codebooks):
        count = codes.get_buffer(f"count_{level}")[:, None]
        assert count.sum().item() == pytest.approx(40)
        assert torch.equal(codes.get_buffer(f"sum_{level}"), codebook * count)


def test_only_codebooks_are_saved() -> None:
    plain = ResidualCodebooks((4, 2), 3, CodebookConfig(**PLAIN))
    assert sorted(plain.state_dict()) == ["codebook_0", "codebook_1"]
    balanced = ResidualCodebooks((4, 2), 3, CodebookConfig(balance=0.1))
    assert sorted(balanced.state_dict()) == ["codebook_0", "codebook_1", "offset_0", "offset_1"]
