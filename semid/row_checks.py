"""The half of verifying an ids table that looks at a row by itself: ids, codes, SIDs, distances.

Streams of batches go through; nothing is raised for a bad row, it is a violation. Shapes: n rows,
l levels of the codes, s of the SIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.errors import SemidError
from semid.id_columns import CODES, DISTANCE, MARGIN, SID, is_code_list
from semid.ids import MAX_CODES
from semid.violations import Violations, as_text, codes_text

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# How many of the last codes may be others in the SID; all of them under the other policies.
_FREE_LEVELS = {"none": 0, "suffix": 0, "sinkhorn": 1}


@dataclass(frozen=True)
class Contract:
    """What the rows of an ids table must keep to.

    Attributes
    ----------
    levels : codewords per level
    policy : the collision policy; None when it is not known, and nothing is asked of the SIDs but
        to be in range
    item_id : name of the id column
    overflow : whether SIDs have a level more than codes though the policy is ``reassign``
    goes_on : whether rows are those of an earlier table, whose embeddings may have changed since
    max_suffix : how many suffixes there may be; 0 for any number
    """

    levels: tuple[int, ...]
    policy: str | None
    item_id: str = "item_id"
    overflow: bool = False
    goes_on: bool = False
    max_suffix: int = 0

    @property
    def sid_sizes(self) -> tuple[int, ...]:
        """Values that every level of a SID can take."""
        longer = self.policy == "suffix" or (self.policy == "reassign" and self.overflow)
        return (*self.levels, self.max_suffix or MAX_CODES) if longer else self.levels

    @property
    def kept(self) -> int:
        """How many levels at the beginning of a SID are those of the codes."""
        return len(self.levels) - _FREE_LEVELS.get(self.policy or "", len(self.levels))


class Rows(NamedTuple):
    """The codes of a batch; rows that are not `ok` hold -1 or codes out of range.

    codes_nl, sids_ns : ``(n, l)`` and ``(n, s)``, int64
    codes_ok_n, sids_ok_n : whether a row has its length and its codes are in range
    """

    codes_nl: Codes
    sids_ns: Codes
    codes_ok_n: Mask
    sids_ok_n: Mask


@dataclass(frozen=True)
class _Batch:
    """A batch, and where its violations go."""

    items: pa.Array
    first_row: int
    violations: Violations
    about: str

    def wrong(self, check: str, column: pa.Array, wrong_n: Mask, expected: Any) -> None:
        """Add a violation for every row of `wrong_n`; `expected` is one text or ``(wrong,)``."""
        check = self.about + check
        self.violations.made(check)
        rows = np.flatnonzero(wrong_n)
        if len(rows) == 0:
            return
        found = column.take(to_arrow(rows))
        found = as_text(found) if is_code_list(column.type) else found.cast(pa.string())
        items = self.items.take(to_arrow(rows))
        self.violations.add(check, items, to_arrow(self.first_row + rows), found, expected)


def require_types(schema: pa.Schema, where: str = "the rows") -> None:
    """Raise `SemidError` for a column of codes or of distances that holds something else."""
    for name in (CODES, SID, DISTANCE, MARGIN):
        if name not in schema.names:
            continue
        kind, wanted = schema.field(name).type, "numbers"
        good = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if name in (CODES, SID):
            good, wanted = is_code_list(kind), "lists of int32"
        if not good:
            raise SemidError(
                f"{where}: column '{name}' is {kind}, but it must be {wanted}; semid assign writes "
                "it so"
            )


def check_rows(
    batch: pa.RecordBatch,
    rules: Contract,
    violations: Violations,
    *,
    first_row: int = 0,
    about: str = "",
) -> Rows:
    """Check every row of a batch that `require_types` has passed.

    Parameters
    ----------
    batch : item ids, ``codes``, ``sid`` and, where there are any, ``distance`` and ``margin``
    rules : what they must keep to
    violations : where to add what does not
    first_row : number of the batch's first row in its table
    about : what the names of the checks begin with
    """
    items = batch.column(rules.item_id)
    said = _Batch(items, first_row, violations, about)
    said.wrong("null item_id", items, _flags(items.is_null()), "an item id")
    codes, sids = batch.column(CODES), batch.column(SID)
    codes_nl, codes_ok_n = _checked(said, "codes", codes, rules.levels)
    sids_ns, sids_ok_n = _checked(said, "sid", sids, rules.sid_sizes)
    if rules.kept:
        same_n = (sids_ns[:, : rules.kept] == codes_nl[:, : rules.kept]).all(axis=1)
        other_n = codes_ok_n & sids_ok_n & ~same_n
        said.wrong("sid policy", sids, other_n, _pattern(codes_nl[other_n], rules))
    for name, infinite in ((DISTANCE, False), (MARGIN, True)):
        if name in batch.schema.names:
            _check_floats(said, name, batch.column(name), infinite=infinite)
    return Rows(codes_nl, sids_ns, codes_ok_n, sids_ok_n)


def _checked(said: _Batch, name: str, column: pa.Array, sizes: Sequence[int]) -> tuple[Codes, Mask]:
    """Return codes ``(n, len(sizes))``, -1 for what is not there, and which rows are in range."""
    length_n = to_numpy(pc.fill_null(pc.list_value_length(column), -1))
    whole_n = length_n == len(sizes)
    values = column.filter(_mask(whole_n)).flatten() if not whole_n.all() else column.flatten()
    codes_nl = np.full((len(column), len(sizes)), -1, dtype=np.int64)
    found = to_numpy(pc.fill_null(values.cast(pa.int64(), safe=False), -1))
    codes_nl[whole_n] = found.reshape(-1, len(sizes))
    inside_n = ((codes_nl >= 0) & (codes_nl < np.array(sizes))).all(axis=1)
    said.wrong(f"{name} length", column, ~whole_n, f"{len(sizes)} codes")
    limits = ", ".join("int32" if size == MAX_CODES else str(size - 1) for size in sizes)
    said.wrong(f"{name} range", column, whole_n & ~inside_n, f"from 0 to {limits}")
    return codes_nl, whole_n & inside_n


def _pattern(codes_wl: Codes, rules: Contract) -> pa.Array:
    """Spell what SIDs must begin with: ``41,7,203,*``."""
    texts = codes_text(codes_wl[:, : rules.kept])
    for _ in range(len(rules.sid_sizes) - rules.kept):
        texts = pc.binary_join_element_wise(texts, "*", ",")
    return texts


def _check_floats(said: _Batch, name: str, column: pa.Array, *, infinite: bool) -> None:
    value_n = to_numpy(pc.fill_null(column.cast(pa.float64()), float("nan")))
    wrong_n = np.isnan(value_n)
    if not infinite:
        wrong_n |= ~(value_n >= 0) | np.isinf(value_n)
    said.wrong(
        f"{name} value", column, wrong_n, "a number" if infinite else "a finite number from 0"
    )


def _flags(true_n: pa.BooleanArray) -> Mask:
    flags_n: Mask = true_n.to_numpy(zero_copy_only=False)
    return flags_n


def _mask(true_n: Mask) -> pa.BooleanArray:
    return pc.equal(to_arrow(true_n.astype(np.int8)), 1)
