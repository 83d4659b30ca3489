"""What training code sees of a table in a notebook or a debugger is a line, whatever its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semid.id_table import IdTable
from semid.recsys import SidConstraint, SidLookup, SidSequenceDataset, SidVocabulary, read_sequences
from semid.recsys.pieces import SidPieces

ITEMS = 1_000


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What there is to look at of a table of a thousand items, by what it must say."""
    codes_nl = np.random.default_rng(0).integers(0, 50, (ITEMS, 3), np.int32)
    suffix_n = np.arange(ITEMS, dtype=np.int32)[:, None]
    ids = [f"item {row}" for row in range(ITEMS)]
    table = IdTable.from_arrays(ids, codes_nl, np.hstack([codes_nl, suffix_n]))
    lookup = SidLookup.of(table)
    vocabulary = SidVocabulary.of(lookup)
    path: Path = tmp_path_factory.mktemp("reprs") / "interactions.parquet"
    rows = {"user_id": ["a"] * ITEMS, "item_id": ids, "timestamp": list(range(ITEMS))}
    pq.write_table(pa.table(rows), path)
    sequences = read_sequences(path, table)
    dataset = SidSequenceDataset(sequences, vocabulary.tokens(table.sids))
    batch = range(100, 132)
    constraint = SidConstraint.of(lookup, vocabulary)
    few = constraint.excluding(lookup.rows(ids[:10]))
    return {
        "IdTable(1,000 items, item_id: string, 3 codes, SIDs of 4)": table,
        "SidLookup(1,000 items, levels=(50, 50, 50, 1000), cpu)": lookup,
        "SidTrie(1,000 items, 1,000 SIDs, levels=(50, 50, 50, 1000), cpu)": lookup.trie,
        "SidConstraint(all items of SidTrie(": constraint,
        "SidConstraint(990 items of SidTrie(": few,
        "some excluded for 2 rows)": few.excluding_by_row(lookup.rows(ids[10:12]).view(2, 1)),
        "levels=(50, 50, 50, 1000)": vocabulary,
        "SidTokens(levels of (50, 50, 50, 1000) tokens, start=None, end=2)": vocabulary.sid_tokens,
        "Sequences(1 users, 1,000 interactions, 1,000 items, 0 interactions of": sequences,
        "SidSequenceDataset(training, prefixes, 997 examples)": dataset,
        "users_b (32,), items_bt (32, 20), tokens_bts (32, 20, 4)": dataset.__getitems__(batch),
        "SidPieces(1,000 bytes)": SidPieces(bytes(1_000)),
    }


def test_a_line_says_what_it_is(things: dict[str, Any]) -> None:
    for says, thing in things.items():
        assert says in repr(thing)
        assert len(repr(thing)) < 200
        assert "\n" not in repr(thing)
