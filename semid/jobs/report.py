"""An ids table, and what is known of its items, to one page to look into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.artifact import CONFIG, HISTORY, METRICS, WEIGHTS, model_fingerprint, read_header
from semid.columns import EMBEDDING, id_type
from semid.embedding_columns import Widths, embedding_widths, side_by_side
from semid.errors import SemidError, display_path, require_package
from semid.gates import judge, parse_gates
from semid.id_columns import CODES
from semid.id_metadata import read_metadata
from semid.id_reading import read_ids
from semid.ids import validate_codes
from semid.jobs.context import Context
from semid.jobs.evaluate import Evaluated, measured
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_codes,
    require_like_ids,
    require_unique_ids,
    require_widths,
)
from semid.jobs.progress import bar
from semid.manifests import Manifest
from semid.report.building import build_page
from semid.report.contents import Column
from semid.report.looking import Known
from semid.report.projection import require_method
from semid.report.subject import Subject, column_of
from semid.streams import prefetch
from semid.tables import ParquetTable, open_table

BATCH_ROWS = 16_384
# For joining tables of other orders, where the report measures them itself.
MEMORY_GIB = 1.0


def report(
    ids: str,
    *,
    output: str,
    model: str | None = None,
    embeddings: str | None = None,
    items: str | None = None,
    title: str = "title",
    image: str | None = None,
    url: str | None = None,
    color_by: Sequence[str] = (),
    metrics: str | None = None,
    gates: Sequence[str] = (),
    against: str | None = None,
    projection: str = "tsne",
    item_id: str = "item_id",
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Write one HTML file in which an ids table can be seen and explored.

    What is not given is left out, and the page says what would show it. The ids table is held in
    memory, embeddings are not but for the items that the page holds.

    Parameters
    ----------
    ids : ids table
    output : ``.html`` file to write
    model : the model that assigned it
    embeddings : what it was assigned from, in any order
    items : table of the items
    title, image, url : its columns with titles, and with the URLs of images and of pages
    color_by : its columns to colour prefixes by, numbers or labels
    metrics : ``metrics.json`` of `semid evaluate`, for the verdict and all figures; without it a
        table with its model and embeddings is measured here, less the baseline
    gates : what the figures must be, such as ``uniqueness >= 0.9``; see `semid.gates`
    against : another ids table to compare with
    projection : how items are placed on the map, ``tsne`` or ``pca``
    item_id : name of the id column in all tables
    overwrite : replace a page made of something else
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input, or tables and a model that do not belong together.
    """
    check_request(output)
    require_method(projection)
    asked = parse_gates(gates)
    target = output_path(output)
    columns = _ItemColumns(title, image, url, tuple(color_by))
    sources = _Sources.opened(ids, model, embeddings, items, columns, metrics, against, item_id)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        if sources.embeddings is not None:
            require_unique_ids(sources.embeddings, item_id, show=show)
        figures = sources.figures(stage, show=show)
        if asked and figures is None:
            raise SemidError(
                "gates are on the figures of semid evaluate; give --metrics, or --model and "
                "--embeddings"
            )
        if figures is not None:
            figures |= {"gates": [one._asdict() for one in judge(figures, asked)]}
        known = replace(sources.read(show=show), metrics=figures)
        page, summary = build_page(known, projection=projection)
        staged = stage / target.name
        staged.write_text(page, "utf-8")
        return staged, summary | {"mib": round(len(page.encode()) / 2**20, 2)}

    return produce(
        "report",
        target,
        inputs=sources.inputs(),
        settings={
            **{"item_id": item_id, "projection": projection, "gates": list(gates)},
            **columns.settings(),
        },
        build=build,
        overwrite=overwrite,
        owner=owner,
    )


def check_request(output: str) -> None:
    """Raise `SemidError` for an output that is no page, or when plots cannot be drawn."""
    require_package("plotly", extra="report", purpose="the report")
    if Path(output).suffix not in {".html", ".htm"}:
        raise SemidError(
            f"the output {display_path(output)} must end in .html: a report is a page; choose "
            "another --output"
        )


@dataclass(frozen=True)
class _ItemColumns:
    """Which columns of the items table hold what."""

    title: str
    image: str | None
    url: str | None
    color_by: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        return {**self.texts(), "color_by": list(self.color_by)}

    def texts(self) -> dict[str, str]:
        """Return the columns with text to show, by what they are of."""
        named = {"titles": self.title, "images": self.image, "urls": self.url}
        return {name: column for name, column in named.items() if column is not None}


