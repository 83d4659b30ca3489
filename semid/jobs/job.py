"""What every job shares: is the output current, may it be replaced, stage, publish, report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semid import __version__
from semid.artifact import model_fingerprint
from semid.columns import embedding_width, id_type
from semid.duplicates import check_ids
from semid.embedding_columns import Widths
from semid.errors import SemidError, display_path
from semid.fit_config import WITHOUT_CODES
from semid.id_metadata import read_metadata
from semid.jobs.progress import bar
from semid.manifests import (
    Manifest,
    differences,
    digest,
    fingerprint,
    is_current,
    manifest_for,
    read_manifest,
    refuse_foreign,
)
from semid.outputs import publish, staging, sweep, translate_os_errors
from semid.store import is_store
from semid.tables import ParquetTable
from semid.versions import VERSION


@dataclass(frozen=True)
class Result:
    """What a job did.

    Attributes
    ----------
    output : the path it wrote; None when it was asked for figures alone
    summary : its figures, as plain values
    up_to_date : True when nothing had to be done
    reason : why an output that was there was made again, if it was
    failure : the sentence of a gate that was missed, though the output is there
    """

    output: Path | None
    summary: dict[str, Any] = field(default_factory=dict)
    up_to_date: bool = False
    reason: str | None = None
    failure: str | None = None


# A folder may be called anything, but nobody calls one so.
_OTHER_ENDINGS = {
    *(".arrow", ".csv", ".feather", ".gz", ".ipc", ".json", ".jsonl", ".npy", ".npz", ".pq", ".pt"),
    *(".safetensors", ".tsv", ".txt", ".zip"),
}
FILE_ENDINGS = {*_OTHER_ENDINGS, ".parquet", ".item"}

# Takes the staging folder and the manifest; returns what to publish and the summary.
Build = Callable[[Path, Manifest], tuple[Path, dict[str, Any]]]


def produce(
    command: str,
    output: Path,
    *,
    inputs: Mapping[str, ParquetTable | Path],
    settings: Mapping[str, Any],
    build: Build,
    overwrite: bool,
    owner: str | None = None,
    complete: Callable[[Manifest], bool] = lambda _: True,
    prepare: Callable[[], object] | None = None,
    resumes: Collection[str] = (),
    keep: Collection[str] = (),
) -> Result:
    """Make `output` unless it is current already, and `complete` says so of what goes with it.

    `owner` names the step of a pipeline that runs the job: what the same step made before is
    replaced without `overwrite`. `prepare` runs beside the rest when there is no output yet: what
    takes long and needs no input, such as loading torch; if it fails, `build` will say so.
    `resumes` names what `build` finds in its folder again after a failure, and `keep` what it finds
    there after a change of plan, too.

    The plan is the command, semid's version, the contents of the inputs and the settings; it is
    saved in the output's manifest. `build` works in a folder that `staging` gives it; what it
    returns is renamed to `output`.

    Raises
    ------
    SemidError
        When `output` holds something else and `overwrite` is not given, is one of the inputs, or
        cannot be written.
    """
    refuse_input(output, inputs)
    with translate_os_errors(output), ThreadPoolExecutor(1) as beside:
        if prepare is not None and not output.exists():
            beside.submit(prepare)
        previous = read_manifest(output) if output.exists() else None
        described = describe(inputs, (previous or {}).get("inputs", {}))
        plan = plan_of(command, described, settings)
        if previous and previous.get("fingerprint") == fingerprint(plan) and complete(previous):
            sweep(output, plan)
            return Result(output, previous.get("summary", {}), up_to_date=True)
        overwrite = overwrite or (previous is not None and _is_owned(previous, owner))
        refuse_foreign(output, plan, overwrite=overwrite)
        reason = None
        if previous and "plan" in previous:
            reason = next(iter(differences(previous["plan"], plan)), None)
        with staging(output, plan, resumes=resumes, keep=keep) as stage:
            # Another job may have written it since.
            refuse_foreign(output, plan, overwrite=overwrite)
            manifest = manifest_for(plan, inputs=described, owner=owner)
            staged, summary = build(stage, manifest)
            embedded = staged.is_file() and is_current(staged, plan)  # in Parquet metadata
            publish(staged, output, None if embedded else manifest | {"summary": summary})
    return Result(output, summary, reason=reason)


def look(build: Build) -> Result:
    """Run the `build` of a job that is asked for its figures alone; what it writes goes again."""
    with tempfile.TemporaryDirectory(prefix="semid-") as stage, translate_os_errors(Path(stage)):
        return Result(None, build(Path(stage), {})[1])


def plan_of(
    command: str, described: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what makes an output what it is: the command, the inputs' contents, the settings."""
    return {
        "command": command,
        "semid": __version__,
        "inputs": {name: facts["digest"] for name, facts in described.items()},
        "settings": dict(settings),
    }


def _is_owned(manifest: Manifest, owner: str | None) -> bool:
    return owner is not None and manifest.get("owner") == owner


def refuse_input(output: Path, inputs: Mapping[str, ParquetTable | Path]) -> None:
    """Raise `SemidError` when an input stands where the output is to be written."""
    target = output.resolve()
    for name, source in inputs.items():
        files = [source] if isinstance(source, Path) else map(Path, source.files)
        for file in files:
            if target == file.resolve() or target in file.resolve().parents:
                raise SemidError(
                    f"the output {display_path(output)} is also an input ({name}: "
                    f"{display_path(file)}); choose another --output"
                )


