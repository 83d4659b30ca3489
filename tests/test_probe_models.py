"""The models that judge IDs: what they compute, held against slow ways to say the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import environment
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Generator, nn

from semid.devices import dtype_of
from semid.errors import SemidError
from semid.id_table import IdTable
from semid.metrics.ranking import MISSED
from semid.probe.fitting import fit, of_one_length, shuffled
from semid.probe.generative import GenerativeModel
from semid.probe.judging import constraint_of, generated, scored
from semid.probe.sequential import SequentialModel
from semid.probe.settings import NetworkSettings
from semid.recsys import SidSequenceDataset, read_sequences
from semid.recsys.histories import Sequences

SMALL = NetworkSettings(
    width=16, layers=2, heads=2, head_width=8, feedforward=32, max_items=4, epochs=2, batch=8
)
LEVELS = (3, 3, 2)
# Items 2 and 3 share a SID, and so do 6, 7 and 8.
SIDS = np.array(
    [
        *([0, 0, 0], [0, 1, 0], [0, 2, 1], [0, 2, 1], [1, 0, 0]),
        *([1, 1, 1], [2, 0, 0], [2, 0, 0], [2, 0, 0], [2, 2, 1]),
    ]
)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Forty users with 3 to 8 of ten items each."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:02}", f"i{item}", place)
        for user in range(40)
        for place, item in enumerate(random.integers(0, 10, random.integers(3, 9)))
    ]
    path = tmp_path_factory.mktemp("probe") / "interactions.parquet"
    names = ["user_id", "item_id", "position"]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=names), path)
    return read_sequences(path, [f"i{item}" for item in range(10)])


def dataset(sequences, codes, part="training", most=4):
    given = {"examples": "chunks", "max_items": most, "padding": -1}
    return SidSequenceDataset(sequences, codes, part, **given)


def generative(seed=0):
    model = GenerativeModel(LEVELS, SMALL, Generator().manual_seed(seed))
    with torch.no_grad():  # as drawn, all is nearly equal
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(20)
    return model


def log_probability(model, history, sid):
    """The log-probability of a SID after a history: the losses of whole rows, subtracted."""
    total = torch.zeros(())
    rows = torch.from_numpy(np.array([*history, sid]))[None]
    hidden, _ = model.read(rows[:, :-1], rows[:, -1, :-1])
    for level, code in enumerate(sid):
        at = hidden[0, len(history) * len(sid) - 1 + level]
        total += model.logits(at, level).log_softmax(-1)[code]
    return float(total.detach())


def test_a_beam_search_over_all_sids_ranks_as_their_probabilities_do(sequences):
    model, data = generative(), dataset(sequences, SIDS, "test")
    found = generated(model, data, constraint_of(model, SIDS), beams=20, precision="float32")
    distinct = np.unique(SIDS, axis=0)
    for example in range(len(data)):
        batch = data[example]
        history = SIDS[batch.items_bt[0].numpy()]
        chance = np.array([log_probability(model, history, sid) for sid in distinct])
        target = int(batch.target_items[0])
        own = chance[(distinct == SIDS[target]).all(1)][0]
        better = distinct[chance > own]
        before = sum(int((sid == SIDS).all(1).sum()) for sid in better)
        assert found.before[example] == before
        assert found.tied[example] == (SIDS[target] == SIDS).all(1).sum()
        assert found.item[example] == target


def test_a_target_beyond_the_beams_is_missed(sequences):
    model, data = generative(), dataset(sequences, SIDS, "test")
    whole = generated(model, data, constraint_of(model, SIDS), beams=20, precision="float32")
    few = generated(model, data, constraint_of(model, SIDS), beams=1, precision="float32")
    missed = few.before == MISSED
    assert missed.any()
    assert not missed.all()
    assert (few.before[~missed] == 0).all()
    assert not (whole.before == MISSED).any()


def test_padding_changes_no_loss(sequences):
    model, data = generative(), dataset(sequences, SIDS)
    together = data.__getitems__(range(len(data)))
    assert (together.items_bt < 0).any()
    places = total = 0.0
    for example in range(len(data)):
        one = data[example]
        count = len(one.items_bt[0])
        places, total = places + count, total + count * float(model.loss(one).detach())
    assert float(model.loss(together).detach()) == pytest.approx(total / places, rel=1e-5)


def test_what_comes_later_is_not_seen(sequences):
    model = generative()
    codes = torch.from_numpy(SIDS[[0, 4, 9]])[None]
    changed = codes.clone()
    changed[0, 2] = torch.tensor([1, 1, 1])
    before, after = (model.read(one, one[:, 0, :0])[0][0] for one in (codes, changed))
    assert torch.allclose(before[: 2 * 3], after[: 2 * 3], atol=1e-6)
    assert not torch.allclose(before[2 * 3 :], after[2 * 3 :], atol=1e-3)
    sequential = SequentialModel(torch.from_numpy(SIDS), LEVELS, SMALL, Generator().manual_seed(0))
    before, after = (sequential.read(one)[0] for one in (codes, changed))
    assert torch.allclose(before[:2], after[:2], atol=1e-6)
    assert not torch.allclose(before[2:], after[2:], atol=1e-3)


def test_the_loss_over_all_items_and_its_gradient_are_those_of_torch(sequences):
    chance = Generator().manual_seed(0)
    model = SequentialModel(torch.from_numpy(SIDS), LEVELS, SMALL, chance)
    batch = dataset(sequences, SIDS).__getitems__(range(8))
    model.loss(batch).backward()
    own = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    logits = model.read(batch.tokens_bts) @ model.embedding(torch.from_numpy(SIDS)).T
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.target_items.flatten(), ignore_index=-1
    )
    assert float(model.loss(batch).detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    for name, weight in model.named_parameters():
        assert torch.allclose(own[name], weight.grad, atol=1e-6), name


def test_what_the_training_reads_holds_every_item_but_the_first_as_a_target(sequences):
    data = SidSequenceDataset(sequences, SIDS, examples="chunks", max_items=2, padding=-1)
    met = {}
    for example in range(len(data)):
        batch = data[example]
        items, targets = batch.items_bt[0].tolist(), batch.target_items[0].tolist()
        assert len(items) <= 2
        assert items[1:] == targets[:-1]
        met.setdefault(int(batch.users_b[0]), []).extend(targets)
    for user, targets in met.items():
        start, stop = sequences.offset_u[user : user + 2]
        here = sequences.part_m[start:stop] == 0
        assert targets == sequences.item_m[start:stop][here][1:].tolist()


def test_items_of_equal_codes_tie(sequences):
    chance = Generator().manual_seed(0)
    model = SequentialModel(torch.from_numpy(SIDS), LEVELS, SMALL, chance)
    data = dataset(sequences, SIDS, "test")
    ranks = scored(model, data)
    size_n = (SIDS[:, None] == SIDS[None]).all(2).sum(1)
    np.testing.assert_array_equal(ranks.tied, size_n[ranks.item])
    batch = data[3]
    scores = model.scores(batch.tokens_bts, model.embedding(model.codes_ns))[0]
    target = int(batch.target_items[0])
    assert ranks.before[3] == int((scores > scores[target] + 1e-6).sum())


@pytest.mark.parametrize("codes", [SIDS, np.arange(10)[:, None]])
def test_training_lowers_the_loss_and_repeats(sequences, codes):
    data = dataset(sequences, codes)
    runs = []
    for _ in range(2):
        chance = Generator().manual_seed(1)
        levels = tuple(int(most) + 1 for most in codes.max(0))
        model = SequentialModel(torch.from_numpy(codes), levels, SMALL, chance)
        runs.append(fit(model, data, SMALL, seed=3, precision="float32").losses)
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0]


def stopped_at(epochs):
    """What stops a training once so many epochs are done."""

    def stop(done):
        if done >= epochs:
            raise InterruptedError

    return stop


@pytest.mark.parametrize("epochs", [0.1, 0.5, 1.0, 1.5, 2.0])
def test_training_goes_on_from_a_checkpoint(sequences, tmp_path, monkeypatch, epochs):
    monkeypatch.setattr("semid.probe.fitting._SAVE_SECONDS", -1.0)
    data = dataset(sequences, SIDS)
    whole = generative()
    expected = fit(whole, data, SMALL, seed=0, precision="float32").losses

    given = {"seed": 0, "checkpoint": tmp_path / "run.safetensors", "precision": "float32"}
    with pytest.raises(InterruptedError):
        fit(generative(), data, SMALL, **given, on_step=stopped_at(epochs))
    again, told = generative(seed=5), []
    assert fit(again, data, SMALL, **given, on_step=told.append).losses == expected
    assert all(done > epochs for done in told)  # nothing is trained on twice
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_tells_where_it_is(sequences):
    data, steps, epochs = dataset(sequences, SIDS), [], []
    fit(
        generative(),
        data,
        SMALL,
        seed=0,
        on_step=steps.append,
        on_epoch=lambda done, loss: epochs.append(done),
    )
    assert epochs == [1, 2]
    each = len(steps) // 2
    assert each >= 5  # 40 users or more, 8 at once
    assert steps == pytest.approx([step / each for step in range(1, 2 * each + 1)])


def test_seconds_before_an_interruption_count(sequences, tmp_path, monkeypatch):
    monkeypatch.setattr("semid.probe.fitting._SAVE_SECONDS", -1.0)
    data, kept = dataset(sequences, SIDS), tmp_path / "run.safetensors"

    def slow(epochs, loss):
        time.sleep(0.5)

    with pytest.raises(InterruptedError):
        fit(
            generative(),
            data,
            SMALL,
            seed=0,
            checkpoint=kept,
            on_epoch=slow,
            on_step=stopped_at(1.2),
        )
    assert fit(generative(), data, SMALL, seed=0, checkpoint=kept).seconds > 0.5


@pytest.mark.parametrize("other", ["seed", "settings", "precision", "data"])
def test_a_checkpoint_of_another_run_is_refused(sequences, tmp_path, monkeypatch, other):
    monkeypatch.setattr("semid.probe.fitting._SAVE_SECONDS", -1.0)
    data, kept = dataset(sequences, SIDS), tmp_path / "run.safetensors"
    fit(generative(), data, SMALL, seed=0, precision="float32", checkpoint=kept)
    if other == "data":
        data = SidSequenceDataset(sequences, SIDS, "training", max_items=4, padding=-1)
    settings = replace(SMALL, epochs=3) if other == "settings" else SMALL
    seed, precision = int(other == "seed"), "bfloat16" if other == "precision" else "float32"
    with pytest.raises(SemidError, match=r"run.safetensors is of another run .*; remove it to"):
        fit(generative(), data, settings, seed=seed, precision=precision, checkpoint=kept)


class NoModule:
    """Has a loss and weights, but no state that a checkpoint could hold."""

    weight = nn.Parameter(torch.zeros(2, 2))

    def parameters(self):
        return iter([self.weight])

    def loss(self, batch, generator=None):
        return self.weight.sum()


@pytest.mark.parametrize("model", [NoModule(), nn.Linear(2, 2)])
def test_what_is_no_module_with_a_loss_is_refused(sequences, model):
    name = type(model).__name__
    with pytest.raises(SemidError, match=f"the model is a {name}; give a torch.nn.Module with a "):
        fit(model, dataset(sequences, SIDS), SMALL, seed=0)


RUN = """
import sys
import semid.probe.fitting
from semid.probe.run import Protocol, run
from semid.probe.settings import NetworkSettings, ProbeSettings
from pathlib import Path

