"""Two ids tables to what changed between them: a table, a page and the figures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.columns import id_type
from semid.diff_page import html
from semid.errors import SemidError, display_path
from semid.id_metadata import read_metadata
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_like_ids,
    require_memory,
    require_unique_ids,
)
from semid.jobs.progress import bar
from semid.manifests import Manifest, write_json
from semid.sid_batches import sid_batches, sid_length
from semid.table_diff import Side, diff_tables
from semid.table_rows import values_of
from semid.tables import ParquetTable, open_table


def diff(
    old: str,
    new: str,
    *,
    output: str | None = None,
    max_churn: float | None = None,
    items: str | None = None,
    title: str = "title",
    item_id: str = "item_id",
    memory_gib: float = 1.0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Say what became of the items of an ids table in a newer one.

    Parameters
    ----------
    old, new : ids tables; of any policy, number of levels or model
    output : folder to write ``changes.parquet``, ``summary.json`` and ``diff.html`` into; without,
        the figures alone are returned
    max_churn : the largest share of the items of both tables whose SID may have changed
    items : table with titles for the examples
    title : its column with them
    item_id : name of the id column in all tables
    memory_gib : budget for joining the tables; what does not fit spills to disk
    overwrite : replace what was written of other tables
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Returns
    -------
    result : `Result.failure` says so when the churn is above `max_churn`

    Raises
    ------
    SemidError
        For bad input; what stood at `output` stays.
    """
    check_limits(max_churn, memory_gib)
    target = None if output is None else output_path(output)
    tables = _Tables.opened(old, new, items, title, item_id)
    if target is None:
        summary = tables.compare(Path(tempfile.gettempdir()), None, memory_gib, show=show)
        return Result(None, summary, failure=_excess(summary, max_churn))

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        folder = stage / "diff"
        shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed here
        folder.mkdir()
        summary = tables.compare(stage, folder / "changes.parquet", memory_gib, show=show)
        write_json(folder / "summary.json", summary)
        (folder / "diff.html").write_text(html(summary), "utf-8")
        return folder, summary

    result = produce(
        "diff",
        target,
        inputs=tables.inputs(),
        settings={"item_id": item_id} | ({} if items is None else {"title": title}),
        build=build,
        overwrite=overwrite,
        owner=owner,
    )
    return replace(result, failure=_excess(result.summary, max_churn))


def check_limits(max_churn: float | None = None, memory_gib: float = 1.0) -> None:
    """Raise `SemidError` for a share of items or a memory that cannot be."""
    if max_churn is not None and not 0 <= max_churn <= 1:
        raise SemidError(f"the largest churn is {max_churn}; give a share from 0 to 1")
    require_memory(memory_gib)


def _excess(summary: Mapping[str, Any], max_churn: float | None) -> str | None:
    """Say that the churn in the summary of a diff is above the limit, if it is."""
    if max_churn is None:
        return None
    if summary["churn"] is None:
        return (
            f"no item is in both tables ({summary['retired']:,} were retired and "
            f"{summary['added']:,} added), so their churn cannot be at most {max_churn:g}; compare "
            "tables of one catalog"
        )
    if summary["churn"] <= max_churn:
        return None
    return (
        f"the churn is {summary['churn']:.4g}, above the limit of {max_churn:g}: "
        f"{summary['changed'][-1]:,} of the {summary['common']:,} items in both tables have "
        "another SID; keep the old table, align the new model to the old, or allow more with "
        "--max-churn"
    )


@dataclass(frozen=True)
class _Tables:
    """What is compared: the two tables, and where titles come from."""

    old: ParquetTable
    new: ParquetTable
    items: ParquetTable | None
    title: str
    item_id: str

    @classmethod
    def opened(cls, old: str, new: str, items: str | None, title: str, item_id: str) -> _Tables:
        tables = open_table(old), open_table(new)
        require_like_ids(*tables, item_id, "cast one of them, or no item is in both")
        if items is None:
            return cls(*tables, None, title, item_id)
        titled = open_table(items)
        id_type(titled, item_id)
        titled.require([title])
        return cls(*tables, titled, title, item_id)

    def inputs(self) -> dict[str, ParquetTable | Path]:
        named: dict[str, ParquetTable | Path] = {"old": self.old, "new": self.new}
        return named if self.items is None else named | {"items": self.items}

    def compare(
        self, folder: Path, changes: Path | None, memory_gib: float, *, show: bool
    ) -> dict[str, Any]:
        """Return the summary, examples with their titles; work and spill in `folder`."""
        for table in (self.old, self.new):
            require_unique_ids(table, self.item_id, show=show)
        rows = self.old.num_rows + self.new.num_rows
        with (
            # Of its own: what a kill leaves here is not taken up again.
            tempfile.TemporaryDirectory(prefix="diff-", dir=folder) as own,
            bar("diff", rows, "rows", show=show) as shown,
        ):
            found = diff_tables(
                self._side(self.old, shown.update),
                self._side(self.new, shown.update),
                folder=Path(own),
                changes=changes,
                item_id=self.item_id,
                memory_bytes=int(memory_gib * 2**30),
            )
        summary = found.summary()
        if self.items is not None:
            _add_titles(summary, self.items, self.title, self.item_id)
        return summary

    def _side(self, table: ParquetTable, on_rows: Callable[[int], object]) -> Side:
        return Side(
            display_path(table.name),
            id_type(table, self.item_id),
            sid_length(table),
            sid_batches(table, self.item_id, on_rows=on_rows),
            read_metadata(table),
        )


def _add_titles(summary: dict[str, Any], items: ParquetTable, title: str, item_id: str) -> None:
    examples = [example for move in summary["moves"] for example in move["examples"]]
    if examples:
        ids = pa.array([example["item_id"] for example in examples])
        titles = values_of(items, ids, title, item_id=item_id)
        for example in examples:
            example["title"] = titles.get(example["item_id"])
