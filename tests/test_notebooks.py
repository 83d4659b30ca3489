"""The notebooks run from top to bottom, hold nothing that belongs in the library, and were run."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
# How many figures each draws, the line that says how long it takes, and that of a quick run.
NOTEBOOKS = {
    "choosing_a_quantizer": (
        4,
        'QUANTIZERS, SEEDS, EPOCHS = ["rqvae", "rqkmeans", "pq", "opq", "random"], 2, 28\n',
        'QUANTIZERS, SEEDS, EPOCHS = ["rqvae", "rqkmeans"], 1, 1\n',
    ),
    "codebook_utilization": (6, "EPOCHS = 28\n", "EPOCHS = 2\n"),
    "from_autoencoder_to_rqvae": (6, "EPOCHS = 60\n", "EPOCHS = 2\n"),
    "ids_over_time": (3, "EPOCHS = 28\n", "EPOCHS = 2\n"),
    "into_training_code": (
        3,
        "EPOCHS, GENERATIVE_EPOCHS, LANGUAGE_EPOCHS, CLICK_EPOCHS = 28, 10, 5, 3\n",
        "EPOCHS, GENERATIVE_EPOCHS, LANGUAGE_EPOCHS, CLICK_EPOCHS = 2, 1, 1, 1\n",
    ),
}
# What a notebook may define: how to draw, where no plot of the library does.
DRAWS = {"from_autoencoder_to_rqvae": ["pictures"]}
MOST_BYTES = 500_000
ITEMS = 3_000
# Run as text and not as a file, which the processes that jobs start would run again.
PROGRAM = "import sys; exec(compile(sys.stdin.read(), 'notebook', 'exec'))"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the project's, whose outputs the notebooks share."""
    folder = tmp_path_factory.mktemp("project")
    # A part of the catalog: how the notebooks look on all of it they show themselves.
    (folder / "data").mkdir()
    for file in (ROOT / "data").glob("*.parquet"):
        table = pq.read_table(file)
        if file.stem == "items":
            table = table.slice(0, ITEMS)
        pq.write_table(table, folder / "data" / file.name)
    (folder / "notebooks").mkdir()
    return folder


def source_of(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text("utf-8")


def executed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    return found


def code_cells(name: str) -> list[dict[str, Any]]:
    return [cell for cell in executed(name)["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_listed() -> None:
    for ending in ("py", "ipynb"):
        assert {path.stem for path in FOLDER.glob(f"*.{ending}")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, project: Path) -> None:
    _, long, short = NOTEBOOKS[name]
    source = source_of(name)
    assert source.count(long) == 1
    environment = {key: value for key, value in os.environ.items() if key != "SEMID_DATA"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=source.replace(long, short),
        cwd=project / "notebooks",
        env={**environment, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_defines_only_how_to_draw(name: str) -> None:
    tree = ast.parse(source_of(name))
    defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [node.name for node in defined] == DRAWS.get(name, [])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_was_run_as_it_stands(name: str) -> None:
    """`make notebooks` makes it so."""
    here = [(cell.cell_type, cell.source) for cell in jupytext.read(FOLDER / f"{name}.py").cells]
    there = [(cell["cell_type"], "".join(cell["source"])) for cell in executed(name)["cells"]]
    assert there == here
    cells = code_cells(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == NOTEBOOKS[name][0]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_small_and_says_nothing_of_the_machine(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert len(text.encode()) <= MOST_BYTES
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
    assert not [o for c in code_cells(name) for o in c["outputs"] if o.get("name") == "stderr"]
