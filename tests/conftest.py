"""What the suites share: a small catalog, a tiny trained model, and two ways to run a command."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

# Fits this small are slower on several threads; torch is not loaded yet and reads this when it is.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from semid.cli import app, main

# A shell starts what runs in the background deaf to Ctrl-C, and commands would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROWS, WIDTH = 400, 16
TINY = ("--levels", "8,8", "--set", "training.epochs=2", "--set", "model.hidden=[16]")
LSA = (
    *("--text", "title,brand", "--set", f"dim={WIDTH}"),
    *("--set", "features=1024", "--set", "char_ngrams=[0,0]"),
)


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def error(self):
        """The one sentence of a user's mistake; fails when there is anything else."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        said = [line for line in _lines(self.err) if not _is_progress(line)]
        assert len(said) == 1, self.err
        assert said[0].startswith("error: ")
        return said[0].removeprefix("error: ")


def _lines(text):
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()]


def _is_progress(line):
    return "%|" in line or "/s]" in line or re.match(r"\S+ +(up to date|written)", line) is not None


def run_here(*arguments):
    """Run a command inside this process; quick, since torch is loaded once."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["semid", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = 0 if end.code is None else int(end.code)
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


def assert_parses(line):
    """Fail unless `line`, as ``semid train … --seed 0``, is a command with options that exist."""
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    command = group.get_command(typer.Context(group), name)
    assert command is not None, line
    command.make_parser(typer.Context(command)).parse_args(arguments)  # raises for the unknown


def environment(**more):
    """The environment of a command in its own process; nothing is looked for on a hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", **{k: str(v) for k, v in more.items()}}


def start(*arguments, before="", **options):
    """Start a command as a process of its own, in a session of its own.

    `before` is Python code that runs first, to break the environment or to kill at a moment.
    """
    code = f"{before}\nfrom semid.__main__ import run\nif __name__ == '__main__':\n    run()\n"
    program = [sys.executable, "-c", code] if before else [sys.executable, "-m", "semid"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options = {**pipes, "env": environment(), "start_new_session": True, **options}
    return subprocess.Popen([*program, *map(str, arguments)], **options)


def run_apart(*arguments, **options):
    """Run a command as a process of its own, to its end."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def make_catalog(rows=ROWS, *, seed=0, words=6):
    """Items with string ids, titles of random words, brands and prices."""
    random = np.random.default_rng(seed)
    vocabulary = np.array([f"{a}{b}{c}" for a in "bdfg" for b in "aeiou" for c in "lmnrst"])
    titles = vocabulary[random.integers(0, len(vocabulary), (rows, words))]
    return pa.table(
        {
            "item_id": [f"P{number:06d}" for number in random.permutation(rows)],
            "title": [" ".join(title) for title in titles],
            "brand": random.choice(["Topaz", "Verdiera", "Okapi", "Lindqvist"], rows).tolist(),
            "price": random.uniform(1, 90, rows).round(2),
        }
    )


def make_embeddings(rows=ROWS, width=WIDTH, *, seed=0, ids=None):
    """Embeddings in a few clusters, shape ``(rows, width)``, as semid writes them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, width))
    x_nd = centres[random.integers(0, 12, rows)] + 0.3 * random.normal(size=(rows, width))
    values = pa.array(x_nd.astype(np.float32).reshape(-1))
    ids = [f"P{number:06d}" for number in range(rows)] if ids is None else ids
    return pa.table({"item_id": ids, "embedding": pa.FixedSizeListArray.from_arrays(values, width)})


def rewrite(path, name, changes):
    """Put other values into rows of a column, leaving the metadata as it is."""
    was = pq.read_table(path)
    values = was[name].to_pylist()
    for row, value in changes.items():
        values[row] = value
    place = was.schema.get_field_index(name)
    kind = was.schema.field(name).type
    kind = pa.list_(kind.value_type) if pa.types.is_list(kind) else kind
    pq.write_table(was.set_column(place, name, pa.array(values, kind)), path)


@pytest.fixture(scope="session")
def catalog() -> Callable[..., pa.Table]:
    """Make a small catalog: ``catalog(rows, seed=0)``."""
    return make_catalog


@pytest.fixture(scope="session")
def vectors() -> Callable[..., pa.Table]:
    """Make a small table of embeddings: ``vectors(rows, width)``."""
    return make_embeddings


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder that every command has passed through; tests read it and leave it as it is.

    items.parquet, embeddings.parquet, embeddings.encoder/, model/, ids.parquet, tokens.json and
    metrics.json, all from `ROWS` items, `WIDTH` dims and two levels of 8 codewords.
    """
    folder = tmp_path_factory.mktemp("world")
    items, embeddings, model = (
        folder / n for n in ("items.parquet", "embeddings.parquet", "model")
    )
    ids = folder / "ids.parquet"
    pq.write_table(make_catalog(), items)
    for arguments in (
        ("embed", items, "--output", embeddings, *LSA),
        ("train", embeddings, "--output", model, *TINY),
        ("assign", embeddings, "--model", model, "--output", ids),
        ("export", ids, "--format", "tokens-json", "--output", folder / "tokens.json"),
        (
            *("evaluate", ids, "--embeddings", embeddings, "--model", model),
            *("--output", folder / "metrics.json", "--no-baseline"),
        ),
    ):
        done = run_here(*arguments)
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Start commands as children of a process that has imported everything."""
    from forks import Forks

    made = Forks(tmp_path_factory.mktemp("forks") / "log")
    made.start("--version").communicate(timeout=180)  # the imports are done
    yield made
    made.parent.stdin.close()
    made.parent.wait()
    made.parent.stdout.close()
