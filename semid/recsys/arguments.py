"""What training code may give: checks that several modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from semid.errors import SemidError
from semid.id_table import IdTable


def require_tensor(name: str, values: Any) -> None:
    """Raise `SemidError` for what is no tensor; arrays are not taken to a module's device."""
    if not isinstance(values, Tensor):
        raise SemidError(
            f"{name} are given as {type(values).__name__}; give a tensor: torch.as_tensor({name})"
        )


def sids_in(ids: Any) -> Any:
    """Return the SIDs of an ids table, or an array or tensor as it is.

    Raises `SemidError` for what is neither, such as a path.
    """
    if isinstance(ids, IdTable):
        return ids.sids
    if isinstance(ids, Tensor | np.ndarray | list | tuple):
        return ids
    raise SemidError(
        f"SIDs are given as {type(ids).__name__}; give codes (n, l), or an ids table: "
        "semid.read_ids(path)"
    )


def refuse_choice(name: str, chosen: str, choices: tuple[str, ...]) -> None:
    """Raise `SemidError` unless `chosen` is one of the choices."""
    if chosen not in choices:
        raise SemidError(f"{name} is {chosen!r}; choose one of {', '.join(choices)}")
