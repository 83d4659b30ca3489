"""The page of a report: sections, plots, the explorer and its data in one HTML file.

It makes no request: its policy forbids all but images from where those of the items are, and these
are loaded only when the reader asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from semid.pages import html_page

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SCRIPTS = (
    *("unpack.js", "catalog.js", "colours.js", "treemap.js"),
    *("map.js", "elements.js", "search.js", "explorer.js", "page.js"),
)
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src {}"
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
_MOST_HOSTS = 100


class Plot(NamedTuple):
    """A plot with its title and a sentence on how to read it."""

    title: str
    says: str
    figure: Figure


def image_sources(images: Iterable[str]) -> list[str]:
    """Return where images come from: ``https://host`` and ``data:``; beyond 100 hosts, schemes.

    Those of other schemes, or of hosts that a policy cannot spell, are not loaded.
    """
    found = set()
    for image in images:
        parts = urlsplit(image)
        if parts.scheme == "data" and parts.path.startswith("image/"):
            found.add("data:")
        elif parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.netloc):
            found.add(f"{parts.scheme}://{parts.netloc}")
    if len(found) > _MOST_HOSTS:
        found = {f"{source.partition(':')[0]}:" for source in found}
    return sorted(found)


def page(title: str, sections: Sequence[str], packed: str | None, images: Sequence[str]) -> str:
    """Assemble the page.

    Parameters
    ----------
    title : what the report is of
    sections : HTML, each a ``<section>`` with an id and a heading
    packed : what the explorer holds, if it is among the sections
    images : of `image_sources`: all that the page may load
    """
    policy = _POLICY.format(" ".join(images) or "'none'")
    style = _asset("report.css")
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="referrer" content="no-referrer"><style>{style}</style>'
    )
    data = "" if packed is None else f'<script type="text/plain" id="packed">{packed}</script>'
    body = [*filter(None, sections), data, f"<script>{_plotly()}</script>", _script()]
    return html_page(title, body, head=head)


def navigation(anchors: Mapping[str, str]) -> str:
    """Lay out links to the sections, by anchor, and the switch between light and dark."""
    links = "".join(f'<a href="#{a}">{escape(name)}</a>' for a, name in anchors.items())
    switch = '<button type="button" id="theme" aria-label="Light or dark">◐</button>'
    return f'<nav aria-label="Sections">{links}{switch}</nav>'


def plots(shown: Sequence[Plot]) -> str:
    """Lay out plots side by side where there is room."""
    return f'<div class="plots">{"".join(map(_plot, shown))}</div>' if shown else ""


def _plot(plot: Plot) -> str:
    # JSON in a script ends at the first "</": no text of a catalog may say so.
    data = str(plot.figure.to_json()).replace("<", "\\u003c")
    return (
        f'<figure class="plot"><figcaption><b>{escape(plot.title)}</b>{escape(plot.says)}'
        f'</figcaption><div role="img" aria-label="{escape(plot.title)}: {escape(plot.says)}">'
        f'</div><script type="application/json">{data}</script></figure>'
    )


def explorer(*, images: Sequence[str], placed: str | None) -> tuple[str, str]:
    """Return the frames of the tree and of the map, which scripts fill.

    Parameters
    ----------
    images : of `image_sources`
    placed : how items are placed on the map; None without one
    """
    choice = ""
    if images:
        hosts = [source.partition("://")[2] or source for source in images]
        asks = ", ".join(hosts[:3]) + (" and others" if len(hosts) > 3 else "")
        choice = (
            '<label><input type="checkbox" data-part="images"> load images '
            f"(asks {escape(asks)})</label>"
        )
    tree = _TREE.format(images=choice)
    return tree, "" if placed is None else _MAP.format(placed=escape(placed))


_TREE = """<div class="bar-row">
<div class="search"><input type="search" data-part="search" role="combobox" aria-expanded="false"
 aria-controls="found" aria-autocomplete="list" autocomplete="off"
 aria-label="Search an item by id or title, or a prefix such as 41,7"
 placeholder="Search: item id, title, or a prefix such as 41,7">
<ul id="found" data-part="found" role="listbox" aria-label="Found" hidden></ul></div>
<label>colour <select data-part="colours"></select></label>{images}</div>
<div class="crumbs" data-part="crumbs" aria-label="Prefix"></div>
<div id="explorer" class="explore"><div class="tree" data-part="tree"></div>
<div class="panel" data-part="panel" tabindex="0" role="region" aria-label="Items"></div></div>
<div class="legend" data-part="legend"></div>
<p class="quiet" role="status" data-part="said"></p>
<noscript><p class="note">The tree needs JavaScript.</p></noscript>"""

_MAP = """<p class="note">{placed} A click shows an item in the tree; the items of the prefix chosen
there stand out.</p>
<div class="map" data-part="map"><div class="bar-row"><label>colour
<select data-part="map-colours"></select></label>
<button type="button" data-zoom="1.6" aria-label="Zoom in">+</button>
<button type="button" data-zoom="0.625" aria-label="Zoom out">−</button></div>
<canvas tabindex="0" role="img" aria-label="Map of the items; arrow keys move it, plus and minus
 zoom"></canvas><div class="tip" hidden></div></div>
<div class="legend" data-part="map-legend"></div>"""


def _script() -> str:
    source = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'<script>\n(() => {{\n"use strict";\n{source}\n}})();\n</script>'


def _asset(name: str) -> str:
    return files("semid.report").joinpath("assets", name).read_text("utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
