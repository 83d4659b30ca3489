"""Settings of the network and of its codebooks, with their defaults. Frozen and checked.

They stand here, away from what they configure, so that reading settings loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from semid.errors import SemidError


def require(name: str, value: float, allowed: bool, range_: str) -> None:
    """Raise `SemidError` unless `value` is in its range and finite."""
    if not (allowed and isfinite(value)):
        raise SemidError(f"{name} is {value}; it must be {range_}")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise `SemidError` unless `value` is one of `choices`."""
    if value not in choices:
        raise SemidError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


ACTIVATIONS = ("gelu", "relu", "silu")
SKIPS = ("pca", "identity", "none")
INITS = ("kmeans", "k-means++", "random")
UPDATES = ("ema", "gradient")
ESTIMATORS = ("straight-through", "rotation", "gumbel")
METRICS = ("l2", "cosine")
SINKHORNS = ("none", "last", "all")
FSQS = ("none", "last")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the encoder; the decoder is its mirror image.

    Attributes
    ----------
    latent_dim : z; cut to the width of the embeddings when that is smaller
    hidden : widths of the encoder's MLP; the decoder's are the same reversed
    activation : ``gelu``, ``relu`` or ``silu``
    layer_norm : LayerNorm before every activation
    dropout : share of the decoder's hidden units left out in training
    encoder_dropout : the same of the encoder's, whose latents it moves about: codewords cannot
        follow rows that differ less
    skip : linear path beside the MLP: ``pca`` starts as the principal components and is trained,
        ``identity`` adds the embedding itself (z = x + MLP(x), latent_dim is the embeddings'
        width), ``none`` leaves only the MLP. With a path, the MLP starts at zero
    """

    latent_dim: int = 128
    hidden: tuple[int, ...] = (768, 384)
    activation: str = "relu"
    layer_norm: bool = False
    dropout: float = 0.1
    encoder_dropout: float = 0.0
    skip: str = "pca"

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden):
            raise SemidError(
                f"model.latent_dim {self.latent_dim} and model.hidden {list(self.hidden)} "
                "must be at least 1"
            )
        require_choice("model.activation", self.activation, ACTIVATIONS)
        require_choice("model.skip", self.skip, SKIPS)
        for name in ("dropout", "encoder_dropout"):
            value = getattr(self, name)
            require(f"model.{name}", value, 0 <= value < 1, "at least 0 and below 1")


@dataclass(frozen=True)
class CodebookConfig:
    """How codebooks start, learn and choose.

    Attributes
    ----------
    init : ``kmeans`` (FAISS, from random rows) or ``k-means++``, which begins with rows that are
        far apart, on a catalog-wide sample of residuals, or ``random``
    init_rows : rows of that sample, and of the one for input statistics
    update : ``ema`` moves codewords to the running mean of their items (VQ-VAE, 1711.00937),
        ``gradient`` trains them with the optimiser
    ema_decay : how slowly codewords follow their items, per step
    estimator : gradient through the choice: ``straight-through``, ``rotation`` (2410.06424) or
        ``gumbel`` (Gumbel-softmax, 1611.01144, annealed from gumbel_start to gumbel_end)
    gumbel_start, gumbel_end : temperatures, relative to the mean squared distance
    metric : nearest by ``l2`` or by ``cosine``
    shared : one codebook for all levels, which must then be of one size
    layer_norm : normalise each level's residual before it is quantised
    balance : how strongly much-used codewords are avoided: their squared distance counts as
        larger by this share of the mean one, times log(use / mean use); 0 is the nearest codeword.
        The offsets are part of the model, so that encoding asks the same price as training
    locality : how much the distances of a row that is near count in a row's choice in training, on
        all levels but the last, for neighbours to share their first codes; it counts less where
        neighbours are hardly nearer to each other than to their codewords
    separation : how much the same distances count against a codeword on the last level, for
        neighbours that share the codes before to differ there
    sinkhorn : balanced choice in training on ``none``, the ``last`` or ``all`` levels (2311.09049)
    sinkhorn_epsilon, sinkhorn_iterations : its temperature, relative to the mean squared distance,
        and its rounds
    restart_below : codewords used less than this share of the mean are restarted; 0 never
    restart_until : share of the steps after which only unused codewords still move
    prefix_share : share of batches that train a random prefix of the levels, so that every prefix
        decodes well
    progressive : share of the training over which the levels start one after the other
    fsq : whether the ``last`` level or ``none`` is without a codebook, by finite scalar
        quantisation (2309.15505); the quantizer ``fsq`` has only such levels
    fsq_grid : steps per dim of such a level, whose product is its size; chosen when empty
    """

    init: str = "kmeans"
    init_rows: int = 131_072
    update: str = "ema"
    ema_decay: float = 0.9
    estimator: str = "straight-through"
    gumbel_start: float = 1.0
    gumbel_end: float = 0.05
    metric: str = "l2"
    shared: bool = False
    layer_norm: bool = False
    balance: float = 0.1
    locality: float = 0.5
    separation: float = 0.5
    sinkhorn: str = "none"
    sinkhorn_epsilon: float = 0.05
    sinkhorn_iterations: int = 5
    restart_below: float = 0.1
    restart_until: float = 0.85
    prefix_share: float = 0.0
    progressive: float = 0.0
    fsq: str = "none"
    fsq_grid: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, choices in (
            ("init", INITS),
            ("update", UPDATES),
            ("estimator", ESTIMATORS),
            ("metric", METRICS),
            ("sinkhorn", SINKHORNS),
            ("fsq", FSQS),
        ):
            require_choice(f"codebooks.{name}", getattr(self, name), choices)
        for name in ("init_rows", "sinkhorn_iterations"):
            value = getattr(self, name)
            require(f"codebooks.{name}", value, value >= 1, "at least 1")
        for name in ("gumbel_start", "gumbel_end", "sinkhorn_epsilon"):
            value = getattr(self, name)
            require(f"codebooks.{name}", value, value > 0, "above 0")
        require("codebooks.balance", self.balance, self.balance >= 0, "at least 0")
        for name in (
            *("ema_decay", "locality", "separation", "restart_below", "restart_until"),
            *("prefix_share", "progressive"),
        ):
            value = getattr(self, name)
            require(f"codebooks.{name}", value, 0 <= value <= 1, "between 0 and 1")
