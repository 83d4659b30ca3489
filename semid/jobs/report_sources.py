"""What a report is made of: its inputs, opened, held against each other, and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from semid.artifact import CONFIG, HISTORY, METRICS, WEIGHTS, model_fingerprint, read_header
from semid.coded_items import CodedItems, Embedded, embedded, read_items
from semid.columns import EMBEDDING, id_type
from semid.embedding_columns import Widths, embedding_widths
from semid.errors import SemidError, display_path, require_package
from semid.evaluation.passing import look
from semid.gates import Gate, judge
from semid.id_columns import CODES
from semid.id_metadata import read_metadata
from semid.id_reading import read_ids
from semid.ids import validate_codes
from semid.jobs.context import Context
from semid.jobs.evaluate import Evaluated, measured, require_any
from semid.jobs.gate_names import refuse_unknown_figures
from semid.jobs.job import require_codes, require_like_ids, require_own_model, require_widths
from semid.jobs.progress import bar
from semid.jobs.report_metrics import read_metrics, refuse_other_table
from semid.met_items import count_met
from semid.report.contents import Column
from semid.report.looking import Against, Known, Vectors
from semid.report.subject import Subject, column_of
from semid.tables import ParquetTable, open_table

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

# For joining tables of other orders.
_MEMORY_GIB = 1.0
_INTERACTIONS = "interactions"


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


@dataclass(frozen=True)
class Sources:
    """The opened inputs of a report."""

    ids: ParquetTable
    item_id: str
    columns: ItemColumns
    context: Context
    model: Path | None = None
    header: dict[str, Any] = field(default_factory=dict)
    embeddings: ParquetTable | None = None
    widths: Widths = field(default_factory=dict)
    metrics: Path | None = None
    against: ParquetTable | None = None

    @classmethod
    def opened(cls, paths: Paths, columns: ItemColumns) -> Sources:
        """Open them.

        Raises
        ------
        SemidError
            For bad input, or tables and a model that do not belong together.
        """
        table, item_id = open_table(paths.ids), paths.item_id
        id_type(table, item_id)
        table.require([CODES])
        folder = None if paths.model is None else Path(paths.model)
        header = {} if folder is None else _header(folder, table)
        embeddings, widths = _embeddings(paths.embeddings, folder, header)
        against = None if paths.against is None else open_table(paths.against)
        for beside in filter(None, (embeddings, against)):
            require_like_ids(table, beside, item_id, "a report is of one catalog")
        metrics = None if paths.metrics is None else Path(paths.metrics)
        if metrics is not None:
            refuse_other_table(metrics, table, folder, header)
        context = _context(table, paths, columns)
        return cls(
            *(table, item_id, columns, context, folder, header),
            *(embeddings, widths, metrics, against),
        )

    def inputs(self) -> dict[str, ParquetTable | Path]:
        """Return what the page depends on."""
        tables = {"embeddings": self.embeddings, "against": self.against}
        found: dict[str, ParquetTable | Path] = {"ids": self.ids, **self.context.inputs()}
        found |= {name: table for name, table in tables.items() if table is not None}
        if self.model is not None:
            names = {"model": WEIGHTS, "config": CONFIG, "history": HISTORY, "verdicts": METRICS}
            found |= {name: self.model / file for name, file in names.items()}
        return found if self.metrics is None else found | {"metrics": self.metrics}

    def require_figures(self, asked: Sequence[Gate]) -> None:
        """Raise `SemidError` for a gate whose figure is not there or will not be."""
        if self.metrics is not None:
            judge(read_metrics(self.metrics), asked)
        elif self.model is None or self.embeddings is None:
            raise SemidError(
                "gates are on the figures of semid evaluate; give --metrics, or --model and "
                "--embeddings"
            )
        else:
            refuse_unknown_figures(asked, self.header, self.context)

    def figures(self, stage: Path, *, show: bool) -> dict[str, Any] | None:
        """Return what `semid evaluate` says, measured here unless its file is given."""
        if self.metrics is not None:
            return read_metrics(self.metrics)
        if self.model is None or self.embeddings is None:
            return None
        subject = Evaluated(self.ids, self.embeddings, self.model, self.header, self.item_id)
        return measured(subject, self.context, stage, _MEMORY_GIB, baseline=False, show=show)

    @contextmanager
    def read(self, figures: dict[str, Any] | None, stage: Path, *, show: bool) -> Iterator[Known]:
        """Read what fits in memory, and open what streams; a bar runs while it is open."""
        noted = read_metadata(self.ids).get("summary", {}).get("levels")
        levels = self.header.get("levels", noted)
        subject = Subject(read_ids(self.ids.name, self.item_id), levels)
        validate_codes(subject.table.codes, subject.levels, at=self.ids.locate)
        model = self._loaded()
        noted = read_metadata(self.ids).get("collisions") or {}
        known = Known(
            subject=subject,
            name=display_path(self.ids.name),
            facts={"quantizer": self.header.get("kind"), "policy": noted.get("policy")},
            vectors=self._vectors(subject, stage),
            model=model,
            history=[] if model is None else model.history,
            columns=self._columns(subject, stage),
            texts=self._texts,
            text_names=() if self.context.items is None else tuple(self.columns.texts()),
            metrics=figures,
            against=self._against(model, stage),
        )
        with ExitStack() as stack:
            if model is not None and self.embeddings is not None:
                rows = self.embeddings.num_rows
                shown = stack.enter_context(bar("report", rows, "rows", show=show))
                known = replace(known, on_rows=shown.update)
            yield known

    def _loaded(self) -> Quantizer | None:
        if self.model is None:
            return None
        require_package("torch", extra="cpu", purpose="a report with a model")
        from semid.quantizer import load

        return load(self.model)

    def _coded(
        self, table: ParquetTable, levels: tuple[int, ...], stage: Path
    ) -> tuple[CodedItems, Embedded]:
        """Return the items of a table, and their embeddings."""
        assert self.embeddings is not None
        holdout = float(self.header.get("config", {}).get("holdout", 0.0))
        items = read_items(table, levels, item_id=self.item_id, holdout=holdout)
        given = (items, table, self.embeddings, self.widths)
        return items, embedded(*given, item_id=self.item_id, temp_dir=stage)

    def _vectors(self, subject: Subject, stage: Path) -> Vectors | None:
        if self.embeddings is None:
            return None
        items, beside = self._coded(self.ids, subject.levels, stage)
        require_any(beside, self.ids, self.embeddings, "a report is of one catalog")
        return Vectors(items, beside, items.placed(subject.table_row_n))

    def _against(self, model: Quantizer | None, stage: Path) -> Against | None:
        """Read the other table, and measure its errors where the same model assigned it."""
        if self.against is None:
            return None
        name = display_path(self.against.name)
        subject = Subject(read_ids(self.against.name, self.item_id))
        noted, errors = read_metadata(self.against).get("model_fingerprint"), dict[str, Any]()
        if model is None or self.model is None or self.embeddings is None:
            return Against(name, subject, errors)
        if noted == model_fingerprint(self.model):
            found = look(*self._coded(self.against, model.levels, stage), model)
            errors = found.depths[-1].result()
        return Against(name, subject, errors)

    def _columns(self, subject: Subject, stage: Path) -> tuple[Column, ...]:
        """Gather what the items may be coloured by, and how often they were met."""
        items, found = self.context.items, []
        for name in self.columns.color_by if items is not None else ():
            assert items is not None
            kind = items.schema.field(name).type
            found.append(column_of(subject, name, kind, items.batches([self.item_id, name])))
        if self.context.interactions is not None:
            ids = subject.table.item_ids
            met = count_met(self.context.interactions, ids, item_id=self.item_id, folder=stage)
            found.append(Column(_INTERACTIONS, met.met_n.astype(float)))
        return tuple(found)

    def _texts(self) -> Iterator[pa.RecordBatch]:
        """Stream item ids and the columns with text, by their places: one may be named twice."""
        if self.context.items is None:
            return
        columns = [self.item_id, *self.columns.texts().values()]
        for batch in self.context.items.batches(list(dict.fromkeys(columns))):
            found = [batch.column(name) for name in columns]
            yield pa.record_batch(found, [str(place) for place in range(len(columns))])


def _header(folder: Path, table: ParquetTable) -> dict[str, Any]:
    header = read_header(folder)
    require_codes(header, folder)
    require_own_model(table, folder)
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


def _context(table: ParquetTable, paths: Paths, columns: ItemColumns) -> Context:
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
