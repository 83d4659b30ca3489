"""Embeddings of semantic IDs: which rows are summed, how they collide, and what is saved."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.errors import SemidError
from semid.id_table import IdTable
from semid.recsys import (
    CodeEmbedding,
    PieceEmbedding,
    PrefixNgramEmbedding,
    SidConstraint,
    SidTrie,
)

CODES = torch.tensor([[0, 1], [1, 2], [1, 0]])


def number_of(prefix: list[int], levels: list[int]) -> int:
    """The number of a prefix among all, by length and then by codes, in Python's integers."""
    number = 0
    for code, size in zip(prefix, levels, strict=False):
        number = number * size + code
    return number + sum(prod(levels[: depth + 1]) for depth in range(len(prefix) - 1))


# prefixes


def test_rows_by_hand() -> None:
    # 2 prefixes of one code, then 6 of two: (0, 1) is number 2 + 1, (1, 2) is 2 + 5, …
    embedding = PrefixNgramEmbedding(8, 4, [2, 3])
    assert embedding.rows_of(CODES).tolist() == [[0, 3], [1, 7], [1, 5]]
    weight = embedding.bag.weight
    expected = torch.stack([weight[0] + weight[3], weight[1] + weight[7], weight[1] + weight[5]])
    assert torch.equal(embedding(CODES), expected)
    modulo = PrefixNgramEmbedding(5, 4, [2, 3], hashing="modulo")
    assert modulo.rows_of(CODES).tolist() == [[0, 3], [1, 2], [1, 0]]


