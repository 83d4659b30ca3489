"""The committed sample catalog: it is what the script makes, and it has the traits it promises."""

import subprocess
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

DATA = Path(__file__).parent.parent / "data"
FILES = ("items.parquet", "interactions.parquet")


def generate(output: Path, seed: int) -> Path:
    command = [sys.executable, DATA / "make_sample.py", "--seed", str(seed), "--output", output]
    subprocess.run(command, check=True, timeout=120)
    return output


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    frame = pq.read_table(DATA / "items.parquet").to_pandas()
    return frame.assign(categories=frame["categories"].map(tuple))


@pytest.fixture(scope="module")
def interactions() -> pd.DataFrame:
    return pq.read_table(DATA / "interactions.parquet").to_pandas()


@pytest.fixture(scope="module")
def purchases(items: pd.DataFrame, interactions: pd.DataFrame) -> pd.DataFrame:
    found = interactions.merge(items, on="item_id", how="left", validate="many_to_one")
    return found.assign(root=found["categories"].str[0], leaf=found["categories"].str[2])


def has_text_twin(items: pd.DataFrame) -> pd.Series:
    """Tell which items share their product text with another: variants and duplicates."""
    product = ["categories", "brand", "description", "material", "release_date"]
    twins = items.groupby(product, dropna=False)["item_id"].transform("size") > 1
    return twins & items["description"].notna()


def test_committed_files_are_what_the_script_makes(tmp_path: Path) -> None:
    generate(tmp_path / "made", 0)
    for name in FILES:
        assert pq.read_table(tmp_path / "made" / name).equals(pq.read_table(DATA / name)), name


def test_another_seed_makes_another_catalog(tmp_path: Path) -> None:
    other = generate(tmp_path / "other", 1)
    for name in FILES:
        assert not pq.read_table(other / name).equals(pq.read_table(DATA / name)), name


def test_files_stay_small() -> None:
    assert sum((DATA / name).stat().st_size for name in FILES) < 1_000_000


def test_schemas() -> None:
    items = pq.read_schema(DATA / "items.parquet")
    types = {field.name: field.type for field in items}
    assert types.pop("categories").value_type == pa.string()
    text = ("item_id", "title", "brand", "description", "color", "size", "material")
    assert types == {
        **dict.fromkeys(text, pa.string()),
        "price": pa.float64(),
        "release_date": pa.date32(),
        "rating": pa.float32(),
    }
    interactions = pq.read_schema(DATA / "interactions.parquet")
    assert [(field.name, field.type, field.nullable) for field in interactions] == [
        ("user_id", pa.int64(), False),
        ("item_id", pa.string(), False),
        ("timestamp", pa.timestamp("ms"), False),
    ]


def test_item_ids_are_unique_and_not_null(items: pd.DataFrame) -> None:
    assert len(items) == 6_000
    assert items["item_id"].notna().all()
    assert items["item_id"].is_unique


def test_category_tree_has_three_levels_and_one_parent_each(items: pd.DataFrame) -> None:
    paths = set(items["categories"])
    assert {len(path) for path in paths} == {3}
    assert len({path[0] for path in paths}) == 8
    assert len({path[:2] for path in paths}) == len({path[1] for path in paths}) == 40
    assert len(paths) == len({path[2] for path in paths}) == 160


def test_leaf_sizes_have_a_long_tail(items: pd.DataFrame) -> None:
    sizes = items["categories"].value_counts()
    assert sizes.min() >= 5
    assert sizes.iloc[0] > 5 * sizes.median()


def test_exact_duplicates_are_one_percent_and_no_other_texts_are_equal(items: pd.DataFrame) -> None:
    assert items.drop(columns="item_id").duplicated().sum() == 60
    text = items[["title", "brand", "description"]].fillna("").agg(" ".join, axis=1)
    assert text.duplicated().sum() <= 80


def test_titles_and_descriptions_vary(items: pd.DataFrame) -> None:
    assert items["title"].nunique() > 5_500
    assert items["description"].nunique() > 3_000


def test_variants_differ_in_colour_or_size_and_in_the_end_of_their_titles(
    items: pd.DataFrame,
) -> None:
    named = items[has_text_twin(items) & (items["title"] != "")]
    variants = named[~named.drop(columns="item_id").duplicated()]
    products = variants.groupby(["categories", "brand", "description"], dropna=False)
    groups = [group for _, group in products if len(group) > 1]
    assert 1_000 < len(groups) < 3_000
    for group in groups:
        assert not group.duplicated(["color", "size"]).any()
        pairs = zip(group["title"].min(), group["title"].max(), strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        assert shared > group["title"].str.len().max() / 3


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("brand", 0.08, 0.12),
        ("description", 0.005, 0.02),
        ("price", 0.02, 0.04),
        ("rating", 0.1, 0.2),
        ("color", 0.2, 0.5),
        ("size", 0.1, 0.3),
        ("material", 0.3, 0.5),
    ],
)
def test_fields_are_missing(items: pd.DataFrame, column: str, low: float, high: float) -> None:
    assert low < items[column].isna().mean() < high


def test_a_handful_of_titles_is_empty_but_no_item_is_without_text(items: pd.DataFrame) -> None:
    empty = items["title"] == ""
    assert 5 <= empty.sum() <= 30
    assert items.loc[empty, "description"].notna().all()


