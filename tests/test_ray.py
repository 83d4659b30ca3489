"""The Ray drivers on a real local Ray write what the local jobs write, row for row."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, TINY, run_here

pytest.importorskip("ray", reason="Ray is not installed: pip install 'semid[ray]'")

PIPELINES = Path(__file__).parent.parent / "pipelines"
ITEMS = Path(__file__).parent.parent / "data" / "items.parquet"
ROWS = 1_500


def drive(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a driver as a user would; a Ray that hangs ends in a failure, not in a wait."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [sys.executable, str(PIPELINES / script), *map(str, arguments)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items in uneven parts, and what the local commands make of them."""
    folder = tmp_path_factory.mktemp("local")
    items = pq.read_table(ITEMS, columns=["item_id", "title", "brand"]).slice(0, ROWS)
    (folder / "items").mkdir()
    for number, (start, rows) in enumerate([(0, 700), (700, 13), (713, 787)]):
        part = items.slice(start, rows)
        pq.write_table(part, folder / "items" / f"{number}.parquet", row_group_size=301)
    embeddings, model = folder / "embeddings.parquet", folder / "model"
    for command in (
        ("embed", folder / "items", "--output", embeddings, *LSA),
        ("train", embeddings, "--output", model, *TINY),
        ("assign", embeddings, "--model", model, "--output", folder / "suffix.parquet"),
        (
            *("assign", embeddings, "--model", model),
            *("--output", folder / "none.parquet", "--collisions", "none"),
        ),
    ):
        outcome = run_here(*command)
        assert outcome.code == 0, outcome.err
    return folder


def rows_of(path: Path) -> pa.Table:
    return pq.read_table(path).replace_schema_metadata()


def test_embeddings_are_those_of_the_local_job(local: Path, tmp_path: Path) -> None:
    encoder, output = local / "embeddings.encoder", tmp_path / "embeddings.parquet"
    done = drive("ray_embed.py", local / "items", "--encoder", encoder, "--output", output)
    assert done.returncode == 0, done.stderr
    assert rows_of(output).equals(rows_of(local / "embeddings.parquet"))


@pytest.mark.parametrize("policy", ["suffix", "none"])
def test_ids_are_those_of_the_local_job(local: Path, tmp_path: Path, policy: str) -> None:
    # Cut otherwise than the local job read them.
    whole = pq.read_table(local / "embeddings.parquet")
    (tmp_path / "parts").mkdir()
    for number in range(3):
        part = whole.slice(number * 500, 500)
        pq.write_table(part, tmp_path / "parts" / f"{number}.parquet", row_group_size=77)
    output = tmp_path / "ids.parquet"
    options = ("--model", local / "model", "--output", output, "--collisions", policy)
    done = drive("ray_assign.py", tmp_path / "parts", *options)
    assert done.returncode == 0, done.stderr
    assert rows_of(output).equals(rows_of(local / f"{policy}.parquet"))


def test_a_bad_row_ends_in_a_sentence(local: Path, tmp_path: Path) -> None:
    table = pq.read_table(local / "embeddings.parquet")
    vectors = table["embedding"].to_pylist()
    vectors[40][3] = float("nan")
    field = table.schema.field("embedding")
    broken = table.set_column(1, field, pa.array(vectors, type=field.type))
    pq.write_table(broken, tmp_path / "bad.parquet")
    output = tmp_path / "ids.parquet"
    options = ("--model", local / "model", "--output", output)
    done = drive("ray_assign.py", tmp_path / "bad.parquet", *options)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "error: row 40: the embedding holds nan at position 3; drop the row or embed it again"
    )
    assert not output.exists()


def test_drivers_are_glue() -> None:
    scripts = sorted(PIPELINES.glob("ray_*.py"))
    assert len(scripts) == 3
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 40, script
