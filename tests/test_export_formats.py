"""Each format as its consumer reads it, by hand, and files that the consumers write."""

import csv
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from semid.errors import SemidError
from semid.export import read, write
from semid.id_table import IdTable

IDS = ["b", 'a,"\n', "日本"]
SIDS = [[1, 2, 1], [1, 2, 0], [0, 255, 0]]
NOTE = {"model_fingerprint": "f00d", "summary": {"policy": "suffix", "levels": [8, 256]}}


@pytest.fixture
def ids():
    sids_ns = np.array(SIDS, np.int32)
    return IdTable.from_arrays(IDS, sids_ns[:, :2], sids_ns, metadata=NOTE)


def rows_of(table):
    return [table.item_ids.to_pylist(), table.codes.tolist(), table.sids.tolist()]


def parquet(path, columns):
    pq.write_table(pa.table(columns), path)
    return path


# LC-Rec, LETTER, MiniOneRec


def test_lcrec(ids, tmp_path):
    write(ids, tmp_path / "Beauty", "lcrec")
    index = json.loads((tmp_path / "Beauty/Beauty.index.json").read_text())
    assert index == {
        "0": ["<a_1>", "<b_2>", "<c_1>"],
        "1": ["<a_1>", "<b_2>", "<c_0>"],
        "2": ["<a_0>", "<b_255>", "<c_0>"],
    }
    # As MiniOneRec reads it: the first field of every line.
    lines = (tmp_path / "Beauty/info.txt").read_text().splitlines()
    assert lines[2] == "<a_0><b_255><c_0>\tItem_2\t2"
    assert [line.split("\t")[0] for line in lines] == ["".join(tokens) for tokens in index.values()]
    assert pq.read_table(tmp_path / "Beauty/item_ids.parquet").to_pydict() == {
        "row": [0, 1, 2],
        "item_id": IDS,
    }
    assert rows_of(read(tmp_path / "Beauty", "lcrec")) == rows_of(ids)
    assert read(tmp_path / "Beauty/Beauty.index.json", "lcrec").metadata == NOTE


def test_an_index_file_of_lcrec(tmp_path):
    """Keys in any order, no map: all tokens are codes, and the numbers are the ids."""
    (tmp_path / "x.index.json").write_text('{"1": ["<a_5>", "<b_6>"], "0": ["<a_7>", "<b_8>"]}')
    assert rows_of(read(tmp_path / "x.index.json", "lcrec")) == [
        [1, 0],
        [[5, 6], [7, 8]],
        [[5, 6], [7, 8]],
    ]
    (tmp_path / "x.item2id").write_text('B"7\t1\nB0\t0\n')
    named = read(tmp_path / "x.index.json", "lcrec", items=tmp_path / "x.item2id", levels=1)
    assert rows_of(named) == [['B"7', "B0"], [[5], [7]], [[5, 6], [7, 8]]]
    (tmp_path / "x.item2id").write_text("B7\t1\n")
    with pytest.raises(SemidError, match="does not number its 1 items from 0 to 0, each once"):
        read(tmp_path / "x.index.json", "lcrec", items=tmp_path / "x.item2id")
    (tmp_path / "x.item2id").write_text("B7\t0\n")
    with pytest.raises(SemidError, match="no numbers of the 1 items of its map"):
        read(tmp_path / "x.index.json", "lcrec", items=tmp_path / "x.item2id")
    (tmp_path / "x.item2id").write_text("B7 0\n")
    with pytest.raises(SemidError, match="lines of an item id, a tab and its number"):
        read(tmp_path / "x.index.json", "lcrec", items=tmp_path / "x.item2id")


# GRID, TIGER


def test_grid(ids, tmp_path):
    write(ids, tmp_path / "out", "grid")
    tensor = torch.load(tmp_path / "out/semantic_ids.pt", weights_only=True)
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == np.transpose(SIDS).tolist()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "item_ids.parquet",
        "semantic_ids.pt",
    ]
    assert rows_of(read(tmp_path / "out", "grid")) == rows_of(ids)


def test_tiger(ids, tmp_path):
    write(ids, tmp_path / "out", "tiger")
    array = np.load(tmp_path / "out/semantic_ids.npy")
    assert array.dtype == np.int64
    assert array.tolist() == SIDS
    assert rows_of(read(tmp_path / "out", "tiger")) == rows_of(ids)


