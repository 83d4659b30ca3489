"""The Ray drivers on a real Ray write what the local jobs write, row for row."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, TINY, run_here

from semid.jobs.embed import embed
from semid.jobs.mapping import map_table
from semid.tables import open_table

pytest.importorskip("ray", reason="Ray is not installed: pip install 'semid[ray]'")

PIPELINES = Path(__file__).parent.parent / "pipelines"
ITEMS = Path(__file__).parent.parent / "data" / "items.parquet"
ROWS = 3_000  # several parts
CLUSTER = """
import ray, sys
started = ray.init(num_cpus=1, include_dashboard=False, object_store_memory=2**27)
print(started.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def quiet() -> Iterator[dict[str, str]]:
    """An environment in which Ray writes to one folder only; nothing of Ray outlives it."""
    # Not below pytest's own folder: the path of a Unix socket has to be short.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        ray = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        yield {**os.environ, **ray}
        until = time.monotonic() + 15
        while left := processes_of(folder):
            assert time.monotonic() < until, left
            time.sleep(0.2)


def processes_of(folder: str) -> list[bytes]:
    """The processes that name the folder, where the system lists them."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes())
        except OSError:  # it has ended
            continue
    return [line for line in lines if folder.encode() in line]


@pytest.fixture(scope="module")
def cluster(quiet: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster with a single CPU, started in another folder than the drivers."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=quiet,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        yield {**quiet, "RAY_ADDRESS": process.stdout.readline().strip()}
        process.stdin.close()
        process.wait(60)


def drive(
    environment: dict[str, str], folder: Path, script: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run a driver as a user would; a Ray that hangs ends in a failure, not in a wait."""
    return subprocess.run(
        [sys.executable, str(PIPELINES / script), *map(str, arguments)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items in uneven parts, and what the local commands make of them."""
    folder = tmp_path_factory.mktemp("local")
    items = pq.read_table(ITEMS, columns=["item_id", "title", "brand"]).slice(0, ROWS)
    (folder / "items" / "deep").mkdir(parents=True)
    for name, start, stop in [("0", 0, 700), ("1", 700, 713), ("deep/2", 713, 2_100)]:
        part = items.slice(start, stop - start)
        pq.write_table(part, folder / "items" / f"{name}.parquet", row_group_size=301)
    pq.write_table(items.slice(2_100), folder / "items" / "last.parquet")
    table, model = folder / "embeddings.parquet", folder / "model"
    assign = ("assign", table, "--model", model)
    for command in (
        ("embed", folder / "items", "--output", table, *LSA),
        ("train", table, "--output", model, *TINY),
        (*assign, "--output", folder / "suffix.parquet"),
        (*assign, "--output", folder / "none.parquet", "--collisions", "none"),
    ):
        outcome = run_here(*command)
        assert outcome.code == 0, outcome.err
    return folder


def rows_of(path: Path) -> pa.Table:
    """All rows in semid's order, with their exact types."""
    table = open_table(path)
    rows = pa.Table.from_batches(list(table.batches(table.schema.names)))
    return rows.replace_schema_metadata().combine_chunks()


def test_embeddings_are_those_of_the_local_job(
    quiet: dict[str, str], local: Path, tmp_path: Path
) -> None:
    """Without a cluster, on all CPUs of this machine."""
    encoder, output = local / "embeddings.encoder", tmp_path / "embeddings"
    options = ("--encoder", encoder, "--output", output, "--rows", 100)
    done = drive(quiet, tmp_path, "ray_embed.py", local / "items", *options)
    assert done.returncode == 0, done.stderr
    assert len(list(output.glob("*.parquet"))) > 1
    assert rows_of(output).equals(rows_of(local / "embeddings.parquet"))
    assert rows_of(output)["item_id"].to_pylist() == rows_of(local / "items")["item_id"].to_pylist()


@pytest.mark.parametrize("policy", ["suffix", "none"])
def test_ids_are_those_of_the_local_job(
    cluster: dict[str, str], local: Path, tmp_path: Path, policy: str
) -> None:
    # Cut otherwise than the local job read them, and by paths that only the driver can resolve.
    whole = pq.read_table(local / "embeddings.parquet")
    (tmp_path / "parts").mkdir()
    for number in range(10):
        part = whole.slice(number * 300, 300)
        pq.write_table(part, tmp_path / "parts" / f"{number}.parquet", row_group_size=77)
    model = os.path.relpath(local / "model", tmp_path)
    options = ("--model", model, "--output", "ids.parquet", "--collisions", policy)
    done = drive(cluster, tmp_path, "ray_assign.py", "parts/*.parquet", *options, "--cpus", 0.4)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "ids.parquet").equals(rows_of(local / f"{policy}.parquet"))


def test_a_run_goes_on_with_the_parts_that_a_killed_one_left(
    cluster: dict[str, str], local: Path, tmp_path: Path
) -> None:
    def killed(table: Any, mapper: Any, folder: Path, **how: Any) -> None:
        map_table(table, mapper, folder, **how)
        min(folder.iterdir()).unlink()
        raise KeyboardInterrupt

    items, encoder, output = local / "items", local / "embeddings.encoder", tmp_path / "embeddings"
    with pytest.raises(KeyboardInterrupt):
        embed(str(items), output=str(output), encoder=str(encoder), engine=killed)
    left = {part.stat().st_ino for part in tmp_path.rglob("part-*")}
    options = ("--encoder", encoder, "--output", output)
    done = drive(cluster, tmp_path, "ray_embed.py", items, *options)
    assert done.returncode == 0, done.stderr
    assert left
    assert left < {part.stat().st_ino for part in output.glob("part-*")}
    assert rows_of(output).equals(rows_of(local / "embeddings.parquet"))


def test_a_bad_row_ends_in_a_sentence(cluster: dict[str, str], local: Path, tmp_path: Path) -> None:
    table = pq.read_table(local / "embeddings.parquet")
    vectors = table["embedding"].to_pylist()
    vectors[1_540][3] = float("nan")
    field = table.schema.field("embedding")
    broken = table.set_column(1, field, pa.array(vectors, type=field.type))
    (tmp_path / "bad").mkdir()
    for number in range(2):
        pq.write_table(broken.slice(number * 1_500, 1_500), tmp_path / "bad" / f"{number}.parquet")
    options = ("--model", local / "model", "--output", "ids")
    done = drive(cluster, tmp_path, "ray_assign.py", "bad", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "error: bad/1.parquet, row 40: the embedding holds nan at position 3; "
        "drop the row or embed it again"
    )
    assert not (tmp_path / "ids").exists()


def test_what_stands_at_the_output_stays(
    quiet: dict[str, str], local: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids").mkdir()
    options = ("--model", local / "model", "--output", "ids")
    done = drive(quiet, tmp_path, "ray_assign.py", local / "embeddings.parquet", *options)
    assert done.returncode == 2
    assert "error: ids exists" in done.stderr
    assert not list((tmp_path / "ids").iterdir())


def test_drivers_are_glue() -> None:
    for script in ("ray_engine.py", "ray_embed.py", "ray_assign.py"):
        assert len((PIPELINES / script).read_text().splitlines()) <= 40, script
