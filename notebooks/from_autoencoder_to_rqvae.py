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
# # From the autoencoder to the RQ-VAE
#
# One MLP, four bottlenecks, on scikit-learn's digits: nothing (autoencoder), a Gaussian (VAE), one
# codebook (VQ-VAE), several codebooks on residuals (RQ-VAE). Residual k-means stands beside them.
# Everything shown was held out of training.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

import semid
from semid.metrics.codes import relative_error
from semid.quantization import search
from semid.training_data import held_out

EPOCHS = 60
LEVELS = (32, 32, 32)
NAMES = {
    "autoencoder": "autoencoder",
    "vae": "VAE",
    "vqvae": "VQ-VAE",
    "rqvae": "RQ-VAE",
    "rqkmeans": "RQ-KMeans",
}
COLOURS = dict(zip(NAMES, ["#888888", "#d99a2b", "#4a90c2", "#c2453d", "#3f9b6c"], strict=True))
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "figure.dpi": 64}
)

digits = load_digits()
x = digits.data.astype(np.float32)
held = held_out(range(len(x)), 0.1)
shown = np.array([np.flatnonzero(held & (digits.target == digit))[1] for digit in range(10)])

# %%
network = {
    "model": {"hidden": [256, 128], "latent_dim": 16},
    "training": {"epochs": EPOCHS},
}
models = {
    "autoencoder": semid.fit(x, "autoencoder", config=network),
    "vae": semid.fit(x, "vae", config={**network, "loss": {"kl": 0.2}}),
    "vqvae": semid.fit(x, "vqvae", LEVELS[:1], config=network),
    "rqvae": semid.fit(x, "rqvae", LEVELS, config=network),
    "rqkmeans": semid.fit(x, "rqkmeans", LEVELS),
}


# %%
def pictures(rows, titles=None, size=0.6):
    """Draw rows of digits, a label before each: `rows` is label → ``(n, 64)``."""
    count, margin = max(len(row) for row in rows.values()), 1.7
    height = size * (1.3 if titles else 1.06)
    width = size * count + margin
    figure, axes = plt.subplots(len(rows), count, figsize=(width, height * len(rows)))
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.25, 0.5, label, transform=line[0].transAxes, ha="right", va="center")
        for axis in line:
            axis.axis("off")
        for place, (axis, image) in enumerate(zip(line, row, strict=False)):
            image = image.reshape(8, 8)
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=16, interpolation="bicubic")
            if titles and label in titles:
                axis.set_title(titles[label][place], fontsize=7, color="#777777", pad=2)
    figure.subplots_adjust(
        left=margin / width,
        right=1,
        bottom=0,
        top=0.95,
        wspace=0.06,
        hspace=0.3 if titles else 0.06,
    )
    plt.show()


# %% [markdown]
# ## Reconstructions, level by level
#
# Every further code adds what the codes before it left over.

# %%
rows = {"digit": x[shown]}
for kind in ("autoencoder", "vae", "vqvae"):
    rows[NAMES[kind]] = models[kind].reconstruct(x[shown])
for kind in ("rqvae", "rqkmeans"):
    codes = models[kind].encode(x[shown])
    for depth in range(1, len(LEVELS) + 1):
        rows[f"{NAMES[kind]}, {depth} code{'s'[: depth > 1]}"] = models[kind].decode(
            codes[:, :depth]
        )
pictures(rows)

# %%
deviation = np.square(x[held] - x[~held].mean(0)).sum()
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for kind in ("rqkmeans", "rqvae", "vqvae"):
    codes = models[kind].encode(x[held])
    depths = range(1, codes.shape[1] + 1)
    decoded = [models[kind].decode(codes[:, :depth]) for depth in depths]
    errors = [relative_error(np.square(out - x[held]).sum(), deviation) for out in decoded]
    axis.plot(depths, errors, "o-", color=COLOURS[kind], label=NAMES[kind])
for kind in ("vae", "autoencoder"):
    error = models[kind].metrics["held_out_error"]
    axis.axhline(error, color=COLOURS[kind], linestyle="--", label=f"{NAMES[kind]}, no codes")
