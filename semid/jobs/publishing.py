"""A job whose output is the next version of a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from semid.errors import SemidError, display_path
from semid.index_building import build_index
from semid.jobs.job import Result, describe, plan_of, refuse_input
from semid.manifests import Manifest, fingerprint, manifest_for, read_manifest
from semid.outputs import staging, sweep
from semid.store import (
    add_version,
    current,
    find_version,
    point_to,
    prune,
    require_store,
    versions,
    writing,
)
from semid.table_index import INDEX
from semid.tables import ParquetTable, open_table
from semid.versions import refuse_to_guess

# Takes the staging folder, the manifest and the current version's folder, if there is one; returns
# the folder to publish, or None when there is nothing to change, and the summary.
BuildVersion = Callable[[Path, Manifest, Path | None], tuple[Path | None, dict[str, Any]]]


def produce_version(
    command: str,
    store: Path,
    *,
    inputs: Mapping[str, ParquetTable | Path],
    settings: Mapping[str, Any],
    build: BuildVersion,
    resumes: Collection[str] = (),
    keep: int = 0,
    owner: str | None = None,
) -> Result:
    """Make the next version of a store and publish it, unless the current one was made just so.

    `keep` is how many versions stay; 0 keeps all. `resumes` is as of `produce`. A job that was
    killed goes on where it was; one that was killed between making its version and publishing it
    only has to publish it.

    Raises
    ------
    SemidError
        When the folder is no store, or another job writes to it.
    """
    require_store(store)
    refuse_input(store, inputs)
    with writing(store):
        before, manifest = _current(store)
        described = describe(inputs, manifest.get("inputs", {}))
        plan = plan_of(command, described, settings)
        if manifest.get("asked") == fingerprint(plan):
            prune(store, keep)
            return Result(store / str(before), manifest.get("summary", {}), up_to_date=True)
        # The same command makes another version of another table.
        asked, plan = fingerprint(plan), plan | {"previous": before}
        name = find_version(store, fingerprint(plan))
        _refuse_pointless(store, before, name)
        if name is None:
            with staging(store / "next", plan, resumes=resumes) as stage:
                facts = manifest_for(plan, inputs=described, owner=owner, asked=asked)
                folder = None if before is None else store / before
                staged, summary = build(stage, facts, folder)
                if staged is None:
                    prune(store, keep)
                    return Result(store / str(before), summary, up_to_date=True)
                item_id = str(settings["item_id"])
                build_index(open_table(staged), staged / INDEX, item_id, before=folder)
                name = add_version(store, staged, facts | {"summary": summary}, folder)
        else:
            sweep(store / "next", plan)
            summary = (read_manifest(store / name) or {}).get("summary", {})
        point_to(store, name)
        prune(store, keep, spare=before)
    return Result(store / name, summary)


def _current(store: Path) -> tuple[str | None, Manifest]:
    """Return the current version and its manifest, which is empty when there is none yet."""
    if (before := current(store)) is None:
        return None, {}
    manifest = read_manifest(store / before)
    if manifest is None:
        raise SemidError(
            f"{display_path(store / before)} is damaged: its files are not those that its "
            "manifest names; go back to another version with semid rollback"
        )
    return before, manifest


def _refuse_pointless(store: Path, before: str | None, found: str | None) -> None:
    """Refuse to guess among versions when none is current; a first one that was found is clear."""
    if before is None and versions(store) != [found]:
        refuse_to_guess(str(store), versions(store))
