"""Gates that a table must pass before anyone reads it: judged on its codes, ahead of publishing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semid.errors import GateError, SemidError
from semid.evaluation.codes import code_figures
from semid.gates import Gate, judge, parse_gates, sentence
from semid.id_columns import CODES, code_matrix
from semid.tables import open_table


def code_gates(gates: Sequence[str], levels: Sequence[int]) -> list[Gate]:
    """Read gates on the figures of codes.

    Raises
    ------
    SemidError
        For one that cannot be read, or asks for a figure that only `semid evaluate` has.
    """
    asked = parse_gates(gates)
    if not asked:
        return []
    try:
        judge(code_figures(np.zeros((1, len(levels)), np.int32), levels), asked)
    except SemidError as error:
        raise SemidError(
            f"{error}; before a table is there its codes alone are measured, gate other figures in "
            "semid evaluate"
        ) from error
    return asked


def refuse_failed(folder: Path, levels: Sequence[int], asked: Sequence[Gate]) -> dict[str, Any]:
    """Judge the codes of a table by gates; returns what there is to add to a summary.

    Raises
    ------
    GateError
        When one fails, naming all with their values.
    """
    if not asked:
        return {}
    batches = open_table(folder).batches([CODES], rows=65_536)
    codes_nl = np.concatenate([code_matrix(batch.column(0), CODES) for batch in batches])
    found = judge(code_figures(codes_nl, levels), asked)
    failed = sentence(found)
    if failed is not None:
        raise GateError(f"{failed}; nothing was published, what was there stays")
    return {"gates": [one._asdict() for one in found]}