@pytest.mark.parametrize("format", ["grid", "tiger"])
def test_the_last_digit_of_a_peers_tensor_is_a_suffix(format, tmp_path):
    tensor = torch.tensor(SIDS)
    torch.save(tensor.T.contiguous() if format == "grid" else tensor, tmp_path / "x.pt")
    codes = [sid[:2] for sid in SIDS]
    assert rows_of(read(tmp_path / "x.pt", format)) == [[0, 1, 2], codes, SIDS]
    assert read(tmp_path / "x.pt", format, levels=3).codes.tolist() == SIDS
    items = parquet(tmp_path / "m.parquet", {"item_id": IDS})
    assert rows_of(read(tmp_path / "x.pt", format, items=items)) == [IDS, codes, SIDS]
    items = parquet(tmp_path / "m.parquet", {"row": [2, 0, 1], "asin": IDS})
    found = read(tmp_path / "x.pt", format, items=items)
    assert found.item_ids.to_pylist() == [IDS[1], IDS[2], IDS[0]]
    items = parquet(tmp_path / "m.parquet", {"item_id": IDS[:2]})
    with pytest.raises(SemidError, match="numbers 3 items but the map beside it 2"):
        read(tmp_path / "x.pt", format, items=items)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": torch.ones(2)}, "holds a dict, not a tensor"),
        (torch.ones(2, 3), r"shape \(2, 3\) and type float32"),
        (torch.ones(3, dtype=torch.int64), r"shape \(3,\)"),
        (np.array([[1]]), "not a tensor that torch wrote"),
    ],
)
def test_other_tensors_are_refused(value, message, tmp_path):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(SemidError, match=message):
        read(tmp_path / "x.pt", "grid")


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(SemidError, match="is not an array that NumPy wrote"):
        read(tmp_path / "x.npy", "tiger")


@pytest.mark.parametrize("format", ["grid", "tiger"])
def test_a_suffix_beyond_the_width(format, tmp_path):
    """As wide as the largest level of the model that is noted, unless another width is given."""
    table = IdTable.from_arrays(["a"], [[3]], [[3, 8]], metadata={"summary": {"levels": [8]}})
    expected = "row 0: the suffix 8 at level 1 is beyond the 8 codes .* --max-suffix 8 or"
    with pytest.raises(SemidError, match=expected):
        write(table, tmp_path / "out", format)
    write(table, tmp_path / "wide", format, width=9)
    bare = IdTable.from_arrays(["a"], [[3]], [[3, 8]])
    assert write(bare, tmp_path / "bare", format)["items"] == 1


# token vocabularies


def test_semantic_ids_llm(ids, tmp_path):
    write(ids, tmp_path / "x", "semantic-ids-llm")
    assert pq.read_table(tmp_path / "x").to_pylist()[2] == {
        "parent_asin": "日本",
        "semantic_id_0": 0,
        "semantic_id_1": 255,
        "semantic_id_2": 0,
        "semantic_id": "<|sid_start|><|sid_0|><|sid_511|><|sid_512|><|sid_end|>",
    }
    back = read(tmp_path / "x", "semantic-ids-llm")
    assert (rows_of(back), back.item_id, back.metadata) == (rows_of(ids), "item_id", NOTE)


def test_a_file_of_semantic_ids_llm(tmp_path):
    columns = {"parent_asin": ["B0"], **{f"semantic_id_{level}": [level] for level in range(4)}}
    path = parquet(tmp_path / "x", columns | {"semantic_id": ["0-1-2-3"]})
    assert rows_of(read(path, "semantic-ids-llm")) == [["B0"], [[0, 1, 2]], [[0, 1, 2, 3]]]
    parquet(path, {"parent_asin": ["B0"], "semantic_id_1": [1]})
    with pytest.raises(SemidError, match="expected an item id, semantic_id_0"):
        read(path, "semantic-ids-llm")


@pytest.mark.parametrize("format", ["semantic-ids-llm", "openonerec", "forge"])
def test_codes_beyond_the_tokens(format, tmp_path):
    size = 256 if format == "semantic-ids-llm" else 8_192
    table = IdTable.from_arrays(["a", "b"], [[0, 1], [1, size]])
    with pytest.raises(SemidError, match=f"row 1: the code {size} at level 1 is beyond .*--width"):
        write(table, tmp_path / "x", format)
    write(table, tmp_path / "x", format, width=size + 1)
    assert read(tmp_path / "x", format, levels=2).sids.tolist() == [[0, 1], [1, size]]


def test_widths_that_cannot_be(ids, tmp_path):
    with pytest.raises(SemidError, match="csv has a place for any code; leave out the width 5"):
        write(ids, tmp_path / "x", "csv", width=5)
    with pytest.raises(SemidError, match="the width is 0"):
        write(ids, tmp_path / "x", "forge", width=0)
    with pytest.raises(SemidError, match="csv names its items itself"):
        read(tmp_path, "csv", items=tmp_path)


