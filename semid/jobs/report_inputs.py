"""What a report may be given, opened, each held against the ids table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semid.artifact import read_header
from semid.columns import EMBEDDING
from semid.embedding_columns import Widths, embedding_widths
from semid.errors import SemidError
from semid.jobs.context import Context
from semid.jobs.job import require_codes, require_own_model, require_widths
from semid.jobs.report_metrics import Metrics
from semid.tables import ParquetTable, open_table


@dataclass(frozen=True)
class ItemColumns:
    """Which columns of the items table hold what."""

    title: str
    image: str | None = None
    url: str | None = None
    categories: str | None = None
    color_by: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what a page depends on."""
        return {**self.texts(), "categories": self.categories, "color_by": list(self.color_by)}

    def texts(self) -> dict[str, str]:
        """Return the columns with text to show, by what they are of."""
        named = {"titles": self.title, "images": self.image, "urls": self.url}
        return {name: column for name, column in named.items() if column is not None}


@dataclass(frozen=True)
class Paths:
    """Where the inputs of a report are, and how their id column is called."""

    ids: str
    item_id: str
    model: str | None = None
    embeddings: str | None = None
    items: str | None = None
    interactions: str | None = None
    metrics: str | None = None
    against: str | None = None
    against_metrics: str | None = None


def open_metrics(
    path: str | None, table: ParquetTable, folder: Path | None, header: dict[str, Any]
) -> Metrics | None:
    """Read metrics; raises `SemidError` for what is none, or of another table or model."""
    if path is None:
        return None
    metrics = Metrics.read(Path(path))
    metrics.refuse_other_table(table, folder, header)
    return metrics


def open_header(folder: Path, table: ParquetTable) -> dict[str, Any]:
    """Read the header of a model; raises `SemidError` when it did not assign the table."""
    header = read_header(folder)
    require_codes(header, folder)
    require_own_model(table, folder)
    return header


def open_embeddings(
    path: str | None, folder: Path | None, header: dict[str, Any]
) -> tuple[ParquetTable | None, Widths]:
    """Open embeddings, with the widths of their columns; of a model they must be its own."""
    if path is None:
        return None, {}
    table = open_table(path)
    if folder is None:
        return table, embedding_widths(table, [EMBEDDING])
    require_widths(table, header["columns"], folder)
    return table, header["columns"]


def open_context(table: ParquetTable, paths: Paths, columns: ItemColumns) -> Context:
    """Open items and interactions; raises `SemidError` for columns that are not there."""
    if paths.items is None and (columns.color_by or columns.image or columns.url):
        raise SemidError(
            "titles, images and columns to colour by are of the items table; name it by --items"
        )
    context = Context.opened(
        table,
        paths.items,
        paths.interactions,
        title=columns.title,
        categories=columns.categories,
        item_id=paths.item_id,
    )
    if context.items is not None:
        context.items.require([*columns.texts().values(), *columns.color_by])
    return context
