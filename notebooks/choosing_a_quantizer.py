# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Choosing a quantizer
#
# How many levels of how many codewords, and which quantizer fits them? First a plan, which trains
# nothing; then `compare`, which fits what is worth a fit, and what each choice costs.
#
# It runs on the sample catalog, or on the one below the folder that `SEMID_DATA` names.

# %%
import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from semid.comparison.page import notes, overview
from semid.comparison.summary import summarise
from semid.jobs.compare import compare
from semid.jobs.embed import embed
from semid.jobs.plan import plan
from semid.printing import plan_table
from semid.report import error_by_level, planned_levels, quantizer_tradeoff, shares_by_prefix

QUANTIZERS, SEEDS, EPOCHS = ["rqvae", "rqkmeans", "pq", "opq", "random"], 2, 28
CANDIDATES = [[256, 256], [256, 256, 256], [256, 256, 256, 256], [512, 512, 512]]
LEVELS = [256, 256, 256]
TARGET = 0.95

data = os.environ.get("SEMID_DATA")
catalog = Path(data, "beauty") if data else Path("../data")
out = Path("../out/notebooks", catalog.name)
text = {"text": ["title", "brand", "categories", "color", "size", "material"]}
embeddings = (
    str(catalog / "minilm_embeddings.parquet")
    if data
    else str(
        embed(
            str(catalog / "items.parquet"), output=str(out / "embeddings.parquet"), settings=text
        ).output
    )
)

# %% [markdown]
# ## Which levels?
#
# The plan fits RQ-KMeans with every candidate to a sample and predicts what the whole catalog will
# be like. Look at the ceiling first: no levels tell apart items whose embeddings are equal. Then at
# the cheapest candidate whose range lies above the goal; tokens cost a recommender more than
# codewords, so fewer levels come before smaller ones.

# %%
planned = plan(
    embeddings,
    target_uniqueness=TARGET,
    levels=CANDIDATES,
    output=str(out / "plan.json"),
    overwrite=True,
).summary
print(plan_table(planned))

# %% [markdown]
# Up and left is better. Where nothing reaches the goal, uniqueness is not bought with levels: items
# that differ in a word have embeddings that differ in little. Take the levels at which the error
# levels off, and let a collision policy number the variants.

# %%
planned_levels(planned)

# %% [markdown]
# ## Which quantizer?
#
# All see the same rows and the same held-out items, and have the same levels; random codes are the
# null. A quantizer whose range over seeds overlaps another's is no better for that.

# %%
folder = compare(
    embeddings,
    output=str(out / "comparison"),
    quantizers=QUANTIZERS,
    levels=LEVELS,
    seeds=SEEDS,
    settings={"training": {"epochs": EPOCHS}},
    overwrite=True,
).output
rows = pq.read_table(folder / "comparison.parquet").to_pylist()
summaries = summarise(rows)
header, *figures = overview(summaries)
pd.DataFrame(figures, columns=header).set_index("quantizer")

# %%
print("\n".join(notes(summaries, rows[0] | {"seeds": SEEDS})))

# %% [markdown]
# ## The trade-off
#
# Filled marks are beaten by nobody on both axes; the choice is among them. Low error without
# uniqueness describes items well and gives many the same ID; an error near 1 or above, as of random
# codes, gives every item an ID that says nothing, and is never filled.

# %%
quantizer_tradeoff(summaries)

# %% [markdown]
# ## Do short prefixes carry the meaning?
#
# A recommender decodes from the first code on, so the early levels are to take most of the error
# and keep neighbours together. Those of residual quantizers do: each level refines the one before.
# Each code of a product quantizer (`pq`, `opq`) describes a part of the vector; none of them alone
# says much. Look at the first code: that longer prefixes hold more neighbours may only mean that
# there are fewer of them, which the uniqueness above tells.

# %%
error_by_level({one["quantizer"]: [s.median for s in one["train_error"]] for one in summaries})

# %%
shares_by_prefix({one["quantizer"]: [s.median for s in one["prefix_purity"]] for one in summaries})

# %% [markdown]
# ## The decision
#
# - IDs for a generative recommender: among the filled marks, the one whose short prefixes hold the
#   most neighbours.
# - Features of a ranking model, or compression: the lowest held-out error, whatever its prefixes.
# - An RQ-VAE that is not clearly ahead of RQ-KMeans: take RQ-KMeans, which fits in seconds and has
#   nothing to tune. The seconds and peaks above are those of one fit on this machine.
# - Then [look at the codebooks](codebook_utilization.ipynb) of the choice before it ships.
