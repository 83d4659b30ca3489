"""The report in a browser: no errors, no requests, and what a reader does with it."""

import json
import re
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import BINARY, Browser
from conftest import run_here

from semid.id_table import IdTable

pytestmark = pytest.mark.skipif(
    BINARY is None, reason="no Chromium or Chrome is installed (chromium, google-chrome)"
)

ODD = [
    "</script><script>document.title = 'broken'</script>",
    "\"quoted\" & 'single' <b>bold</b>",
    "😀 שלום עולם",
    "two\nlines",
]
NO_BRAND = 5
AT = "document.querySelector"
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    """A report of the small catalog, with odd titles, images and colours."""
    folder = tmp_path_factory.mktemp("report")
    items = pq.read_table(world / "items.parquet")
    titles = items["title"].to_pylist()
    titles[: len(ODD)] = ODD
    items = items.set_column(1, "title", pa.array(titles))
    brands = [*items["brand"].to_pylist()[:-NO_BRAND], *[None] * NO_BRAND]
    place = items.schema.get_field_index("brand")
    items = items.set_column(place, "brand", pa.array(brands))
    images = [DOT, *(f"https://images.invalid/{n}.png" for n in range(1, len(items)))]
    pq.write_table(items.append_column("image", pa.array(images)), folder / "items.parquet")
    done = run_here(
        *("report", world / "ids.parquet", "--model", world / "model", "--projection", "pca"),
        *("--embeddings", world / "embeddings.parquet", "--items", folder / "items.parquet"),
        *("--image-column", "image", "--color-by", "brand,price"),
        *("--output", folder / "report.html"),
    )
    assert done.code == 0, done.err
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    """A browser with the page open, for all tests of this file."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.open(page)
    yield browser
    browser.close()


@pytest.fixture
def opened(tab, page):
    """The page with nothing chosen; at the end it has made no request and had no error."""
    tab.show()
    tab.eval("(location.hash = 'p=', document.querySelector('[data-part=search]').value = '', 1)")
    tab.wait(f"{AT}('[data-part=panel] h3').textContent === 'All items'")
    yield tab
    assert tab.requests == [page.resolve().as_uri()]
    assert tab.errors == []


def texts(tab, selector):
    """The text of every element that a selector finds."""
    found = tab.eval(
        f"JSON.stringify([...document.querySelectorAll('{selector}')].map((e) => e.textContent))"
    )
    return json.loads(found)


def by_prefix(world, prefix):
    """How many items have the prefix."""
    sids_ns = np.array(pq.read_table(world / "ids.parquet")["sid"].to_pylist())
    return int((sids_ns[:, : len(prefix)] == prefix).all(axis=1).sum())


def test_it_opens_with_all_its_plots(opened):
    assert opened.eval("document.title").startswith("Semantic IDs: ")
    assert len(texts(opened, ".plot .main-svg .plot-container, .plot .main-svg")) >= 5
    assert opened.eval(f"{AT}('[data-part=map] canvas').width") > 300
    headings = texts(opened, "section > h2")
    assert headings[:3] == ["Verdict", "Codes and errors", "ID tree"]


def test_a_click_on_a_prefix_lists_its_items(opened, world):
    opened.click(".tree button")
    prefix = [int(opened.wait("location.hash.slice(3)"))]
    count = by_prefix(world, prefix)
    opened.wait(f"{AT}('[data-part=panel] h3').textContent === 'Prefix {prefix[0]}'")
    assert texts(opened, "[data-part=panel] .facts")[0].startswith(f"{count} items")
    assert len(texts(opened, "[data-part=panel] li[data-item]")) == min(count, 40)
    assert texts(opened, "[data-part=crumbs] a") == ["all items", str(prefix[0])]
    opened.click("[data-part=crumbs] a")
    opened.wait(f"{AT}('[data-part=panel] h3').textContent === 'All items'")


def test_items_without_a_value_are_named(opened, page):
    assert texts(opened, "[data-part=legend] .chip")[-1] == f"no value ({NO_BRAND} items)"
    assert f"brand: {NO_BRAND} items without a value" in texts(opened, ".facts")[0]
    lacks = pq.read_table(page.parent / "items.parquet")["item_id"].to_pylist()[-1]
    opened.eval(f"(location.hash = 'i={lacks}', 1)")
    opened.wait(f"{AT}('.card')")
    assert "no value" in texts(opened, ".card dd")
    first = texts(opened, ".card dd")[1].split(",")[0]
    opened.eval(f"(location.hash = 'p={first}', 1)")
    opened.wait(f"{AT}('[data-part=panel] h3').textContent === 'Prefix {first}'")
    said = texts(opened, ".facts")[0]
    assert re.search(r"brand: \d+% \w+ \(\d items? without a value\) · mean price \d", said)


def test_search_finds_an_item_by_title_and_shows_its_leaf(opened, page, world):
    items = pq.read_table(page.parent / "items.parquet").slice(10, 1).to_pylist()[0]
    opened.eval(f"{AT}('[data-part=search]').focus() || 1")
    opened.type(items["title"].upper())
    assert items["item_id"] in texts(opened, "[role=option]")[0]
    opened.press("Enter")
    opened.wait(f"location.hash === '#i={items['item_id']}'")
    assert items["title"] in texts(opened, ".card h3")
    sides = texts(opened, ".sides h4")
    assert sides[0] == "Nearest by embedding"
    assert re.fullmatch(r"With the prefix [\d,]+", sides[1])
    assert len(texts(opened, ".sides > div:first-child li[data-item]")) == 6
    rows = pq.read_table(world / "ids.parquet").to_pylist()
    (sid,) = (row["sid"] for row in rows if row["item_id"] == items["item_id"])
    assert ",".join(map(str, sid)) in texts(opened, ".card dd")
    opened.eval("history.back() || 1")
    opened.wait(f"{AT}('[data-part=panel] h3').textContent === 'All items'")


def test_search_takes_a_prefix_and_says_when_nothing_is_found(opened, world):
    opened.eval(f"{AT}('[data-part=search]').focus() || 1")
    sid = pq.read_table(world / "ids.parquet")["sid"][0].as_py()
    opened.type(",".join(map(str, sid[:2])))
    assert texts(opened, "[role=option]")[0].startswith(f"prefix {sid[0]},{sid[1]}")
    opened.type(" no such thing")
    assert texts(opened, "[data-part=found] .note")[0].startswith("nothing found")
    opened.press("Escape")
    assert opened.eval(f"{AT}('[data-part=found]').hidden")


def test_the_tree_is_used_by_keyboard(opened):
    opened.eval(f"{AT}('.tree button[tabindex=\"0\"]').focus() || 1")
    first = opened.eval("document.activeElement.getAttribute('aria-label')")
    opened.press("ArrowRight")
    second = opened.eval("document.activeElement.getAttribute('aria-label')")
    assert first != second
    assert re.fullmatch(r"prefix \d+, \d+ items?", second)
    opened.press("Enter")
    opened.wait("location.hash.startsWith('#p=')")
    opened.wait("document.activeElement.matches('.tree button')")
    opened.press("Backspace")
    opened.wait("location.hash === '#p='")


def test_titles_are_text(opened):
    opened.eval(f"{AT}('[data-part=search]').focus() || 1")
    for typed, title in (
        ("script", ODD[0]),
        ("bold", ODD[1]),
        ("עולם", ODD[2]),
        ("lines", "two lines"),
    ):
        opened.eval(f"{AT}('[data-part=search]').value = ''")
        opened.type(typed)
        assert any(title in found for found in texts(opened, "[role=option]"))
        opened.press("Enter")
        opened.wait(f"{AT}('.card h3') && {AT}('.card h3').textContent === {json.dumps(title)}")
    assert opened.eval("document.title") != "broken"


def test_colours_and_themes(opened):
    opened.eval(f"({AT}('[data-part=colours]').value = 1, 1)")
    opened.eval(f"{AT}('[data-part=colours]').dispatchEvent(new Event('change'))")
    assert texts(opened, "[data-part=legend]")[0].startswith("price (mean)")
    light = opened.eval("getComputedStyle(document.body).backgroundColor")
    opened.click("#theme")
    assert opened.eval("getComputedStyle(document.body).backgroundColor") != light


def test_a_phone_scrolls_one_way_and_follows_a_dark_system(opened):
    opened.eval("(document.documentElement.style.colorScheme = '', 1)")
    opened.show(width=390, height=844, dark=True)
    opened.wait("document.documentElement.scrollWidth === 390")
    assert opened.eval("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"


def test_it_prints(opened, tmp_path):
    opened.print(tmp_path / "report.pdf")
    pdf = (tmp_path / "report.pdf").read_bytes()
    assert pdf[:5] == b"%PDF-"
    parts = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    drawn = b"".join(zlib.decompress(p) for p in parts if p[:1] == b"x")
    assert len(re.findall(rb"\bT[jJ]\b", drawn)) > 100  # text, and not a picture of it


def test_a_collision_leads_to_its_items(opened, page, world):
    ((href, title),) = json.loads(
        opened.eval(
            f"JSON.stringify([{AT}('#worst td.text a')].map((a) => [a.hash, a.textContent]))"
        )
    )
    assert href.startswith("#i=")
    opened.click("#worst td.text a")
    opened.wait(f"location.hash === {json.dumps(href)}")
    opened.wait("document.querySelector('.card h3')")
    assert title in texts(opened, ".card h3")
    rows = {row["item_id"]: row for row in pq.read_table(world / "ids.parquet").to_pylist()}
    sid = ",".join(map(str, rows[href[3:]]["sid"]))
    assert sid in texts(opened, ".card dd")
    assert [",".join(map(str, rows[href[3:]]["codes"]))] == texts(opened, "#worst td")[:1]


def test_images_are_asked_for_only_on_demand(tab, page):
    assert tab.requests == [page.resolve().as_uri()]
    item = pq.read_table(page.parent / "items.parquet")["item_id"][0].as_py()
    tab.eval(f"(location.hash = 'i={item}', 1)")
    tab.wait(f"location.hash === '#i={item}' && {AT}('.card h3')")
    tab.wait("1")
    assert tab.requests == [page.resolve().as_uri()]
    tab.click("[data-part=images]")
    tab.wait(f"{AT}('.card img').naturalWidth === 1")
    assert DOT in tab.requests
    assert "images.invalid" in texts(tab, "label")[1]
    assert all(
        one.startswith(("file:", "data:", "https://images.invalid/")) for one in tab.requests
    )


def test_twenty_thousand_items_and_a_thousand_first_codes(tmp_path, tab):
    n, random = 20_000, np.random.default_rng(0)
    codes_nl = np.stack([np.arange(n) % 1_024, random.integers(0, 64, n)], axis=1).astype(np.int32)
    table = IdTable.from_arrays([f"item-{place}" for place in range(n)], codes_nl, codes_nl)
    table.save(tmp_path / "ids.parquet")
    done = run_here("report", tmp_path / "ids.parquet", "--output", tmp_path / "report.html")
    assert done.code == 0, done.err
    tab.show()
    tab.open(tmp_path / "report.html")
    tab.eval(f"{AT}('[data-part=search]').focus() || 1")
    tab.type("item-19999")
    assert texts(tab, "[role=option]")[0].startswith("item-19999")
    tab.press("Escape")
    seen = set()
    for page in range(3):
        tab.wait(f"{AT}('.tree button:not(.turn)')")
        labels = tab.eval(
            "JSON.stringify([...document.querySelectorAll('.tree button:not(.turn)')]"
            ".map((one) => one.getAttribute('aria-label')))"
        )
        seen |= set(json.loads(labels))
        assert len(seen) == min(500 * (page + 1), 1_024)
        if page < 2:
            tab.click(".tree .turn")
            tab.wait("document.activeElement.matches('.tree button')")
    assert texts(tab, ".tree .turn") == ["1,000 larger"]
    last = json.loads(labels)[0]
    tab.press("Enter")
    code = re.match(r"prefix (\d+)", last)[1]
    tab.wait(f"location.hash === '#p={code}'")
    assert tab.requests == [(tmp_path / "report.html").resolve().as_uri()]
    assert tab.errors == []
