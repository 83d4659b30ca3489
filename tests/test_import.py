"""`import semid` is light, and a package that is missing is named with its extra."""

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "faiss", "pandas", "sklearn", "sentence_transformers", "ray"]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import importlib.util as util
found = util.find_spec
util.find_spec = lambda name, *rest: None if name == {name!r} else found(name, *rest)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["semid", "semid.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = python(
        f"import json, sys, {module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_public_names_resolve() -> None:
    done = python("import semid; print([getattr(semid, name) for name in semid.__all__])")
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    done = python("import semid; semid.nothing")
    assert "AttributeError: module 'semid' has no attribute 'nothing'" in done.stderr


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("torch", "import semid; semid.fit"),
        ("faiss", "import numpy, semid; semid.fit(numpy.ones((40, 8)), levels=(4, 4))"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name: str, code: str) -> None:
    done = python(BLOCK.format(name=name) + code)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("semid.errors.SemidError: ")
    assert f"'{name}'" in last
    assert "pip install 'semid[cpu]'" in last
