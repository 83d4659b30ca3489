"""Verifying an ids table: its rows one by one, against each other, and against codes made anew.

DuckDB groups and joins on disk what does not fit in memory. This file knows neither models nor how
embeddings become codes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.database import out_of_core
from semid.ids import MAX_CODES
from semid.note_checks import noted_rules
from semid.origin import Origin
from semid.row_checks import Contract
from semid.set_checks import Rows, SetChecks
from semid.violations import Violations


@dataclass(frozen=True)
class Beside:
    """What a table is verified against; each may be left out.

    Attributes
    ----------
    again : item id, ``codes``, ``distance`` and ``margin`` of unique items, made anew from their
        embeddings, codes in the range of `Contract.levels`
    retired : item id, ``codes`` and ``sid`` of rows that are gone and whose SIDs stay taken; with
        a ``reason``, those of items that were moved may be of live items, and of one more than once
    drifted : item id of items known to have other codes than their present embedding
    """

    again: Rows | None = None
    retired: Rows | None = None
    drifted: Rows | None = None


class InMemory(Protocol):
    """What is asked of a table in memory; `semid.id_table.IdTable` has it."""

    @property
    def codes(self) -> npt.NDArray[np.int32]: ...  # noqa: D102
    @property
    def sids(self) -> npt.NDArray[np.int32]: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def item_id(self) -> str: ...  # noqa: D102
    @property
    def retired(self) -> pa.Table | None: ...  # noqa: D102

    def to_arrow(self) -> pa.Table:
        """Return its rows."""
        ...


def verify_table(
    table: InMemory,
    *,
    levels: tuple[int, ...] | None = None,
    policy: str | None = None,
    again: InMemory | None = None,
    origin: Origin | None = None,
) -> Violations:
    """Verify an ids table in memory, with its retired rows.

    Parameters
    ----------
    table : the table
    levels, policy : of the model and of the collisions; from the table's metadata if not given
    again : the same items as their embeddings are quantised now
    origin : what must have assigned it

    Returns
    -------
    violations : `Violations.total` is 0 when all is well

    Raises
    ------
    SemidError
        When memory or disk run out.
    """
    noted = noted_rules(table.metadata, table.item_id)
    levels = levels or noted.levels or (MAX_CODES,) * table.codes.shape[1]
    longer = table.sids.shape[1] > table.codes.shape[1]
    policy = policy or noted.policy or ("suffix" if longer else None)
    rules = replace(noted, levels=levels, policy=policy, overflow=longer)
    violations = Violations()
    if origin is not None:
        _check_origin(table.metadata, origin, violations)
    with tempfile.TemporaryDirectory(prefix="semid-") as folder:
        verify(
            table.to_arrow().to_batches(),
            rules,
            violations,
            beside=Beside(
                None if again is None else again.to_arrow().to_batches(),
                None if table.retired is None else table.retired.to_batches(),
            ),
            temp_dir=Path(folder),
        )
    return violations


def _check_origin(noted: Mapping[str, Any], origin: Origin, violations: Violations) -> None:
    before = Origin.noted(noted)
    for of, found, expected in (
        ("model", before.model or "none", origin.model),
        ("input", before.inputs, origin.inputs),
    ):
        if found is not None:  # older tables do not say
            violations.made(f"{of} fingerprint")
            if found != expected:
                violations.add(f"{of} fingerprint", None, None, found, expected)


def verify(
    rows: Rows,
    rules: Contract,
    violations: Violations,
    *,
    beside: Beside,
    temp_dir: Path,
    memory_bytes: int = 1 << 30,
) -> dict[str, int]:
    """Verify the rows of an ids table, of any number.

    Parameters
    ----------
    rows : item ids, ``codes``, ``sid`` and, where there are any, ``distance`` and ``margin``
    rules : what they must keep to
    violations : where to add what does not
    beside : what to verify them against
    temp_dir : an existing folder for what does not fit in memory
    memory_bytes : DuckDB's budget; batches in flight come on top

    Returns
    -------
    facts : ``rows``; ``retired``, where given; and of a comparison ``compared`` rows, items that
        are ``not_in_embeddings`` or ``only_in_embeddings``, ``excused`` ones, and rows that are
        ``outdated``, with the codes of their embeddings but the distance or margin of earlier ones

    Raises
    ------
    SemidError
        When a column holds something else than it must, or memory or disk run out.
    """
    with (
        tempfile.TemporaryDirectory(prefix="verify-", dir=temp_dir) as folder,
        out_of_core(
            "verifying",
            Path(folder),
            memory_bytes=memory_bytes,
            relief="allow more with --memory",
            file="verify.duckdb",
            preserve_insertion_order="false",
        ) as connection,
    ):
        checks = SetChecks(connection, Path(folder), rules, violations)
        facts = {"rows": checks.load_rows("live", rows)}
        checks.find_repeated("live")
        if beside.retired is not None:
            facts["retired"] = checks.load_rows("gone", beside.retired, about="tombstone ")
            if facts["retired"]:
                checks.find_repeated("gone", about="tombstone ")
                checks.find_returned()
        if rules.policy == "reassign":
            facts |= checks.find_needless(retired=bool(facts.get("retired")))
        if beside.again is not None:
            facts |= checks.compare(beside.again, beside.drifted or [])
    return facts
