"""A store: versions of a table side by side, and a file that names the one to read.

    ids/
      CURRENT         one line: v0002
      v0001/          a folder table; never changed once it is there
      v0002/

A version is renamed into place whole, then ``CURRENT`` is replaced; both are atomic, so a reader
finds a whole version at any time, and a version that it reads stays. One writer at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semid.errors import SemidError, display_path
from semid.manifests import Manifest, note_files, read_manifest
from semid.outputs import hold, sync, sync_one, translate_os_errors
from semid.versions import CURRENT, VERSION, named, refuse_to_guess, version_number

_LOCK = ".lock"


def is_store(path: Path) -> bool:
    """Tell whether a folder has versions and a file that names one of them."""
    return (path / CURRENT).is_file()


def versions(store: Path) -> list[str]:
    """Return the names of the versions, oldest first."""
    if not store.is_dir():
        return []
    names = [p.name for p in store.iterdir() if p.is_dir() and VERSION.fullmatch(p.name)]
    return sorted(names, key=version_number)


def current(store: Path) -> str | None:
    """Return the name of the version that readers get, or None when nothing was published yet.

    Raises
    ------
    SemidError
        When ``CURRENT`` does not name a version that is there.
    """
    if not is_store(store):
        return None
    return named(str(store), (store / CURRENT).read_text(errors="replace"), versions(store))


def require_store(store: Path) -> None:
    """Raise `SemidError` when there is something at a path that is no store and may not be one."""
    if not store.exists() or is_store(store) or versions(store):
        return
    if not store.is_dir() or any(not entry.name.startswith(".") for entry in store.iterdir()):
        raise SemidError(
            f"{display_path(store)} exists and is no store of versions; choose another --output, "
            "or remove it yourself"
        )


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Hold the store as its only writer.

    Raises
    ------
    SemidError
        When another job holds it, or it cannot be written.
    """
    with translate_os_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        with (store / _LOCK).open("w") as lock:
            hold(lock.fileno(), store)
            yield


def add_version(store: Path, staged: Path, manifest: Manifest, before: Path | None = None) -> str:
    """Move a finished folder into the store as its next version; readers do not see it yet.

    `before` is the version that it may have links to the files of.
    """
    note_files(staged, manifest, before)
    sync(staged)
    name = f"v{max(map(version_number, versions(store)), default=0) + 1:04d}"
    staged.rename(store / name)
    sync_one(store)
    return name


def point_to(store: Path, version: str) -> None:
    """Make a version the one that readers get, in one step."""
    aside = store / f".{CURRENT}.new"
    aside.write_text(f"{version}\n")
    sync_one(aside)
    aside.replace(store / CURRENT)
    sync_one(store)


def find_version(store: Path, mark: str) -> str | None:
    """Return the newest whole version that was made by the plan of a fingerprint, if there is one.

    A kill may have come between making a version and pointing to it.
    """
    for version in reversed(versions(store)):
        manifest = read_manifest(store / version)
        if manifest is not None and manifest.get("fingerprint") == mark:
            return version
    return None


def prune(store: Path, keep: int, *, spare: str | None = None) -> list[str]:
    """Remove all but the `keep` newest versions, never the current one; 0 keeps all.

    Nor the one to `spare`: that which was current until now, and readers may be in the middle of.
    """
    old = versions(store)[:-keep] if keep else []
    gone = [version for version in old if version not in (current(store), spare)]
    for version in gone:
        # First out of sight: what a kill leaves of it is no version.
        hidden = store / f".{version}.removed"
        (store / version).rename(hidden)
        shutil.rmtree(hidden)
    for left in store.glob(".v*.removed"):
        shutil.rmtree(left)
    return gone


def rollback(store: Path, to: str | None = None) -> tuple[str, str]:
    """Make an earlier version the current one again; by default the one before it.

    Returns
    -------
    before, after : the version that was current and the one that is now

    Raises
    ------
    SemidError
        When there is no such version, or it is not whole.
    """
    shown = display_path(store)
    there = versions(store)
    if not there:
        raise SemidError(f"{shown} is no store of versions; semid assign --publish makes one")
    with writing(store):
        there = versions(store)
        before = (store / CURRENT).read_text(errors="replace").strip() if is_store(store) else ""
        after = to or _before(store, before, there)
        if after not in there:
            raise SemidError(f"{shown} has no version {after}; its versions are {', '.join(there)}")
        if read_manifest(store / after) is None:
            raise SemidError(
                f"{display_path(store / after)} is damaged: its files are not those that its "
                "manifest names; roll back to another version with --to"
            )
        point_to(store, after)
    return before, after


def _before(store: Path, version: str, there: list[str]) -> str:
    """Return the version that one was made from; of one that does not say so, the next older."""
    shown = display_path(store)
    if not is_store(store):
        refuse_to_guess(str(store), there)
    named(str(store), version, there)
    made = (read_manifest(store / version) or {}).get("plan", {})
    older = there[: there.index(version)]
    found = made.get("previous", older[-1] if older else None)
    if found is None:
        raise SemidError(
            f"{shown} has no version before {version}; its versions are {', '.join(there)}"
        )
    if found not in there:
        raise SemidError(
            f"{shown}: {found}, which {version} was made from, is gone; its versions are "
            f"{', '.join(there)}, choose one with --to"
        )
    return str(found)


def resolve_table(path: str | Path) -> Path:
    """Return the folder or file of a table on this machine: of a store, its current version.

    Raises
    ------
    SemidError
        When the path is a URI, there are versions but none is current, or as `current`.
    """
    if "://" in str(path):
        raise SemidError(
            f"{path} is a URI; a table that goes on is read from a local path, with the retired "
            "items beside it: copy it there"
        )
    place = Path(path)
    if (name := current(place)) is None:
        refuse_to_guess(str(place), versions(place))
        return place
    return place / name
