import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.export import FORMATS, read, write
from semid.id_table import IdTable
from semid.tables import open_table

SMALL = np.array([[1, 2, 1], [1, 2, 0], [0, 255, 0]], np.int32)
SUFFIX = np.array([[1, 2, 1], [1, 2, 0], [0, 65_535, 0]], np.int32)
STRINGS = ["b", 'a,"\n', "日本"]
# Ids of these are text: the documented rule makes integers of decimals.
TEXTUAL = ("tokens-json", "csv", "forge", "recbole")
# Formats that have a place for raw codes beside the SIDs.
WHOLE = ("npz", "jsonl", "safetensors", "datasets", "openonerec", "torcheasyrec")
FOLDERS = tuple(name for name, format in FORMATS.items() if format.folder)
# Formats with a width of their own, wide enough for any code.
WIDE = dict.fromkeys((name for name, format in FORMATS.items() if format.width), 2**31)


def saved(folder, item_ids, sids, levels, **options):
    """Write an ids table whose SIDs are codes and perhaps a suffix; open it."""
    sids_ns = np.asarray(sids, np.int32)
    table = IdTable.from_arrays(item_ids, sids_ns[:, :levels], sids_ns, **options)
    path = folder / "ids.parquet"
    pq.write_table(table.to_arrow(), path, row_group_size=20_000)
    return open_table(path)


def there_and_back(folder, format, *table):
    source, out = saved(folder, *table), folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    summary = write(source, out, format, width=WIDE.get(format))
    assert summary["bytes"] == sum(len(content) for content in contents(out).values())
    return read(out, format, levels=summary["levels"])


