"""The tokens of consumers."""

from __future__ import annotations

import numpy as np
import pytest

from semid.errors import SemidError
from semid.ids import from_tokens, to_tokens
from semid.spelling import OWN, SPELLINGS


@pytest.mark.parametrize(
    ("name", "level", "tokens"),
    [
        ("lcrec", 1, ["<b_0>", "<b_1>"]),
        ("openonerec", 2, ["<s_c_0>", "<s_c_1>"]),
        ("semantic-ids-llm", 0, ["<|sid_0|>", "<|sid_1|>"]),
        ("semantic-ids-llm", 3, ["<|sid_768|>", "<|sid_769|>"]),
    ],
)
def test_every_level_has_its_tokens(name: str, level: int, tokens: list[str]) -> None:
    assert SPELLINGS[name].tokens(level, 2) == tokens


def test_numbers_that_go_on_have_an_end() -> None:
    assert SPELLINGS["semantic-ids-llm"].tokens(0, 256)[-1] == "<|sid_255|>"
    with pytest.raises(
        SemidError, match="level 1 has 257 codes but these tokens have room for 256"
    ):
        SPELLINGS["semantic-ids-llm"].tokens(1, 257)


def test_semids_own_are_those_that_are_read() -> None:
    tokens = [OWN.tokens(0, 12)[11], OWN.tokens(1, 3)[2]]
    assert to_tokens(np.array([[11, 2]])).tolist() == [tokens]
    assert from_tokens([tokens]).tolist() == [[11, 2]]
