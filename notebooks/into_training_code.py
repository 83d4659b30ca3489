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
# # Into training code
#
# An ids table is there, a recommender is to be trained on it. Four steps: items to tokens and back;
# a generative recommender; a language model of Hugging Face; a ranking model whose features are
# IDs. All models are tiny, to show the calls and not what these architectures reach.
#
# It runs on the sample catalog, or on the one below the folder that `SEMID_DATA` names.

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semid import probe
from semid.jobs.assign import assign
from semid.jobs.embed import embed
from semid.jobs.train import train
from semid.probe.judging import Ranks
from semid.recsys import (
    CodeEmbedding,
    PrefixNgramEmbedding,
    SidConstraint,
    SidLogitsProcessor,
    SidLookup,
    SidSequenceDataset,
    SidVocabulary,
    add_tokens,
    beam_search,
    codebooks_of,
    read_sequences,
)
from semid.report.drawing import add_limit, add_line, new_figure

EPOCHS, GENERATIVE_EPOCHS, LANGUAGE_EPOCHS, CLICK_EPOCHS = 28, 10, 5, 3
LEVELS = [128, 128, 128]

data = os.environ.get("SEMID_DATA")
catalog = Path(data, "beauty") if data else Path("../data")
out = Path("../out/notebooks", catalog.name, "training_code")
items = str(catalog / "items.parquet")
text = {"text": ["title", "brand", "categories", "color", "size", "material"]}
embeddings = (
    str(catalog / "minilm_embeddings.parquet")
    if data
    else str(embed(items, output=str(out.parent / "embeddings.parquet"), settings=text).output)
)
pd.set_option("display.max_colwidth", 70)

# %% [markdown]
# ## Items, codes, tokens
#
# A model, and the table of IDs that it assigns: three codes and, to tell items apart that share
# them, a suffix.

# %%
model, ids = str(out / "model"), str(out / "ids.parquet")
settings = {"levels": LEVELS, "training": {"epochs": EPOCHS}, "seed": 0}
train(embeddings, output=model, settings=settings, overwrite=True)
assign(embeddings, model=model, output=ids, collisions="suffix", overwrite=True)
lookup = SidLookup.load(ids)
sids = lookup.sids_ns.numpy()
title = pd.read_parquet(items).set_index("item_id")["title"].reindex(lookup.item_ids).to_numpy()
print(f"{len(lookup):,} items; codes per level of a SID: {lookup.levels}")

# %% [markdown]
# A vocabulary numbers the codes of all levels behind the special tokens. An id that nobody has
# becomes `unknown` and never another item; a SID that no item has leads to none.

# %%
vocabulary = SidVocabulary.of(lookup)
some = [*lookup.ids([0, 1, 2]).to_pylist(), "nobody"]
tokens = vocabulary.tokens(lookup.sids(some))
back = lookup.rows_of_sids(vocabulary.codes(tokens)).first_q
pd.DataFrame(
    {
        "SID": lookup.sids(some).tolist(),
        "tokens": tokens.tolist(),
        "item again": lookup.ids(back).to_pylist(),
        "title": [title[row] if row >= 0 else None for row in back],
    },
    index=some,
)

# %% [markdown]
# ## A generative recommender
#
# `read_sequences` numbers users and items and splits in time: the last interaction of everyone
# tests. A dataset makes batches of it; here a row is a user, with the next item to be learnt at
# every place (`shifted`), and tokens are plain codes, padded with -1.

# %%
sequences = read_sequences(catalog / "interactions.parquet", lookup)
examples = {"examples": "shifted", "padding": -1}
training = SidSequenceDataset(sequences, sids, **examples)
test = SidSequenceDataset(sequences, sids, "test", **examples)
batch = next(iter(training.loader(4)))
pd.Series({name: tuple(tensor.shape) for name, tensor in batch._asdict().items()}, name="shape")

# %% [markdown]
# `semid.probe` holds a causal transformer over the codes of histories, for the comparison of ids
# tables; any model that reads such batches would do. Far below the dotted line it has learnt
# something; whether that is which items go together, the test tells.

# %%
small = probe.NetworkSettings(
    width=64, layers=1, heads=2, feedforward=256, dropout=0.1, epochs=GENERATIVE_EPOCHS
)
generative = probe.GenerativeModel(lookup.levels, small, torch.Generator().manual_seed(0))
losses = probe.fit(generative, training, small, seed=0).losses
figure = new_figure("epoch", "loss, nats a code")
add_line(figure, np.arange(len(losses)) + 1, losses, "training", mode="lines+markers")
add_limit(figure, np.log(lookup.levels).mean(), "all codes alike")
figure.update_yaxes(rangemode="tozero")