@dataclass(frozen=True)
class _Sources:
    """The opened inputs of a report."""

    ids: ParquetTable
    item_id: str
    columns: _ItemColumns
    model: Path | None = None
    header: dict[str, Any] = field(default_factory=dict)
    embeddings: ParquetTable | None = None
    widths: Widths = field(default_factory=dict)
    items: ParquetTable | None = None
    metrics: Path | None = None
    against: ParquetTable | None = None

    @classmethod
    def opened(
        cls,
        ids: str,
        model: str | None,
        embeddings: str | None,
        items: str | None,
        columns: _ItemColumns,
        metrics: str | None,
        against: str | None,
        item_id: str,
    ) -> _Sources:
        table = open_table(ids)
        id_type(table, item_id)
        table.require([CODES])
        folder = None if model is None else Path(model)
        header = {} if folder is None else _header(folder, table)
        embedded, widths = _embeddings(embeddings, folder, header)
        shown = None if items is None else open_table(items)
        if shown is None and (columns.color_by or columns.image or columns.url):
            raise SemidError(
                "titles, images and columns to colour by are of the items table; name it by --items"
            )
        other = None if against is None else open_table(against)
        need = "a report is of one catalog"
        for beside in (embedded, shown, other):
            if beside is not None:
                require_like_ids(table, beside, item_id, need)
        if shown is not None:
            shown.require([*columns.texts().values(), *columns.color_by])
        measured = None if metrics is None else Path(metrics)
        if measured is not None and not measured.is_file():
            raise SemidError(
                f"{display_path(measured)} is not a file; semid evaluate writes metrics.json"
            )
        return cls(
            table, item_id, columns, folder, header, embedded, widths, shown, measured, other
        )

    def inputs(self) -> dict[str, ParquetTable | Path]:
        tables = {"embeddings": self.embeddings, "items": self.items, "against": self.against}
        found: dict[str, ParquetTable | Path] = {"ids": self.ids}
        found |= {name: table for name, table in tables.items() if table is not None}
        if self.model is not None:
            names = {"model": WEIGHTS, "config": CONFIG, "history": HISTORY, "verdicts": METRICS}
            found |= {name: self.model / file for name, file in names.items()}
        return found if self.metrics is None else found | {"metrics": self.metrics}

    def figures(self, stage: Path, *, show: bool) -> dict[str, Any] | None:
        """Return what `semid evaluate` says, measured here unless its file is given."""
        if self.metrics is not None:
            return _metrics(self.metrics)
        if self.model is None or self.embeddings is None:
            return None
        subject = Evaluated(self.ids, self.embeddings, self.model, self.header, self.item_id)
        there = self.items is not None and self.columns.title in self.items.schema.names
        title = self.columns.title if there else None
        context = Context(self.ids, self.item_id, self.items, title, None, None)
        return measured(subject, context, stage, MEMORY_GIB, baseline=False, show=show)

    def read(self, *, show: bool) -> Known:
        """Read what fits in memory, and open what streams."""
        table, quantizer = read_ids(self.ids.name, self.item_id), None
        if self.header:
            validate_codes(table.codes, self.header["levels"], at=self.ids.locate)
        subject = Subject(table, self.header.get("levels"))
        if self.model is not None:
            require_package("torch", extra="cpu", purpose="a report with a model")
            from semid.quantizer import load

            quantizer = load(self.model)
        noted = read_metadata(self.ids).get("summary") or {}
        return Known(
            subject=subject,
            name=display_path(self.ids.name),
            facts={"quantizer": self.header.get("kind"), "policy": noted.get("policy")},
            width=sum(self.widths.values()),
            embeddings=lambda: self._embedded(show=show),
            decode=None if quantizer is None else quantizer.decode,
            holdout=float(self.header.get("config", {}).get("holdout", 0.0)),
            history=[] if quantizer is None else quantizer.history,
            columns=tuple(self._column(subject, name) for name in self.columns.color_by),
            texts=self._texts,
            text_names=() if self.items is None else tuple(self.columns.texts()),
            against=None if self.against is None else read_ids(self.against.name, self.item_id),
            against_name="" if self.against is None else display_path(self.against.name),
        )

    def _embedded(self, *, show: bool) -> Iterator[tuple[pa.Array, npt.NDArray[np.float32]]]:
        """Stream item ids and embeddings."""
        table = self.embeddings
        if table is None:
            return
        row = 0
        with bar("report", table.num_rows, "rows", show=show) as shown:
            batches = table.batches([self.item_id, *self.widths], rows=BATCH_ROWS)
            for batch in prefetch(batches):
                x_bd = side_by_side(batch, self.widths, where=table, first_row=row)
                yield batch.column(0), x_bd
                row += len(x_bd)
                shown.update(len(x_bd))

    def _column(self, subject: Subject, name: str) -> Column:
        assert self.items is not None
        kind = self.items.schema.field(name).type
        return column_of(subject, name, kind, self.items.batches([self.item_id, name]))

    def _texts(self) -> Iterator[pa.RecordBatch]:
        """Stream item ids and the columns with text, by their places: one may be named twice."""
        if self.items is None:
            return
        columns = [self.item_id, *self.columns.texts().values()]
        for batch in self.items.batches(list(dict.fromkeys(columns))):
            found = [batch.column(name) for name in columns]
            yield pa.record_batch(found, [str(place) for place in range(len(columns))])


def _header(folder: Path, table: ParquetTable) -> dict[str, Any]:
    header = read_header(folder)
    require_codes(header, folder)
    noted, own = read_metadata(table).get("model_fingerprint"), model_fingerprint(folder)
    if noted not in (None, own):
        raise SemidError(
            f"{display_path(table.name)} was assigned by the model {noted} but "
            f"{display_path(folder)} is {own}; name the model that assigned it"
        )
    return header


def _embeddings(
    path: str | None, folder: Path | None, header: dict[str, Any]
) -> tuple[ParquetTable | None, Widths]:
    if path is None:
        return None, {}
    table = open_table(path)
    if folder is None:
        return table, embedding_widths(table, [EMBEDDING])
    require_widths(table, header["columns"], folder)
    return table, header["columns"]


def _metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SemidError(
            f"{display_path(path)} cannot be read as JSON ({error}); semid evaluate writes it"
        ) from error
    if not isinstance(found, dict):
        raise SemidError(f"{display_path(path)} is no JSON object; semid evaluate writes one")
    return found
