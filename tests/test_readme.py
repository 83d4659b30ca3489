"""The README's commands and its library example run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import assert_parses

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.S | re.M)
    return [body for name, body in fences if name == language]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a user has after cloning, to run in."""
    folder = tmp_path / "semid"
    leave = shutil.ignore_patterns(".git", ".venv", "out", "*cache*", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=leave)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # As a user's shell: the suite holds itself to one thread, but these are the longest commands.
    theirs = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**theirs, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_opens_with_demo_and_test() -> None:
    opening = [line.split("#")[0].strip() for line in blocks("bash")[0].splitlines()]
    assert opening == ["make demo", "make test"]
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


def test_the_steps_by_hand_are_those_of_the_makefile() -> None:
    by_hand = blocks("bash")[1].strip().splitlines()
    printed = subprocess.run(
        ["make", "-n", "demo", "VENV=.venv", "--always-make"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in by_hand:
        assert line in printed


def test_commands_that_need_more_than_this_project_have_options_that_exist() -> None:
    written = [line for block in blocks("") for line in block.splitlines()]
    written += re.findall(r"`((?:SEMID_DATA=… )?semid (?:run|train) [^`]*)`", README)
    commands = [line[line.index("semid ") :] for line in written if "semid " in line]
    assert len(commands) >= 5
    for line in commands:
        assert_parses(line.replace("\n", " "))


def test_the_commands_then_the_library_example_then_the_pipeline_run(project: Path) -> None:
    commands = [
        line
        for block in blocks("bash")[2:]
        for line in block.strip().splitlines()
        if line.startswith("semid ")
    ]
    assert len(commands) == 14
    pipeline = [line for line in commands if line.startswith("semid run")]
    assert pipeline == ["semid run pipelines/demo.toml"]
    # The demo has the whole catalog; a part of it shows as well that these run.
    items = pq.read_table(project / "data" / "items.parquet").slice(0, 1_500)
    pq.write_table(items, project / "data" / "items.parquet")
    for line in commands:
        if line in pipeline:
            continue
        # `make demo` trains to the end; here a training has to begin and to end.
        brief = " --set training.epochs=2" if line.startswith("semid train") else ""
        done = run(line + brief, project)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    (example,) = blocks("python")
    assert len(example.strip().splitlines()) <= 14
    done = run(f"{sys.executable} - <<'END'\n{example}\nEND", project)
    assert done.returncode == 0, done.stderr
    assert "(1500, 3) (1500, 4)" in done.stdout


def test_make_demo_twice(project: Path) -> None:
    # Of a part of the catalog: to learn as well as the README says takes a minute.
    items = pq.read_table(project / "data" / "items.parquet").slice(0, 1_500)
    pq.write_table(items, project / "data" / "items.parquet")
    venv = project / "ready"
    # The environment of this test stands in for the one that `make demo` would set up.
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    (venv / ".demo").touch()
    first = run(f"make demo VENV={venv}", project)
    assert first.returncode == 0, first.stderr
    for words in ("items", "level 2: perplexity", "uniqueness", "held-out error", "rqkmeans"):
        assert words in first.stdout
    assert "out/demo/ids.parquet" in first.stdout
    again = run(f"make demo VENV={venv}", project)
    assert again.returncode == 0, again.stderr
    assert "everything is up to date" in again.stdout
    assert "written" not in again.stderr


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
