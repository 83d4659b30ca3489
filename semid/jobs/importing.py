"""A file of another program, or an export, to an ids table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semid.errors import SemidError, display_path
from semid.export import format_of, read
from semid.export.item_map import has_map
from semid.id_metadata import METADATA_KEY, ORIGIN
from semid.id_table import IdTable
from semid.ids import validate_codes
from semid.jobs.job import Result, produce, table_path
from semid.jobs.mapping import write_table
from semid.jobs.progress import bar, counted, say
from semid.manifests import PARTS_MANIFEST, Manifest, write_json


def import_ids(
    path: str,
    *,
    format: str,
    output: str,
    items: str | None = None,
    levels: Sequence[int] | None = None,
    item_id: str | None = None,
    id_type: str | None = None,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Make an ids table of a file in a format of `semid.export.FORMATS`, which is read into memory.

    The table has no distances. It says which model assigned it where the file has semid's note of
    it; otherwise what needs that, such as keeping its IDs, says so.

    Parameters
    ----------
    path : file, or folder of a format that is one
    format : one of `semid.export.FORMATS`
    output : ``.parquet`` file or folder of parts to write
    items : file with the item id of every row number, for the formats that number items
    levels : codewords of every level; without, as the note says, or the largest code of each and
        one more; their number tells codes from a suffix where the file does not
    item_id : what to call the id column, instead of its name in the file
    id_type : what item ids are, ``string`` or ``int64``; without, see `semid.export.read`
    overwrite : replace a table made by other settings
    show : show a progress bar
    owner : the step of a pipeline that runs it, which may replace what it made before

    Returns
    -------
    result : the summary's ``levels_from`` says where the levels are from: given, noted or codes

    Raises
    ------
    SemidError
        For bad input, an unknown format or type, or ids of another one; what stood at `output`
        stays.
    """
    target, source = table_path(output), Path(path)
    numbered = format_of(format).numbers and items is None
    named = None if items is None else Path(items)
    for file in (source, named):
        if file is not None and not file.exists():
            raise SemidError(f"{display_path(file)} does not exist; check the path")

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        count = None if levels is None else len(levels)
        found = read(source, format, levels=count, items=named, id_type=id_type)
        sizes, where = _levels(found, levels, source)
        for remark in _guesses(found, sizes, where, numbered=numbered and not has_map(source)):
            say(f"import: {remark}", show=show)
        summary = {
            "format": format,
            "items": len(found),
            "policy": _policy(found),
            "levels": sizes,
            "levels_from": where,
            "sid_length": found.sids.shape[1],
        }
        origin = {key: found.metadata[key] for key in ORIGIN if key in found.metadata}
        staged = stage / f"ids{target.suffix}"
        metadata = {METADATA_KEY.decode(): json.dumps(manifest | origin | {"summary": summary})}
        rows = replace(found, item_id=item_id or found.item_id).to_arrow()
        with bar("import", len(found), "rows", show=show) as shown:
            write_table(counted(iter(rows.to_batches()), shown), staged, rows.schema, metadata)
        if staged.is_dir():
            write_json(staged / PARTS_MANIFEST, origin)
        return staged, summary

    inputs = {"file": source} if named is None else {"file": source, "items": named}
    return produce(
        "import",
        target,
        inputs=inputs,
        settings={
            **{"format": format, "levels": levels and list(levels)},
            **{"item_id": item_id, "id_type": id_type},
        },
        build=build,
        overwrite=overwrite,
        owner=owner,
    )


def _levels(ids: IdTable, given: Sequence[int] | None, source: Path) -> tuple[list[int], str]:
    """Return K of every level and where that is from; raises `SemidError` for a code beyond it."""
    summary = ids.metadata.get("summary")
    noted = summary.get("levels") if isinstance(summary, dict) else None
    sizes = [int(size) for size in given or noted or ()]
    if sizes:
        validate_codes(ids.codes, sizes, at=lambda row: f"{display_path(source)}, row {row}")
        return sizes, "given" if given else "noted"
    return [int(code) + 1 for code in ids.codes.max(axis=0)], "codes"


def _guesses(ids: IdTable, sizes: Sequence[int], where: str, *, numbered: bool) -> Iterator[str]:
    """Yield what was taken for granted, since the file does not say it."""
    if numbered:
        yield "no map is beside the file, so item ids are row numbers; --items names one"
    if where == "codes":
        last = "and a suffix" if ids.sids.shape[1] > len(sizes) else "and no suffix"
        yield (
            f"the file does not say its levels; {', '.join(map(str, sizes))} {last} are taken, "
            "--levels says otherwise"
        )


def _policy(ids: IdTable) -> str:
    """Return the policy that is noted, else the one that the length of the SIDs tells."""
    summary = ids.metadata.get("summary")
    noted = summary.get("policy") if isinstance(summary, dict) else None
    return noted or ("suffix" if ids.sids.shape[1] > ids.codes.shape[1] else "none")
