"""What an ids table says of itself, in its files' metadata and its folder's manifest, verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from semid.collisions import POLICIES
from semid.errors import display_path
from semid.id_columns import CODES, SID
from semid.id_metadata import METADATA_KEY, read_metadata
from semid.ids import MAX_CODES
from semid.manifests import PARTS_MANIFEST, read_manifest
from semid.row_checks import Contract
from semid.tables import ParquetTable
from semid.violations import Violations


def noted_rules(metadata: Mapping[str, Any], item_id: str = "item_id") -> Contract:
    """Return what a table's metadata says of its rows; no levels, or no policy, where nothing."""
    summary = metadata.get("summary")
    summary = summary if isinstance(summary, dict) else {}
    levels, policy, length = (summary.get(name) for name in ("levels", "policy", "sid_length"))
    levels = levels if isinstance(levels, list) else []
    known = all(isinstance(size, int) and 1 <= size <= MAX_CODES for size in levels)
    overflow = policy == "reassign" and bool(levels) and length == len(levels) + 1
    policy = policy if policy in POLICIES else None
    plan = metadata.get("plan")
    follows = isinstance(plan, dict) and plan.get("previous") is not None
    goes_on = follows or not summary.keys().isdisjoint(("kept", "retired"))
    collisions = metadata.get("collisions")
    width = collisions.get("max_suffix", 0) if isinstance(collisions, dict) else 0
    return Contract(tuple(levels) if known else (), policy, item_id, overflow, goes_on, width)


def check_notes(
    table: ParquetTable,
    violations: Violations,
    *,
    item_id: str = "item_id",
    fingerprint: str | None = None,
    inputs: str | None = None,
    encoder: str | None = None,
    levels: tuple[int, ...] = (),
) -> Contract:
    """Check the notes of a table; return what its rows must keep to.

    Parameters
    ----------
    table : an ids table
    violations : where to add what does not agree
    item_id : name of the id column
    fingerprint, levels : of the model that must have assigned it, where there is one; without, the
        files must agree with the first, and levels that are not noted are as long as the first
        rows' codes
    inputs : fingerprint of the model's input statistics, where there is one
    encoder : fingerprint of the encoder whose embeddings it is held against, where that is known

    Raises
    ------
    SemidError
        When the metadata is not a JSON object.
    """
    noted = read_metadata(table)
    rules = noted_rules(noted, item_id)
    _check_fingerprint(table, violations, "model", fingerprint or noted.get("model_fingerprint"))
    for of, expected in (("input", inputs), ("encoder", encoder)):
        if (own := noted.get(f"{of}_fingerprint")) is not None:  # older tables do not say
            _check_fingerprint(table, violations, of, expected or own)
    if levels and noted:
        violations.made("levels")
        if rules.levels != levels:
            violations.add("levels", None, None, _listed(rules.levels), _listed(levels))
    if noted:
        violations.made("policy")
        if rules.policy is None:
            found = str((noted.get("summary") or {}).get("policy", "none"))
            violations.add("policy", None, None, found, f"one of {_listed(POLICIES)}")
    _check_manifest(table, violations)
    codes, sid = _lengths(table)
    levels = levels or rules.levels or (MAX_CODES,) * codes
    policy = rules.policy or ("suffix" if sid > codes else None)
    overflow = rules.overflow or ("sid_length" not in (noted.get("summary") or {}) and sid > codes)
    return replace(rules, levels=levels, policy=policy, overflow=overflow)


def _check_fingerprint(
    table: ParquetTable, violations: Violations, of: str, expected: str | None
) -> None:
    if expected is None:
        return
    violations.made(f"{of} fingerprint")
    for file in table.files:
        found = _fingerprint(table, file, of)
        # A part that is older than the version may not have known yet.
        if found != expected and (found is not None or not _has_manifest(table)):
            shown = f"{found or 'none'} in {display_path(file)}"
            violations.add(f"{of} fingerprint", None, None, shown, str(expected))


def _has_manifest(table: ParquetTable) -> bool:
    return table.is_local and (Path(table.files[0]).parent / PARTS_MANIFEST).is_file()


def _fingerprint(table: ParquetTable, file: str, of: str) -> str | None:
    schema = pq.read_schema(file, filesystem=table.filesystem)
    try:
        note = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return None
    found = note.get(f"{of}_fingerprint") if isinstance(note, dict) else None
    return None if found is None else str(found)


def _check_manifest(table: ParquetTable, violations: Violations) -> None:
    folder = Path(table.files[0]).parent
    if not Path(table.name).is_dir() or not (folder / PARTS_MANIFEST).is_file():
        return
    violations.made("manifest")
    if read_manifest(folder) is None:
        found = f"files of {display_path(folder)} were changed, added or removed"
        violations.add("manifest", None, None, found, f"as {PARTS_MANIFEST} has them")


def _lengths(table: ParquetTable) -> tuple[int, int]:
    """Return how long codes and SIDs are in the first rows that have any."""
    first = next(table.batches([CODES, SID]))
    codes, sid = (pc.max(pc.list_value_length(first.column(c))).as_py() or 1 for c in (CODES, SID))
    return codes, sid


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"