# %% [markdown]
# Generation goes through the trie of the table, less what each user has met: whatever the model
# says, what comes out is an item, and a new one.

# %%
constraint = probe.constraint_of(generative, sids)
asked = test.__getitems__(np.flatnonzero(test.lengths() == 8)[:3])
best = beam_search(
    probe.Continuation(generative, asked.tokens_bts),
    constraint.excluding_by_row(asked.seen_padded()),
    batch=len(asked.users_b),
    beams=10,
)
found = lookup.rows_of_sids(best.tokens.flatten(0, 1)).first_q.view(best.row.shape)
assert (found >= 0).all()
assert not (best.row[:, :, None] == asked.seen_padded()[:, None]).any()
pd.DataFrame(
    {
        "user": np.repeat(sequences.user_ids.take(asked.users_b.numpy()), 4),
        "met, the latest last": title[asked.items_bt[:, -4:]].ravel(),
        "recommended, the best first": title[best.row[:, :4]].ravel(),
    }
).set_index("user")

# %% [markdown]
# ### Is it any good?
#
# Where the item of the test ranks among all items, nothing left out. Two baselines that need no
# IDs: the items that were met most, and all alike. A model that does not beat popularity has learnt
# who sells, not who wants what.

# %%
ranks = probe.generated(generative, test, constraint, beams=30)
met = sequences.met()
above = len(met) - np.searchsorted(np.sort(met), met[ranks.item], "right")
tied = np.bincount(met)[met[ranks.item]]
rankings = {
    "generative model": ranks,
    "popularity": Ranks(above, tied, ranks.item),
    "at random": Ranks(np.zeros_like(tied), np.full_like(tied, len(met)), ranks.item),
}
figures = {name: probe.figures(ranking, met) for name, ranking in rankings.items()}
whole = pd.DataFrame({name: groups["all"] for name, groups in figures.items()}).T
whole.round(4).astype({"targets": int})

# %% [markdown]
# The same model by how often an item was met before: the tenth that was met most is the head, the
# half that was met least the tail. Of cold items the model knows their codes alone; mind how few
# targets these are.

# %%
pd.DataFrame(figures["generative model"]).T.round(4).astype({"targets": int})

# %% [markdown]
# ## A language model
#
# A tokenizer and a model that know no words, in place of a checkpoint: with one of the hub's, the
# calls are the same. `add_tokens` gives both the tokens of SIDs, which begin as the codewords of
# the model that assigned them.

# %%
words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
)
torch.manual_seed(0)
language_model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
)
spoken = SidVocabulary.of(lookup, spelling="openonerec")
sid_tokens = add_tokens(spoken, tokenizer, language_model, codebooks=model, seed=0)
spoken.texts(sids[:1])[0]

# %% [markdown]
# Pairs of codewords of the first level: those that are near each other begin as tokens that are,
# where tokens at random would know nothing of it. A model that is as wide as the latents or wider
# keeps angles exactly, a narrower one about.

# %%
codewords = torch.from_numpy(codebooks_of(model)[0])[:48]
begun = language_model.get_input_embeddings().weight.detach()[sid_tokens.levels[0][:48]]
chance = torch.randn(begun.shape, generator=torch.Generator().manual_seed(0))
one, other = torch.triu_indices(48, 48, 1)
cosines = [torch.cosine_similarity(x[one], x[other]) for x in (codewords, begun, chance)]
figure = new_figure("cosine of two codewords", "cosine of their tokens")
for cosine, name in ((cosines[2], "tokens at random"), (cosines[1], "begun as codewords")):
    add_line(figure, cosines[0].numpy(), cosine.numpy(), name, mode="markers")
figure.update_traces(marker={"size": 4})

# %% [markdown]
# It learns from the text of histories, five items and the next, as any language model does.

