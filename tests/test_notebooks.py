"""The notebooks run from top to bottom, and hold nothing that belongs in the library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
# What each draws, and the line that says how long it trains with the line for a quick look.
NOTEBOOKS = {
    "from_autoencoder_to_rqvae.py": (6, "EPOCHS = 60\n", "EPOCHS = 2\n"),
}


def test_every_notebook_is_listed() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_draws(name: str, tmp_path: Path) -> None:
    figures, long, short = NOTEBOOKS[name]
    source = (FOLDER / name).read_text()
    assert source.count(long) == 1
    count = "\nprint(len(plt.get_fignums()))\n"
    (tmp_path / name).write_text(source.replace(long, short) + count)
    done = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{figures}\n"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_defines_only_how_to_draw(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text())
    defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [node.name for node in defined] == ["pictures"]
