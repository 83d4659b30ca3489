"""The page on training code runs as it stands, from its first example to its last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recsys_hugging_face import WORDS, make_llama, make_tokenizer

PAGE = Path(__file__).parent.parent / "docs" / "recsys.md"


def test_its_examples_run_one_after_the_other(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    assert len(examples) >= 5
    make_tokenizer().save_pretrained(tmp_path / "language_model")
    make_llama(len(WORDS)).save_pretrained(tmp_path / "language_model")
    (tmp_path / "ids.parquet").symlink_to(world / "ids.parquet")
    names: dict[str, Any] = {}
    exec("\n".join(examples), names)
    assert names["items"].to_pylist() == ["P000001"]
    assert names["best"].row.shape == (2, 10)
    assert not {"P000001", "P000003", "P000004", None} & set(
        names["lookup"].ids(names["best"].row[0]).to_pylist()
    )
    assert len(names["chosen"].row_m) == 2
    assert set(names["best"].row[0].tolist()) - {-1} <= set(names["shared"].row_m.tolist())
    assert [len(found) for found in names["recommended"]] == [4, 4]
    in_text = names["openonerec"].read(names["tokenizer"].batch_decode(names["new"]))
    assert torch.equal(names["lookup"].rows_of_sids(in_text).first_q.view(2, 4), names["first"])
