"""Gates that a table must pass before anyone reads it: judged ahead of publishing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semid.errors import GateError, SemidError, display_path
from semid.evaluation.codes import code_figures
from semid.gates import Gate, judge, parse_gates, require_names, sentence
from semid.id_columns import CODES, code_matrix
from semid.jobs.context import Context
from semid.jobs.evaluate import measured
from semid.jobs.evaluated import Evaluated
from semid.jobs.gate_names import refuse_unknown_figures
from semid.manifests import write_json
from semid.tables import ParquetTable, open_table


def table_gates(gates: Sequence[str], header: Mapping[str, Any]) -> list[Gate]:
    """Read gates on the figures of codes and embeddings.

    Raises
    ------
    SemidError
        For one that cannot be read, or asks for a figure that only `semid evaluate` has.
    """
    asked = parse_gates(gates)
    if not asked or _of_codes(asked, header["levels"]):
        return asked
    try:
        refuse_unknown_figures(asked, header)
    except SemidError as error:
        raise SemidError(
            f"{error}; before a table is there its codes and embeddings are measured, gate other "
            "figures in semid evaluate"
        ) from error
    return asked


def _of_codes(asked: Sequence[Gate], levels: Sequence[int]) -> bool:
    """Tell whether codes alone are enough to judge."""
    try:
        require_names(code_figures(np.zeros((1, len(levels)), np.int32), levels), asked)
    except SemidError:
        return False
    return True


@dataclass(frozen=True)
class Staged:
    """A table that is not yet published, and what it was assigned from.

    Attributes
    ----------
    folder : the table
    embeddings, model, header : what gave it its codes
    stage : a folder for what does not fit into `memory_bytes`
    """

    folder: Path
    embeddings: ParquetTable
    model: Path
    header: dict[str, Any]
    item_id: str
    stage: Path
    memory_bytes: int
    show: bool

    def figures(self, asked: Sequence[Gate]) -> dict[str, Any]:
        """Return the figures that gates ask for: of codes alone where these are enough."""
        table, levels = open_table(self.folder), self.header["levels"]
        if _of_codes(asked, levels):
            batches = table.batches([CODES], rows=65_536)
            codes_nl = np.concatenate([code_matrix(batch.column(0), CODES) for batch in batches])
            return code_figures(codes_nl, levels)
        return measured(
            Evaluated(table, self.embeddings, self.model, self.header, self.item_id),
            Context(table, self.item_id, None, None, None, None),
            self.stage,
            self.memory_bytes / 2**30,
            baseline=False,
            show=self.show,
            just_assigned=True,
        )


def refuse_failed(staged: Staged, asked: Sequence[Gate], refused: Path) -> dict[str, Any]:
    """Judge a table by gates; returns what there is to add to a summary.

    All figures of a table that is refused are written to `refused`, for who must find out why.

    Raises
    ------
    GateError
        When one fails, naming all with their values.
    """
    if not asked:
        return {}
    figures = staged.figures(asked)
    found = judge(figures, asked)
    failed = sentence(found)
    if failed is not None:
        written = staged.stage / refused.name
        write_json(written, figures | {"gates": [one._asdict() for one in found]})
        written.replace(refused)
        raise GateError(
            f"{failed}; nothing was written to the table, its figures would be those in "
            f"{display_path(refused)}"
        )
    refused.unlink(missing_ok=True)
    return {"gates": [one._asdict() for one in found]}
