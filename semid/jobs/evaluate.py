"""An ids table measured against its embeddings, with the FAISS baseline beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semid.errors import SemidError, display_path, require_package
from semid.evaluation.findings import SEVERITIES, findings, fit_of
from semid.gates import Gate, judge, parse_gates, sentence
from semid.id_metadata import read_metadata
from semid.jobs.context import Context
from semid.jobs.evaluated import NEED, Evaluated, require_any
from semid.jobs.gate_names import OF_FIT, refuse_unknown_figures
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_memory,
    require_own_model,
    require_unique_ids,
)
from semid.jobs.progress import TrainingBar, bar
from semid.manifests import Manifest, write_json
from semid.metrics.alike import HARMFUL_COSINE

if TYPE_CHECKING:
    from semid.coded_items import CodedItems, Embedded
    from semid.quantizer import Quantizer

FORMAT_VERSION = 1
# Items that are encoded again, and the share of them that may have other codes: of the model that
# assigned them all have the same, unless an item was embedded anew since.
AGAIN_ROWS = 2_048
OTHER_SHARE = 0.01
# Rows that the baseline is fitted to for each codeword, as many as FAISS takes by itself; and the
# memory for it.
BASELINE_ROWS, BASELINE_GIB = 256, 1.0


def evaluate(
    ids: str,
    *,
    embeddings: str,
    output: str,
    model: str | None = None,
    items: str | None = None,
    title: str = "title",
    categories: str | None = None,
    interactions: str | None = None,
    gates: Sequence[str] = (),
    baseline: bool = True,
    seed: int = 0,
    unlike_below: float = HARMFUL_COSINE,
    item_id: str = "item_id",
    memory_gib: float = 1.0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Measure an ids table.

    Parameters
    ----------
    ids : ids table; of a store its current version
    embeddings : the embeddings it was assigned from, in any order; items without one are counted
    output : ``metrics.json`` to write
    model : the model that assigned it; without one, as of a table that was imported, what codes
        decode to is left out, and so are the baseline and the findings on levels and errors
    items : table with titles for the examples, and with `categories`
    title : its column with titles, if it has one
    categories : its column with the category of every item, or the path to it as a list
    interactions : table of who met which item, in order
    gates : what the figures must be, such as ``uniqueness >= 0.9``; see `semid.gates`
    baseline : also fit RQ-KMeans with the same levels, seed and held-out items, and measure it,
        unless the model is one itself
    seed : of the nulls and the samples
    unlike_below : cosine, less the catalog's mean, below which items that collide are unlike
    item_id : name of the id column
    memory_gib : budget for joining tables of other orders; what does not fit spills to disk
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Returns
    -------
    result : `Result.failure` says which gates failed, if some did; the file is written all the same

    Raises
    ------
    SemidError
        For bad input, or tables and a model that do not belong together.
    """
    asked = parse_gates(gates)
    require_memory(memory_gib)
    subject = Evaluated.opened(ids, embeddings, model, item_id)
    context = Context.opened(
        subject.ids, items, interactions, title=title, categories=categories, item_id=item_id
    )
    target = output_path(output)
    # An RQ-KMeans is the baseline itself.
    baseline = baseline and subject.header["kind"] not in (None, "rqkmeans")
    refuse_unknown_figures(asked, subject.header, context, baseline=baseline)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="evaluating")
        summary = measured(
            *(subject, context, stage, memory_gib),
            baseline=baseline,
            show=show,
            seed=seed,
            unlike_below=unlike_below,
        )
        write_json(stage / "metrics.json", summary)
        return stage / "metrics.json", summary

    result = produce(
        "evaluate",
        target,
        inputs=subject.inputs() | context.inputs(),
        settings={
            **{"baseline": baseline, "item_id": item_id},
            **{"seed": seed, "unlike_below": unlike_below},
            **context.columns(),
        },
        build=build,
        overwrite=overwrite,
        owner=owner,
    )
    return judged(result, asked)


def judged(result: Result, asked: Sequence[Gate]) -> Result:
    """Return a result with its gates in the summary, and what failed of them as its failure."""
    if not asked:
        return result
    found = judge(result.summary, asked)
    summary = result.summary | {"gates": [one._asdict() for one in found]}
    return replace(result, summary=summary, failure=sentence(found))


