"""Where IDs come from, as fingerprints, and the refusal of what comes from elsewhere.

Of the model, of its input statistics (what it was fitted on) and of the encoder whose embeddings it
was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from semid.artifact import (
    Artifact,
    artifact_fingerprint,
    model_fingerprint,
    read_artifact,
    read_json,
)
from semid.errors import SemidError
from semid.manifests import MANIFEST, fingerprint

# Of a network's weights, those that embeddings are centred and scaled by.
_STATISTICS = ("mean", "scale")
_ROWS = ("train_rows", "held_out_rows")


@dataclass(frozen=True)
class Origin:
    """Fingerprints; None for what is not known.

    Attributes
    ----------
    model : what encodes: weights and shape
    inputs : the model's input statistics: columns and widths, how many rows it was fitted on, and
        their mean and scale, where it has them
    encoder : what made the embeddings
    """

    model: str | None
    inputs: str | None = None
    encoder: str | None = None

    @classmethod
    def noted(cls, metadata: Mapping[str, Any]) -> Origin:
        """Read what a table says; those that are older say less."""
        names = ("model_fingerprint", "input_fingerprint", "encoder_fingerprint")
        return cls(*(metadata.get(name) for name in names))

    def note(self) -> dict[str, str | None]:
        """Return what a table is to say."""
        return {
            "model_fingerprint": self.model,
            "input_fingerprint": self.inputs,
            "encoder_fingerprint": self.encoder,
        }


def origin_of(model: Path | Artifact, encoder: str | None = None) -> Origin:
    """Return where the IDs of a model come from that is given embeddings of an encoder.

    Raises
    ------
    SemidError
        As `semid.artifact.read_artifact`.
    """
    artifact = model if isinstance(model, Artifact) else read_artifact(model)
    own = model_fingerprint(model) if isinstance(model, Path) else artifact_fingerprint(artifact)
    return Origin(own, _input_fingerprint(artifact), encoder)


def _input_fingerprint(artifact: Artifact) -> str:
    found = {name: artifact.weights[name] for name in _STATISTICS if name in artifact.weights}
    digests = {
        name: xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values).tobytes())
        for name, values in found.items()
    }
    rows = [artifact.metrics.get(name) for name in _ROWS]
    return fingerprint([list(artifact.widths.items()), rows, digests])


def trained_on(folder: Path) -> str | None:
    """Return the fingerprint of the encoder that a model was trained on, if it says."""
    found = read_json(folder / MANIFEST).get("encoder_fingerprint")
    return None if found is None else str(found)


def require_same_model(table: str, before: Origin, model: str, now: Origin) -> None:
    """Raise `SemidError` unless a table was assigned by a model; names what differs, and both.

    Parameters
    ----------
    table, model : as a message calls them
    before, now : what the table says, and what the model is
    """
    told = None not in (before.inputs, now.inputs)
    if before.model != now.model:
        statistics = f"the same input statistics ({now.inputs})"
        if before.inputs != now.inputs:
            statistics = f"other input statistics ({now.inputs}, not {before.inputs})"
        raise SemidError(
            f"{table} was assigned by the model {before.model}, but {model} is {now.model}"
            + (f", fitted on {statistics}" if told else "")
            + "; use that model, or assign anew (semid align makes a new model's codes agree with "
            "the old ones)"
        )
    if told and before.inputs != now.inputs:
        raise SemidError(
            f"{table} was assigned by a model with the input statistics {before.inputs}, but those "
            f"of {model} are {now.inputs}, though its weights are the same; copy the model again"
        )


def require_same_encoder(made: str, before: str | None, embeddings: str, now: str | None) -> None:
    """Raise `SemidError` when embeddings are of another encoder than those before.

    Parameters
    ----------
    made : what was made of those before, and how: ``out/ids was assigned from``
    before, now : fingerprints; nothing is said where one is not known
    embeddings : as a message calls them
    """
    if before and now and before != now:
        raise SemidError(
            f"{made} embeddings of the encoder {before}, but those of {embeddings} are of {now}; "
            "embed the items with the first"
        )
