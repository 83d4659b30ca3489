"""Fails a build whose pages link to a page or a place that is not there; needs no network."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.errors import SphinxError


class _Page(HTMLParser):
    """The places of a page, and what it links to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places, self.targets = {""}, set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.places.add(value)
            elif name in {"href", "src"} and value:
                self.targets.add(value)


def broken_links(folder: Path) -> list[str]:
    """Return ``page: target`` for each link between files below `folder` that leads nowhere."""

    @cache
    def read(path: Path) -> _Page:
        return _Page(path.read_text(encoding="utf-8"))

    broken = []
    for page in sorted(folder.rglob("*.html")):
        for target in sorted(read(page).targets):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            path = (page.parent / unquote(url.path)).resolve() if url.path else page
            lost = not path.is_file() or (
                path.suffix == ".html" and unquote(url.fragment) not in read(path).places
            )
            if lost:
                broken.append(f"{page.relative_to(folder)}: {target}")
    return broken


def _finished(app: Any, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    if broken := broken_links(Path(app.outdir)):
        raise SphinxError("links that lead nowhere: " + "; ".join(broken))


def setup(app: Any) -> dict[str, bool]:
    """Connect to a build."""
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True}
