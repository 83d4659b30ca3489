"""SIDs in Hugging Face models: tokens, embeddings, and generation that ends in items.

Models and tokenizers are made here, tiny and random; a model that knows nothing tries everything.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_recsys_trie import SIDS, tables
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from semid.errors import SemidError
from semid.recsys import SidConstraint, SidLogitsProcessor, SidTrie, SidVocabulary, add_tokens
from semid.recsys.hugging_face import token_ids
from semid.recsys.token_embeddings import codebooks_of
from semid.recsys.vocabulary import SidTokens

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "buy", "then"]
PAD, EOS, BUY = 0, 2, 4
FIRST = len(WORDS)
OPENONEREC = "openonerec"


def make_tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def make_llama(size: int, *, tied: bool = False) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied, pad_token_id=PAD, eos_token_id=EOS,
        bos_token_id=1, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def make_t5(size: int) -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


LLAMA, T5 = make_llama(40), make_t5(40)
SEARCHES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True},
    "beams": {"num_beams": 4, "num_return_sequences": 4},
    "beams that are sampled": {"do_sample": True, "num_beams": 3, "num_return_sequences": 2},
}


def own_tokens(levels: tuple[int, ...], *, start: int = FIRST) -> SidTokens:
    """Tokens of the tiny models: behind the words, level by level."""
    begin = start + np.cumsum([0, *levels[:-1]])
    return SidTokens(tuple(np.arange(b, b + k) for b, k in zip(begin, levels, strict=True)))


def in_table(constraint: SidConstraint, tokens: torch.Tensor) -> torch.Tensor:
    return constraint.walk(tokens) >= constraint.trie.bases[-2]


def beams_of(search: str) -> int:
    return SEARCHES[search].get("num_beams", 1)


def is_real(out) -> torch.Tensor:
    """Which sequences are results: where SIDs are few, others fill the beams up, with no chance."""
    if getattr(out, "sequences_scores", None) is None:
        return torch.ones(len(out.sequences), dtype=torch.bool)
    return out.sequences_scores > -1e6


# generation


@pytest.mark.parametrize("search", SEARCHES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=tables(most=20, sizes=(1, 2, 5)))
def test_every_sid_that_is_generated_exists(search: str, made) -> None:
    sids, levels = made
    trie = SidTrie.of(sids, levels=levels, dense_entries=4)
    constraint = SidConstraint.of(trie, own_tokens(levels))
    prompt = {
        "input_ids": torch.tensor([[PAD, BUY, 5, 1], [BUY, 5, 5, 1]]),
        "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]),
    }
    length = trie.depth
    for model, width in ((LLAMA, 4), (T5, 1)):
        # As many tokens as a SID has; and more, an end behind it.
        for end, more in ((None, 0), (EOS, 3)):
            processor = SidLogitsProcessor(
                constraint, prompt_length=width, end=end, num_beams=beams_of(search)
            )
            out = model.generate(
                **prompt, logits_processor=[processor], max_new_tokens=length + more,
                return_dict_in_generate=True, output_scores=True, **SEARCHES[search],
            )  # fmt: skip
            new, real = out.sequences[:, width:], is_real(out)
            assert real.view(2, -1).any(1).all()
            assert in_table(constraint, new[real, :length]).all()
            if end is not None:
                assert (new[real, length] == EOS).all()
            if search == "beams":
                unique = new[real, :length].view(-1, length).unique(dim=0)
                assert len(unique) >= min(4, trie.bases[-1] - trie.bases[-2])


@pytest.mark.parametrize("search", SEARCHES)
def test_a_sid_follows_its_start_wherever_that_is(search: str) -> None:
    levels = (2, 3)
    constraint = SidConstraint.of(SidTrie.of(SIDS, levels=levels), own_tokens(levels, start=8))
    start, end = 6, 7
    processor = SidLogitsProcessor(constraint, start=start, end=end, num_beams=beams_of(search))
    # The second row stands in the middle of a SID, the third behind one.
    prompt = torch.tensor([[PAD, BUY, 5, start], [BUY, 5, start, 9], [5, start, 8, 11]])
    out = LLAMA.generate(
        input_ids=prompt, attention_mask=(prompt != PAD).long(), logits_processor=[processor],
        max_new_tokens=3, return_dict_in_generate=True, output_scores=True, **SEARCHES[search],
    )  # fmt: skip
    each = len(out.sequences) // 3
    rows = [out.sequences[place : place + each] for place in range(0, 3 * each, each)]
    real = is_real(out).view(3, each)
    for row, begin in ((0, 4), (1, 3)):
        found = rows[row][real[row]]
        assert len(found)
        assert in_table(constraint, found[:, begin : begin + 2]).all()
        assert (found[:, begin + 2] == end).all()
    assert (rows[2][real[2]][:, 4] == end).all()


def test_beams_are_those_of_an_exhaustive_search() -> None:
    levels = (2, 3)
    constraint = SidConstraint.of(SidTrie.of(SIDS, levels=levels), own_tokens(levels))
    prompt = torch.tensor([[BUY, 5, 1]])
    out = LLAMA.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, num_beams=4,
        num_return_sequences=4, output_scores=True, return_dict_in_generate=True, length_penalty=0,
        logits_processor=[SidLogitsProcessor(constraint, prompt_length=3, num_beams=4)],
    )  # fmt: skip
    unique = torch.from_numpy(np.unique(SIDS, axis=0)) + torch.tensor([FIRST, FIRST + 2])
    whole = torch.cat([prompt.expand(len(unique), -1), unique], 1)
    with torch.no_grad():
        log_p = LLAMA(whole).logits.log_softmax(-1)
    score = log_p[:, 2].gather(1, unique[:, :1]) + log_p[:, 3].gather(1, unique[:, 1:])
    best = score.squeeze(1).sort(descending=True)
    assert out.sequences[:, 3:].tolist() == unique[best.indices].tolist()
    torch.testing.assert_close(out.sequences_scores, best.values, atol=1e-4, rtol=1e-4)


def test_an_end_does_not_change_the_order_of_beams() -> None:
    levels = (2, 3)
    constraint = SidConstraint.of(SidTrie.of(SIDS, levels=levels), own_tokens(levels))
    prompt = torch.tensor([[BUY, 5, 1]])

    def found(more: int, **end: int):
        return LLAMA.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2 + more,
            num_beams=4, num_return_sequences=4, output_scores=True, length_penalty=0,
            return_dict_in_generate=True,
            logits_processor=[SidLogitsProcessor(constraint, prompt_length=3, num_beams=4, **end)],
        )  # fmt: skip

    without, ended = found(0), found(1, end=EOS)
    assert ended.sequences[:, :5].tolist() == without.sequences.tolist()
    torch.testing.assert_close(ended.sequences_scores, without.sequences_scores)


@pytest.mark.parametrize("search", SEARCHES)
def test_seen_items_are_not_generated_again(search: str) -> None:
    levels = (2, 3)
    trie = SidTrie.of(SIDS, levels=levels)
    seen = torch.tensor([[0, 3, 1], [2, 4, 4]])
    constraint = SidConstraint.of(trie, own_tokens(levels)).excluding_by_row(seen)
    prompt = torch.tensor([[BUY, 5], [5, BUY]])
    out = LLAMA.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2,
        return_dict_in_generate=True, output_scores=True, **SEARCHES[search],
        logits_processor=[
            SidLogitsProcessor(constraint, prompt_length=2, num_beams=beams_of(search))
        ],
    )  # fmt: skip
    leaf = torch.where(is_real(out), constraint.walk(out.sequences[:, 2:]), -1).view(2, -1)
    for row in range(2):
        rows = trie.rows(leaf[row]).row_m.tolist()
        assert rows
        assert not set(rows) & set(seen[row].tolist())


def test_rows_at_different_places_keep_their_own_exclusions() -> None:
    levels, start = (2, 3), 6
    constraint = SidConstraint.of(SidTrie.of(SIDS), own_tokens(levels, start=8))
    by_row = constraint.excluding_by_row(torch.tensor([[1, 4], [2, 2]]))
    processor = SidLogitsProcessor(by_row, start=start, free_text=True)
    rows = torch.tensor([[BUY, start], [BUY, start], [start, 9], [BUY, 5]])
    scores = torch.zeros(4, 40)
    found = [row.isfinite().nonzero().squeeze(1).tolist() for row in processor(rows, scores)]
    assert found == [[9], [9], [12], list(range(40))]
    assert torch.equal(scores, torch.zeros(4, 40))  # generate may return them as they were


@pytest.mark.parametrize(
    ("given", "rows", "words"),
    [
        ({}, None, "by one of start and prompt_length"),
        ({"start": 6, "prompt_length": 1}, None, "by one of start and prompt_length"),
        ({"prompt_length": 1}, [[1, 6, 8]], "a SID has 2 tokens and generation goes on"),
        ({"prompt_length": 3}, [[1, 6]], "prompt_length is 3, 1 more than the tokens there are"),
        (
            {"start": 6},
            [[1, 5]],
            "row 0 has no token 6, the start of a SID; end every prompt with it",
        ),
        ({"start": 5}, [[5, 1]], r"begins a SID with the tokens \[1\], which no SID of the table"),
    ],
)
def test_what_cannot_be_generated_is_refused(given, rows, words) -> None:
    constraint = SidConstraint.of(SidTrie.of(SIDS), own_tokens((2, 3)))
    with pytest.raises(SemidError, match=words):
        SidLogitsProcessor(constraint, **given)(torch.tensor(rows), torch.zeros(1, 40))


# tokens and embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_gets_the_tokens(tied: bool) -> None:
    tokenizer, model = make_tokenizer(), make_llama(len(WORDS), tied=tied)
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary = SidVocabulary((4, 3), spelling=OPENONEREC)
    state = torch.random.get_rng_state()
    tokens = add_tokens(vocabulary, tokenizer, model, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(tokenizer) == len(WORDS) + 2 + 7
    text = f"buy {vocabulary.texts([[3, 0]])[0]} then"
    ids = tokenizer(text)["input_ids"]
    expected = [tokens.start, tokens.levels[0][3], tokens.levels[1][0], tokens.end]
    assert ids == [BUY, *expected, 5]
    assert tokenizer.decode(ids, skip_special_tokens=True).count("<s_a_3>") == 1
    assert "<|sid_begin|>" not in tokenizer.decode(ids, skip_special_tokens=True)
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert weight.shape == (len(tokenizer), 16)
        norms = weight[len(WORDS) :].norm(dim=1)
        assert (norms > 0).all()
    assert torch.equal(model.get_input_embeddings().weight[: len(WORDS)], before)
    assert model.config.vocab_size == len(tokenizer)
    assert (model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()) is tied
    assert model(torch.tensor([ids])).logits.shape[-1] == len(tokenizer)


def test_embeddings_begin_as_codewords(world: Path) -> None:
    tokenizer, model = make_tokenizer(), make_llama(len(WORDS))
    norm = float(model.get_input_embeddings().weight.detach()[1:].norm(dim=1).mean())
    vocabulary = SidVocabulary((8, 8, 5))
    tokens = add_tokens(vocabulary, tokenizer, model, codebooks=world / "model")
    weight = model.get_input_embeddings().weight.detach()
    for level, book in enumerate(map(torch.from_numpy, codebooks_of(world / "model"))):
        rows = weight[torch.from_numpy(tokens.levels[level])]
        assert float(rows.norm(dim=1).mean()) == pytest.approx(norm, rel=1e-4)
        torch.testing.assert_close(
            torch.nn.functional.cosine_similarity(rows[:1], rows),
            torch.nn.functional.cosine_similarity(book[:1], book),
            atol=1e-4, rtol=1e-4,
        )  # fmt: skip
    head = model.get_output_embeddings().weight.detach()
    assert not torch.equal(head[:10], weight[:10])


def test_tokens_that_are_there_stay_as_they_are() -> None:
    tokenizer, model = make_tokenizer(), make_llama(len(WORDS) + 50)
    tokens = add_tokens(SidVocabulary((4, 3)), tokenizer, model)
    assert model.get_input_embeddings().weight.shape[0] == len(WORDS) + 50  # never smaller
    trained = model.get_input_embeddings().weight.detach().clone()
    again = add_tokens(SidVocabulary((4, 3)), tokenizer, model, seed=9)
    assert [level.tolist() for level in again.levels] == [lv.tolist() for lv in tokens.levels]
    assert torch.equal(model.get_input_embeddings().weight, trained)
    wider = add_tokens(SidVocabulary((4, 5)), tokenizer, model)
    assert wider.levels[1].tolist() == [*tokens.levels[1], len(WORDS) + 7, len(WORDS) + 8]
    assert torch.equal(model.get_input_embeddings().weight[: len(WORDS) + 7], trained[: FIRST + 7])


@pytest.mark.parametrize("tied", [True, False])
def test_a_tokenizer_may_have_the_tokens_before_the_model(tied: bool) -> None:
    tokenizer, vocabulary = make_tokenizer(), SidVocabulary((4, 3), spelling=OPENONEREC)
    first = make_llama(len(WORDS), tied=tied)
    tokens = add_tokens(vocabulary, tokenizer, first, seed=1)
    # Saved with its tokens, beside a model without them; or with some of their rows.
    for rows in (len(WORDS), len(WORDS) + 4):
        model = make_llama(rows, tied=tied)
        size = model.get_input_embeddings().weight.shape[0]
        before = model.get_input_embeddings().weight.detach().clone()
        again = add_tokens(vocabulary, tokenizer, model, seed=1)
        assert [level.tolist() for level in again.levels] == [lv.tolist() for lv in tokens.levels]
        for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            assert (weight[size:].norm(dim=1) > 0).all()
        assert torch.equal(model.get_input_embeddings().weight[:size], before)
        if rows == len(WORDS):
            mine, theirs = (m.get_input_embeddings().weight[size:] for m in (model, first))
            similar = torch.nn.functional.cosine_similarity(mine, theirs)
            torch.testing.assert_close(similar, torch.ones(len(similar)))


def test_what_gets_no_tokens_is_refused() -> None:
    tokenizer, vocabulary = make_tokenizer(), SidVocabulary((4, 3))
    for arguments, words in (
        ((tokenizer, vocabulary), r"the vocabulary is of type \w+; give a SidVocabulary"),
        (((4, 3), tokenizer), "the vocabulary is of type tuple"),
        ((vocabulary, None), "the tokenizer is of type NoneType"),
        ((vocabulary, tokenizer, "gpt2"), "the model is of type str; give .* of transformers"),
    ):
        with pytest.raises(SemidError, match=words):
            add_tokens(*arguments)
    assert len(tokenizer) == len(WORDS)


def test_tokenizers_of_others_are_read() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<b_2>", "<a_1>", "<b_0>", "<b_1>"])  # those in use, in their order
    tokens = token_ids(SidVocabulary((2, 3)), tokenizer)
    assert [level.tolist() for level in tokens.levels] == [[-1, 7], [8, 9, 6]]
    assert (tokens.start, tokens.end) == (None, None)
    constraint = SidConstraint.of(SidTrie.of([[1, 2], [1, 0]], levels=(2, 3)), tokens)
    assert constraint.walk(torch.tensor([[7, 6], [7, 9], [6, 7]])).tolist() == [3, -1, -1]


@given(st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=5, deadline=None)
def test_a_tokenizer_alone_gets_them_too(one: int, two: int) -> None:
    tokenizer = make_tokenizer()
    tokens = add_tokens(SidVocabulary((one, two)), tokenizer)
    found = tokenizer.convert_ids_to_tokens(tokens.levels[1].tolist())
    assert found == [f"<b_{code}>" for code in range(two)]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("semid.errors.find_spec", lambda name: None)
    with pytest.raises(SemidError, match=r"'transformers', which .* pip install 'semid\[recsys\]'"):
        add_tokens(SidVocabulary((2, 3)), None)
