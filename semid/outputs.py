"""Outputs that are never half there: staged beside, renamed when whole.

An output is a file or a folder. Work happens in ``.NAME.partial`` beside the output, which a killed
job leaves behind and the next run of the same job takes up again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from semid.errors import SemidError, display_path
from semid.manifests import (
    Manifest,
    digest,
    fingerprint,
    note_files,
    read_manifest,
    sidecar,
    write_json,
)

logger = logging.getLogger(__name__)

PLAN = "plan.json"
_LOCK = ".lock"
_TRIES = 1_000  # by far more jobs than end in the moment that one begins
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


@contextmanager
def staging(
    output: Path,
    plan: Mapping[str, Any],
    *,
    resumes: Collection[str] = (),
    keep: Collection[str] = (),
) -> Iterator[Path]:
    """Give a folder beside `output` to work in; what the same plan left there is still in it.

    When the block is killed all of it stays. When it fails the entries called `resumes` do, if any
    of them holds something finished, for the next run to go on from. Of what another plan left,
    those called `keep` stay: what says by itself what it is of. One job at a time may hold it.

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
            try:
                _take_up(folder, mark, keep, output)
                yield folder
            except BaseException:
                going_on = {*resumes, *keep}
                discard(folder, {PLAN, *going_on})
                if not any(_holds(folder / name) for name in going_on):
                    _clear(folder)
                raise
            _clear(folder)


def _take_up(folder: Path, mark: str, keep: Collection[str], output: Path) -> None:
    """Drop what another plan left in a staging folder, but for `keep`."""
    if (folder / PLAN).exists() and (folder / PLAN).read_text() == mark:
        return
    if not _is_bare(folder, keep):
        logger.warning(
            "%s: what an unfinished run with other inputs or settings had finished is dropped",
            display_path(output),
        )
    discard(folder, keep)
    (folder / PLAN).write_text(mark)


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


def _is_bare(folder: Path, but_for: Collection[str] = ()) -> bool:
    """Tell whether nothing is there that a run could go on with."""
    return {entry.name for entry in folder.iterdir()} <= {_LOCK, PLAN, *but_for}


def _holds(entry: Path) -> bool:
    """Tell whether an entry is or holds a finished file: none that is hidden or being written."""
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return any(
        file.is_file()
        and file.suffix != ".writing"
        and not any(part.startswith(".") for part in file.relative_to(entry.parent).parts)
        for file in files
    )


def _clear(folder: Path) -> None:
    """Remove a folder that this job holds; another may be making it anew already."""
    discard(folder)
    (folder / _LOCK).unlink()
    with suppress(OSError):
        folder.rmdir()


def _lock(folder: Path, output: Path) -> TextIO:
    """Make the folder and hold it until the file that is returned is closed."""
    place, tries = folder / _LOCK, 0
    while True:
        try:
            with suppress(FileExistsError):
                folder.mkdir()
            lock = place.open("w")
        except FileNotFoundError:
            if not output.parent.exists():
                raise
            tries += 1
            if tries > _TRIES:
                raise SemidError(
                    f"{display_path(output)} cannot be written: {display_path(output.parent)} "
                    "takes no files; choose another --output"
                ) from None
            continue  # the job before has just removed the folder
        try:
            hold(lock.fileno(), output)
            if os.path.samestat(os.fstat(lock.fileno()), place.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def hold(file: int, output: Path) -> None:
    """Lock an open file for the writer of `output`; raises `SemidError` when another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SemidError(
            f"another semid job is writing {display_path(output)}; wait for it to end"
        ) from error


def discard(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove everything from a staging folder but its lock and the entries called `keep`."""
    for entry in folder.iterdir():
        if entry.name not in {_LOCK, *keep}:
            _remove(entry)


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


def publish(staged: Path, output: Path, manifest: Manifest | None = None) -> None:
    """Move a finished file or folder to `output` in one step, replacing what stood there.

    Give the manifest unless it is already inside (Parquet metadata).
    """
    if staged.is_dir():
        if manifest is not None:
            note_files(staged, manifest)
        sync(staged)
        _replace(staged, output)
        return
    sync(staged)
    if manifest is None:
        sidecar(output).unlink(missing_ok=True)
        _replace(staged, output)
        return
    described = manifest | {"output_digest": digest(staged)}
    previous = _previous(output)
    _write_beside(staged, output, described | previous)
    _replace(staged, output)
    if previous:
        _write_beside(staged, output, described)


def _previous(output: Path) -> Manifest:
    before = read_manifest(output) if output.is_file() else None
    if before is None:
        return {}
    before = {key: value for key, value in before.items() if key != "previous"}
    return {"previous": before | {"output_digest": digest(output)}}


def _write_beside(staged: Path, output: Path, manifest: Manifest) -> None:
    aside = staged.with_name(".manifest.writing")
    write_json(aside, manifest)
    sync(aside)
    aside.replace(sidecar(output))


def _replace(staged: Path, output: Path) -> None:
    if output.is_dir() or (staged.is_dir() and output.exists()):
        _exchange(staged, output)
    else:
        staged.replace(output)
    sync_one(output.parent)


def sync(path: Path) -> None:
    """Make sure that a file, or a folder and all in it, is on the disk."""
    for entry in [*path.rglob("*"), path] if path.is_dir() else [path]:
        sync_one(entry)


def sync_one(path: Path) -> None:
    """Make sure that a file, or a folder's list of entries, is on the disk."""
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
