"""Importing semid is light, its names resolve, and a package that is missing is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import semid

HEAVY = ["torch", "faiss", "pandas", "sklearn", "sentence_transformers", "transformers", "ray"]


def in_fresh_python(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(arguments or ("-c", code))]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def loaded_by(code: str, folder: Path) -> tuple[set[str], float]:
    """Which heavy packages are loaded after `code`, and how long it took inside Python."""
    done = in_fresh_python(
        f"import sys, time, json; start = time.perf_counter()\n{code}\n"
        "took = time.perf_counter() - start\n"
        f"print(json.dumps([[name for name in {HEAVY} if name in sys.modules], took]))",
        folder,
    )
    assert done.returncode == 0, done.stderr
    names, took = json.loads(done.stdout.splitlines()[-1])
    return set(names), took


@pytest.mark.parametrize(
    "code",
    [
        "import semid",
        "import semid; semid.SemidError, semid.__version__, dir(semid)",
        "import semid; semid.read_ids, semid.IdTable",
        "import semid.cli",
    ],
)
def test_importing_is_light(code: str, tmp_path: Path) -> None:
    names, took = loaded_by(code, tmp_path)
    sys.stdout.write(f"{code}: {took:.3f} s\n")
    assert names == set()


def test_jobs_load_torch_only_when_they_run(tmp_path: Path) -> None:
    code = (
        "import semid.jobs.run, semid.jobs.train, semid.jobs.assign, semid.jobs.embed\n"
        "import semid.jobs.evaluate, semid.jobs.export, semid.jobs.inspect, semid.encoders"
    )
    names, took = loaded_by(code, tmp_path)
    sys.stdout.write(f"all jobs: {took:.3f} s\n")
    assert names <= {"pandas"}  # which Arrow loads with its first array


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_the_command_line_answers_without_heavy_packages(
    arguments: list[str], tmp_path: Path
) -> None:
    start = time.perf_counter()
    done = in_fresh_python("", tmp_path, "-X", "importtime", "-m", "semid", *arguments)
    sys.stdout.write(f"semid {' '.join(arguments)}: {time.perf_counter() - start:.3f} s\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "semid.cli" in imported
    assert imported.isdisjoint(HEAVY)


def test_public_names() -> None:
    from semid.errors import SemidError
    from semid.fitting import fit
    from semid.id_reading import read_ids
    from semid.id_table import IdTable
    from semid.quantizer import Quantizer, load

    assert semid.fit is fit
    assert semid.load is load
    assert semid.read_ids is read_ids
    assert semid.Quantizer is Quantizer
    assert semid.IdTable is IdTable
    assert semid.SemidError is SemidError
    assert sorted(semid.__all__) == sorted(dir(semid))
    for name in semid.__all__:
        assert getattr(semid, name) is not None
    with pytest.raises(AttributeError, match="module 'semid' has no attribute 'train'"):
        semid.train  # noqa: B018
    assert not hasattr(semid, "torch")


# A Python in which packages are not installed: nothing finds them.
WITHOUT = """
import sys
class Absent:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name): return getattr(self.finder, name)
sys.meta_path[:] = [Absent(finder) for finder in sys.meta_path]
"""
FITTING = """
import numpy as np, semid
semid.fit(np.random.default_rng(0).normal(size=(50, 4)), "{kind}", (4,))
"""


def without(absent: list[str], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return in_fresh_python(WITHOUT.format(absent=absent) + code, folder)


@pytest.mark.parametrize("kind", ["rqvae", "rqkmeans"])
@pytest.mark.parametrize("absent", ["torch", "faiss"])
def test_a_missing_package_names_the_extra(absent: str, kind: str, tmp_path: Path) -> None:
    done = without([absent], FITTING.format(kind=kind), tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("semid.errors.SemidError: ")
    assert last.endswith(
        f"needs the package '{absent}', which is not installed; run: pip install 'semid[cpu]'"
    )


@pytest.mark.parametrize("name", ["fit", "load", "Quantizer"])
def test_public_names_without_torch(name: str, tmp_path: Path) -> None:
    done = without(["torch"], f"import semid; semid.{name}", tmp_path)
    assert done.stderr.splitlines()[-1] == (
        "semid.errors.SemidError: the quantizer needs the package 'torch', which is not "
        "installed; run: pip install 'semid[cpu]'"
    )


def test_without_torch_and_faiss_the_rest_works(tmp_path: Path) -> None:
    code = (
        "import semid, semid.cli, semid.jobs.run, semid.jobs.export, semid.encoders\n"
        "semid.read_ids, semid.IdTable, semid.SemidError"
    )
    done = without(
        ["torch", "faiss", "sentence_transformers", "transformers", "ray"], code, tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_encoding_needs_no_faiss(tmp_path: Path) -> None:
    import numpy as np

    x_nd = np.random.default_rng(0).normal(size=(50, 4))
    config: dict[str, Any] = {"training": {"epochs": 1}, "model": {"hidden": [4]}}
    model = semid.fit(x_nd, "rqvae", (4,), config=config, device="cpu")
    model.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", x_nd)
    code = "import numpy as np, semid; print(semid.load('model').encode(np.load('x.npy')).tolist())"
    done = without(["faiss"], code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == model.encode(x_nd).tolist()


def test_importing_leaves_the_process_alone(tmp_path: Path) -> None:
    code = (
        "import os, signal, threading, warnings, logging\n"
        "def state(): return (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGINT),"
        " threading.active_count(), list(warnings.filters), logging.getLogger().handlers[:])\n"
        "before = state()\nimport semid, semid.encoders, semid.jobs.run, semid.fitting\n"
        "import json; changed = [i for i, (a, b) in enumerate(zip(before, state())) if a != b]"
    )
    done = in_fresh_python(f"{code}\nprint(json.dumps(changed))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) in ([], [4])  # torch adds filters of warnings
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_assigning_loads_torch_but_not_pandas(tmp_path: Path, world: Path) -> None:
    code = (
        "from semid.jobs.assign import assign\n"
        f"assign({str(world / 'embeddings.parquet')!r}, model={str(world / 'model')!r}, "
        "output='ids.parquet')"
    )
    names, _ = loaded_by(code, tmp_path)
    assert names & {"torch", "pandas"} == {"torch"}
