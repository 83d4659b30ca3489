"""Training code has torch, NumPy and Arrow, and need not install the rest of what semid uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from test_wheel import link, required

from semid.id_table import IdTable

ROOT = Path(__file__).parent.parent
INSTALLED = ("torch", "pyarrow", "numpy")
SCRIPT = """
import sys
sys.path.insert(0, {site!r})
from importlib.util import find_spec
for name in ("duckdb", "pandas", "faiss", "scipy", "xxhash", "safetensors", "transformers"):
    assert find_spec(name) is None, name

import semid.recsys
assert "torch" not in sys.modules

import torch
from semid.errors import SemidError
from semid.recsys import SidConstraint, SidLogitsProcessor, SidLookup, SidTrie, SidVocabulary
from semid.recsys import add_tokens, beam_search

assert semid.read_ids({ids!r}).lookup(["b"]).tolist() == [[0, 2]]
lookup = SidLookup.load({ids!r})
assert lookup.sids(["b", "x"]).tolist() == [[0, 2], [-1, -1]]
assert lookup.ids(lookup.rows_of_sids([[1, 0]]).row_m).to_pylist() == ["a", "c"]
vocabulary = SidVocabulary(lookup.levels, special=("eos",))
trie = SidTrie.of(lookup.sids_ns, levels=lookup.levels)
constraint = SidConstraint.of(trie, vocabulary.sid_tokens)
by_row = constraint.excluding(torch.tensor([1])).excluding_by_row(torch.tensor([[0]]))
step = lambda tokens, source: torch.zeros(*source.shape, len(vocabulary))
assert beam_search(step, by_row, batch=1, beams=2).row.tolist() == [[2, -1]]
processor = SidLogitsProcessor(constraint, prompt_length=1)
scores = processor(torch.zeros(1, 1).long(), torch.zeros(1, 6))
assert scores.isfinite().nonzero()[:, 1].tolist() == [1, 2]
try:
    add_tokens(vocabulary, None)
except SemidError as error:
    assert "pip install 'semid[recsys]'" in str(error)
else:
    raise AssertionError("transformers is not there")
try:
    semid.recsys.read_sequences({met!r}, ["b"], memory_gib=1)
except SemidError as error:
    assert "memory_gib needs the package 'duckdb'; run: pip install duckdb" in str(error)
else:
    raise AssertionError("duckdb is not there")
assert len(semid.recsys.read_sequences({met!r}, ["b"])) == 1
print("done")
"""


def test_the_rest_is_not_needed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    found: dict = {}
    for name in INSTALLED:
        required(name, set(), found)
    link(site, [*found, *INSTALLED])
    (site / "semid").symlink_to(ROOT / "semid")
    IdTable.from_arrays(["a", "b", "c"], [[1, 0], [0, 2], [1, 0]]).save(tmp_path / "ids.parquet")
    met = pa.table({"user_id": [1], "item_id": ["b"], "position": [0]})
    pq.write_table(met, tmp_path / "met.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("ids", "met")}
    script = SCRIPT.format(site=str(site), **files)
    # Without the packages of this environment, and deaf to the paths in its variables.
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
