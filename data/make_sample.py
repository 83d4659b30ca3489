"""Generate the sample catalog: `items.parquet` and `interactions.parquet`, from one seed.

The words come from `vocabulary.toml`; this file knows how products, variants, prices and tastes
hang together, and nothing about semantic IDs. Run it with ``python make_sample.py --seed 0``.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_ITEMS, N_EXACT_DUPLICATES, N_EMPTY_TITLES = 6_000, 60, 15
N_PURCHASES, N_USERS, MIN_PURCHASES = 60_000, 4_000, 5
# Shares of the products without a brand, and of the items without these other fields.
NO_BRAND = 0.1
MISSING = {"description": 0.012, "price": 0.03, "rating": 0.15}
CATALOG_START, CATALOG_DAYS = date(2020, 1, 1), 2_100
SALES_START, SALES_DAYS = datetime(2024, 1, 1), 730

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        ("title", pa.string()),
        ("brand", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("description", pa.string()),
        ("price", pa.float64()),
        ("color", pa.string()),
        ("size", pa.string()),
        ("material", pa.string()),
        ("release_date", pa.date32()),
        ("rating", pa.float32()),
    ]
)
INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms"), nullable=False),
    ]
)

Words = dict[str, Any]  # a part of the vocabulary, or one choice of each of its words
Item = dict[str, Any]  # a row of `items.parquet`, without its id


def read_leaves(vocabulary: Words) -> list[Words]:
    """Flatten the tree; what a leaf does not say itself comes from its group, then its root."""
    leaves = []
    for root in vocabulary["roots"]:
        for g, group in enumerate(root["groups"]):
            # Every group has other leading brands, out of those of its root.
            brands = root["brands"][3 * g :] + root["brands"][: 3 * g]
            for leaf in group["leaves"]:
                path = (root["name"], group["name"], leaf["name"])
                leaves.append({**root, **group, **leaf, "brands": brands, "path": path})
    return leaves


def pick(rng: np.random.Generator, options: Sequence[Any], *, tail: float = 1.0) -> Any:
    """Draw one option; a `tail` above 1 prefers the first ones."""
    return options[int(len(options) * rng.random() ** tail)]


def vary(rng: np.random.Generator, sentence: str) -> str:
    """Settle each ``{a|b|c}`` of a sentence on one of its choices."""
    return re.sub(r"\{([^{}]*\|[^{}]*)\}", lambda m: pick(rng, m[1].split("|")), sentence)


def fill(template: str, words: Words) -> str:
    """Fill a template and remove the spaces and separators that empty words leave behind."""
    return re.sub(r"\s+", " ", template.format_map(words)).strip(" ,|-")


def capitalise(text: str) -> str:
    """Capitalise every word and leave the rest of it alone, as in ``USB-C Charger``."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def long_tail(n: int, total: int, rng: np.random.Generator) -> list[int]:
    """Share `total` products out to `n` leaves, in a random order of popularity."""
    weights = 1.0 / (np.arange(n) + 8.0)
    shares = (total * weights / weights.sum()).astype(int)
    shares[0] += total - shares.sum()
    return [int(shares[i]) for i in np.argsort(rng.random(n))]


def describe(rng: np.random.Generator, leaf: Words, words: Words, vocabulary: Words) -> str:
    """Write three to seven sentences about a product."""
    body = leaf["details"] + leaf["features"]
    chosen = [body[i] for i in np.argsort(rng.random(len(body)))[: 2 + rng.integers(3)]]
    opening = fill(pick(rng, vocabulary["openings"]), words)
    sentences = [opening[:1].upper() + opening[1:], *(vary(rng, s) for s in chosen)]
    if words["material"] and rng.random() < 0.5:
        sentences.insert(1, fill(pick(rng, vocabulary["made_of"]), words))
    if rng.random() < 0.5:
        sentences.append(vary(rng, pick(rng, leaf["closings"])))
    return " ".join(sentences)


