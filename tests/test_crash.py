"""Outputs are absent, the old ones whole or the new ones whole, whatever ends a job and when."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, TINY, environment, make_catalog, run_apart, run_here, start
from forks import end, wait_until
from safetensors import SafetensorError, safe_open

from semid.artifact import read_artifact
from semid.errors import SemidError
from semid.id_reading import read_ids
from semid.jobs.job import produce
from semid.jobs.mapping import write_table
from semid.jobs.processes import interrupts_held
from semid.manifests import METADATA_KEY, digest, read_manifest
from semid.outputs import staging


def pipeline(folder, *, dim=16, seed=0, brand=False, workers=1):
    """Write a pipeline over ``folder/items.parquet``, its steps as in the demo."""
    text = '["title", "brand"]' if brand else '["title"]'
    (folder / "pipeline.toml").write_text(f"""
[steps.embed]
items = "{folder}/items.parquet"
workers = {workers}
output = "{folder}/out/embeddings.parquet"
settings = {{ text = {text}, dim = {dim}, features = 1024, char_ngrams = [0, 0] }}

[steps.train]
embeddings = "{folder}/out/embeddings.parquet"
output = "{folder}/out/model"


[steps.train.settings]
levels = [8, 8]
seed = {seed}
training = {{ epochs = 2 }}
model = {{ hidden = [16] }}

[steps.assign]
embeddings = "{folder}/out/embeddings.parquet"
model = "{folder}/out/model"
output = "{folder}/out/ids"

[steps.export]
ids = "{folder}/out/ids"
format = "tokens-json"
output = "{folder}/out/tokens.json"

[steps.evaluate]
ids = "{folder}/out/ids"
embeddings = "{folder}/out/embeddings.parquet"
model = "{folder}/out/model"
output = "{folder}/out/metrics.json"
baseline = false
""")
    return folder / "pipeline.toml"


OUTPUTS = ("embeddings.parquet", "model", "ids", "tokens.json", "metrics.json")
STEPS = ("embed", "train", "assign", "export", "evaluate")


def statuses(done):
    """What `semid run` said of every step: 'up to date', 'written' or 'written again'."""
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if ": " in line and "/out/" in line]
    lines = [line for line in lines if line.split()[0] in STEPS]
    return {
        line.split()[0]: line.split(maxsplit=1)[1].split(":")[0].split(" (")[0] for line in lines
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a pipeline has run to its end, and how that run ended."""
    folder = tmp_path_factory.mktemp("finished")
    pq.write_table(make_catalog(), folder / "items.parquet")
    return folder, run_here("run", pipeline(folder))


@pytest.fixture
def again(finished, tmp_path):
    """The finished folder, which a test may change; afterwards it is as it was."""
    folder = finished[0]
    shutil.copytree(folder, tmp_path / "kept")
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)


# running again


def test_a_pipeline_that_ran_is_up_to_date(finished, again):
    assert statuses(finished[1]) == dict.fromkeys(STEPS, "written")
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")
    assert "everything is up to date" in done.out