axis.set(xlabel="codes", ylabel="relative squared error", xticks=range(1, len(LEVELS) + 1))
axis.set(ylim=(0, None), title="Held-out error of every prefix")
axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## What the codes stand for
#
# The first code alone, and one first code with every second code.

# %%
first = np.arange(LEVELS[0])[:, None]
family = models["rqvae"].encode(x[shown[3:4]])[0, 0]
pairs = np.stack([np.full(LEVELS[1], family), np.arange(LEVELS[1])], 1)
rows = {f"{NAMES[kind]}, first codes": models[kind].decode(first) for kind in ("rqkmeans", "rqvae")}
rows[f"RQ-VAE, {family} and a second"] = models["rqvae"].decode(pairs)
pictures(rows, size=0.36)

# %% [markdown]
# ## Samples
#
# The VAE draws latents from its prior. Codes drawn at random, each alike, know nothing of what goes
# together; that is what a generative recommender learns on top.

# %%
random = np.random.default_rng(0)
latents = torch.from_numpy(random.normal(size=(16, 16)).astype(np.float32))
with torch.no_grad():
    rows = {"VAE, from the prior": models["vae"].network.reconstruct(latents).numpy()}
for kind in ("vqvae", "rqvae", "rqkmeans"):
    codes = random.integers(0, models[kind].levels, (16, len(models[kind].levels)))
    rows[f"{NAMES[kind]}, random codes"] = models[kind].decode(codes)
pictures(rows)

# %% [markdown]
# ## From one digit to another
#
# A straight line through the latents; the RQ-VAE takes the codes nearest to it. Last, the codes
# change hands one at a time.

# %%
pair, steps = x[shown[[0, 6]]], torch.linspace(0, 1, 11)[:, None]
rows, titles = {}, {}
with torch.no_grad():
    for kind in ("autoencoder", "vae", "rqvae"):
        net = models[kind].network
        start, end = net.project(torch.from_numpy(pair))
        path = torch.lerp(start[None], end[None], steps)
        if kind != "rqvae":
            rows[NAMES[kind]] = net.reconstruct(path).numpy()
    codes = search(path, net.search_levels).codes_nl.numpy()
rows["RQ-VAE"] = models["rqvae"].decode(codes)
titles["RQ-VAE"] = [" ".join(map(str, code)) for code in codes]
start, end = models["rqvae"].encode(pair)
swaps = np.stack([np.r_[end[:taken], start[taken:]] for taken in range(len(LEVELS) + 1)])
rows["code by code"] = models["rqvae"].decode(swaps)
titles["code by code"] = [" ".join(map(str, code)) for code in swaps]
pictures(rows, titles)

# %% [markdown]
# ## The codebooks over training
#
# Perplexity over K is the share of a codebook that is in use. Codes begin once the autoencoder has
# settled, which is why the error jumps.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
history = [row for row in models["rqvae"].history if row["used_0"]]
epochs = [row["epoch"] for row in history]
for level, shade in enumerate(["#7d1f1a", "#c2453d", "#eb9a93"]):
    used = [row[f"perplexity_{level}"] / LEVELS[level] for row in history]
    left.plot(epochs, used, color=shade, label=f"RQ-VAE, level {level}")
    plain = models["rqkmeans"].metrics["levels"][level]["perplexity"] / LEVELS[level]
    left.axhline(plain, color=["#1f5c3e", "#3f9b6c", "#9ad0b5"][level], linestyle=":")
left.set(xlabel="epoch", ylabel="perplexity over K", ylim=(0, 1.02), title="Use of the codebooks")
left.plot([], [], color=COLOURS["rqkmeans"], linestyle=":", label="RQ-KMeans, levels 0 to 2")
left.legend(frameon=False, loc="lower right")
for kind in ("vqvae", "rqvae", "vae", "autoencoder"):
    errors = [row["held_out_error"] for row in models[kind].history]
    right.plot(range(1, len(errors) + 1), errors, color=COLOURS[kind], label=NAMES[kind])
plain = models["rqkmeans"].metrics["held_out_error"]
right.axhline(plain, color=COLOURS["rqkmeans"], linestyle=":", label=NAMES["rqkmeans"])
right.set(xlabel="epoch", ylabel="relative squared error", ylim=(0, 0.6), title="Held-out error")
right.legend(frameon=False, ncols=2)
plt.show()