def contents(path):
    """The files of an export."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


# The contract of every format.


@st.composite
def tables(draw):
    text = st.text(max_size=6)
    ids = draw(
        st.one_of(
            # NumPy drops trailing NULs, and npz says so; see the test below.
            st.lists(text.filter(lambda s: not s.endswith("\0")), min_size=1, unique=True),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, unique=True),
        )
    )
    levels = draw(st.sampled_from([1, 2, 12]))
    width = levels + draw(st.booleans())
    code = st.sampled_from([0, 1, 255, 65_535, 2**31 - 1])
    row = st.lists(code, min_size=width, max_size=width)
    return ids, draw(st.lists(row, min_size=len(ids), max_size=len(ids))), levels


@pytest.mark.parametrize("format", FORMATS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables())
def test_round_trip(format, tmp_path, table):
    ids, sids, levels = table
    back = there_and_back(tmp_path, format, ids, sids, levels)
    found = back.item_ids
    if format in TEXTUAL and isinstance(ids[0], str) and found.type == pa.int64():
        found = found.cast(pa.string())  # the documented rule: decimal strings come as integers
    assert found.to_pylist() == ids
    assert back.codes.tolist() == [row[:levels] for row in sids]
    assert back.sids.tolist() == sids


@pytest.mark.parametrize("format", FORMATS)
def test_many_batches(format, tmp_path):
    n = 66_000
    sids_ns = np.random.default_rng(0).integers(0, 200, (n, 4)).astype(np.int32)
    ids = [f"item-{row}" for row in range(n)]
    back = there_and_back(tmp_path, format, ids, sids_ns, 3)
    assert back.item_ids.to_pylist() == ids
    assert np.array_equal(back.sids, sids_ns)
    assert np.array_equal(back.codes, sids_ns[:, :3])


@pytest.mark.parametrize("format", FORMATS)
def test_summary_and_wrong_levels(format, tmp_path):
    source = saved(tmp_path, STRINGS, SMALL, 2)
    summary = write(source, tmp_path / "out", format)
    del summary["bytes"]
    assert summary == {"format": format, "items": 3, "levels": 2, "sid_length": 3}
    with pytest.raises(SemidError, match=r"levels"):
        read(tmp_path / "out", format, levels=1)
    again = read(tmp_path / "out", format)
    assert again.sids.tolist() == SMALL.tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_table_gives_the_same_bytes(format, tmp_path):
    source = saved(tmp_path, STRINGS, SMALL, 2)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(source, tmp_path / name / "x", format)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_in_memory_is_written_as_its_file(format, tmp_path):
    source = saved(tmp_path, STRINGS, SMALL, 2, item_id="sku", metadata={"model": "f00d"})
    held = IdTable.from_arrow(pq.read_table(source.name), item_id="sku")
    for name, table in (("one", source), ("two", held)):
        (tmp_path / name).mkdir()
        write(table, tmp_path / name / "x", format, item_id="sku")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("format", FORMATS)
def test_moved_items_keep_their_raw_codes_where_there_is_a_place(format, tmp_path):
    """Under reassign: two items of one code, of which one moved."""
    noted = {"model_fingerprint": "f00d", "summary": {"policy": "reassign", "levels": [8, 8]}}
    codes = [[1, 2], [1, 2], [0, 7]]
    moved = IdTable.from_arrays([7, 5, 6], codes, [[1, 2], [1, 3], [0, 7]], metadata=noted)
    write(moved, tmp_path / "x", format)
    back = read(tmp_path / "x", format, levels=2)
    assert back.item_ids.to_pylist() == [7, 5, 6]
    assert back.sids.tolist() == moved.sids.tolist()
    assert back.codes.tolist() == (codes if format in WHOLE else moved.sids.tolist())
    if format not in WHOLE:
        assert "model_fingerprint" not in back.metadata


@pytest.mark.parametrize("format", FORMATS)
def test_items_that_share_a_sid(format, tmp_path):
    write(IdTable.from_arrays(["a", "b"], [[3], [3]]), tmp_path / "x", format)
    back = read(tmp_path / "x", format, levels=1)
    assert back.sids.tolist() == back.codes.tolist() == [[3], [3]]


@pytest.mark.parametrize("format", FOLDERS)
def test_a_folder_that_is_there_is_refused(format, tmp_path):
    with pytest.raises(SemidError, match="exists"):
        write(saved(tmp_path, STRINGS, SMALL, 2), tmp_path, format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"\x00\xff", b"[]", b'{"a": 1}', b"{}", b"PK\3\4"]
)
def test_what_is_no_export_is_refused(format, content, tmp_path):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(SemidError, match="in"):
        read(tmp_path / "in", format)


@pytest.mark.parametrize("format", FORMATS)
def test_missing_and_broken_tables_are_refused(format, tmp_path):
    with pytest.raises(SemidError, match="is not a file"):
        read(tmp_path / "nothing", format)
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "bad.parquet")
    with pytest.raises(SemidError, match="no column 'codes', 'sid'"):
        write(open_table(tmp_path / "bad.parquet"), tmp_path / "out", format)
    empty = pa.table({"item_id": ["a"], "codes": [[1]], "sid": [[1]]}).slice(1)
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(SemidError, match=r"empty\.parquet has no rows"):
        write(open_table(tmp_path / "empty.parquet", allow_empty=True), tmp_path / "o", format)


def test_unknown_formats_are_refused(tmp_path):
    source = saved(tmp_path, STRINGS, SUFFIX, 2)
    with pytest.raises(SemidError, match="'xml' is none of parquet, tokens-json, npz"):
        write(source, tmp_path / "out", "xml")
    with pytest.raises(SemidError, match="none of"):
        read(tmp_path / "out", "xml")


# Each format by hand.


def test_parquet(tmp_path):
    source = saved(tmp_path, STRINGS, SUFFIX, 2, item_id="sku", metadata={"model": "f00d"})
    write(source, tmp_path / "flat.parquet", "parquet", item_id="sku")
    table = pq.read_table(tmp_path / "flat.parquet")
    assert table.to_pydict() == {
        "sku": STRINGS,
        "code_0": [1, 1, 0],
        "code_1": [2, 2, 65_535],
        "suffix": [1, 0, 0],
    }
    assert table.schema.types[1:] == [pa.int32()] * 3
    back = read(tmp_path / "flat.parquet", "parquet")
    assert (back.item_id, back.metadata) == ("sku", {"model": "f00d"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"], "code_1": [0]}, "expected an item id, code_0"),
        ({"item_id": ["a"], "suffix": [0]}, "expected an item id, code_0"),
        ({"item_id": ["a"]}, "expected an item id, code_0"),
        ({"item_id": ["a"], "code_0": [0.5]}, "float64"),
        ({"item_id": ["a", "b"], "code_0": [0, -1]}, "row 1 holds the code -1"),
    ],
)
def test_other_parquet_is_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "flat.parquet")
    with pytest.raises(SemidError, match=message):
        read(tmp_path / "flat.parquet", "parquet")


def test_tokens_json(tmp_path):
    write(saved(tmp_path, STRINGS, SUFFIX, 2), tmp_path / "ids.json", "tokens-json")
    text = (tmp_path / "ids.json").read_text(encoding="utf-8")
    assert text == (
        '{\n"b": ["<a_1>", "<b_2>", "<c_1>"],\n'
        '"a,\\"\\n": ["<a_1>", "<b_2>", "<c_0>"],\n'
        '"日本": ["<a_0>", "<b_65535>", "<c_0>"]\n}\n'
    )
    assert json.loads(text)["b"] == ["<a_1>", "<b_2>", "<c_1>"]
    unsplit = read(tmp_path / "ids.json", "tokens-json")
    assert unsplit.codes.tolist() == unsplit.sids.tolist() == SUFFIX.tolist()


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["7", "-3", "0"], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808", "1"], pa.string()),
        (["7", "007"], pa.string()),
        (["7", "-0"], pa.string()),
        (["7", "x"], pa.string()),
        (["７"], pa.string()),
    ],
)
def test_which_keys_are_integers(tmp_path, keys, kind):
    (tmp_path / "ids.json").write_text(json.dumps({key: ["<a_0>"] for key in keys}))
    item_ids = read(tmp_path / "ids.json", "tokens-json").item_ids
    assert item_ids.type == kind
    assert item_ids.cast(pa.string()).to_pylist() == keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ["<a_1>"], "a": ["<a_2>"]}', "'a' occurs 2 times"),
        ('{"a": ["<a_1>"], "b": ["<a_1>", "<b_1>"]}', "row 1 has 2 tokens where row 0 has 1"),
        ('{"a": ["<b_1>"]}', "row 0 holds the token '<b_1>' at level 0"),
        ('[["a", ["<a_1>"]]]', "not a JSON object of lists"),
        ('{"a": {"b": []}}', "not a JSON object of lists"),
        ('{"a": ["<a_1>"]', "is not JSON"),
        ('{"\\ud800": ["<a_1>"]}', "cannot be read as strings"),
    ],
)
def test_other_json_is_refused(tmp_path, text, message):
    (tmp_path / "ids.json").write_text(text)
    with pytest.raises(SemidError, match=message):
        read(tmp_path / "ids.json", "tokens-json")


def test_large_files_are_cut_between_members_only(tmp_path):
    """Keys may look like what stands between two members."""
    ids = [f"{row}{end}" for row in range(3_000) for end in ("],", '], "', ": [", "]\n,", ":")]
    ids += [f'{end}{row}"' for row in range(3_000) for end in (":", "], ", '":[')]
    sids_ns = np.arange(len(ids), dtype=np.int32)[:, None] % 256
    back = there_and_back(tmp_path, "tokens-json", ids, sids_ns, 1)
    assert back.item_ids.to_pylist() == ids
    assert np.array_equal(back.sids, sids_ns)
    text = (tmp_path / "out").read_text()
    (tmp_path / "out").write_text(text.replace("<a_7>", "<a_x>"))
    with pytest.raises(SemidError, match="row 7 holds the token '<a_x>' at level 0"):
        read(tmp_path / "out", "tokens-json")
    longer = text.removesuffix("\n}\n") + ',\n"z": ["<a_1>", "<b_1>"]\n}\n'
    (tmp_path / "out").write_text(longer)
    with pytest.raises(SemidError, match=f"row {len(ids)} has 2 tokens where row 0 has 1"):
        read(tmp_path / "out", "tokens-json")


def test_npz(tmp_path):
    moved = IdTable.from_arrays([3, 1], [[5], [5]], [[5], [6]])
    pq.write_table(moved.to_arrow(), tmp_path / "ids.parquet")
    write(open_table(tmp_path / "ids.parquet"), tmp_path / "ids.npz", "npz")
    with np.load(tmp_path / "ids.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["codes", "item_ids", "sids"]
        assert archive["item_ids"].tolist() == [3, 1]
        assert archive["item_ids"].dtype == np.int64
        assert archive["codes"].tolist() == [[5], [5]]
        assert archive["sids"].tolist() == [[5], [6]]
        assert archive["sids"].dtype == np.int32


def test_npz_refuses_what_numpy_would_cut(tmp_path):
    source = saved(tmp_path, ["a", "b\0"], [[0], [1]], 1)
    with pytest.raises(SemidError, match="row 1: the item id ends in a NUL"):
        write(source, tmp_path / "ids.npz", "npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"item_ids": ["a"], "codes": [[1]]},
        {"item_ids": ["a", "a"], "codes": [[1], [1]], "sids": [[1], [1]]},
        {"item_ids": ["a"], "codes": [[1.5]], "sids": [[1]]},
        {"item_ids": [["a"]], "codes": [[1]], "sids": [[1]]},
    ],
)
def test_other_archives_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "ids.npz", **arrays)
    with pytest.raises(SemidError, match=r"ids\.npz"):
        read(tmp_path / "ids.npz", "npz")


def test_a_damaged_archive_is_refused(tmp_path):
    source = saved(tmp_path, [f"item-{row}" for row in range(5_000)], [[0]] * 5_000, 1)
    write(source, tmp_path / "ids.npz", "npz")
    content = bytearray((tmp_path / "ids.npz").read_bytes())
    content[2_000:4_000] = bytes(2_000)
    (tmp_path / "ids.npz").write_bytes(content)
    with pytest.raises(SemidError, match="is not an archive of item_ids, codes, sids"):
        read(tmp_path / "ids.npz", "npz")
