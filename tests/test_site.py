"""The documentation's site is built without a warning, and leaves out nothing of what semid has."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from conftest import assert_parses, run_here

import semid
import semid.recsys
from semid.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "data" / "README.md"])
GROUP = typer.main.get_command(app)


def fences(page: Path, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.S | re.M)


# the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` makes, in the environment of this test."""
    folder, venv = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("ready")
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    (venv / ".docs").touch()
    command = ["make", "docs", f"VENV={venv}", f"SITE={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def words_of(page: Path, section: str) -> set[str]:
    html = re.search(rf'<section id="{section}">(.*?)</section>', page.read_text(), re.S)
    assert html is not None, section
    # What may be given several times ends in dots.
    words = re.split(r"[\s,]+", unescape(re.sub(r"<[^>]+>", " ", html[1])))
    return {word.rstrip(".…") for word in words}


def test_every_command_is_there_with_every_option(site: Path) -> None:
    for name, command in GROUP.commands.items():
        words = words_of(site / "reference" / "commands.html", f"semid-{name}")
        for parameter in command.params:
            hidden = getattr(parameter, "hidden", False)
            named = parameter.opts if parameter.param_type_name == "option" else [parameter.name]
            assert hidden or set(named) <= words, (name, named)


def test_every_metric_is_there(site: Path) -> None:
    page = (site / "reference" / "metrics.html").read_text()
    found = 0
    for file in sorted((ROOT / "semid" / "metrics").glob("[!_]*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                assert f'id="semid.metrics.{file.stem}.{node.name}"' in page, node.name
                # Its source, or that it has none.
                said = ast.get_docstring(node) or ""
                assert re.search(r"\b(1[89]|20)\d\d\b|arXiv|Own\sdefinition", said), node.name
                found += 1
    assert found >= 10


def test_every_public_name_is_there(site: Path) -> None:
    page = (site / "reference" / "library.html").read_text()
    for name in semid.__all__:
        assert name == "__version__" or f'id="semid.{name}"' in page, name
    for name in semid.recsys.__all__:
        assert f'id="semid.recsys.{name}"' in page, name
    for name in ("IdTable.append", "IdTable.lookup", "Quantizer.encode", "Quantizer.decode"):
        assert f'id="semid.{name}"' in page


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"(\w+:)?//", page.read_text()
        )
        assert not loaded, page


# what it is made with


@pytest.fixture
def tool() -> Callable[[str], dict[str, Any]]:
    return lambda name: runpy.run_path(str(DOCS / f"{name}.py"))


def test_links_that_lead_nowhere_are_found(tool, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here">x</a><a href="b/c.html#there">')
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.html").write_text(
        '<a href="../a.html#gone"></a><a href="../a.html">x</a><a href="d.html">y</a>'
        '<a href="https://example.org/e.html#f">z</a><img src="g.png">'
    )
    assert tool("links")["broken_links"](tmp_path) == [
        "a.html: b/c.html#there",
        "b/c.html: ../a.html#gone",
        "b/c.html: d.html",
        "b/c.html: g.png",
    ]


def test_docstrings_become_lists(tool) -> None:
    lines = [
        *("Say it.", "", "More of it : here.", "  indented", ""),
        *("Parameters", "----------", "x, y : embeddings,", "    ``(n, d)``", "seed : any", ""),
        *("Raises", "------", "SemidError", "    For bad rows."),
    ]
    assert tool("generated")["as_rest"](lines) == [
        *("Say it.", "", "More of it : here.", "  indented", ""),
        *(":Parameters:", "   - **x, y**: embeddings, ``(n, d)``", "   - **seed**: any", ""),
        *(":Raises:", "   - **SemidError**: For bad rows.", ""),
    ]


# what the pages say


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_options_that_exist(page: Path) -> None:
    for block in fences(page):
        for line in re.findall(r"^(?:[A-Z_]+=\S+ )*(semid .*)$", block, re.M):
            assert_parses(line)


def test_guides_begin_with_commands() -> None:
    guides = sorted((DOCS / "guides").glob("*.md"))
    assert len(guides) >= 5
    for guide in guides:
        assert "semid " in fences(guide)[0], guide
        assert len(guide.read_text().splitlines()) <= 100, guide


def test_two_tables_are_joined(vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name, width in (("embeddings", 4), ("features", 6), ("behaviour", 5)):
        pq.write_table(vectors(20, width), f"out/{name}.parquet")
    page = (DOCS / "guides" / "inputs.md").read_text()
    examples = re.findall(r"^semid (join .*)$", page, re.M)
    made = {"both": ["text", "facts"], "text_behaviour": ["text", "behaviour"]}
    for example, (name, columns) in zip(examples, made.items(), strict=True):
        assert run_here(*example.split()).code == 0
        assert run_here("check", f"out/{name}.parquet").code == 0
        joined = pq.read_table(f"out/{name}.parquet")
        assert (joined.schema.names, joined.num_rows) == (["item_id", *columns], 20)


def sentences() -> str:
    """Every text of the source, with … for what is put into it."""
    found = []
    for file in sorted((ROOT / "semid").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                found.append(re.sub("…+", "…", "".join(map(str, parts))))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_errors_are_quoted_as_they_are() -> None:
    quoted = re.findall(r"^\| `([^`]+)` \|", (DOCS / "guides" / "errors.md").read_text(), re.M)
    said = sentences()
    assert len(quoted) >= 25
    for words in quoted:
        assert words in said, words