def describe(
    inputs: Mapping[str, ParquetTable | Path], known: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Identify every input by its contents, read again only where size or time changed."""
    described = {}
    for name, source in inputs.items():
        if isinstance(source, ParquetTable):
            stat = [_table_stat(source, file) for file in source.files]
            path, local = source.name, source.is_local
        else:
            stat = [_stat(file) for file in _files(source)]
            path, local = str(source), True
        before = known.get(name, {})
        if before.get("stat") == stat:
            value = before["digest"]
        elif not local:
            value = fingerprint(stat)
        elif isinstance(source, ParquetTable):
            # Not their names: a table that is moved stays the same table.
            value = fingerprint([digest(Path(file)) for file in source.files])
        else:
            value = digest(source)
        described[name] = {"path": path, "digest": value, "stat": stat}
    return described


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _stat(path: Path) -> list[Any]:
    found = os.stat(path)
    return [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino]


def _table_stat(table: ParquetTable, file: str) -> list[Any]:
    if table.is_local:
        return _stat(Path(file))
    found = table.filesystem.get_file_info(file)
    return [found.path, found.size, found.mtime_ns]


def require_unique_ids(table: ParquetTable, item_id: str, *, show: bool) -> None:
    """Raise `SemidError` when an id is null or occurs twice; shows a bar if it takes a while."""
    with bar("check ids", table.num_rows, "rows", show=show, delay=1.0) as shown:
        check_ids(table, item_id, on_rows=shown.update)


def require_like_ids(ids: ParquetTable, table: ParquetTable, item_id: str, need: str) -> None:
    """Raise `SemidError` unless the item ids of both tables have one type; `need` is the advice."""
    there, here = id_type(ids, item_id), id_type(table, item_id)
    if there != here:
        raise SemidError(
            f"column '{item_id}' is {there} in {display_path(ids.name)} but {here} in "
            f"{display_path(table.name)}; {need}"
        )


def require_memory(memory_gib: float) -> None:
    """Raise `SemidError` for a memory that cannot be."""
    if not 0 < memory_gib < float("inf"):
        raise SemidError(f"the memory is {memory_gib} GiB; it must be above 0 and finite")


def require_workers(workers: int, *, least: int) -> None:
    """Raise `SemidError` for a number of processes that cannot be."""
    if workers < least:
        raise SemidError(f"workers is {workers}; it must be at least {least}")


def require_codes(header: Mapping[str, Any], model: Path) -> None:
    """Raise `SemidError` for a model, of this header, that has no codes."""
    if header["kind"] in WITHOUT_CODES:
        raise SemidError(
            f"{display_path(model)} is a model of the kind {header['kind']}, which has no codes; "
            "train one that has, such as rqvae"
        )


def require_own_model(ids: ParquetTable, model: Path) -> None:
    """Raise `SemidError` when an ids table was assigned by another model; names both."""
    assigned, given = read_metadata(ids).get("model_fingerprint"), model_fingerprint(model)
    if assigned not in (None, given):
        raise SemidError(
            f"{display_path(ids.name)} was assigned by another model ({assigned}) than "
            f"{display_path(model)} ({given}); name the model that assigned it, or assign the IDs "
            "again"
        )


def require_widths(table: ParquetTable, widths: Widths, model: Path) -> None:
    """Raise `SemidError` unless `table` has the embedding columns that `model` wants."""
    for column, width in widths.items():
        if column not in table.schema.names:
            raise SemidError(
                f"{display_path(table.name)} has no column '{column}', whose embeddings the model "
                f"{display_path(model)} was trained on; its columns are "
                f"{', '.join(table.schema.names)}; rename the one with them"
            )
        found = embedding_width(table, column)
        if found != width:
            which = "embeddings" if len(widths) == 1 else f"embeddings '{column}'"
            raise SemidError(
                f"{display_path(table.name)} has {which} of width {found} but the model "
                f"{display_path(model)} was trained on width {width}; embed the items with the "
                "encoder the model was trained with, or train a new model"
            )


def table_path(path: str | Path) -> Path:
    """Turn where a table is to be written into a path: a ``.parquet`` file or a folder of parts.

    Raises
    ------
    SemidError
        As `output_path`, and for the ending of another kind of file.
    """
    output = output_path(path)
    if output.suffix.lower() in _OTHER_ENDINGS:
        raise SemidError(
            f"the output {display_path(path)} ends in {output.suffix}, but a table is written as "
            "one .parquet file or, without an ending, as a folder of parts; choose another "
            "--output, and semid export for other formats"
        )
    return output


def output_path(path: str | Path) -> Path:
    """Turn an output given by the user into a path; semid writes to local file systems.

    Raises
    ------
    SemidError
        When it is a URI, names nothing, or is a version of a store.
    """
    if "://" in str(path):
        raise SemidError(
            f"{path} is a URI; outputs are written to local paths, copy them from there"
        )
    output = Path(path)
    if output.name in {"", ".."}:
        raise SemidError(
            f"the output {str(path)!r} names no file or folder of its own; choose another --output"
        )
    if is_store(output.parent) and VERSION.fullmatch(output.name):
        raise SemidError(
            f"{display_path(output)} is a version of a store, which never changes; publish the "
            f"next one, with --output {display_path(output.parent)} --publish"
        )
    with translate_os_errors(output):
        if output.exists() and not (output.is_file() or output.is_dir()):
            raise SemidError(
                f"{display_path(output)} is a device or a pipe, which no output replaces; choose "
                "another --output"
            )
        # What a link stands for is replaced, not the link.
        return output.resolve() if output.is_symlink() else output