def test_a_copy_in_another_place_is_up_to_date(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    done = run_here("run", pipeline(tmp_path))
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")
    found = statuses(run_here("run", pipeline(tmp_path, seed=1)))
    assert found == {**dict.fromkeys(STEPS, "written again"), "embed": "up to date"}


def test_another_pipeline_replaces_nothing(again):
    text = (again / "pipeline.toml").read_text().replace("seed = 0", "seed = 1")
    (again / "other.toml").write_text(text)
    done = run_here("run", again / "other.toml")
    assert "step 'train': " in done.error
    assert "out/model exists and belongs to other settings (settings.seed: 0 there, 1" in done.error


def test_touching_files_runs_nothing_again(again):
    for file in again.rglob("*.*"):
        os.utime(file)
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")


def test_a_changed_setting_runs_its_step_and_what_depends_on_it(again):
    (again / "pipeline.toml").write_text(
        (again / "pipeline.toml").read_text().replace("seed = 0", "seed = 1")
    )
    done = run_here("run", again / "pipeline.toml")
    found = statuses(done)
    assert found.pop("embed") == "up to date"
    assert set(found.values()) == {"written again"}
    assert "settings.seed: 0 there, 1 now" in done.err


def test_a_changed_last_step_runs_alone(again):
    (again / "pipeline.toml").write_text(
        (again / "pipeline.toml").read_text().replace('"tokens-json"', '"npz"')
    )
    found = statuses(run_here("run", again / "pipeline.toml"))
    assert found.pop("export") == "written again"
    assert set(found.values()) == {"up to date"}


def test_changed_items_run_everything(again):
    items = pq.read_table(again / "items.parquet")
    pq.write_table(items.slice(1), again / "items.parquet")
    found = statuses(run_here("run", again / "pipeline.toml"))
    assert found == dict.fromkeys(STEPS, "written again")


def rewrite(path):
    """Change a table as a user would in a notebook, metadata kept."""
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def edit_text(path):
    path.write_text(path.read_text().replace("a_", "b_").replace('"items"', '"thing"'))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("embeddings.parquet", rewrite),
        ("model/model.safetensors", flip),
        ("model/config.json", lambda path: path.write_text(path.read_text() + " ")),
        ("model/metrics.json", Path.unlink),
        ("ids/part-00000.parquet", rewrite),
        ("ids/part-00000.parquet", lambda p: shutil.copy(p, p.with_name("part-00001.parquet"))),
        ("ids/part-00000.parquet", Path.unlink),
        ("tokens.json", edit_text),
        ("metrics.json", edit_text),
    ],
)
def test_an_output_edited_by_hand_is_noticed_and_kept(again, name, edit):
    target = again / "out" / name
    edit(target)
    before = target.read_bytes() if target.exists() else None
    done = run_here("run", again / "pipeline.toml")
    assert f"out/{name.split('/')[0]} exists and was" in done.error
    assert "--overwrite" in done.error
    assert (target.read_bytes() if target.exists() else None) == before
    done = run_here("run", again / "pipeline.toml", "--overwrite")
    assert done.code == 0, done.err
    assert (target.read_bytes() if target.exists() else None) != before


def test_notes_may_be_added_to_an_output_folder(again):
    (again / "out" / "model" / "notes.txt").write_text("the one in production")
    done = run_here("run", again / "pipeline.toml")
    assert statuses(done) == dict.fromkeys(STEPS, "up to date")


# a kill between any two file operations


KINDS = ("file", "parquet", "folder")


def make(kind, output, value):
    """Make a small output of a kind as a job does."""

    def build(stage, manifest):
        if kind == "folder":
            shutil.rmtree(stage / "staged", ignore_errors=True)
            (stage / "staged").mkdir()
            for name in ("one", "two"):
                (stage / "staged" / name).write_text(f"{value} of {name}")
            return stage / "staged", {"value": value}
        if kind == "file":
            (stage / "staged.txt").write_text(value)
            return stage / "staged.txt", {"value": value}
        batch = pa.record_batch({"value": [value]})
        metadata = {METADATA_KEY: json.dumps(manifest | {"summary": {"value": value}})}
        staged = write_table(iter([batch]), stage / "staged.parquet", batch.schema, metadata)
        return staged, {"value": value}

    plan = {"inputs": {}, "settings": {"value": value}}
    return produce(kind, output, **plan, build=build, overwrite=True)


def name_of(kind):
    return "out.parquet" if kind == "parquet" else "out"


def value_of(kind, output):
    """The value of a whole output, or None for one that is absent; anything else fails."""
    if not output.exists():
        return None
    if kind == "folder":
        values = {
            (output / name).read_text().removesuffix(f" of {name}") for name in ("one", "two")
        }
        (value,) = values
    else:
        value = output.read_text() if kind == "file" else pq.read_table(output)["value"][0].as_py()
    manifest = read_manifest(output)
    assert manifest["plan"]["settings"] == {"value": value}
    assert manifest["summary"] == {"value": value}
    return value


# Children of a process that has done nothing yet, so that they are quick and safe to fork.
KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
import pandas  # which pyarrow would import in every child
sys.path.insert(0, {tests!r})
from test_crash import make, name_of

def dies(kind, output, operations):
    left = [operations]
    def hook(event, details):
        if str(output.parent) not in repr(details) and event != "ctypes.dlsym":
            return
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    make(kind, output, "new")

def forked(work, *arguments):
    child = os.fork()
    if not child:
        work(*arguments)
        os._exit(0)
    return os.waitpid(child, 0)[1]

kind, before, place = sys.argv[1:]
for operations in range(1, 1000):
    output = Path(place, str(operations), name_of(kind))
    output.parent.mkdir()
    if before == "old":
        assert forked(make, kind, output, "old") == 0
    if forked(dies, kind, output, operations) == 0:
        break
