"""What a report costs: seconds, memory, the size of the page; and how soon the page answers.

    python benchmarks/report.py --rows 100000 1000000

Random and seeded catalogs: embeddings of 64 dims around 3,000 centres, shuffled; titles of eight
words, a category, a price; RQ-KMeans codes (3 x 256) with a suffix. The command runs in a process
of its own; making the catalog is not measured.

Where there is a Chromium, the page is opened in it without a window or a GPU, and used: seconds
until the explorer is there, then the longest time from each kind of action until it can be seen
(web.dev calls 200 ms good).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from catalogs import clustered
from measuring import GIB, machine, semid

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import BINARY, Browser

WORDS, CATEGORIES, TITLE = 5_000, 40, 8
# From an action to the second frame after it, in ms.
ANSWER = """(async () => {{
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const part = (name) => document.querySelector(`[data-part="${{name}}"]`);
    const began = performance.now();
    {action};
    await frame(); await frame();
    return performance.now() - began;
}})()"""
TYPED = """part('search').value = '{text}';
    part('search').dispatchEvent(new Event('input', {{bubbles: true}}))"""
ACTIONS = {
    "search": [TYPED.format(text=text) for text in ("i", "item-00", "ba", "item-000012345")],
    "go into a prefix": ["document.querySelector('.tree button').click()", "location.hash = 'p='"]
    * 3,
    "open an item": [f"location.hash = 'i=item-{row:09d}'" for row in (7, 4_321, 54_321)],
    "colour": [
        "part('colours').value = 1, part('colours').dispatchEvent(new Event('change'))",
        "part('map-colours').value = 1, part('map-colours').dispatchEvent(new Event('change'))",
    ],
    "zoom the map": ["document.querySelector('[data-zoom]').click()"] * 3,
}


def make(folder: Path, rows: int) -> None:
    """Write embeddings and items in different orders, and fit and assign."""
    random = np.random.default_rng(0)
    ids = np.array([f"item-{row:09d}" for row in range(rows)])
    values = pa.array(clustered(rows, 64, 3_000).reshape(-1))
    embeddings = pa.FixedSizeListArray.from_arrays(values, 64)
    pq.write_table(
        pa.table({"item_id": random.permutation(ids).tolist(), "embedding": embeddings}),
        folder / "embeddings.parquet",
    )
    syllables = np.array([a + b for a in "bcdfglmnprst" for b in "aeiou"])
    words = np.array(["".join(word) for word in random.choice(syllables, (WORDS, 3))])
    titles = words[random.zipf(1.3, (rows, TITLE)) % WORDS]
    items = {
        "item_id": ids.tolist(),
        "title": [" ".join(title) for title in titles],
        "category": [f"category {n}" for n in random.integers(0, CATEGORIES, rows)],
        "price": random.lognormal(3, 1, rows),
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    path = str(folder / "embeddings.parquet")
    semid("train", path, "-o", f"{folder}/model", "--quantizer", "rqkmeans", "--levels=256,256,256")
    semid("assign", path, "-m", f"{folder}/model", "-o", f"{folder}/ids.parquet")


def use(page: Path) -> str:
    """Open a page and use it; say how long it took to be there, and to answer at worst."""
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        browser.show()
        began = time.perf_counter()
        browser.open(page)
        said = [f"there after {time.perf_counter() - began:.1f} s"]
        for name, actions in ACTIONS.items():
            slowest = max(browser.eval(ANSWER.format(action=action)) for action in actions)
            said.append(f"{name} {slowest:.0f} ms")
        errors = browser.errors
        browser.close()
    if errors:
        raise SystemExit(f"the page has errors: {errors}")
    return ", ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--folder", type=Path, help="keep the pages here")
    options = parser.parse_args()
    print(machine())
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            make(folder, rows)
            page = (options.folder or folder) / f"report-{rows}.html"
            run = semid(
                *("report", f"{folder}/ids.parquet", "--model", f"{folder}/model"),
                *("--embeddings", f"{folder}/embeddings.parquet"),
                *("--items", f"{folder}/items.parquet", "--color-by", "category,price"),
                *("--output", str(page), "--overwrite"),
            )
            used = use(page) if BINARY else "no Chromium here to open it in"
        print(
            f"{rows:>10,} items: {run.seconds:6.1f} s, peak {run.peak_bytes / GIB:.2f} GiB, "
            f"{run.output['summary']['mib']:.1f} MiB with "
            f"{run.output['summary']['items_held']:,} items; {used}"
        )


if __name__ == "__main__":
    main()
