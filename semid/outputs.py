"""Outputs that are never half there: fingerprints, manifests, staging beside and renaming.

An output is a file or a folder. What made it is written with it as a manifest: inside Parquet
metadata, as ``manifest.json`` in a folder (``_manifest.json`` among Parquet parts, where other
readers look for data in every name without an underscore), or as ``NAME.manifest.json`` beside any
other file.
Work happens in ``.NAME.partial`` beside the output, which a killed job leaves behind and the next
run of the same job takes up again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from semid import __version__
from semid.errors import SemidError, display_path

METADATA_KEY = "semid"
MANIFEST = "manifest.json"
PARTS_MANIFEST = "_manifest.json"
PLAN = "plan.json"
_LOCK = ".lock"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}
_NOT_POSSIBLE = {
    errno.ENOENT,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.EMFILE,
}

Manifest = dict[str, Any]


def fingerprint(value: Any) -> str:
    """Return 16 hex digits that identify a JSON-like value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return xxhash.xxh3_64_hexdigest(text.encode())


def digest(path: Path) -> str:
    """Return 32 hex digits that identify the contents of a file, or of all files in a folder."""
    total = xxhash.xxh3_128()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            total.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as source:
            while block := source.read(1 << 22):
                total.update(block)
    return total.hexdigest()


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest of an output, or None when it has none or was changed since."""
    note = _note(path)
    try:
        if note is None:
            return _parquet_manifest(path)
        found = json.loads(note.read_text())
        if path.is_dir():
            return found if isinstance(found, dict) and _is_whole(path, found) else None
        return _manifest_beside(path, found)
    except (OSError, ValueError, pa.ArrowInvalid):
        return None


def _note(path: Path) -> Path | None:
    """Return the file that holds the manifest of `path`, if it is not in Parquet metadata."""
    places = [path / MANIFEST, path / PARTS_MANIFEST] if path.is_dir() else [_beside(path)]
    return next((place for place in places if place.exists()), None)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + "." + MANIFEST)


def _parquet_manifest(path: Path) -> Manifest | None:
    if path.suffix != ".parquet":
        return None
    footer = pq.read_metadata(path)
    if not footer.num_row_groups:
        return None
    # Other writers may pass the metadata on, but they lay out the rows in another way.
    first = footer.row_group(0).column(0)
    if first.compression != "ZSTD" or first.has_dictionary_page:
        return None
    found = json.loads((footer.metadata or {}).get(METADATA_KEY.encode(), b"null"))
    return found if isinstance(found, dict) else None


def _manifest_beside(path: Path, found: Any) -> Manifest | None:
    # A sidecar and its file cannot be renamed at once: until both are, the sidecar describes the
    # file before too, and the digest says which of them is there.
    if not isinstance(found, dict) or not path.exists():
        return None
    there = digest(path)
    candidates = (found, found.get("previous") or {})
    return next((m for m in candidates if m.get("output_digest") == there), None)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Tell whether a folder's files are those of its manifest; others than tables may be added."""
    files: dict[str, Any] = manifest.get("files", {})
    if files and not {_name(p, folder) for p in folder.rglob("*.parquet")} <= files.keys():
        return False
    return all(_is_same(folder / name, facts) for name, facts in files.items())


def _is_same(file: Path, facts: Mapping[str, Any]) -> bool:
    """Compare a file with what `_file_facts` said of it; reads it only when its time changed."""
    if not file.is_file() or (found := file.stat()).st_size != facts["size"]:
        return False
    return bool(found.st_mtime_ns == facts["mtime_ns"] or digest(file) == facts["digest"])


def _file_facts(folder: Path) -> dict[str, dict[str, Any]]:
    notes = {folder / MANIFEST, folder / PARTS_MANIFEST}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in notes)
    return {
        _name(p, folder): {
            "size": p.stat().st_size,
            "mtime_ns": p.stat().st_mtime_ns,
            "digest": digest(p),
        }
        for p in files
    }


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def is_current(path: Path, plan: Mapping[str, Any]) -> bool:
    """Tell whether the output at `path` was made by exactly this plan."""
    manifest = read_manifest(path)
    return manifest is not None and manifest.get("fingerprint") == fingerprint(plan)


