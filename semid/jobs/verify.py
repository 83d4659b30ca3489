"""An ids table held against its contract, its model and the embeddings it was assigned from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semid.appending import open_drifted
from semid.artifact import CONFIG, WEIGHTS, read_header, refuse_changed
from semid.assignment import Assigner
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.id_columns import CODES, DISTANCE, MARGIN, SID
from semid.ids import MAX_CODES
from semid.jobs.encoding import RAW, encode, encoder_fingerprint
from semid.jobs.job import (
    Result,
    look,
    output_path,
    produce,
    require_codes,
    require_like_ids,
    require_memory,
    require_widths,
)
from semid.jobs.progress import bar, counted
from semid.manifests import Manifest
from semid.note_checks import check_notes
from semid.origin import Origin, origin_of
from semid.row_checks import Contract, require_types
from semid.streams import ROW_GROUP_ROWS, open_writer
from semid.tables import ParquetTable, open_table
from semid.tombstones import REASON, open_retired
from semid.verification import Beside
from semid.verification import verify as verify_rows
from semid.violations import SCHEMA, Violations


def verify(
    ids: str,
    *,
    model: str | None = None,
    embeddings: str | None = None,
    output: str | None = None,
    item_id: str = "item_id",
    device: str = "cpu",
    memory_gib: float = 1.0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """List every violation of the contract of an ids table.

    Parameters
    ----------
    ids : ids table; with its tombstones, where it is a folder that has them
    model : the model that assigned it: its fingerprint and levels are compared with the table's
    embeddings : what it was assigned from, in any order: codes, distances and margins are made
        anew; needs the model
    output : ``.parquet`` file to write all violations into
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    memory_gib : budget of what groups and joins rows; what does not fit spills to disk
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Returns
    -------
    result : `Result.failure` says how many violations there are, if there are any

    Raises
    ------
    SemidError
        When something cannot be read, or embeddings and model do not belong together.
    """
    subject = _open(ids, model, embeddings, item_id)
    require_memory(memory_gib)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        staged = stage / "violations.parquet"
        with open_writer(staged, SCHEMA) as writer:
            violations = Violations(lambda batch: writer.write_batch(batch, ROW_GROUP_ROWS))
            summary = _verify(subject, violations, stage, device, memory_gib, show=show)
        return staged, summary

    if output is None:
        return _judged(look(build))
    target = output_path(output)
    if target.suffix != ".parquet":
        raise SemidError(
            f"the output {display_path(output)} must end in .parquet: violations are a table; "
            "choose another --output"
        )
    inputs: dict[str, ParquetTable | Path] = {"ids": subject.ids}
    given = {"embeddings": subject.embeddings, "retired": subject.retired}
    inputs |= {name: t for name, t in (given | {"drifted": subject.drifted}).items() if t}
    if subject.model is not None:
        inputs |= {"model": subject.model / WEIGHTS, "model config": subject.model / CONFIG}
    result = produce(
        "verify",
        target,
        inputs=inputs,
        settings={"item_id": item_id},
        build=build,
        resumes=(RAW,),
        overwrite=overwrite,
        owner=owner,
    )
    return _judged(result)


def _judged(result: Result) -> Result:
    broken = {check: count for check, count in result.summary["checks"].items() if count}
    if not broken:
        return result
    listed = ", ".join(f"{check} {count:,}" for check, count in broken.items())
    advice = "--output FILE.parquet lists them all" if result.output is None else "all are listed"
    return replace(
        result,
        failure=f"{result.summary['table']} breaks its contract {sum(broken.values()):,} times "
        f"({listed}); {advice}",
    )


@dataclass(frozen=True)
class _Subject:
    """What is verified, and against what."""

    ids: ParquetTable
    item_id: str
    model: Path | None
    levels: tuple[int, ...]
    embeddings: ParquetTable | None
    retired: ParquetTable | None
    drifted: ParquetTable | None


def _open(ids: str, model: str | None, embeddings: str | None, item_id: str) -> _Subject:
    table = open_table(ids)
    id_type(table, item_id)
    table.require([CODES, SID])
    require_types(table.schema, display_path(ids))
    folder = None if model is None else Path(model)
    header = None if folder is None else read_header(folder)
    if folder is not None and header is not None:
        require_codes(header, folder)
        refuse_changed(folder)
    embedded = None if embeddings is None else open_table(embeddings)
    if embedded is not None:
        if folder is None or header is None:
            raise SemidError(
                f"{display_path(embedded.name)} can be given codes only by a model; name the one "
                "that assigned the table by --model"
            )
        require_widths(embedded, header["columns"], folder)
        need = "verify needs the embeddings that the IDs were assigned from"
        require_like_ids(table, embedded, item_id, need)
    retired, drifted = _beside(table)
    for there, columns in ((retired, [item_id, CODES, SID, REASON]), (drifted, [item_id])):
        if there is not None:
            there.require(columns)
            require_types(there.schema, display_path(there.name))
            require_like_ids(table, there, item_id, "write the table again")
    levels = () if header is None else tuple(header["levels"])
    return _Subject(table, item_id, folder, levels, embedded, retired, drifted)


def _beside(table: ParquetTable) -> tuple[ParquetTable | None, ParquetTable | None]:
    """Open what stands beside the parts of a folder: retired rows, and items that drifted."""
    if not Path(table.name).is_dir():
        return None, None
    folder = Path(table.files[0]).parent
    return open_retired(folder), open_drifted(folder)


def _verify(
    subject: _Subject,
    violations: Violations,
    stage: Path,
    device: str,
    memory_gib: float,
    *,
    show: bool,
) -> dict[str, Any]:
    table = subject.ids
    origin = Origin(None) if subject.model is None else origin_of(subject.model)
    rules = check_notes(
        table,
        violations,
        item_id=subject.item_id,
        fingerprint=origin.model,
        inputs=origin.inputs,
        encoder=None if subject.embeddings is None else encoder_fingerprint(subject.embeddings),
        levels=subject.levels,
    )
    again = None
    if subject.embeddings is not None and subject.model is not None:
        assigner = Assigner(subject.model, item_id=subject.item_id, device=device)
        again = encode(subject.embeddings, assigner, stage / RAW, what="encode", show=show)
    names = [subject.item_id, CODES, SID]
    floats = [name for name in (DISTANCE, MARGIN) if name in table.schema.names]
    with bar("verify", table.num_rows, "rows", show=show) as shown:
        facts = verify_rows(
            counted(table.batches([*names, *floats], rows=65_536), shown),
            rules,
            violations,
            beside=Beside(
                None if again is None else again.batches([subject.item_id, CODES, *floats]),
                None if subject.retired is None else subject.retired.batches([*names, REASON]),
                None if subject.drifted is None else subject.drifted.batches([subject.item_id]),
            ),
            temp_dir=stage,
            memory_bytes=int(memory_gib * 2**30),
        )
    return {
        "table": display_path(table.name),
        **facts,
        "policy": rules.policy,
        "levels": [None if size == MAX_CODES else size for size in rules.levels],
        "violations": violations.total,
        "checks": violations.counts,
        "examples": _placed(violations.examples, subject),
        "not_checked": _not_checked(subject, rules),
    }


def _placed(examples: dict[str, list[dict[str, Any]]], subject: _Subject) -> dict[str, Any]:
    """Name the file and the row of every example."""
    placed: dict[str, Any] = {}
    for check, found in examples.items():
        tombstones = subject.retired if check.startswith("tombstone") else None
        table = tombstones or subject.ids
        placed[check] = [
            {"at": None if one["row"] is None else table.locate(one["row"]), **one} for one in found
        ]
    return placed


def _not_checked(subject: _Subject, rules: Contract) -> list[str]:
    """Say what was not looked at, and what would have to be given for it."""
    said = []
    if subject.model is None:
        said.append("the model's fingerprint, and codes made anew: no --model was given")
    elif subject.embeddings is None:
        said.append("codes made anew: no --embeddings were given")
    if rules.policy is None:
        said.append("whether SIDs are unique: the table does not say by which policy they are")
    return said