semid.probe.fitting._SAVE_SECONDS = 0.0
ids, met, checkpoint, epochs = sys.argv[1:]
sizes = NetworkSettings(
    width=16, heads=2, head_width=8, feedforward=32, max_items=4, epochs=int(epochs), batch=8
)
settings = ProbeSettings(sizes, sizes, precision="float32")
protocol = Protocol(met, "item_id", settings, "test", "cpu")
row, _ = run("generative", ids, 1, protocol, checkpoint=Path(checkpoint))
print({name: value for name, value in row.items() if not name.endswith("_seconds")})
"""


def test_a_run_that_is_killed_while_it_trains_ends_as_if_it_was_not(sequences, tmp_path):
    table = IdTable.from_arrays(pa.array([f"i{item}" for item in range(10)]), SIDS, SIDS)
    pq.write_table(table.to_arrow(), tmp_path / "ids.parquet")
    user_m = np.repeat(np.arange(len(sequences)), np.diff(sequences.offset_u))
    met = {
        "user_id": [f"u{user:02}" for user in user_m],
        "item_id": [f"i{item}" for item in sequences.item_m],
        "position": np.arange(len(user_m)),
    }
    pq.write_table(pa.table(met), tmp_path / "met.parquet")

    def run(checkpoint):
        given = (tmp_path / "ids.parquet", tmp_path / "met.parquet", checkpoint, 20)
        program = [sys.executable, "-c", RUN, *map(str, given)]
        return subprocess.Popen(program, stdout=subprocess.PIPE, env=environment())

    kept = tmp_path / "killed.safetensors"
    killed = run(kept)
    deadline = time.monotonic() + 90
    while not kept.exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.communicate()[0] == b""
    with safe_open(kept, "pt") as file:
        assert len(json.loads(file.metadata()["facts"])["losses"]) < 20
    again, whole = run(kept), run(tmp_path / "whole.safetensors")
    assert again.communicate()[0] == whole.communicate()[0] != b""


def test_a_loss_that_is_no_number_is_said(sequences):
    model = generative()
    with torch.no_grad():
        model.tokens.fill_(torch.inf)
    with pytest.raises(SemidError, match="the loss is nan after 1 epochs; lower the learning_rate"):
        fit(model, dataset(sequences, SIDS), SMALL, seed=0, precision="float32")


def test_batches_hold_every_example_once(sequences):
    data = dataset(sequences, SIDS)
    random = np.random.default_rng(0)
    for batches in (shuffled(data, 7, random), list(of_one_length(data, 7))):
        np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(data)))
    lengths = data.lengths()
    for batch in of_one_length(data, 7):
        assert len(set(lengths[batch])) == 1
        assert len(batch) <= 7


@given(
    st.lists(st.integers(3, 30), min_size=100, max_size=400),
    st.integers(16, 64),
    st.integers(0, 3),
)
def test_batches_of_whole_histories_have_about_as_many_targets_each(counts, batch, seed):
    """Else a target beside short histories would count for more than one beside long ones."""
    offset_u = np.append(0, np.cumsum(counts))
    zeros = np.zeros(offset_u[-1], np.int8)  # of items, and of parts: all is of training
    users = pa.array([f"u{user}" for user in range(len(counts))])
    many = Sequences(users, offset_u, zeros.astype(np.int32), zeros, 10, len(zeros), 0, 0, 0)
    data = dataset(many, SIDS, most=20)
    batches = shuffled(data, batch, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(data)))
    targets = [int(data.lengths()[rows].sum()) for rows in batches]
    assert max(targets) <= 2 * min(targets)
    assert abs(len(batches) - len(data) / batch) <= 1 + len(data) / (50 * batch)


def test_batches_of_single_targets_have_about_as_many_examples_each(sequences):
    data = SidSequenceDataset(sequences, SIDS, examples="prefixes", max_items=4, padding=-1)
    sizes = {len(rows) for rows in shuffled(data, 7, np.random.default_rng(0))}
    assert max(sizes) == 7
    assert min(sizes) >= 6


@pytest.mark.parametrize("examples", ["prefixes", "windows", "last", "shifted", "chunks"])
def test_lengths_are_those_of_histories(sequences, examples):
    data = SidSequenceDataset(sequences, SIDS, examples=examples, max_items=4, padding=-1)
    found = [int((data[example].items_bt >= 0).sum()) for example in range(len(data))]
    np.testing.assert_array_equal(data.lengths(), found)


def test_precisions():
    cpu = torch.device("cpu")
    assert dtype_of("float32", cpu) == torch.float32
    assert dtype_of("bfloat16", cpu) == torch.bfloat16
    assert dtype_of("auto", cpu) in (torch.float32, torch.bfloat16)
