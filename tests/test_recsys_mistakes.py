"""What training code gives in place of something else is named in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from semid.errors import SemidError
from semid.id_table import IdTable
from semid.recsys import (
    CodeEmbedding,
    PieceEmbedding,
    PrefixNgramEmbedding,
    SidConstraint,
    SidLookup,
    SidPieces,
    SidSequenceDataset,
    SidTrie,
    SidVocabulary,
    beam_search,
    read_sequences,
    train_pieces,
)

SIDS = np.array([[0, 1], [1, 2], [1, 0]], np.int32)
TABLE = IdTable.from_arrays(["a", "b", "c"], SIDS)
LOOKUP = SidLookup.of(TABLE)
CONSTRAINT = SidConstraint.of(LOOKUP)
CODES = CodeEmbedding(4, [2, 3])

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "a lookup to search in": (
        lambda: beam_search(lambda *_: torch.zeros(1), LOOKUP, batch=1, beams=1),
        "the constraint is SidLookup; give SidConstraint.of(lookup, vocabulary)",
    ),
    "logits of NumPy": (
        lambda: beam_search(lambda *_: np.zeros(1), CONSTRAINT, batch=1, beams=1),
        "logits are given as ndarray; give a tensor",
    ),
    "no logits": (
        lambda: beam_search(lambda *_: None, CONSTRAINT, batch=1, beams=1),
        "logits are given as NoneType; give a tensor",
    ),
    "a mask of NumPy": (
        lambda: CONSTRAINT.mask(np.zeros((1, 5)), CONSTRAINT.start(1), 0),
        "logits are given as ndarray; give a tensor",
    ),
    "a path for a trie": (
        lambda: SidTrie.of("ids.parquet"),
        "SIDs are given as str; give an ids table",
    ),
    "a lookup's collisions": (
        lambda: CODES.collisions(LOOKUP),
        "SIDs are given as SidLookup; give codes (n, l), or an ids table",
    ),
    "a vocabulary's size": (lambda: SidVocabulary(256), "levels are 256; give one for each level"),
    "no levels": (lambda: SidVocabulary(None), "levels are None; give one for each level"),
    "a vocabulary's text": (lambda: SidVocabulary("256,256"), "levels are '256,256'; give one"),
    "arguments the other way round": (
        lambda: CodeEmbedding([2, 3], 4),
        "embedding_dim is [2, 3] and levels 4; give an integer, and the codes per level",
    ),
    "a vocabulary for its levels": (
        lambda: PrefixNgramEmbedding(64, 4, SidVocabulary((2, 3))),
        "levels SidVocabulary; give an integer, and the codes per level",
    ),
    "a model for its codebooks": (
        lambda: CodeEmbedding(4, [2, 3], codebooks="model"),
        "codebooks are 'model'; give codebooks_of('model')",
    ),
    "a path for pieces": (
        lambda: SidPieces("pieces.model"),
        "the model of pieces is none; give the bytes of its file",
    ),
    "bytes that are no pieces": (lambda: SidPieces(b"xx"), "the model of pieces is none"),
    "a table for pieces": (
        lambda: PieceEmbedding(8, 4).collisions(TABLE),
        "pieces are given as IdTable; give SidPieces.encode(table)",
    ),
    "no SIDs to learn from": (
        lambda: train_pieces(np.zeros((0, 2), np.int32), 8),
        "there are no SIDs to learn pieces from",
    ),
    "a path for sequences": (
        lambda: SidSequenceDataset("met.parquet", SIDS),
        "sequences are given as str; give what read_sequences returns",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_sentence_says_what_to_give(name: str) -> None:
    make, said = MISTAKES[name]
    with pytest.raises(SemidError, match=re.escape(said)):
        make()


def test_a_table_for_tokens_is_named(tmp_path: Path) -> None:
    rows = {"user_id": [1] * 3, "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]}
    pq.write_table(pa.table(rows), tmp_path / "met.parquet")
    sequences = read_sequences(tmp_path / "met.parquet", TABLE)
    with pytest.raises(SemidError, match=r"tokens are given as IdTable; give vocabulary.tokens"):
        SidSequenceDataset(sequences, TABLE)


def test_a_table_does_for_its_sids() -> None:
    pieces = train_pieces(TABLE, 8)
    assert np.array_equal(pieces.encode(TABLE), pieces.encode(SIDS))
    assert CODES.collisions(TABLE) == CODES.collisions(SIDS)
    assert SidTrie.of(TABLE).num_nodes == SidTrie.of(SIDS).num_nodes


def test_modules_say_what_they_embed() -> None:
    assert "levels=(2, 3), mode='sum'" in repr(CODES)
    assert "levels=(2, 3), rows=64" in repr(PrefixNgramEmbedding(64, 4, [2, 3]))
