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
# # Codebook utilization: the first hour
#
# A table of semantic IDs and its `metrics.json` are there. Is the table good, why, and what is to
# change? From top to bottom: the verdict, use of the codes, error, collisions, what prefixes mean,
# and gates that turn the answer into a decision.
#
# It runs on the sample catalog, or on the one below the folder that `SEMID_DATA` names.

# %%
import os
from pathlib import Path

import pandas as pd

import semid
from semid.gates import judge, parse_gates
from semid.jobs.assign import assign
from semid.jobs.embed import embed
from semid.jobs.evaluate import evaluate
from semid.jobs.train import train
from semid.printing import metrics_table
from semid.report import (
    code_usage,
    collision_sizes,
    error_by_level,
    shares_by_prefix,
    training_losses,
    training_perplexity,
)
from semid.report.subject import Subject

EPOCHS = 28
LEVELS = [256, 256, 256]
GATES = [
    "perplexity_ratio.min >= 0.6",
    "uniqueness >= 0.9",
    "collisions.harmful.share_of_items <= 0.02",
    "held_out_error <= 0.5",
]

data = os.environ.get("SEMID_DATA")
catalog = Path(data, "beauty") if data else Path("../data")
out = Path("../out/notebooks", catalog.name)
items, interactions = str(catalog / "items.parquet"), str(catalog / "interactions.parquet")
pd.set_option("display.max_colwidth", 80)

# %% [markdown]
# ## What the batch job does
#
# Every job returns a result with its figures, and does nothing where its output is current.

# %%
text = {"text": ["title", "brand", "categories", "color", "size", "material"]}
embeddings = (
    str(catalog / "minilm_embeddings.parquet")
    if data
    else str(embed(items, output=str(out / "embeddings.parquet"), settings=text).output)
)
model, ids = str(out / "model"), str(out / "ids.parquet")
settings = {"levels": LEVELS, "training": {"epochs": EPOCHS}, "seed": 0}
train(embeddings, output=model, settings=settings, overwrite=True)
assign(embeddings, model=model, output=ids, collisions="suffix", overwrite=True)
metrics = evaluate(
    ids,
    embeddings=embeddings,
    model=model,
    output=str(out / "metrics.json"),
    items=items,
    categories="categories",
    interactions=interactions,
    overwrite=True,
).summary

# %% [markdown]
# ## The verdict
#
# Findings come worst first, each with what to do. In the table, hold every figure of the model
# against RQ-KMeans on the same items: an RQ-VAE that does not beat it is not worth its training.
# What chance gives is the other end.

# %%
print(metrics_table(metrics))

# %% [markdown]
# ## Are all codes used?
#
# A flat line at 1 uses all codes alike. A line that falls to 0 before the right end has dead codes;
# one that starts high lets few codes do the work. Below half of the codebook (`perplexity_ratio`
# 0.5), take smaller levels there, or look at the training below.

# %%
subject = Subject(semid.read_ids(ids), LEVELS)
code_usage(subject.counts)

# %% [markdown]
# The first epochs train the autoencoder alone. Then perplexity should rise and stay. One that falls
# late has collapsed: `semid show` on the model says at which epoch and which setting to change.
# Losses that still fall at the right end ask for more epochs.

# %%
history = semid.load(model).history
training_perplexity(history)

# %%
training_losses(history)

# %% [markdown]
# ## What does each level add?
#
# A level that hardly lowers the error could go. Held-out items far above training items mean too
# few items for so many codewords: smaller levels, or more items. How many codes effectively follow
# a prefix says the same of uniqueness: near 1, a level tells hardly anything apart.

# %%
depths = pd.DataFrame(metrics["fidelity"]["depths"])
error_by_level(
    {"training items": depths["train_error"], "held-out items": depths["held_out_error"]}
)

# %%
levels = pd.json_normalize(metrics["levels"])
levels[["size", "used", "perplexity", "top_share", "gini", "branching.effective"]].round(3)

# %% [markdown]
# ## Are collisions harmful?
#
# Everything right of 1 is told apart by the collision policy alone. Embeddings that are equal in
# every bit set a ceiling. What matters is whether items that collide are alike: variants of one
# product may share a raw ID, different products should not (`harmful`: a cosine below the
# threshold).

# %%
collision_sizes(subject.group_sizes)

# %%
collisions = pd.json_normalize(metrics["collisions"])
collisions[
    [
        *("share_in_groups", "largest_group", "identical_items", "uniqueness_ceiling"),
        *("harmful.pairs", "harmful.threshold", "harmful.share", "harmful.share_of_items"),
    ]
].round(4)

# %% [markdown]
# The least alike of all pairs that collide. Two titles that a shopper would not take for one
# product: more levels, or larger ones. Two that even you take for one: the embedding's fault, which
# no levels mend. None listed: no pair that collides is below the threshold.

# %%
pd.json_normalize(
    [
        {"cosine": one["cosine"], "one": one["items"][0], "other": one["items"][1]}
        for one in metrics["collisions"]["harmful"]["examples"]
    ],
    max_level=1,
)

# %% [markdown]
# ## Do prefixes mean something?
#
# The first code should hold most of an item's neighbours and few categories, or a recommender
# learns its tokens by heart; chance says what is no merit. Purity by chance rises with the length,
# since long prefixes have few items. Steps of users need not stay within a prefix; where they do no
# more than by chance, see `semid train --interactions`.

# %%
structure, chance = metrics["structure"], metrics["nulls"]["structure"]
shares_by_prefix(
    {
        "neighbours with the same prefix": structure["prefix_purity"],
        "neighbours, by chance": chance["prefix_purity"],
        "items of their prefix's main category": [
            depth["purity"] for depth in structure["categories"]["depths"]
        ],
        "main category, by chance": chance["purity"],
        "users' steps within a prefix": metrics["behaviour"]["prefix_recall"],
    }
)

# %% [markdown]
# ## Who is described badly?
#
# Items that codes describe worst are often of a kind that the catalog has few of, or lack a text.
# Categories far above the others want items of their own in the training.

# %%
pd.json_normalize(metrics["fidelity"]["worst"]).head()

# %%
pd.DataFrame(metrics["fidelity"]["categories"]).sort_values("error", ascending=False).head()

# %% [markdown]
# ## The decision
#
# When a gate fails:
#
# - `perplexity_ratio.min`: take smaller levels where codes are idle, or change the setting that the
#   verdict names.
# - `uniqueness` alone: ship, if items that collide are alike, since the policy numbers variants.
#   Otherwise [size the levels anew](choosing_a_quantizer.ipynb).
# - `collisions.harmful.share_of_items`: do not ship; more levels, or larger ones.
# - `held_out_error`: hold it against the baseline's; a better encoder, or more levels.
#
# Gates that suit the catalog belong in the pipeline. In `[steps.assign]`, `gates = [...]` keeps a
# table that fails them from being published; in `[steps.evaluate]`, from the steps that follow.

# %%
pd.DataFrame(judge(metrics, parse_gates(GATES)))
