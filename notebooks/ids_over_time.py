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
# # IDs over time
#
# A live table meets new items night after night. What stays, what changes, when is a new model due,
# and what does it cost those who stored the old IDs?
#
# It runs on the sample catalog, or on the one below the folder that `SEMID_DATA` names. The last
# night brings a kind of item that the model never saw: the rarest first category, held back here.

# %%
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import semid
from semid.jobs.align import align
from semid.jobs.assign import assign
from semid.jobs.diff import diff
from semid.jobs.drift import drift
from semid.jobs.embed import embed
from semid.jobs.retire import retire
from semid.jobs.train import train
from semid.printing import diff_table
from semid.printing import drift as drift_table
from semid.report import churn_by_level, code_shift, drift_over_time
from semid.report.subject import Subject

EPOCHS = 28
LEVELS = [128, 128, 128]
NIGHTS = ["night 1", "night 2", "night 3"]

data = os.environ.get("SEMID_DATA")
catalog = Path(data, "beauty") if data else Path("../data")
out = Path("../out/notebooks", catalog.name, "over_time")
items = str(catalog / "items.parquet")
text = {"text": ["title", "brand", "categories", "color", "size", "material"]}
embeddings = (
    str(catalog / "minilm_embeddings.parquet")
    if data
    else str(embed(items, output=str(out.parent / "embeddings.parquet"), settings=text).output)
)

# %% [markdown]
# ## Deliveries
#
# Seven of ten items are there from the start; a tenth comes in each night, the new kind with the
# last.

# %%
table = pq.read_table(embeddings)
kinds = pd.read_parquet(items).set_index("item_id")["categories"].str[0]
kind = kinds.reindex(table["item_id"].to_pandas()).to_numpy()
rarest = kinds.value_counts().index[-1]
came = np.random.default_rng(0).integers(0, 10, len(table))
came = np.where(kind == rarest, 9, np.maximum(came, 6))
out.mkdir(parents=True, exist_ok=True)
deliveries = {name: str(out / f"{name}.parquet") for name in ["start", *NIGHTS]}
for number, path in enumerate(deliveries.values(), 6):
    pq.write_table(table.filter(came == number), path)
pd.Series(came).map(dict(enumerate(deliveries, 6))).value_counts().to_frame(
    f"items (the new kind: {rarest})"
)

# %% [markdown]
# ## Nights
#
# Before each delivery is assigned, `drift` holds it against the table: error, prefixes, use of
# codes. Then `assign` publishes the next version, in which items that were there keep their IDs.

# %%
model, live = str(out / "model"), str(out / "live")
settings = {"levels": LEVELS, "training": {"epochs": EPOCHS}, "seed": 0}
train(deliveries["start"], output=model, settings=settings, overwrite=True)
shutil.rmtree(live, ignore_errors=True)
assign(deliveries["start"], model=model, output=live, publish=True)
first = Subject(semid.read_ids(live), LEVELS)

# %%
drifts = {}
for name in NIGHTS:
    drifts[name] = drift(live, model=model, embeddings=deliveries[name]).summary
    assign(deliveries[name], model=model, output=live, publish=True)

# %% [markdown]
# Every figure is in multiples of its limit. Below 1, assign and go on. Error or support above 1 ask
# for a new model; a shift of codes alone says only that the delivery is of one kind.

# %%
drift_over_time(drifts)

# %%
print(drift_table(drifts[NIGHTS[-1]]))

# %% [markdown]
# Where the items of the last night went: a few codes far above the line are the old codewords
# nearest to something that the codebook has no words for.

# %%
fresh = semid.load(model).encode(pq.read_table(deliveries[NIGHTS[-1]])["embedding"])
code_shift(first.counts[0], np.bincount(fresh[:, 0], minlength=LEVELS[0]))

# %% [markdown]
# ## What the nights changed
#
# Items leave as well; nobody else gets their IDs. Between the first version and the last, churn has
# to be 0: whoever stored an ID still has it right.

# %%
gone = out / "gone.txt"
gone.write_text("\n".join(map(str, first.table.item_ids[:20].to_pylist())))
retire(live, str(gone))
print(diff_table(diff(f"{live}/v0001", live).summary))

# %% [markdown]
# ## A new model
#
# Three ways to one, all on every item there is: trained from the start (its codes are numbered by
# chance), the same with its codes renumbered to agree with the old ones, and trained on from the
# old model.

# %%
anew, aligned, continued = (str(out / name) for name in ("anew", "aligned", "continued"))
trained = {
    "old model": train(deliveries["start"], output=model, settings=settings).summary,
    "trained anew": train(embeddings, output=anew, settings=settings, overwrite=True).summary,
    "trained on": train(
        embeddings, output=continued, settings=settings, init_from=model, overwrite=True
    ).summary,
}
align(anew, to=model, embeddings=embeddings, output=aligned, overwrite=True)
diffs = {}
for name, path in (
    ("trained anew", anew),
    ("trained anew, aligned", aligned),
    ("trained on", continued),
):
    assign(embeddings, model=path, output=f"{path}_ids", overwrite=True)
    diffs[name] = diff(live, f"{path}_ids").summary

# %% [markdown]
# The lower, the more of what was learnt from the old IDs still holds. The first code matters most:
# an item that keeps it stays in its neighbourhood. What changes, a recommender has to learn again.
# The code after the model's levels is the rank among items that collide.

# %%
churn_by_level(diffs)

# %% [markdown]
# And what the new model is better at. Errors are each on the model's own items: the old one never
# saw the new kind, whose error stands in the drift above.

# %%
pd.DataFrame(trained).loc[["items", "held_out_error", "train_error", "raw_uniqueness"]]

# %% [markdown]
# ## The decision
#
# - No figure above its limit: keep the model, `assign --publish` every night.
# - Support or error above it: a new model. Trained on from the old one where its churn is the
#   lowest; anew and aligned where error or uniqueness are clearly better for it. Never anew without
#   `align`: it costs nothing.
# - Churn that the recommender cannot take in: keep the old table until it is trained again, and
#   say so in the pipeline, with `max_churn` in `[steps.diff]`.