def refuse_foreign(path: Path, plan: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise `SemidError` when `path` holds something that this plan did not make.

    Names the first setting or input that differs. `overwrite` lets it pass.
    """
    if overwrite or not path.exists() or is_current(path, plan):
        return
    manifest = read_manifest(path)
    if manifest is not None and "plan" in manifest:
        what = f"belongs to other settings ({difference(manifest['plan'], plan)})"
    elif manifest is None and _note(path) is not None:
        what = "was changed since semid wrote it"
    else:
        what = "was not made by this command"
    raise SemidError(
        f"{display_path(path)} exists and {what}; choose another --output, or replace it with "
        "--overwrite"
    )


def difference(old: Any, new: Any, at: str = "") -> str:
    """Name the first place where two plans differ: ``settings.levels: [256] there, [64] now``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            if old.get(key) != new.get(key):
                return difference(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    return f"{at}: {_shown(old)} there, {_shown(new)} now"


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


@contextmanager
def staging(output: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """Give a folder beside `output` to work in; what the same plan left there is still in it.

    It stays when the block fails, so that the next run goes on; `publish` takes from it and
    `discard` empties it. One job at a time may hold it.

    Raises
    ------
    SemidError
        When another job holds it, the disk is full, or writing there is not allowed.
    """
    folder = _folder(output)
    with translate_os_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder, output):
            _restore(output)
            mark = fingerprint(plan)
            if not (folder / PLAN).exists() or (folder / PLAN).read_text() != mark:
                discard(folder)
                (folder / PLAN).write_text(mark)
            try:
                yield folder
            except BaseException:
                if {entry.name for entry in folder.iterdir()} <= {_LOCK, PLAN}:
                    _clear(folder)  # nothing was finished that the next run could go on with
                raise
            _clear(folder)


def sweep(output: Path, plan: Mapping[str, Any]) -> None:
    """Remove what is left of this plan's staging when a kill came after publishing."""
    folder = _folder(output)
    place = folder / PLAN
    # What cannot be removed stays: the output is whole.
    with suppress(SemidError, OSError):
        if folder.exists() and (not place.exists() or place.read_text() == fingerprint(plan)):
            with _lock(folder, output):
                _restore(output)
                _clear(folder)


def _folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.partial")


def _clear(folder: Path) -> None:
    """Remove a folder that this job holds; another may be making it anew already."""
    discard(folder)
    (folder / _LOCK).unlink()
    with suppress(OSError):
        folder.rmdir()


def _lock(folder: Path, output: Path) -> TextIO:
    """Make the folder and hold it until the file that is returned is closed."""
    place = folder / _LOCK
    while True:
        try:
            with suppress(FileExistsError):
                folder.mkdir()
            lock = place.open("w")
        except FileNotFoundError:
            if not output.parent.exists():
                raise
            continue  # the job before has just removed the folder
        try:
            _hold(lock.fileno(), output)
            if os.path.samestat(os.fstat(lock.fileno()), place.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def _hold(file: int, output: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SemidError(
            f"another semid job is writing {display_path(output)}; wait for it to end"
        ) from error


def discard(folder: Path) -> None:
    """Remove everything from a staging folder but its lock."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


@contextmanager
def translate_os_errors(output: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into the sentence a user needs."""
    try:
        yield
    except SemidError:
        raise
    except Exception as error:
        # Not every library passes the number on.
        found = re.search(r"(?:errno|os error) (\d+)", str(error), re.IGNORECASE)
        number = getattr(error, "errno", None) or (int(found[1]) if found else None)
        sentence = _sentence(number, error, output)
        if sentence is None:
            raise
        raise SemidError(sentence) from error


def _sentence(number: int | None, error: Exception, output: Path) -> str | None:
    shown = display_path(output)
    if number in _NO_ROOM:
        return (
            f"the disk is full: no space left to write {shown}; what stood there is untouched. "
            "Free some space and run the same command again"
        )
    if number in _NOT_ALLOWED:
        place = Path(getattr(error, "filename", None) or output).absolute()
        parent = output.parent.absolute()
        if parent not in (place, *place.parents) and place not in parent.parents:
            return f"no permission to use {display_path(place)}; change its permissions"
        return (
            f"no permission to write {shown}; choose another --output or change the folder's "
            "permissions"
        )
    if number in _NOT_A_FOLDER:
        return f"{shown} cannot be written: a part of its path is a file"
    if number in _NOT_POSSIBLE:
        reason = os.strerror(number or 0).lower()
        return (
            f"{shown} cannot be written ({reason}); what stood there is untouched. Choose another "
            "--output, or put it right and run the same command again"
        )
    return None


def manifest_for(plan: Mapping[str, Any], **facts: Any) -> Manifest:
    """Describe an output: the plan that makes it, its fingerprint, and what came out."""
    return {"semid": __version__, "fingerprint": fingerprint(plan), "plan": dict(plan), **facts}


def publish(staged: Path, output: Path, manifest: Manifest | None = None) -> None:
    """Move a finished file or folder to `output` in one step, replacing what stood there.

    Give the manifest unless it is already inside (Parquet metadata).
    """
    if staged.is_dir():
        if manifest is not None:
            _note_files(staged, manifest)
        _sync(staged)
        _replace(staged, output)
        return
    _sync(staged)
    if manifest is None:
        _beside(output).unlink(missing_ok=True)
        _replace(staged, output)
        return
    described = manifest | {"output_digest": digest(staged)}
    previous = _previous(output)
    _write_beside(staged, output, described | previous)
    _replace(staged, output)
    if previous:
        _write_beside(staged, output, described)


def _note_files(staged: Path, manifest: Manifest) -> None:
    note = _note(staged)
    found = {} if note is None else json.loads(note.read_text())
    is_table = any(staged.rglob("*.parquet"))
    place = staged / (PARTS_MANIFEST if is_table else MANIFEST)
    write_json(place, found | manifest | {"files": _file_facts(staged)})


def _previous(output: Path) -> Manifest:
    before = read_manifest(output) if output.is_file() else None
    if before is None:
        return {}
    before = {key: value for key, value in before.items() if key != "previous"}
    return {"previous": before | {"output_digest": digest(output)}}


def _write_beside(staged: Path, output: Path, manifest: Manifest) -> None:
    aside = staged.with_name(".manifest.writing")
    write_json(aside, manifest)
    _sync(aside)
    aside.replace(_beside(output))


def _replace(staged: Path, output: Path) -> None:
    if output.is_dir() or (staged.is_dir() and output.exists()):
        _exchange(staged, output)
    else:
        staged.replace(output)
    _sync_one(output.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def _sync(path: Path) -> None:
    for entry in [*path.rglob("*"), path] if path.is_dir() else [path]:
        _sync_one(entry)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(staged: Path, output: Path) -> None:
    """Swap two paths atomically where the kernel can; otherwise through a name `_restore` knows."""
    if _swap(staged, output):
        return
    aside = _aside(output)
    _remove(aside)
    output.rename(aside)
    staged.rename(output)
    _remove(aside)


def _aside(output: Path) -> Path:
    return output.with_name(f".{output.name}.previous")


def _restore(output: Path) -> None:
    """Undo a swap that was killed between its two renames."""
    aside = _aside(output)
    if aside.exists() and not output.exists():
        aside.rename(output)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _swap(first: Path, second: Path) -> bool:
    """Call Linux's renameat2 with RENAME_EXCHANGE; False where there is none."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0  # type: ignore[no-any-return]