def test_text_comes_in_several_scripts(items: pd.DataFrame) -> None:
    for script in (r"[À-ž]", r"[Α-ω]", r"[぀-ヿ一-鿿]"):
        assert items["title"].str.contains(script).sum() > 20, script
    assert "Björk & Söhne" in set(items["brand"])


def test_prices_and_ratings_are_plausible(items: pd.DataFrame) -> None:
    assert items["price"].min() >= 1
    assert items["price"].max() < 2_000
    assert items["rating"].between(1, 5).sum() == items["rating"].notna().sum()
    cents = (items["price"].dropna() * 100).round(6)
    assert (cents == cents.round()).all()


def test_every_purchase_is_of_an_item_already_released(purchases: pd.DataFrame) -> None:
    assert len(purchases) == 60_000
    assert purchases["title"].notna().all()
    assert (purchases["timestamp"].dt.date >= purchases["release_date"]).all()


def test_every_user_buys_five_times_or_more_in_order_of_time(interactions: pd.DataFrame) -> None:
    assert interactions["user_id"].is_monotonic_increasing
    assert interactions.groupby("user_id").size().min() >= 5
    assert interactions.groupby("user_id")["timestamp"].is_monotonic_increasing.all()


def test_popularity_has_a_long_tail(interactions: pd.DataFrame) -> None:
    counts = interactions["item_id"].value_counts()
    assert counts.head(1_200).sum() / counts.sum() > 0.4
    assert counts.max() > 10 * counts.median()


def top_two_share(users: pd.Series, roots: np.ndarray) -> float:
    shares = [
        sum(count for _, count in Counter(group).most_common(2)) / len(group)
        for _, group in pd.Series(roots).groupby(users.to_numpy())
    ]
    return float(np.mean(shares))


def test_users_have_tastes(purchases: pd.DataFrame) -> None:
    roots = purchases["root"].to_numpy()
    shuffled = np.random.default_rng(0).permutation(roots)
    observed = top_two_share(purchases["user_id"], roots)
    assert observed > top_two_share(purchases["user_id"], shuffled) + 0.25


def test_users_keep_to_a_price_band(purchases: pd.DataFrame) -> None:
    known = purchases.dropna(subset=["price"])
    rank = known.groupby("leaf")["price"].rank(pct=True)
    shuffled = pd.Series(np.random.default_rng(0).permutation(rank), index=rank.index)
    spread = [r.groupby(known["user_id"]).std().mean() for r in (rank, shuffled)]
    assert spread[0] < 0.9 * spread[1]


def test_consecutive_purchases_are_related(purchases: pd.DataFrame) -> None:
    users, leaves = purchases["user_id"].to_numpy(), purchases["leaf"].to_numpy()
    # Within each user, the same purchases in another order: habits alone, without the sequence.
    order = np.lexsort((np.random.default_rng(0).random(len(users)), users))
    same_user = users[1:] == users[:-1]
    observed, shuffled = (
        (leaf[1:] == leaf[:-1])[same_user].mean() for leaf in (leaves, leaves[order])
    )
    assert observed > 1.3 * shuffled


def test_readme_states_the_figures(items: pd.DataFrame, interactions: pd.DataFrame) -> None:
    lacks, leaf_sizes = items.isna().sum(), items["categories"].value_counts()
    per_user = interactions.groupby("user_id").size()
    expected = {
        "items": f"{len(items):,}",
        "items in the largest / smallest leaf": f"{leaf_sizes.max()} / {leaf_sizes.min()}",
        "distinct titles": f"{items['title'].nunique():,}",
        "exact duplicates (all but `item_id` equal to an earlier row)": str(
            items.drop(columns="item_id").duplicated().sum()
        ),
        "items that share product text with another one (variants and duplicates)": (
            f"{has_text_twin(items).sum():,}"
        ),
        "titles with letters outside ASCII": f"{(~items['title'].map(str.isascii)).sum():,}",
        "empty titles": str((items["title"] == "").sum()),
        **{f"without a {c}": f"{lacks[c]:,}" for c in ("brand", "description", "price", "rating")},
        "without a color / size / material": " / ".join(
            f"{lacks[c]:,}" for c in ("color", "size", "material")
        ),
        "purchases": f"{len(interactions):,}",
        "users": f"{len(per_user):,}",
        "purchases per user: fewest / median / most": (
            f"{per_user.min()} / {per_user.median():.0f} / {per_user.max()}"
        ),
        "items never bought": str(len(items) - interactions["item_id"].nunique()),
    }
    lines = (DATA / "README.md").read_text("utf-8").splitlines()
    assert [f"| {k} | {v} |" for k, v in expected.items() if f"| {k} | {v} |" not in lines] == []


def test_readme_example_rows_are_in_the_sample(
    items: pd.DataFrame, interactions: pd.DataFrame
) -> None:
    lines = (DATA / "README.md").read_text("utf-8").replace(r"\|", "|").splitlines()
    by_id = items.fillna({"color": "*null*"}).set_index("item_id", drop=False)
    for item in ("P004734", "P004735", "P001454"):
        row = by_id.loc[item]
        cells = [item, row["title"], row["brand"], f"[{', '.join(row['categories'])}]"]
        cells += [f"{row['price']:g}", row["color"], row["size"], f"{row['rating']:.1f}"]
        assert f"| {' | '.join(cells)} |" in lines
    for purchase in interactions[interactions["user_id"] == 4].iloc[5:8].itertuples():
        assert f"| 4 | {purchase.item_id} | {purchase.timestamp} |" in lines