def test_openonerec(ids, tmp_path):
    write(ids, tmp_path / "x", "openonerec")
    assert pq.read_table(tmp_path / "x").to_pylist()[2] == {
        "pid": "日本",
        "codes": [0, 255],
        "sid": [0, 255, 0],
        "tokens": "<|sid_begin|><s_a_0><s_b_255><s_c_0><|sid_end|>",
    }
    # As its data scripts read it.
    frame = pd.read_parquet(tmp_path / "x")
    assert dict(zip(frame["pid"], frame["sid"], strict=True))["b"].tolist() == [1, 2, 1]
    assert rows_of(read(tmp_path / "x", "openonerec")) == rows_of(ids)


@pytest.mark.parametrize("name", ["codes", "sid"])
def test_a_file_of_openonerec(name, tmp_path):
    path = parquet(tmp_path / "x", {"pid": [9, 4], name: [[1, 2, 3], [4, 5, 6]]})
    codes = [[1, 2, 3], [4, 5, 6]]
    assert rows_of(read(path, "openonerec")) == [[9, 4], codes, codes]
    parquet(path, {"item": [9], name: [[1]]})
    with pytest.raises(SemidError, match="expected pid, and codes or sid"):
        read(path, "openonerec")


def test_forge(ids, tmp_path):
    write(ids, tmp_path / "x", "forge")
    with (tmp_path / "x").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["item_id", "SID"],
            *([item, ",".join(map(str, sid))] for item, sid in zip(IDS, SIDS, strict=True)),
        ]
    assert read(tmp_path / "x", "forge").codes.tolist() == SIDS
    assert rows_of(read(tmp_path / "x", "forge", levels=2)) == rows_of(ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('item_id,SID\na,"1,2"\nb,"1"\n', "row 1: the SID has 1 codes where row 0 has 2"),
        ('item_id,SID\na,"1,x"\n', "column 'SID' holds other than whole numbers"),
        ("item_id,SID\na,-1\n", "code -1"),
        ("item,SID\na,1\n", "expected rows of item_id and SID"),
        ("item_id,SID\n", "0 rows"),
        ("item_id,SID\na,1\na,2\n", "occurs 2 times"),
    ],
)
def test_other_forge_files_are_refused(text, message, tmp_path):
    (tmp_path / "x").write_text(text)
    with pytest.raises(SemidError, match=message):
        read(tmp_path / "x", "forge")


# TorchEasyRec


def test_torcheasyrec(ids, tmp_path):
    write(ids, tmp_path / "out", "torcheasyrec")
    predicted = pq.read_table(tmp_path / "out/codes.parquet")
    assert predicted.to_pylist()[2] == {"item_id": "日本", "codes": [0, 255]}
    assert predicted.schema.field("codes").type.value_type == pa.int64()
    assert pq.read_table(tmp_path / "out/item_to_sid.parquet").to_pylist()[0] == {
        "item_id": "b",
        "origin_codebook": [1, 2],
        "codebook": [1, 2],
        "index": 1,
    }
    assert pq.read_table(tmp_path / "out/sid_to_items.parquet").to_pylist() == [
        {"codebook": [0, 255], "itemids": ["日本"]},
        {"codebook": [1, 2], "itemids": ['a,"\n', "b"]},
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("codes.parquet", "item_to_sid.parquet", "sid_to_items.parquet"),
    ]
    assert rows_of(read(tmp_path / "out", "torcheasyrec")) == rows_of(ids)


def test_torcheasyrec_numbers_items_that_share_a_sid(tmp_path):
    write(IdTable.from_arrays([5, 9, 7], [[1], [0], [1]]), tmp_path / "out", "torcheasyrec")
    rows = pq.read_table(tmp_path / "out/item_to_sid.parquet").to_pydict()
    assert (rows["item_id"], rows["index"]) == ([5, 9, 7], [0, 0, 1])
    groups = pq.read_table(tmp_path / "out/sid_to_items.parquet").to_pydict()
    assert groups == {"codebook": [[0], [1]], "itemids": [[9], [5, 7]]}


def test_torcheasyrec_gathers_over_batches(tmp_path):
    """A SID whose items take more than a batch, between two of one item."""
    codes_n = np.r_[2, np.ones(70_000, np.int32), 0].astype(np.int32)
    write(IdTable.from_arrays(np.arange(70_002), codes_n[:, None]), tmp_path / "x", "torcheasyrec")
    groups = pq.read_table(tmp_path / "x/sid_to_items.parquet").to_pydict()
    assert groups["codebook"] == [[0], [1], [2]]
    assert groups["itemids"] == [[70_001], list(range(1, 70_001)), [0]]