def make_product(rng: np.random.Generator, leaf: Words, vocabulary: Words, days: int) -> list[Item]:
    """Make one product, released within `days` of the start, in its colours and sizes."""
    line = pick(rng, vocabulary["lines"])
    line += f" {pick(rng, (2, 3, 5, 10, 20, 50, 100, 250, 300, 500))}" * (rng.random() < 0.4)
    words = {
        "line": line,
        "brand": "" if rng.random() < NO_BRAND else pick(rng, leaf["brands"], tail=2.0),
        "material": pick(rng, leaf["materials"], tail=1.5) if leaf["materials"] else "",
        "noun": pick(rng, leaf["nouns"], tail=1.3),
        "adjective": pick(rng, leaf["adjectives"]),
        "use": pick(rng, leaf["uses"]),
    }
    as_title = {k: w if k in ("brand", "use") else capitalise(w) for k, w in words.items()}
    title = fill(pick(rng, vocabulary["titles"]), as_title)
    if "local" in leaf and rng.random() < 0.4:
        title += f" {pick(rng, leaf['local'])}"
    low, high = leaf["price"]
    item = {
        "title": title,
        "brand": words["brand"] or None,
        "categories": leaf["path"],
        "description": describe(rng, leaf, words, vocabulary),
        "price": low * (high / low) ** ((rng.random() + rng.random()) / 2),
        "material": words["material"] or None,
        "release_date": CATALOG_START + timedelta(days=int(days * rng.random() ** 1.3)),
        "rating": round(2.8 + 2.2 * rng.random() ** 0.6, 1),
    }
    return make_variants(rng, leaf, item, pick(rng, vocabulary["variants"]))


def make_variants(rng: np.random.Generator, leaf: Words, item: Item, style: str) -> list[Item]:
    """Repeat a product in some of its leaf's colours and a run of its sizes."""
    colors = [leaf["colors"][i] for i in np.argsort(rng.random(len(leaf["colors"])))] or [None]
    sizes = leaf["sizes"] or [None]
    at, n_sizes = int(rng.integers(len(sizes))), pick(rng, (1, 2, 3), tail=1.6)
    variants = []
    for color in colors[: pick(rng, (1, 2, 3), tail=1.6)]:
        for step, size in enumerate(sizes[at : at + n_sizes]):
            named = " / ".join(word[:1].upper() + word[1:] for word in (color, size) if word)
            price = int(item["price"] * (1 + leaf["size_step"] * step))
            variant = {
                "title": item["title"] + (style.format(named) if named else ""),
                "price": round(price + pick(rng, (0.99, 0.95, 0.5)), 2),
                "color": color,
                "size": size,
            }
            gone = {field: None for field, share in MISSING.items() if rng.random() < share}
            variants.append({**item, **variant, **gone})
    return variants


def make_items(rng: np.random.Generator, leaves: list[Words], vocabulary: Words) -> pa.Table:
    """Build the catalog, in order of release; every leaf has its first product early on."""
    items: list[Item] = []
    counts = long_tail(len(leaves), N_ITEMS - N_EXACT_DUPLICATES, rng)
    for leaf, count in zip(leaves, counts, strict=True):
        products = make_product(rng, leaf, vocabulary, 60)
        while len(products) < count:
            products += make_product(rng, leaf, vocabulary, CATALOG_DAYS)
        items += products[:count]
    order = np.argsort(rng.random(len(items)))
    for i in [i for i in order if items[i]["description"]][:N_EMPTY_TITLES]:
        items[i] = {**items[i], "title": ""}
    items += [items[i] for i in order[-N_EXACT_DUPLICATES:]]
    items = [items[i] for i in np.argsort(rng.random(len(items)))]
    items.sort(key=lambda item: item["release_date"])
    rows = [{"item_id": f"P{i:06d}", **item} for i, item in enumerate(items, 1)]
    return pa.Table.from_pylist(rows, schema=ITEMS)


@dataclass(frozen=True)
class Shelf:
    """The items of one leaf in order of release, as parallel arrays."""

    leaf: Words
    rows: np.ndarray
    days: np.ndarray
    popularity: np.ndarray
    price_rank: np.ndarray
    brand: np.ndarray


def make_shelves(rng: np.random.Generator, leaves: list[Words], items: pa.Table) -> list[Shelf]:
    """Group the items by leaf and give each a long-tailed popularity."""
    path_leaf = {leaf["path"]: i for i, leaf in enumerate(leaves)}
    leaf_of = np.array([path_leaf[tuple(path)] for path in items["categories"].to_pylist()])
    brands = items["brand"].combine_chunks().fill_null("").dictionary_encode()
    brand = brands.indices.to_numpy()
    days = items["release_date"].to_numpy().astype("datetime64[D]").astype(int)
    price = items["price"].fill_null(0.0).to_numpy()
    popularity = (1.0 - rng.random(len(items))) ** -0.7
    shelves = []
    for i, leaf in enumerate(leaves):
        rows = np.flatnonzero(leaf_of == i)
        rank = np.argsort(np.argsort(price[rows], kind="stable")) / len(rows)
        shelves.append(Shelf(leaf, rows, days[rows], popularity[rows], rank, brand[rows]))
    return shelves


