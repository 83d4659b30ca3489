"""What a report is made of: its inputs, opened, held against each other, and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from semid.artifact import CONFIG, HISTORY, METRICS, WEIGHTS, model_fingerprint
from semid.coded_items import CodedItems, Embedded, embedded, read_items
from semid.columns import id_type
from semid.embedding_columns import Widths
from semid.errors import SemidError, display_path, require_package
from semid.evaluation.passing import look
from semid.gates import Gate, judge
from semid.id_columns import CODES
from semid.id_metadata import read_metadata
from semid.id_reading import read_ids
from semid.ids import validate_codes
from semid.jobs.context import Context
from semid.jobs.evaluate import measured
from semid.jobs.evaluated import Evaluated, require_any
from semid.jobs.gate_names import refuse_unknown_figures
from semid.jobs.job import require_like_ids
from semid.jobs.progress import bar
from semid.jobs.report_inputs import (
    ItemColumns,
    Paths,
    open_context,
    open_embeddings,
    open_header,
    open_metrics,
)
from semid.jobs.report_metrics import Metrics
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
    metrics: Metrics | None = None
    against: ParquetTable | None = None
    against_metrics: Metrics | None = None

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
        header = {} if folder is None else open_header(folder, table)
        embeddings, widths = open_embeddings(paths.embeddings, folder, header)
        against = None if paths.against is None else open_table(paths.against)
        for beside in filter(None, (embeddings, against)):
            require_like_ids(table, beside, item_id, "a report is of one catalog")
        metrics = open_metrics(paths.metrics, table, folder, header)
        against_metrics = None
        if paths.against_metrics is not None:
            if against is None:
                raise SemidError(
                    f"{display_path(paths.against_metrics)} is to be of the table to compare "
                    "with; name that by --against"
                )
            against_metrics = open_metrics(paths.against_metrics, against, None, {})
        context = open_context(table, paths, columns)
        return cls(
            *(table, item_id, columns, context, folder, header),
            *(embeddings, widths, metrics, against, against_metrics),
        )

    def inputs(self) -> dict[str, ParquetTable | Path]:
        """Return what the page depends on."""
        tables = {"embeddings": self.embeddings, "against": self.against}
        found: dict[str, ParquetTable | Path] = {"ids": self.ids, **self.context.inputs()}
        found |= {name: table for name, table in tables.items() if table is not None}
        if self.model is not None:
            names = {"model": WEIGHTS, "config": CONFIG, "history": HISTORY, "verdicts": METRICS}
            found |= {name: self.model / file for name, file in names.items()}
        given = {"metrics": self.metrics, "against metrics": self.against_metrics}
        return found | {name: one.path for name, one in given.items() if one is not None}

    @cached_property
    def subject(self) -> Subject:
        """The table, in memory."""
        return _subject(self.ids, self.item_id, self.header.get("levels"))

    @cached_property
    def other(self) -> Subject | None:
        """The table to compare with, in memory."""
        return None if self.against is None else _subject(self.against, self.item_id, None)

    def refuse_others(self) -> None:
        """Raise `SemidError` for metrics of other codes, and for items that the table has not."""
        if self.metrics is not None:
            self.metrics.refuse_other_codes(self.ids, self.subject.figures)
        if self.against_metrics is not None and self.against is not None and self.other is not None:
            self.against_metrics.refuse_other_codes(self.against, self.other.figures)
        if (items := self.context.items) is not None:
            batches = items.batches([self.item_id])
            if not any(len(self.subject.rows_of(batch.column(0))[0]) for batch in batches):
                raise SemidError(
                    f"{display_path(items.name)} has none of the items of "
                    f"{display_path(self.ids.name)}; give the items of this catalog"
                )

    def require_figures(self, asked: Sequence[Gate]) -> None:
        """Raise `SemidError` for a gate whose figure is not there or will not be."""
        if self.metrics is not None:
            judge(self.metrics.figures, asked)
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
            return dict(self.metrics.figures)
        if self.model is None or self.embeddings is None:
            return None
        subject = Evaluated(self.ids, self.embeddings, self.model, self.header, self.item_id)
        return measured(subject, self.context, stage, _MEMORY_GIB, baseline=False, show=show)

    @contextmanager
    def read(self, figures: dict[str, Any] | None, stage: Path, *, show: bool) -> Iterator[Known]:
        """Read what fits in memory, and open what streams; a bar runs while it is open."""
        subject, model = self.subject, self._loaded()
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
        """Return the other table; without metrics its errors, if the same model assigned it."""
        if self.against is None or self.other is None:
            return None
        name, figures = display_path(self.against.name), dict[str, Any]()
        if self.against_metrics is not None:
            return Against(name, self.other, self.against_metrics.figures)
        if model is None or self.model is None or self.embeddings is None:
            return Against(name, self.other, figures)
        if read_metadata(self.against).get("model_fingerprint") == model_fingerprint(self.model):
            found = look(*self._coded(self.against, model.levels, stage), model)
            figures = found.depths[-1].result()
        return Against(name, self.other, figures)

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


def _subject(table: ParquetTable, item_id: str, levels: Sequence[int] | None) -> Subject:
    """Read an ids table; of levels that no model tells, those that are noted, or that occur."""
    noted = read_metadata(table).get("summary", {}).get("levels")
    subject = Subject(read_ids(table.name, item_id), levels or noted)
    validate_codes(subject.table.codes, subject.levels, at=table.locate)
    return subject
