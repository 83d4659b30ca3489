"""May a table go on with these embeddings: the same model, encoder, policy and kind of item ids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.assignment import Assigner
from semid.embedding_columns import stream_rows
from semid.errors import SemidError, display_path
from semid.explained import Fresh
from semid.explained import require_own_encoder as judge
from semid.id_metadata import read_metadata
from semid.jobs.encoding import encoder_fingerprint, usual_codes
from semid.jobs.job import require_like_ids
from semid.origin import Origin, origin_of, require_same_encoder, require_same_model, trained_on
from semid.tables import ParquetTable


def require_trained_on(model: Path, embeddings: ParquetTable) -> None:
    """Raise `SemidError` when embeddings are of another encoder than a model was trained on."""
    made, name = f"{display_path(model)} was trained on", display_path(embeddings.name)
    require_same_encoder(made, trained_on(model), name, encoder_fingerprint(embeddings))


def require_origin(table: ParquetTable, model: Path, embeddings: ParquetTable) -> None:
    """Raise `SemidError` unless an ids table is of a model, and of the encoder of embeddings.

    What a table does not say is not asked.
    """
    shown, noted = display_path(table.name), Origin.noted(read_metadata(table))
    if noted.model is not None:
        require_same_model(shown, noted, display_path(model), origin_of(model))
    name, encoder = display_path(embeddings.name), encoder_fingerprint(embeddings)
    require_same_encoder(f"{shown} was assigned from", noted.encoder, name, encoder)
    require_trained_on(model, embeddings)


def require_same_origin(
    previous: ParquetTable, fresh: ParquetTable, assigner: Assigner, made: Mapping[str, Any]
) -> None:
    """Raise `SemidError` unless a table was made just as the rows that are to join it will be.

    Parameters
    ----------
    previous : ids table
    fresh : embeddings of the rows that are to join it
    assigner : gives them codes
    made : what both must say of collisions: ``policy``, ``sid_length``, and what the policy is told
    """
    shown, item_id = display_path(previous.name), assigner.item_id
    previous.require([item_id])
    noted = read_metadata(previous)
    if "model_fingerprint" not in noted:
        raise SemidError(
            f"{shown} does not say which model assigned it, so its IDs cannot be kept; give a "
            "table that semid assign wrote"
        )
    require_origin(previous, assigner.model, fresh)
    summary = noted.get("collisions", {}) | noted.get("summary", {})
    for name, value in made.items():
        if summary.get(name) != value:
            raise SemidError(
                f"the {name.replace('_', ' ')} of {shown} is {_spelled(summary.get(name))}, but "
                f"{_spelled(value)} was asked for; IDs are kept only by the same collision policy"
            )
    require_like_ids(previous, fresh, item_id, "convert the new one")


def _spelled(value: Any) -> str:
    return "the item id" if value == "" else str(value)


def require_own_encoder(
    fresh: ParquetTable,
    previous: ParquetTable,
    assigner: Assigner,
    new_m: npt.NDArray[np.int64],
) -> None:
    """Judge embeddings as `semid.explained.require_own_encoder` does.

    Parameters
    ----------
    fresh : embeddings, checked
    previous : ids table of the same model
    assigner : gives codes
    new_m : numbers of the rows that are new, ascending
    """
    rows = partial(stream_rows, fresh, assigner.widths)
    asked = Fresh(rows, fresh.num_rows, display_path(fresh.name))
    judge(assigner.quantizer, partial(usual_codes, previous), asked, new_m)