# %%
spelled = np.array(spoken.texts(sids))
histories = SidSequenceDataset(sequences, sids, examples="last", padding=-1, max_items=5)
optimizer = torch.optim.AdamW(language_model.parameters(), 3e-3)
for epoch in range(LANGUAGE_EPOCHS):
    for batch in histories.loader(64, shuffle=True, seed=epoch):
        rows = torch.cat([batch.items_bt, batch.target_items[:, None]], 1).numpy()
        prompt = tokenizer(["".join(spelled[row[row >= 0]]) for row in rows], padding=True)
        read = {name: torch.tensor(prompt[name]) for name in ("input_ids", "attention_mask")}
        labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, -100)
        language_model(**read, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

# %% [markdown]
# A prompt ends where a SID begins; `SidLogitsProcessor` lets `generate` end in SIDs of the table
# alone, and in none that the user has met. A title that comes twice is of an item that the catalog
# has twice.

# %%
prompts = ["".join(spelled[row[-5:]]) + "<|sid_begin|>" for row in asked.items_bt.numpy()]
prompt = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
allowed = SidConstraint.of(lookup, sid_tokens).excluding_by_row(asked.seen_padded())
processor = SidLogitsProcessor(allowed, start=sid_tokens.start, end=sid_tokens.end, num_beams=10)
said = language_model.eval().generate(
    input_ids=prompt["input_ids"],
    attention_mask=prompt["attention_mask"],
    logits_processor=[processor],
    num_beams=10,
    num_return_sequences=4,
    max_new_tokens=len(lookup.levels) + 1,
)
new = tokenizer.batch_decode(said[:, prompt["input_ids"].shape[1] :])
generated = lookup.rows_of_sids(spoken.read(new)).first_q
assert (generated >= 0).all()
pd.DataFrame(
    {
        "user": np.repeat(sequences.user_ids.take(asked.users_b.numpy()), 4),
        "generated": new,
        "title": title[generated],
    }
).set_index("user")

# %% [markdown]
# ## A ranking model
#
# Will a user meet an item? A small network reads the mean of the items met before, and the item.
# What embeds them differs: item ids hashed into a table; the prefixes of their codes hashed into
# one of as many rows; a vector for every code, begun at random or as the model's codeword; and item
# ids with a row each, which is what large catalogs cannot have.
#
# What is not clicked are the same items, dealt to other users: popularity gives an AUC of 0.5.

# %%
ROWS = len(lookup) // 6
codes, numbers = lookup.codes_nl.numpy(), np.arange(len(lookup))[:, None]
codebooks = codebooks_of(model)
width = codebooks[0].shape[1]
features = {
    "hashed item ids": (numbers, PrefixNgramEmbedding(ROWS, width, [len(lookup)])),
    "hashed prefixes": (codes, PrefixNgramEmbedding(ROWS, width, LEVELS)),
    "codes": (codes, CodeEmbedding(width, LEVELS)),
    "codes, begun as codewords": (codes, CodeEmbedding(width, LEVELS, codebooks=codebooks)),
    "item ids, a row each": (numbers, PrefixNgramEmbedding(len(lookup), width, [len(lookup)])),
}
network = probe.NetworkSettings(
    width=width, feedforward=64, dropout=0.1, epochs=CLICK_EPOCHS, batch=256, learning_rate=3e-3
)
areas = {}
for name, (tokens, embedding) in features.items():
    clicks = probe.ClickModel(embedding, network, torch.Generator().manual_seed(0))
    probe.fit(clicks, SidSequenceDataset(sequences, tokens, padding=-1), network, seed=0)
    shown = SidSequenceDataset(sequences, tokens, "test", padding=-1)
    areas[name] = probe.auc_by_group(probe.judged(clicks, shown, seed=0), met)

# %%
table = pd.DataFrame({name: pd.DataFrame(groups).loc["auc"] for name, groups in areas.items()}).T
table.insert(0, "rows", [embedding.bag.num_embeddings - 1 for _, embedding in features.values()])
table.round(3)

# %%
figure = new_figure("", "AUC of the test, 0.5 by chance")
for name, area in table.drop(columns="rows").iterrows():
    add_line(figure, area.index, area, name, mode="lines+markers")
figure.update_yaxes(dtick=0.1)

# %% [markdown]
# ## The decision
#
# - IDs as features pay most where item ids know next to nothing: at the tail, at cold items, and
#   where ids would share rows. Here they lead at the head too, whose items have few interactions
#   as well, and users of the sample keep to a shelf, which texts tell. Where items have thousands
#   of interactions, ids of their own may catch up: add the codes beside them, and measure.
# - Codes are ahead of hashed prefixes here. Prefixes can say more, as a pair of codes may mean
#   something else than its parts, and want more rows and interactions to learn it.
# - One seed shows what is far apart. Before one table of IDs is taken for another, judge both by
#   the same models over some seeds.
# - A recommender trained on IDs holds for this table: [what new items and new models
#   cost](ids_over_time.ipynb) comes next.
