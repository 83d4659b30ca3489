"""What the job that wrote an ids table noted in it: where its IDs come from."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.manifests import PARTS_MANIFEST
from semid.tables import ParquetTable

METADATA_KEY = b"semid"
# What every version of a table says of where its IDs come from.
ORIGIN = ("model_fingerprint", "input_fingerprint", "encoder_fingerprint", "collisions")


def read_metadata(table: ParquetTable) -> dict[str, Any]:
    """Return what the job that wrote an ids table noted; {} if nothing.

    In the manifest of a folder, since its parts may be older; else in the file's metadata.

    Raises
    ------
    SemidError
        When the note is not a JSON object.
    """
    note = Path(table.files[0]).parent / PARTS_MANIFEST
    if table.is_local and note.is_file() and not table.name.endswith(".parquet"):
        with suppress(ValueError):
            found = json.loads(note.read_text())
            if isinstance(found, dict) and "model_fingerprint" in found:
                return found
    return metadata_of(table.schema, display_path(table.name))


def metadata_of(schema: pa.Schema, name: str) -> dict[str, Any]:
    """Return what is noted in the schema of the table `name`; raises as `read_metadata`."""
    text = (schema.metadata or {}).get(METADATA_KEY, b"{}")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SemidError(
            f"{name}: its metadata '{METADATA_KEY.decode()}' is not a JSON "
            f"object but begins {text[:40]!r}; write the table again with semid assign"
        )
    return found
