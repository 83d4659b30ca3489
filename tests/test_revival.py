"""Unused codewords after training: moved where the codes are worst, at nobody's cost."""

from __future__ import annotations

import torch

from semid.codebooks import ResidualCodebooks
from semid.model_config import CodebookConfig
from semid.quantization import search
from semid.revival import revive


def codes_of(books: list[list[list[float]]], **config: object) -> ResidualCodebooks:
    levels = [len(book) for book in books]
    codes = ResidualCodebooks(
        levels, len(books[0][0]), CodebookConfig(**{"balance": 0.0, **config})
    )
    for codebook_kz, book in zip(codes.codebooks, books, strict=True):
        codebook_kz.data.copy_(torch.tensor(book))
    return codes


def test_an_unused_codeword_takes_the_worst_row() -> None:
    codes = codes_of([[[0.0], [10.0], [99.0]]])
    latent_nz = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    assert revive(codes, latent_nz) == [1]
    assert codes.codebooks[0].tolist() == [[0.0], [10.0], [3.0]]


def test_the_last_row_of_another_codeword_stays() -> None:
    # Row 14 is the worst, but the only one of codeword 10.
    codes = codes_of([[[0.0], [10.0], [99.0]]])
    assert revive(codes, torch.tensor([[0.0], [1.0], [14.0]])) == [1]
    assert codes.codebooks[0].tolist() == [[0.0], [10.0], [1.0]]


def test_equal_rows_share_one_codeword() -> None:
    codes = codes_of([[[0.0], [50.0], [99.0]]])
    assert revive(codes, torch.tensor([[0.0], [2.0], [2.0], [2.0]])) == [1]
    assert codes.codebooks[0].tolist() == [[0.0], [2.0], [99.0]]


def test_later_levels_see_what_earlier_ones_leave() -> None:
    codes = codes_of([[[0.0], [10.0]], [[0.0], [99.0]]])
    latent_nz = torch.tensor([[0.0], [2.0], [10.0], [11.5]])
    assert revive(codes, latent_nz) == [0, 1]
    assert codes.codebooks[1].tolist() == [[0.0], [2.0]]
    assert search(latent_nz, codes.search_levels).codes_nl.tolist() == [
        *([0, 0], [0, 1]),
        *([1, 0], [1, 1]),
    ]


def test_nothing_to_do() -> None:
    codes = codes_of([[[0.0], [1.0]]], update="gradient")
    assert revive(codes, torch.tensor([[0.0], [1.0]])) == [0]
    shared = codes_of([[[0.0], [9.0]]], shared=True)
    assert revive(shared, torch.tensor([[0.0], [1.0]])) == [0]
