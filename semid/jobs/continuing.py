"""May a table go on with these embeddings: the same model, encoder, policy and kind of item ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.artifact import METRICS, model_fingerprint, read_json
from semid.assignment import Assigner
from semid.embedding_columns import stream_rows
from semid.errors import SemidError, display_path
from semid.explained import (
    LEAST_ROWS,
    Codes,
    Matrix,
    another_encoder,
    can_tell,
    explained,
    explained_before,
)
from semid.id_metadata import read_metadata
from semid.jobs.encoding import encoder_fingerprint, usual_codes
from semid.jobs.job import require_like_ids
from semid.tables import ParquetTable

# Rows to tell an encoder by: in a few places, so that little is read of large row groups.
PLACES, ROWS_AT_A_PLACE = 16, 256


def require_same_origin(
    previous: ParquetTable, fresh: ParquetTable, assigner: Assigner, made: Mapping[str, Any]
) -> None:
    """Raise `SemidError` unless a table was made just as the rows that are to join it will be.

    Parameters
    ----------
    previous : ids table
    fresh : embeddings of the rows that are to join it
    assigner : gives them codes
    made : what both must say: ``policy``, ``sid_length`` and ``max_suffix``
    """
    shown, item_id = display_path(previous.name), assigner.item_id
    previous.require([item_id])
    noted, model = read_metadata(previous), model_fingerprint(assigner.model)
    if "model_fingerprint" not in noted:
        raise SemidError(
            f"{shown} does not say which model assigned it, so its IDs cannot be kept; give a "
            "table that semid assign wrote"
        )
    if noted["model_fingerprint"] != model:
        raise SemidError(
            f"{shown} was assigned by the model {noted['model_fingerprint']}, but "
            f"{display_path(assigner.model)} is {model}; use that model, or assign anew "
            "(semid align makes a new model's codes agree with the old ones)"
        )
    encoder, mine = noted.get("encoder_fingerprint"), encoder_fingerprint(fresh)
    if encoder and mine and encoder != mine:
        raise SemidError(
            f"{shown} was assigned from embeddings of the encoder {encoder}, but those of "
            f"{display_path(fresh.name)} are of {mine}; embed the items with the first"
        )
    summary = noted.get("collisions", {}) | noted.get("summary", {})
    for name, value in made.items():
        if summary.get(name) != value:
            raise SemidError(
                f"the {name.replace('_', ' ')} of {shown} is {summary.get(name)}, but {value} "
                "was asked for; IDs are kept only by the same collision policy"
            )
    require_like_ids(previous, fresh, item_id, "convert the new one")


def require_own_encoder(
    fresh: ParquetTable,
    previous: ParquetTable,
    assigner: Assigner,
    new_m: npt.NDArray[np.int64],
) -> None:
    """Raise `SemidError` when fresh embeddings look like another encoder's than the model's.

    A sample of the new ones among them is judged; of all, where these are too few.

    Parameters
    ----------
    fresh : embeddings, checked
    previous : ids table of the same model
    assigner : gives codes
    new_m : numbers of the rows that are new, ascending
    """
    before = explained_before(read_json(assigner.model / METRICS))
    row_m = new_m if len(new_m) >= LEAST_ROWS else np.arange(fresh.num_rows)
    rows, places = len(row_m), _places(len(row_m))
    if not can_tell(before, rows):
        return

    def coded() -> Iterator[tuple[Matrix, Codes]]:
        for place in places:
            for x_nd in stream_rows(fresh, assigner.widths, row_m[place]):
                yield x_nd, assigner.quantizer.quantize(x_nd).codes_nl

    now = explained(assigner.quantizer, usual_codes(previous), coded())
    sentence = another_encoder(now, before, rows)
    if sentence is not None:
        raise SemidError(
            f"{display_path(fresh.name)}: {sentence}; embed the items with the encoder that the "
            "model was trained with, or train a new model"
        )


def _places(rows: int) -> list[npt.NDArray[np.int64]]:
    """Return row numbers that lie evenly among `rows`, in a few runs; all where these are few."""
    if rows <= PLACES * ROWS_AT_A_PLACE:
        return [np.arange(rows)]
    starts = np.linspace(0, rows - ROWS_AT_A_PLACE, PLACES).astype(np.int64)
    return [np.arange(start, start + ROWS_AT_A_PLACE) for start in starts]
