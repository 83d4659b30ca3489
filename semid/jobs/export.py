"""An ids table to a file that another program reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.export import FORMATS, export_ids
from semid.jobs.job import Result, output_path, produce, require_unique_ids
from semid.jobs.progress import bar
from semid.manifests import Manifest
from semid.tables import open_table


def export(
    ids: str,
    *,
    format: str,
    output: str,
    item_id: str = "item_id",
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Export an ids table.

    Parameters
    ----------
    ids : Parquet file, folder, glob or URI
    format : one of `semid.export.FORMATS`
    output : file to write
    item_id : name of the id column
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or an unknown format; what stood at `output` stays.
    """
    target, table = output_path(output), open_table(ids)
    id_type(table, item_id)
    if format not in FORMATS:
        raise SemidError(f"unknown format {format!r}; use {', '.join(FORMATS)}")

    if format != "parquet" and target.suffix == ".parquet":
        raise SemidError(
            f"{display_path(target)} is named as a Parquet file but the format is {format}; give "
            "it another suffix"
        )

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_unique_ids(table, item_id, show=show)
        staged = stage / f"export{target.suffix}"
        rows = FORMATS[format].passes * table.num_rows
        with bar("export", rows, "rows", show=show) as shown:
            return staged, export_ids(table, staged, format, item_id=item_id, on_rows=shown.update)

    return produce(
        "export",
        target,
        inputs={"ids": table},
        settings={"format": format, "item_id": item_id},
        build=build,
        overwrite=overwrite,
        owner=owner,
    )
