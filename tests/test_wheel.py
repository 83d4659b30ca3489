"""The built wheel works in an environment that has nothing of the project's tools."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("semid-*.whl")
    return built


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"semid", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    assert "semid/py.typed" in names
    kinds = ("*.py", "*.js", "*.css")
    modules = {str(p.relative_to(ROOT)) for kind in kinds for p in (ROOT / "semid").rglob(kind)}
    assert modules <= set(names)


def required(name: str, extras: set[str], found: dict[str, metadata.Distribution]) -> None:
    """Collect what a distribution needs to run, as its metadata and theirs say."""
    distribution = metadata.distribution(name)
    for line in distribution.requires or []:
        needed = Requirement(line)
        asked = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if needed.marker is not None and not any(map(needed.marker.evaluate, asked)):
            continue
        key = canonicalize_name(needed.name)
        if key not in found or needed.extras:
            found[key] = metadata.distribution(key)
            required(key, needed.extras, found)


def link_what_is_required(site: Path) -> None:
    """Stand in for an installation, of minutes: the same files, linked."""
    found: dict[str, metadata.Distribution] = {}
    required("semid", {"cpu"}, found)
    link(site, found)


def link(site: Path, names: Iterable[str]) -> None:
    """Put the files of distributions into a folder of packages, as links."""
    for distribution in map(metadata.distribution, names):
        root = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(root / top)


def test_it_runs_without_development_dependencies(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    # A path that the environment names may hold semid already.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([python, *install, wheel], check=True, cwd=tmp_path)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    link_what_is_required(site)
    missing = "import importlib.util as u; assert not u.find_spec('pytest'); import semid"
    subprocess.run([python, "-c", missing], check=True, cwd=tmp_path)
    semid = tmp_path / "env" / "bin" / "semid"
    items = str(ROOT / "data" / "items.parquet")
    for command in (
        ["--version"],
        ["embed", items, "--output", "e.parquet", "--text", "title", "--set", "dim=16"],
        ["train", "e.parquet", "-o", "model", "--levels", "16,16", "--set", "training.epochs=2"],
        ["assign", "e.parquet", "-m", "model", "-o", "ids.parquet"],
        ["export", "ids.parquet", "-f", "npz", "-o", "ids.npz"],
        ["evaluate", "ids.parquet", "--embeddings", "e.parquet", "-m", "model", "-o", "m.json"],
    ):
        subprocess.run([semid, *command], check=True, cwd=tmp_path)
    assert (tmp_path / "m.json").exists()
