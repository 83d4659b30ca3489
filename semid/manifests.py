"""Manifests: what made an output is written with it, and says whether it is current.

Inside Parquet metadata, as ``manifest.json`` in a folder (``_manifest.json`` among Parquet parts,
where other readers look for data in every name without an underscore), or as ``NAME.manifest.json``
beside any other file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from semid import __version__
from semid.errors import SemidError, display_path

METADATA_KEY = "semid"
MANIFEST = "manifest.json"
PARTS_MANIFEST = "_manifest.json"

Manifest = dict[str, Any]

_MOST_DIFFERENCES = 3  # that a sentence names

# Every read waits for the interpreter, which another thread may keep busy: few and large ones.
_READ_BYTES = 64 << 20


def fingerprint(value: Any) -> str:
    """Return 16 hex digits that identify a JSON-like value, whatever the order of its keys."""
    import xxhash  # here, so that tables can be read where it is not installed

    text = json.dumps(value, sort_keys=True, default=str)
    return xxhash.xxh3_64_hexdigest(text.encode())


def digest(path: Path) -> str:
    """Return 32 hex digits that identify the contents of a file, or of all files in a folder."""
    import xxhash

    total = xxhash.xxh3_128()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            total.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb", buffering=0) as source:
            buffer = bytearray(max(min(file.stat().st_size, _READ_BYTES), 1))
            while size := source.readinto(buffer):
                total.update(memoryview(buffer)[:size])
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
    places = [path / MANIFEST, path / PARTS_MANIFEST] if path.is_dir() else [sidecar(path)]
    return next((place for place in places if place.exists()), None)


def sidecar(path: Path) -> Path:
    """Return where the manifest of a file that cannot hold it stands."""
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


def _file_facts(folder: Path, before: Path | None) -> dict[str, dict[str, Any]]:
    notes = {folder / MANIFEST, folder / PARTS_MANIFEST}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in notes)
    note = None if before is None else _note(before)
    known = {} if note is None else json.loads(note.read_text()).get("files", {})
    facts = {}
    for file in files:
        name, found = _name(file, folder), file.stat()
        same = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
        theirs = known.get(name, {})
        is_known = (
            before is not None
            and same.items() <= theirs.items()
            and (before / name).is_file()
            and file.samefile(before / name)
        )
        facts[name] = same | {"digest": theirs["digest"] if is_known else digest(file)}
    return facts


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def is_current(path: Path, plan: Mapping[str, Any]) -> bool:
    """Tell whether the output at `path` was made by exactly this plan."""
    manifest = read_manifest(path)
    return manifest is not None and manifest.get("fingerprint") == fingerprint(plan)


def refuse_foreign(path: Path, plan: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise `SemidError` when `path` holds something that this plan did not make.

    Names the first settings and inputs that differ. `overwrite` lets it pass, but for a folder with
    files that semid never wrote.
    """
    if not path.exists() or is_current(path, plan):
        return
    manifest = read_manifest(path)
    if manifest is None and path.is_dir() and _note(path) is None and any(path.iterdir()):
        raise SemidError(
            f"{display_path(path)} is a folder with files that semid did not make, and would "
            "replace; choose another --output, or remove it yourself"
        )
    if overwrite:
        return
    if manifest is not None and "plan" in manifest:
        what = f"belongs to other settings ({_in_short(differences(manifest['plan'], plan))})"
    elif manifest is None and _note(path) is not None:
        what = "was changed since semid wrote it"
    else:
        what = "was not made by this command"
    raise SemidError(
        f"{display_path(path)} exists and {what}; choose another --output, or replace it with "
        "--overwrite"
    )


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Name where two plans differ, in order: ``settings.levels: [256] there, [64] now``."""
    if fingerprint(old) == fingerprint(new):  # the one was read from JSON
        return []
    if at.startswith("inputs."):
        return [f"the input '{at.removeprefix('inputs.')}' {_changed_input(old, new)}"]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*new, *(key for key in old if key not in new)]
        places = ((key, f"{at}.{key}" if at else str(key)) for key in keys)
        return [
            one for key, here in places for one in differences(old.get(key), new.get(key), here)
        ]
    return [f"{at}: {_shown(old)} there, {_shown(new)} now"]


def _changed_input(old: str | None, new: str | None) -> str:
    if new is None:
        return "was given then and is not now"
    return "is given now and was not then" if old is None else "has other contents now"


def _in_short(sentences: Sequence[str]) -> str:
    """Join the first of the differences; at least one is there."""
    more = len(sentences) - _MOST_DIFFERENCES
    return "; ".join([*sentences[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])])


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def manifest_for(plan: Mapping[str, Any], **facts: Any) -> Manifest:
    """Describe an output: the plan that makes it, its fingerprint, and what came out."""
    return {"semid": __version__, "fingerprint": fingerprint(plan), "plan": dict(plan), **facts}


def note_files(staged: Path, manifest: Manifest, before: Path | None = None) -> None:
    """Write the manifest of a folder into it, with the facts of its files.

    Files that are links to those of a whole folder `before` are not read again.
    """
    note = _note(staged)
    found = {} if note is None else json.loads(note.read_text())
    is_table = any(staged.rglob("*.parquet"))
    place = staged / (PARTS_MANIFEST if is_table else MANIFEST)
    write_json(place, found | manifest | {"files": _file_facts(staged, before)})


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