def draw(rng: np.random.Generator, weights: np.ndarray) -> int:
    """Draw an index with a probability in proportion to its weight."""
    ends = np.cumsum(weights)
    return int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))


def purchase_times(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw `n` sorted times in seconds since 1970; some follow another within minutes."""
    start = rng.random() * 0.6
    days = np.sort(start + (1 - start) * rng.random(n)) * SALES_DAYS
    first_day = int(np.datetime64(SALES_START, "D").astype(int))
    minutes = (first_day + days.astype(int)) * 1440 + (420 + 900 * rng.random(n)).astype(int)
    basket = (rng.random(n) < 0.3) & (np.arange(n) > 0)
    for i in np.flatnonzero(basket):
        minutes[i] = minutes[i - 1] + rng.integers(1, 12)
    return np.sort(minutes) * 60


def shop(rng: np.random.Generator, shelves: list[Shelf], days: np.ndarray, n: int) -> list[int]:
    """Choose what one user buys on the given days, as rows out of `n`.

    A purchase stays on the shelf of the last one, moves to one that goes with it, returns to a
    favourite, or (seldom) goes anywhere. Favourites, brands and a price band make up the taste.
    """
    crowd = np.array([len(shelf.rows) for shelf in shelves]) ** 0.8
    roots = np.array([shelf.leaf["path"][0] for shelf in shelves])
    groups = np.array([shelf.leaf["path"][1] for shelf in shelves])
    favourites = [draw(rng, crowd)]
    favourites.append(draw(rng, crowd * (roots == roots[favourites[0]])))
    favourites += [draw(rng, crowd), draw(rng, crowd)]
    band, loyalty = rng.random(), 0.3 + 4.0 * rng.random(256) ** 8
    fresh = np.ones(n)
    at, bought = favourites[0], []
    for day in days:
        turn = rng.random()
        if 0.35 <= turn < 0.5:
            at = draw(rng, crowd * (groups == shelves[at].leaf["goes_with"]))
        elif 0.5 <= turn < 0.95:
            at = pick(rng, favourites, tail=1.5)
        elif turn >= 0.95:
            at = draw(rng, crowd)
        shelf = shelves[at]
        seen = slice(np.searchsorted(shelf.days, day, side="right"))
        near = np.where(np.abs(shelf.price_rank[seen] - band) < 0.25, 1.0, 0.2)
        weights = shelf.popularity[seen] * near * loyalty[shelf.brand[seen]]
        row = int(shelf.rows[draw(rng, weights * fresh[shelf.rows[seen]])])
        fresh[row] = 1.0 if "repeat" in shelf.leaf else 0.01
        bought.append(row)
    return bought


def make_interactions(rng: np.random.Generator, shelves: list[Shelf], items: pa.Table) -> pa.Table:
    """Simulate every user's purchases, grouped by user and in order of time."""
    activity = np.cumsum((1.0 - rng.random(N_USERS)) ** -0.45)
    extra = rng.random(N_PURCHASES - N_USERS * MIN_PURCHASES) * activity[-1]
    users = np.searchsorted(activity, extra, side="right")
    counts = MIN_PURCHASES + np.bincount(users, minlength=N_USERS)
    times = [purchase_times(rng, int(n)) for n in counts]
    rows = [row for t in times for row in shop(rng, shelves, t // 86_400, len(items))]
    columns = {
        "user_id": np.repeat(np.arange(1, N_USERS + 1), counts),
        "item_id": items["item_id"].combine_chunks().take(pa.array(rows)),
        "timestamp": np.concatenate(times).astype("datetime64[s]"),
    }
    return pa.table(columns, schema=INTERACTIONS)


def main() -> None:
    """Parse the command line and write both tables."""
    parser = argparse.ArgumentParser(description="Generate the sample catalog.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    vocabulary = tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text("utf-8"))
    leaves = read_leaves(vocabulary)
    rng = np.random.default_rng(args.seed)
    items = make_items(rng, leaves, vocabulary)
    interactions = make_interactions(rng, make_shelves(rng, leaves, items), items)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, table in (("items", items), ("interactions", interactions)):
        path = args.output / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=22)


if __name__ == "__main__":
    main()