@st.composite
def some_ids(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    levels = draw(st.lists(st.integers(1, 1 << 31), min_size=1, max_size=9))
    row = st.tuples(*(st.integers(0, size - 1) for size in levels)).map(list)
    return levels, draw(st.lists(row, min_size=1, max_size=5))


@given(some_ids(), st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_keys_do_not_overflow(ids: tuple[list[int], list[list[int]]], rows: int) -> None:
    levels, codes_nl = ids
    depths = range(1, len(levels) + 1)
    expected = [[number_of(row[:d], levels) % rows for d in depths] for row in codes_nl]
    embedding = PrefixNgramEmbedding(rows, 1, levels, hashing="modulo")
    assert embedding.rows_of(torch.tensor(codes_nl)).tolist() == expected
    prime = (1 << 31) - 1
    hashed = PrefixNgramEmbedding(rows, 1, levels)
    if sum(prod(levels[:d]) for d in depths) > rows:
        a, b, c, _ = hashed.hash_4.tolist()
        numbers = [[number_of(row[:d], levels) for d in depths] for row in codes_nl]
        expected = [[(a * k * k + b * k + c) % prime % rows for k in row] for row in numbers]
    assert hashed.rows_of(torch.tensor(codes_nl)).tolist() == expected


def test_items_of_one_prefix_share_its_vector() -> None:
    embedding = PrefixNgramEmbedding(1000, 8, [4, 4, 4])
    a, b = embedding.rows_of(torch.tensor([[3, 1, 0], [3, 1, 2]])).tolist()
    assert a[:2] == b[:2]
    assert a[2] != b[2]


@pytest.mark.parametrize("hashing", ["polynomial", "modulo"])
def test_a_table_of_all_prefixes_has_no_collisions(hashing: Any) -> None:
    codes_nl = np.stack(np.meshgrid(*map(np.arange, (3, 4, 5)), indexing="ij"), -1).reshape(-1, 3)
    found = PrefixNgramEmbedding(3 + 12 + 60, 2, [3, 4, 5], hashing=hashing).collisions(codes_nl)
    assert (found.keys, found.vectors, found.mean, found.largest) == (75, 75, 1.0, 1)
    assert found.share == 0


def test_collisions_by_hand() -> None:
    # The table: prefixes 0, 1, (0, 1), (1, 2), (1, 0) in rows 0, 1, 3, 2, 0 of 5.
    table = IdTable.from_arrays(["x", "y", "z"], CODES.numpy())
    found = PrefixNgramEmbedding(5, 4, [2, 3], hashing="modulo").collisions(table)
    assert (found.keys, found.vectors, found.largest) == (5, 4, 2)
    assert (found.mean, found.share) == (5 / 4, 2 / 5)


def test_the_hash_is_as_even_as_chance_where_the_modulus_is_not() -> None:
    random = np.random.default_rng(0)
    codes_nl = random.integers(0, [256, 16, 16], (4000, 3))
    even = PrefixNgramEmbedding(4096, 1, [256] * 3).collisions(codes_nl)
    uneven = PrefixNgramEmbedding(4096, 1, [256] * 3, hashing="modulo").collisions(codes_nl)
    chance_r = np.bincount(random.integers(0, 4096, even.keys), minlength=4096)
    assert even.vectors == pytest.approx((chance_r > 0).sum(), rel=0.03)
    assert uneven.vectors < 0.5 * even.vectors
    assert uneven.largest > 2 * even.largest


# codes


def test_codes_are_summed_or_side_by_side() -> None:
    summed = CodeEmbedding(4, [2, 3])
    a, b = summed.bag.weight[:2], summed.bag.weight[2:5]
    assert torch.equal(summed(CODES), a[[0, 1, 1]] + b[[1, 2, 0]])
    beside = CodeEmbedding(4, [2, 3], mode="concat")
    a, b = beside.bag.weight[:2], beside.bag.weight[2:5]
    assert torch.equal(beside(CODES), torch.cat([a[[0, 1, 1]], b[[1, 2, 0]]], 1))


def test_codebooks_to_begin_with() -> None:
    first_kz, second_kz = np.arange(8.0).reshape(2, 4), torch.arange(12.0).reshape(3, 4)
    embedding = CodeEmbedding(4, [2, 3, 7], codebooks=[first_kz, second_kz])
    with_suffix = torch.cat([CODES, torch.tensor([[6], [0], [0]])], 1)
    suffix = embedding.bag.weight[[11, 5, 5]]
    expected = torch.tensor(first_kz)[[0, 1, 1]].float() + second_kz[[1, 2, 0]] + suffix
    assert torch.allclose(embedding(with_suffix), expected)
    assert suffix.abs().max() > 0
    with pytest.raises(SemidError, match=r"codebook of level 1 has shape \(3, 4\); expected"):
        CodeEmbedding(4, [2, 5], codebooks=[first_kz, second_kz])
    with pytest.raises(SemidError, match="2 codebooks are given for 1 levels"):
        CodeEmbedding(4, [2], codebooks=[first_kz, second_kz])


def test_items_of_equal_codes_share_a_vector() -> None:
    table = IdTable.from_arrays(list("vwxyz"), [[0, 1], [1, 2], [0, 1], [1, 0], [0, 1]])
    for mode in ("sum", "concat"):
        embedding = CodeEmbedding(4, [2, 3], mode=mode)  # type: ignore[arg-type]
        found = embedding.collisions(table)
        assert found == embedding.collisions(table.sids)
        assert (found.keys, found.vectors, found.mean) == (5, 3, 5 / 3)
        assert (found.largest, found.share) == (3, 3 / 5)
    # A suffix tells them apart.
    sids_ns = np.column_stack([table.sids, [0, 0, 1, 0, 2]])
    found = CodeEmbedding(4, [2, 3, 3]).collisions(sids_ns)
    assert (found.keys, found.vectors, found.share) == (5, 5, 0)
    with pytest.raises(SemidError, match="row 1 holds the code 2 at level 1"):
        CodeEmbedding(4, [2, 2]).collisions(table)


# what both do

MAKERS: dict[str, Any] = {
    "prefixes": lambda **more: PrefixNgramEmbedding(50, 6, [4, 5, 6], **more),
    "sum": lambda **more: CodeEmbedding(6, [4, 5, 6], **more),
    "concat": lambda **more: CodeEmbedding(6, [4, 5, 6], mode="concat", **more),
}
make = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def some_codes(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, [4, 5, 6], (*shape, 3)))


@make
def test_unknown_items_are_zeros_and_learn_nothing(make: Any) -> None:
    embedding = make()
    codes = torch.tensor([[-1, -1, -1], [1, 2, 3]])
    out = embedding(codes)
    assert not out[0].any()
    assert torch.equal(out[1], embedding(codes[1]))
    out[0].sum().backward()
    assert not embedding.bag.weight.grad.any()


@make
def test_unknown_items_have_a_vector_that_is_learned(make: Any) -> None:
    embedding = make(unknown="learned")
    out = embedding(torch.full((2, 3), -1))
    out.sum().backward()
    trained = embedding.bag.weight.grad.any(1).nonzero().flatten().tolist()
    assert trained == [len(embedding.bag.weight) - 2]
    vector = embedding.bag.weight[trained[0]]
    assert torch.equal(out[0, : len(vector)], vector)
    # Known items are as without it.
    known, without = some_codes(5), make()
    with torch.no_grad():
        without.bag.weight[:-1] = embedding.bag.weight[:-2]
    assert torch.equal(embedding(known), without(known))


@make
def test_an_id_ends_where_a_code_is_negative(make: Any) -> None:
    embedding = make()
    short = embedding(torch.tensor([2, 3, -1]))
    with torch.no_grad():
        rest = embedding(torch.tensor([2, 3, 1])) - short
    if isinstance(embedding, CodeEmbedding) and embedding.mode == "concat":
        assert not rest[:4].any()
        assert not short[4:].any()
    assert rest.any()
    # What stands behind the end is of no matter.
    assert torch.equal(embedding(torch.tensor([2, -1, 5])), embedding(torch.tensor([2, -1, -1])))


@make
def test_shapes_and_order_are_of_no_matter(make: Any) -> None:
    embedding, codes = make(), some_codes(4, 5)
    out = embedding(codes)
    assert out.shape == (4, 5, 6)
    assert torch.equal(embedding(codes[2, 3]), out[2, 3])
    assert torch.equal(embedding(codes.flip(0)), out.flip(0))
    assert torch.equal(embedding(codes.int()), out)
    assert embedding(codes[:0]).shape == (0, 5, 6)
    assert embedding(codes[:, :0]).shape == (4, 0, 6)


@make
def test_a_saved_state_is_all_there_is_to_know(make: Any) -> None:
    one, other = make(seed=1), make(seed=2)
    codes = some_codes(20)
    assert not torch.equal(one(codes), other(codes))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(codes), other(codes))