def measured(
    subject: Evaluated,
    context: Context,
    stage: Path,
    memory_gib: float,
    *,
    baseline: bool,
    show: bool,
    just_assigned: bool = False,
    seed: int = 0,
    unlike_below: float = HARMFUL_COSINE,
) -> dict[str, Any]:
    """Return what stands in ``metrics.json``; `stage` is a folder for what does not fit in memory.

    Of a table that was `just_assigned` by the model from these embeddings nobody asks whether it
    was: what it keeps from a table before may differ from what the model would say today.

    Raises
    ------
    SemidError
        As `evaluate`.
    """
    from semid.coded_items import embedded, read_items
    from semid.evaluation.passing import CodesAlone
    from semid.evaluation.whole import Given, measure
    from semid.quantizer import load

    ids, table, item_id = subject.ids, subject.table, subject.item_id
    model = None if subject.folder is None else load(subject.folder)
    if not just_assigned:
        if subject.folder is not None:
            require_own_model(ids, subject.folder)
        for each in (ids, table):
            require_unique_ids(each, item_id, show=show)
    levels, widths = tuple(subject.header["levels"]), subject.header["columns"]
    holdout = 0.0 if model is None else float(model.config.get("holdout", 0.0))
    items = read_items(ids, levels, item_id=item_id, holdout=holdout, seed=seed)
    bytes_ = int(memory_gib * 2**30)
    beside = embedded(
        items, ids, table, widths, item_id=item_id, temp_dir=stage, memory_bytes=bytes_
    )
    require_any(beside, ids, table, NEED)
    if model is not None and not just_assigned:
        _refuse_other_embeddings(subject, items, beside, model)
    fitted = _baseline(subject, show=show) if baseline else None
    with bar("evaluate", table.num_rows, "rows", show=show) as shown:
        given = Given(
            items,
            beside,
            CodesAlone(levels, widths) if model is None else model,
            baseline=fitted,
            met=context.met(items, model, stage, memory_bytes=bytes_),
            categories=context.category_of(items, stage=stage, memory_bytes=bytes_),
            seed=seed,
            unlike_below=unlike_below,
            on_rows=shown.update,
        )
        found, facts = measure(given)
    context.name_examples(found, items)
    figures = {
        "format_version": FORMAT_VERSION,
        "quantizer": subject.header["kind"],
        "policy": read_metadata(ids).get("collisions", {}).get("policy"),
        **found,
    }
    if fitted is not None:
        kept = {key: fitted.metrics[key] for key in OF_FIT}
        figures["baseline"] = {"quantizer": "rqkmeans", **found["baseline"], **kept}
    found_amiss = findings(figures, facts, None if model is None else fit_of(model))
    counts = Counter(one["severity"] for one in found_amiss)
    severities = {severity: counts[severity] for severity in SEVERITIES}
    return {**figures, "severities": severities, "findings": found_amiss}


def _refuse_other_embeddings(
    subject: Evaluated, items: CodedItems, beside: Embedded, model: Quantizer
) -> None:
    ids, table = display_path(subject.ids.name), display_path(subject.table.name)
    some = beside.items[:AGAIN_ROWS]
    other_n = (model.quantize(beside.take(some)).codes_nl != items.codes_nl[some]).any(1)
    if other_n.mean() > OTHER_SHARE:
        raise SemidError(
            f"{table} is not what {ids} was assigned from: {other_n.sum():,} of {len(some):,} "
            f"items that were encoded again have other codes there; {NEED}"
        )


def _baseline(subject: Evaluated, *, show: bool) -> Quantizer:
    from semid.fit_config import FitConfig, KMeansConfig
    from semid.fitting import fit_unmeasured
    from semid.training_data import open_training_data

    header, fitted = subject.header, subject.header["config"]
    config = FitConfig(
        quantizer="rqkmeans",
        levels=tuple(header["levels"]),
        columns=tuple(header["columns"]),
        seed=int(fitted.get("seed", 0)),
        holdout=float(fitted.get("holdout", 0.1)),
        kmeans=KMeansConfig(max_rows=BASELINE_ROWS * max(header["levels"])),
    )
    memory_bytes = int(config.memory_gib * 2**30)
    with bar("baseline", len(config.levels), "levels", show=show) as shown:
        data = open_training_data(
            subject.table,
            subject.item_id,
            share=config.holdout,
            memory_bytes=memory_bytes,
            columns=config.columns,
        )
        try:
            return fit_unmeasured(data, config, device="cpu", callbacks=[TrainingBar(shown)])
        except SemidError as error:
            raise SemidError(
                f"the baseline cannot be fitted: {error}; or leave it out by --no-baseline"
            ) from error
