"""Pages for people: tables, bars and text to one HTML page that loads nothing, or as Markdown.

Readable on a phone, on paper, and in a browser set to dark. What stands in the page is the
caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Table = Sequence[Sequence[str]]


def markdown_table(table: Table) -> str:
    """Lay out rows of text as Markdown, a header first; the first column is names."""
    header, *rows = table
    lines = [header, ["---", *("--:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def html_table(table: Table, *, prose: bool = False) -> str:
    """Lay out rows of text, a header first; the first column is the names of the rows.

    With `prose` the last column is text that runs over several lines.
    """
    header, *rows = table
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    kind = ' class="prose"' if prose else ""
    return f"<table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def html_bars(table: Table, shares: Sequence[float]) -> str:
    """Lay out a table as `html_table` does, each row ending in a bar of its share, 0 to 1."""
    header, *rows = table
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}"
        f'<td class="bar"><i style="width:{100 * share:.2f}%"></i></td></tr>\n'
        for row, share in zip(rows, shares, strict=True)
    )
    return f"<table><thead><tr>{head}<th></th></tr></thead><tbody>\n{body}</tbody></table>"


def html_list(sentences: Sequence[str]) -> str:
    """Lay out sentences as a list."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def html_page(title: str, parts: Sequence[str], *, head: str = "") -> str:
    """Put parts that are HTML already under a title, which is text; `head` goes into the head.

    The colours follow the reader's system, and ``color-scheme`` where a page sets it.
    """
    return _PAGE.format(title=escape(title), body="\n".join(parts), head=head)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --text: light-dark(#222, #ddd);
  --page: light-dark(#fff, #16181c); --line: light-dark(#ddd, #3a3f47);
  --bar: light-dark(#4a6fa5, #7c9fd6) }}
@media print {{ :root {{ color-scheme: light !important }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }}
th, td {{ padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }}
th:first-child, td:first-child, td.bar {{ text-align: left }}
.prose th:last-child, .prose td:last-child {{ text-align: left; white-space: normal;
  min-width: 20rem }}
td.bar {{ width: 12rem; min-width: 8rem }}
td.bar i {{ display: block; height: .7rem; background: var(--bar);
  -webkit-print-color-adjust: exact; print-color-adjust: exact }}
svg {{ max-width: 760px; width: 100%; background: #fff }}
@media (max-width: 40rem) {{ th {{ white-space: normal }} td.bar {{ width: 5rem; min-width: 5rem }}
  th, td {{ padding: .3rem }} .prose th:last-child, .prose td:last-child {{ min-width: 14rem }} }}
@media print {{ body {{ margin: 0 }} table {{ display: table }} th, td {{ white-space: normal }} }}
</style>{head}</head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
