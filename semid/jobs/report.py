"""An ids table, and what is known of its items, to one page to look into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semid.errors import SemidError, display_path, require_package
from semid.gates import Gate, Judged, judge, parse_gates, sentence
from semid.jobs.job import Result, output_path, produce, require_unique_ids
from semid.jobs.report_inputs import ItemColumns, Paths
from semid.jobs.report_sources import Sources
from semid.manifests import Manifest
from semid.report.building import build_page
from semid.report.projection import require_method


def report(
    ids: str,
    *,
    output: str,
    model: str | None = None,
    embeddings: str | None = None,
    items: str | None = None,
    title: str = "title",
    image: str | None = None,
    url: str | None = None,
    categories: str | None = None,
    interactions: str | None = None,
    color_by: Sequence[str] = (),
    metrics: str | None = None,
    gates: Sequence[str] = (),
    against: str | None = None,
    against_metrics: str | None = None,
    projection: str = "tsne",
    item_id: str = "item_id",
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Write one HTML file in which an ids table can be seen and explored.

    What is not given is left out, and the page says what would show it. The ids table is held in
    memory, embeddings are not but for the items that the page holds.

    Without `metrics` a table with its model and embeddings is measured here, as `semid evaluate`
    does it without its baseline.

    Parameters
    ----------
    ids : ids table
    output : ``.html`` file to write
    model : the model that assigned it
    embeddings : what it was assigned from, in any order
    items : table of the items
    title, image, url : its columns with titles, and with the URLs of images and of pages
    categories : its column with the category of every item, or the path to it, to measure by
    interactions : table of who met which item, in order, to measure and to colour by
    color_by : its columns to colour prefixes by, numbers or labels
    metrics : ``metrics.json`` of `semid evaluate` of this table, for the verdict and all figures
    gates : what the figures must be, such as ``uniqueness >= 0.9``; see `semid.gates`
    against : another ids table to compare with
    against_metrics : ``metrics.json`` of `semid evaluate` of that table, to compare figures with
    projection : how items are placed on the map, ``tsne`` or ``pca``
    item_id : name of the id column in all tables
    overwrite : replace a page made of something else
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Returns
    -------
    result : `Result.failure` says which gates failed, if some did; the page is written all the same

    Raises
    ------
    SemidError
        For bad input, or tables, a model and metrics that do not belong together.
    """
    check_request(output)
    require_method(projection)
    asked = parse_gates(gates)
    target = output_path(output)
    columns = ItemColumns(title, image, url, categories, tuple(color_by))
    paths = Paths(
        *(ids, item_id, model, embeddings, items, interactions),
        *(metrics, against, against_metrics),
    )
    sources = Sources.opened(paths, columns)
    if asked:
        sources.require_figures(asked)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        page, summary = _page(sources, asked, projection, stage, show=show)
        staged = stage / target.name
        staged.write_text(page, "utf-8")
        return staged, summary | {"mib": round(staged.stat().st_size / 2**20, 2)}

    result = produce(
        "report",
        target,
        inputs=sources.inputs(),
        settings={
            **{"item_id": item_id, "projection": projection, "gates": list(gates)},
            **columns.settings(),
        },
        build=build,
        overwrite=overwrite,
        owner=owner,
    )
    found = [Judged(**one) for one in result.summary.get("gates", ())]
    return replace(result, failure=sentence(found))


def _page(
    sources: Sources, asked: Sequence[Gate], projection: str, stage: Path, *, show: bool
) -> tuple[str, dict[str, Any]]:
    sources.refuse_others()
    if sources.embeddings is not None:
        require_unique_ids(sources.embeddings, sources.item_id, show=show)
    figures = sources.figures(stage, show=show)
    judged = [one._asdict() for one in judge(figures or {}, asked)]
    if figures is not None:
        figures |= {"gates": judged}
    with sources.read(figures, stage, show=show) as known:
        page, summary = build_page(known, projection=projection)
    return page, summary | {"gates": judged}


def check_request(output: str) -> None:
    """Raise `SemidError` for an output that is no page, or when plots cannot be drawn."""
    require_package("plotly", extra="report", purpose="the report")
    if Path(output).suffix not in {".html", ".htm"}:
        raise SemidError(
            f"the output {display_path(output)} must end in .html: a report is a page; choose "
            "another --output"
        )
