"""An ids table to a file that another program reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.export import FORMATS, format_of, write
from semid.jobs.job import FILE_ENDINGS, Result, output_path, produce, require_unique_ids
from semid.jobs.progress import bar
from semid.manifests import Manifest
from semid.tables import open_table

_PARQUET = ("parquet", "semantic-ids-llm", "openonerec")


def export(
    ids: str,
    *,
    format: str,
    output: str,
    width: int | None = None,
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
    output : file to write, or folder, as the format has it
    width : how many codes the consumer has at every level, instead of what the format assumes
    item_id : name of the id column
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input, an unknown format, or one that cannot hold the table; what stood at `output`
        stays.
    """
    target, table = output_path(output), open_table(ids)
    id_type(table, item_id)
    chosen = format_of(format)
    _refuse_name(target, format)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_unique_ids(table, item_id, show=show)
        staged = stage / f"export{target.suffix}"
        if chosen.folder:
            shutil.rmtree(staged, ignore_errors=True)
            staged = staged / target.name  # some name their files after it
        rows = chosen.passes * table.num_rows
        with bar("export", rows, "rows", show=show) as shown:
            return staged, write(
                table, staged, format, item_id=item_id, width=width, on_rows=shown.update
            )

    return produce(
        "export",
        target,
        inputs={"ids": table},
        settings={"format": format, "item_id": item_id, "width": width},
        build=build,
        overwrite=overwrite,
        owner=owner,
    )


def _refuse_name(target: Path, format: str) -> None:
    ending = target.suffix.lower()
    if FORMATS[format].folder and ending in FILE_ENDINGS:
        raise SemidError(
            f"{display_path(target)} is named as a file but {format} is a folder of files; give it "
            f"a name without {ending}"
        )
    if format not in _PARQUET and not FORMATS[format].folder and ending == ".parquet":
        raise SemidError(
            f"{display_path(target)} is named as a Parquet file but the format is {format}; give "
            "it another suffix"
        )
