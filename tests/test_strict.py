"""`semid train --strict`, and where the verdicts of a training are to be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, Outcome, run_here


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of which 19 in 20 are one row: no quantizer uses 8 codewords evenly."""
    x_nd = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    x_nd[20:] = x_nd[0]
    values = pa.FixedSizeListArray.from_arrays(x_nd.reshape(-1), 8)
    path = tmp_path_factory.mktemp("uneven") / "embeddings.parquet"
    pq.write_table(pa.table({"item_id": range(400), "embedding": values}), path)
    return path


def train(embeddings: Path, output: Path, *more: object) -> Outcome:
    return run_here("train", embeddings, "--output", output, *TINY, *more)


def test_a_missed_floor_is_exit_code_3_and_writes_nothing(uneven: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    done = train(uneven, output, "--strict")
    assert done.code == 3
    (said,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    for words in (
        *("error: level 0: perplexity", "of 8 misses the floor of 4.0", "level 1: perplexity"),
        *("data: ", "sampled rows repeat another bit for bit", "strict was asked for, so"),
    ):
        assert words in said
    assert said.endswith("model was not written")
    assert not output.exists()


def test_verdicts_are_printed_kept_and_shown(uneven: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    done = train(uneven, output)
    assert done.code == 0
    kept = json.loads((output / "metrics.json").read_text())["verdicts"]
    assert list(kept) == ["level 0", "level 1", "data"]
    for about, sentence in kept.items():
        assert f"{about}: {sentence}" in done.err.splitlines()
        assert sentence not in done.out
        assert sentence in run_here("show", output).out
    assert run_here("show", output, "--json").json["metrics"]["verdicts"] == kept
    again = train(uneven, output, "--json")
    assert again.json["up_to_date"]
    assert again.json["summary"]["verdicts"] == kept
    # A model that is there already misses the floor too, and stays.
    before = (output / "model.safetensors").read_bytes()
    assert train(uneven, output, "--strict").code == 3
    assert train(uneven, output, "--strict", "--seed", "1", "--overwrite").code == 3
    assert (output / "model.safetensors").read_bytes() == before


def test_a_floor_that_is_reached(uneven: Path, world: Path, tmp_path: Path) -> None:
    assert (
        train(uneven, tmp_path / "a", "--strict", "--set", "training.utilization_floor=0").code == 0
    )
    done = train(world / "embeddings.parquet", tmp_path / "b", "--strict", "--json")
    assert done.json["summary"]["verdicts"] == {}
    assert "verdicts: none" in run_here("show", tmp_path / "b").out


def test_the_baseline_has_a_floor_too(uneven: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    done = run_here(
        *("train", uneven, "--output", output, "--levels", "8,8", "--quantizer", "rqkmeans"),
        "--strict",
    )
    assert done.code == 3


def test_a_network_without_codes_cannot_be_strict(uneven: Path, tmp_path: Path) -> None:
    done = train(uneven, tmp_path / "model", "--quantizer", "vae", "--strict")
    assert done.error == "strict asks for evenly used codes, but a vae has none; leave it out"


def test_a_pipeline_that_is_strict(uneven: Path, tmp_path: Path) -> None:
    def pipeline(strict: str) -> Path:
        path = tmp_path / "pipeline.toml"
        path.write_text(
            f'[steps.train]\nembeddings = "{uneven}"\noutput = "{tmp_path / "model"}"\n'
            f"strict = {strict}\n"
            "settings = { levels = [8, 8], training.epochs = 2, model.hidden = [16] }\n"
        )
        return path

    done = run_here("run", pipeline("true"))
    assert done.code == 3
    assert "pipeline.toml, step 'train': level 0: perplexity" in done.err
    assert not (tmp_path / "model").exists()
    done = run_here("run", pipeline("false"))
    assert done.code == 0
    assert any(line.startswith("data: ") for line in done.err.splitlines())
    assert (tmp_path / "model").exists()
    assert "is not valid" in run_here("run", pipeline('"yes please"')).error