@make
def test_a_seed_is_repeatable_and_moves_no_other(make: Any) -> None:
    state = torch.get_rng_state()
    assert torch.equal(make(seed=3).bag.weight, make(seed=3).bag.weight)
    assert torch.equal(torch.get_rng_state(), state)


@make
def test_sparse_gradients_are_the_dense_ones(make: Any) -> None:
    grads = []
    for sparse in (False, True):
        embedding = make(sparse=sparse)
        embedding(some_codes(7)).square().sum().backward()
        grads.append(embedding.bag.weight.grad)
    assert not grads[0].is_sparse
    assert grads[1].is_sparse
    assert torch.allclose(grads[0], grads[1].to_dense())


@make
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make: Any, dtype: torch.dtype) -> None:
    embedding, codes = make(), some_codes(30)
    exact = embedding(codes)
    half = embedding.to(dtype)(codes)
    assert half.dtype == dtype
    assert embedding.levels_l.dtype == torch.int64
    assert torch.allclose(half.float(), exact, atol=4 * torch.finfo(dtype).eps)


def test_they_can_be_captured_as_one_graph() -> None:
    for make in MAKERS.values():
        embedding, codes = make(), some_codes(3, 4)
        graph = torch.compile(embedding, backend="eager", fullgraph=True)
        assert torch.equal(graph(codes), embedding(codes))


@make
def test_mistakes(make: Any) -> None:
    with pytest.raises(SemidError, match="a code 5 at level 1; codes there go from 0 to 4"):
        make()(torch.tensor([[3, 5, 5]]))
    with pytest.raises(SemidError, match=r"have shape \(2,\).*\(…, 3\), a code for every level"):
        make()(torch.tensor([1, 2]))
    with pytest.raises(SemidError, match=r"torch\.float32; expected integers"):
        make()(torch.zeros(3))
    with pytest.raises(SemidError, match="unknown is 'mean'; choose one of zeros, learned"):
        make(unknown="mean")


def test_sizes_out_of_range() -> None:
    with pytest.raises(SemidError, match="a table of 0 rows of 4 dims is asked for"):
        PrefixNgramEmbedding(0, 4, [2])
    with pytest.raises(SemidError, match=r"levels are \[\]"):
        PrefixNgramEmbedding(5, 4, [])
    with pytest.raises(SemidError, match="embedding_dim is 7, which 3 levels side by side"):
        CodeEmbedding(7, [2, 2, 2], mode="concat")
    with pytest.raises(SemidError, match="hashing is 'xor'"):
        PrefixNgramEmbedding(5, 4, [2], hashing="xor")  # type: ignore[arg-type]


def test_codes_in_front_of_a_suffix_collide_where_sids_do_not() -> None:
    """Of raw codes (0, 1), (0, 1), (1, 2) two items share theirs, which the suffix tells apart."""
    codes_nl = np.array([[0, 1], [0, 1], [1, 2]], np.int32)
    sids_ns = np.array([[0, 1, 0], [0, 1, 1], [1, 2, 0]], np.int32)
    table = IdTable.from_arrays(["a", "b", "c"], codes_nl, sids_ns)
    by_code = CodeEmbedding(4, [2, 3, 2])
    assert by_code.collisions(table).share == 0
    found = by_code.collisions(table.codes)
    assert (found.keys, found.vectors, found.largest) == (3, 2, 2)
    # A row for each of 2 + 6 + 12 prefixes: (0), (1), (0, 1) and (1, 2) have one of their own.
    assert PrefixNgramEmbedding(20, 4, [2, 3, 2]).collisions(table.codes).vectors == 4
    with pytest.raises(SemidError, match="codes have 4 levels where 3 are expected"):
        by_code.collisions(np.zeros((2, 4), np.int32))


@pytest.mark.parametrize("given", [CODES.numpy(), CODES.tolist()], ids=["array", "list"])
def test_what_is_no_tensor_is_refused_in_a_sentence(given: Any) -> None:
    for module in (PrefixNgramEmbedding(8, 4, [2, 3]), CodeEmbedding(4, [2, 3])):
        with pytest.raises(SemidError, match=r"codes are given as .*; give a tensor"):
            module(given)
    with pytest.raises(SemidError, match=r"pieces are given as .*; give a tensor"):
        PieceEmbedding(8, 4)(given)
    trie = SidTrie.of(CODES)
    with pytest.raises(SemidError, match=r"codes are given as .*; give a tensor"):
        trie.walk(given)
    with pytest.raises(SemidError, match=r"tokens are given as .*; give a tensor"):
        SidConstraint.of(trie).walk(given)