"""


@pytest.mark.parametrize("before", ["old", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_between_any_two_file_operations(tmp_path, kind, before):
    script = KILL_EVERYWHERE.format(tests=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", script, kind, before, tmp_path], check=True)
    old = None if before == "nothing" else "old"
    found = []
    places = sorted(tmp_path.iterdir(), key=lambda place: int(place.name))
    for place in places:
        output = place / name_of(kind)
        found.append(value_of(kind, output))
        assert found[-1] in (old, "new")
        make(kind, output, "new")
        assert value_of(kind, output) == "new"
        left = sorted(p.name for p in place.iterdir())
        assert left == sorted([output.name] + ["out.manifest.json"] * (kind == "file"))
    # Killed before the first operation there is the old one, after the last the new one, and no
    # way back in between.
    assert len(found) > 10
    assert (found[0], found[-1]) == (old, "new")
    assert found == [old] * found.count(old) + ["new"] * found.count("new")


# a kill at any time


SETTINGS = {"one": {}, "other": {"dim": 12, "seed": 1, "brand": True}}


def everything(folder):
    """The contents of every output that is there, each checked against its manifest."""
    out, found = folder / "out", {}
    for name in OUTPUTS:
        if not (out / name).exists():
            continue
        manifest = read_manifest(out / name)
        assert manifest is not None, name
        if name == "model":
            weights = read_artifact(out / name).weights
            found[name] = {key: weights[key].tobytes() for key in sorted(weights)}
        elif name == "ids":
            ids = read_ids(out / name)
            assert ids.metadata["fingerprint"] == manifest["fingerprint"]
            found[name] = ids.to_arrow().replace_schema_metadata(None)
        elif name == "embeddings.parquet":
            found[name] = pq.read_table(out / name).replace_schema_metadata(None)
        else:
            found[name] = json.loads((out / name).read_text())
            assert manifest["output_digest"] == digest(out / name)
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory, forks):
    """Items in more than one part, what uninterrupted runs make of them, and their seconds.

    With one process and with two: the second starts workers, and takes longer for it.
    """
    expected, seconds = {}, {}
    for workers, (name, settings) in enumerate(SETTINGS.items(), start=1):
        folder = tmp_path_factory.mktemp(name)
        pq.write_table(make_catalog(5_000), folder / "items.parquet")
        began = time.monotonic()
        process = forks.start("run", pipeline(folder, **settings, workers=workers))
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        seconds[workers] = time.monotonic() - began
        expected[name] = everything(folder)
        assert list(expected[name]) == list(OUTPUTS)
    return folder / "items.parquet", expected, seconds


def test_a_kill_at_any_time_leaves_whole_outputs_and_a_run_that_goes_on(tmp_path, large, forks):
    items, expected, seconds = large
    shutil.copy(items, tmp_path)
    clock, kills, replacing, name = random.Random(20), 0, 0, "one"
    # A run that goes on has less to do: most of them are killed, all stages in turn.
    while kills < 12 or replacing < 4:
        workers = clock.choice([1, 2])
        process = forks.start("run", pipeline(tmp_path, **SETTINGS[name], workers=workers))
        try:
            _, err = process.communicate(timeout=clock.uniform(0, 0.8) * seconds[workers])
            assert process.returncode == 0, err
            found = everything(tmp_path)
            assert found == expected[name]
            name = "other" if name == "one" else "one"
        except subprocess.TimeoutExpired:
            end(process, signal.SIGKILL)
            kills += 1
            found = everything(tmp_path)
            for output, content in found.items():
                assert content in (expected["one"][output], expected["other"][output])
            replacing += len(found) == len(OUTPUTS)
    done = run_here("run", pipeline(tmp_path, **SETTINGS[name]))
    assert done.code == 0, done.err
    assert everything(tmp_path) == expected[name]
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []


def test_an_interrupt_at_any_time_says_what_is_kept(tmp_path, large, forks):
    items, expected, seconds = large
    shutil.copy(items, tmp_path)
    clock, interrupts, name = random.Random(5), 0, "one"
    while interrupts < 6:
        workers = clock.choice([1, 2])
        process = forks.start("run", pipeline(tmp_path, **SETTINGS[name], workers=workers))
        try:
            process.communicate(timeout=clock.uniform(0.05, 0.8) * seconds[workers])
            assert process.returncode == 0
            name = "other" if name == "one" else "one"
        except subprocess.TimeoutExpired:
            _, err = end(process, signal.SIGINT)
            if re.search(r"^evaluate +(written|up to date)", err, re.M):  # it was just done
                continue
            assert process.returncode == 2, err
            assert "Traceback" not in err
            assert err.splitlines()[-1].startswith("interrupted: ")
            interrupts += 1
    done = run_here("run", pipeline(tmp_path, **SETTINGS[name]))
    assert done.code == 0, done.err
    assert everything(tmp_path) == expected[name]


# going on


def parts_in(stage):
    return sorted((stage / "parts").glob("part-*.parquet")) if stage.exists() else []


def test_an_interrupt_waits_for_processes_that_start():
    """The signal may reach any thread of the process, and yet ends what the main thread does."""
    go, started, ended = threading.Event(), [], threading.Event()

    def send():
        go.wait()
        os.kill(os.getpid(), signal.SIGINT)
        ended.set()

    threading.Thread(target=send).start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with interrupts_held():
            go.set()
            assert ended.wait(10)
            started += [str(number) for number in range(1000)]
        pytest.fail("the interrupt was lost")
    assert len(started) == 1000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_embedding_keeps_its_finished_parts(tmp_path):
    items, output = tmp_path / "items.parquet", tmp_path / "e.parquet"
    pq.write_table(make_catalog(20_000, words=12), items)
    arguments = ("embed", items, "--output", output, *LSA, "--workers", 2)
    stage, kept = tmp_path / ".e.parquet.partial", {}
    for count in (1, 4):
        process = start(*arguments)
        wait_until(lambda count=count: len(parts_in(stage)) >= count)
        _, err = end(process, signal.SIGINT)
        assert process.returncode == 2, err
        assert "Traceback" not in err
        assert err.splitlines()[-1] == (
            "interrupted: finished outputs are kept, and what this one had finished; run "
            "the same command again to go on"
        )
        now = {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts_in(stage)}
        assert kept.items() <= now.items()
        kept = now
    assert len(kept) < 8
    assert not output.exists()
    done = run_here(*arguments[:-1], 1)
    assert done.code == 0, done.err
    assert not stage.exists()
    whole = run_here("embed", items, "--output", tmp_path / "whole.parquet", *LSA, "--workers", 1)
    assert whole.code == 0
    assert pq.read_table(output).equals(pq.read_table(tmp_path / "whole.parquet"))


def test_parts_of_an_interrupted_folder_are_all_that_it_holds(tmp_path):
    items, output = tmp_path / "items.parquet", tmp_path / "e"
    pq.write_table(make_catalog(8_000, words=12), items)
    arguments = ("embed", items, "--output", output, *LSA, "--workers", 2)
    process = start(*arguments)
    writing = tmp_path / ".e.partial" / "parts"
    wait_until(lambda: writing.exists() and any(writing.iterdir()))
    end(process, signal.SIGKILL)
    done = run_here(*arguments[:-1], 1)
    assert done.code == 0, done.err
    names = sorted(p.name for p in output.iterdir())
    assert names == ["_manifest.json", *(f"part-{number:05d}.parquet" for number in range(4))]


def test_a_bad_row_ends_the_other_workers_at_once(tmp_path):
    items = make_catalog(60_000, words=1)
    prices = [str(price) for price in items["price"].to_pylist()]
    prices[0] = "abc"
    items = items.set_column(3, "price", pa.array(prices)).append_column("n", items["price"])
    pq.write_table(items, tmp_path / "items.parquet")
    done = run_apart(
        *("embed", tmp_path / "items.parquet", "--output", tmp_path / "e.parquet"),
        *("--encoder", "features", "--numeric", "price", "--category", "title"),
        *("--set", "fit_rows=50", "--workers", 2),
    )
    assert "row 0: column 'price' is not a number ('abc')" in done.error
    assert len(parts_in(tmp_path / ".e.parquet.partial")) < 4


def test_a_script_needs_no_guard(tmp_path):
    """Processes that ran the script again would each start processes of their own."""
    pq.write_table(make_catalog(5_000), tmp_path / "items.parquet")
    lines = [
        "from semid.jobs.embed import embed",
        "settings = {'text': ['title'], 'dim': 8, 'features': 1024}",
        "print(embed('items.parquet', output='e.parquet', settings=settings, workers=2).output)",
    ]
    (tmp_path / "script.py").write_text("\n".join(lines))
    program = [sys.executable, "script.py"]
    options = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True}
    done = subprocess.run(program, timeout=120, **options)
    assert (done.returncode, done.stdout) == (0, "e.parquet\n"), done.stderr


def test_a_killed_worker_is_told_with_the_way_on(tmp_path):
    items, output = tmp_path / "items.parquet", tmp_path / "e.parquet"
    pq.write_table(make_catalog(20_000, words=12), items)
    arguments = ("embed", items, "--output", output, *LSA, "--workers", 2)
    process = start(*arguments)
    wait_until(lambda: parts_in(tmp_path / ".e.parquet.partial"))
    workers = psutil.Process(process.pid).children()
    spawned = [w for w in workers if "spawn_main" in " ".join(w.cmdline())]
    spawned[0].kill()  # as the kernel does when memory runs out
    _, err = process.communicate(timeout=180)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "a worker process was ended from outside" in err.splitlines()[-1]
    assert "--workers" in err.splitlines()[-1]


def epochs_of(model):
    lines = (model / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def test_interrupted_training_goes_on_from_its_checkpoint(tmp_path, world):
    # A checkpoint after every epoch, where it would be one in 20 seconds.
    often = "import semid.training; semid.training.CHECKPOINT_SECONDS = 0.0"
    embeddings = world / "embeddings.parquet"
    settings = ("--levels", "8,8", "--set", "training.epochs=150", "--set", "model.hidden=[16]")
    checkpoint = tmp_path / ".model.partial" / "checkpoint.safetensors"

    def train(output):
        return ("train", embeddings, "--output", tmp_path / output, *settings)

    def reached():
        try:
            with safe_open(checkpoint, "np") as file:
                return json.loads(file.metadata()["facts"])["epoch"]
        except (OSError, SafetensorError):
            return 0

    # Ended before the first checkpoint: that work is lost, its history too.
    process = start(*train("model"))
    history = checkpoint.with_name("history.jsonl")
    wait_until(lambda: history.exists() and len(history.read_text().splitlines()) > 2)
    end(process, signal.SIGKILL)
    assert not checkpoint.exists()
    process = start(*train("model"), before=often)
    wait_until(lambda: reached() > 5)
    _, err = end(process, signal.SIGINT)
    assert process.returncode == 2, err
    assert "run the same command again to go on" in err.splitlines()[-1]
    assert 5 < reached() < 150
    done = run_here(*train("model"), "--json")
    assert done.code == 0, done.err
    assert run_here(*train("whole")).code == 0
    weights, whole = (read_artifact(tmp_path / name).weights for name in ("model", "whole"))
    assert {key: w.tobytes() for key, w in weights.items()} == {
        key: w.tobytes() for key, w in whole.items()
    }
    assert epochs_of(tmp_path / "model") == epochs_of(tmp_path / "whole") == list(range(1, 151))


def test_what_other_settings_left_is_dropped_with_a_word(tmp_path, caplog):
    output, resumes = tmp_path / "model", ("checkpoint",)
    for plan, said in (({"epochs": 8}, False), ({"epochs": 8}, False), ({"epochs": 9}, True)):
        caplog.clear()
        with (
            contextlib.suppress(KeyboardInterrupt),
            staging(output, plan, resumes=resumes) as stage,
        ):
            kept = (stage / "checkpoint").exists()
            (stage / "checkpoint").touch()
            raise KeyboardInterrupt
        assert ("other inputs or settings had finished is dropped" in caplog.text) == said
    assert not kept


def test_a_failure_leaves_only_what_the_next_run_goes_on_from(tmp_path):
    output, stage = tmp_path / "out", tmp_path / ".out.partial"
    for name, left in (("raw/.part-0", []), ("raw/.new/0", []), ("raw/part-0", ["raw"])):
        with contextlib.suppress(SemidError), staging(output, {}, resumes=("raw",)) as folder:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            (folder / "out.parquet").touch()
            raise SemidError("bad")
        found = sorted(entry.name for entry in stage.iterdir()) if stage.exists() else []
        assert [name for name in found if name not in (".lock", "plan.json")] == left


# two at once


def test_a_second_writer_is_told(tmp_path, world):
    arguments = ("train", world / "embeddings.parquet", "--output", tmp_path / "model", *TINY)
    first = start(*arguments)
    wait_until(lambda: (tmp_path / ".model.partial" / "plan.json").exists())
    first.send_signal(signal.SIGSTOP)
    said = run_here(*arguments).error
    other = run_here(*arguments, "--seed", "5", "--overwrite").error
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=180)
    assert first.returncode == 0, err
    assert said == other
    assert said.startswith("another semid job is writing ")
    assert said.endswith("model; wait for it to end")
    assert run_here(*arguments, "--json").json["up_to_date"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_many_writers_at_once(tmp_path, kind):
    output, ends = tmp_path / name_of(kind), []

    def write(value):
        for _ in range(15):
            try:
                make(kind, output, value)
                ends.append("written")
            except Exception as error:
                ends.append(str(error))

    writers = [threading.Thread(target=write, args=(value,)) for value in ("a", "b", "a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    told = {said.split(" writing ")[0] for said in ends}
    assert told <= {"written", "another semid job is"}
    assert "written" in told
    assert value_of(kind, output) in ("a", "b")