def test_files_of_torcheasyrec(tmp_path):
    path = parquet(tmp_path / "x", {"item_id": ["a", "b"], "codes": [[1, 2], [1, 2]]})
    assert read(path, "torcheasyrec").sids.tolist() == [[1, 2], [1, 2]]
    origin, final = [[1, 2], [1, 2]], [[1, 2], [1, 7]]
    columns = {"item_id": ["a", "b"], "origin_codebook": origin, "codebook": final}
    parquet(path, columns | {"index": [0, 0]})
    assert rows_of(read(path, "torcheasyrec")) == [["a", "b"], origin, final]
    parquet(path, columns | {"codebook": origin, "index": [0, 1]})
    assert read(path, "torcheasyrec").sids.tolist() == [[1, 2, 0], [1, 2, 1]]
    parquet(path, {"item_id": ["a"]})
    with pytest.raises(SemidError, match="expected item_id and codes, or item_id, origin_codebook"):
        read(path, "torcheasyrec")


# text


@pytest.mark.parametrize(
    ("format", "separator", "kind"), [("csv", ",", ""), ("recbole", "\t", ":token")]
)
def test_flat_text(format, separator, kind, ids, tmp_path):
    """As pandas reads it, which RecBole reads atomic files by."""
    write(ids, tmp_path / "x", format)
    frame = pd.read_csv(tmp_path / "x", sep=separator, dtype=str)
    names = ["item_id", "code_0", "code_1", "suffix"]
    assert frame.columns.tolist() == [name + kind for name in names]
    assert frame.to_numpy().tolist() == [
        [item, *map(str, sid)] for item, sid in zip(IDS, SIDS, strict=True)
    ]
    assert rows_of(read(tmp_path / "x", format)) == rows_of(ids)


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("csv", "item,code_1\na,1\n", "expected an item id, code_0"),
        ("csv", "item,code_0\na,1.5\n", "column 'code_0' holds other than whole numbers"),
        ("csv", "item,code_0,code_0\na,1,1\n", "repeats a name"),
        ("csv", "item,code_0\na\n", "is not text with a header"),
        ("csv", "item,code_0\n", "no rows"),
        ("recbole", "item\tcode_0\na\t1\n", "must end in :token"),
    ],
)
def test_other_text_is_refused(format, text, message, tmp_path):
    (tmp_path / "x").write_text(text)
    with pytest.raises(SemidError, match=message):
        read(tmp_path / "x", format)


def test_jsonl(ids, tmp_path):
    write(ids, tmp_path / "x", "jsonl")
    lines = [json.loads(line) for line in (tmp_path / "x").read_text().split("\n")[:-1]]
    assert lines[1] == {"item_id": 'a,"\n', "codes": [1, 2], "sid": [1, 2, 0]}
    assert rows_of(read(tmp_path / "x", "jsonl")) == rows_of(ids)


def test_lines_of_others(tmp_path):
    """Ids that look like times stay text; other members, and missing codes, do no harm."""
    (tmp_path / "x").write_text('{"sku": "2026-01-01", "sid": [1, 2], "title": "x"}\n')
    found = read(tmp_path / "x", "jsonl", levels=1)
    assert (found.item_id, rows_of(found)) == ("sku", [["2026-01-01"], [[1]], [[1, 2]]])
    for text in ('{"sku": "a", "sid": [1]}\n{"sku": "b", "sid": "x"}\n', '{"sid": [1]}\n', "[1]\n"):
        (tmp_path / "x").write_text(text)
        with pytest.raises(SemidError, match="is not lines of an item id, codes and sid"):
            read(tmp_path / "x", "jsonl")


# tensors and data sets


def test_safetensors(ids, tmp_path):
    write(ids, tmp_path / "x", "safetensors")
    tensors = load_file(tmp_path / "x")
    assert (tensors["codes"].tolist(), tensors["sids"].tolist()) == (rows_of(ids)[1], SIDS)
    text, offsets = tensors["item_id_bytes"].tobytes(), tensors["item_id_offsets"].tolist()
    assert [text[a:b].decode() for a, b in pairwise(offsets)] == IDS
    back = read(tmp_path / "x", "safetensors")
    assert (rows_of(back), back.metadata) == (rows_of(ids), NOTE)
    write(IdTable.from_arrays([2**40, -1], [[1], [2]]), tmp_path / "x", "safetensors")
    assert load_file(tmp_path / "x")["item_ids"].tolist() == [2**40, -1]


def test_a_folder_of_datasets(ids, tmp_path):
    """As documented: a card whose header names the files of the split, by a pattern."""
    write(ids, tmp_path / "out", "datasets")
    head, body = (tmp_path / "out/README.md").read_text().removeprefix("---\n").split("---\n")
    assert head.startswith(
        "configs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*.parquet\n"
    )
    assert "3 items with semantic IDs of 3 codes" in body
    (file,) = (tmp_path / "out").glob("data/train-*.parquet")
    assert pq.read_table(file).to_pylist()[1] == {
        "item_id": 'a,"\n',
        "codes": [1, 2],
        "sid": [1, 2, 0],
    }
    assert rows_of(read(tmp_path / "out", "datasets")) == rows_of(ids)
