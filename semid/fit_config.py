"""All settings of a fit, with their defaults. Frozen, checked, and saved inside the model.

They stand here, away from what they configure, so that reading settings loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from semid.errors import SemidError

KINDS = ("rqvae", "rqkmeans")


def _require(name: str, value: float, allowed: bool, range_: str) -> None:
    """Raise `SemidError` unless `value` is in its range and finite."""
    if not (allowed and isfinite(value)):
        raise SemidError(f"{name} is {value}; it must be {range_}")


@dataclass(frozen=True)
class RQVAEConfig:
    """Shape of the network.

    Attributes
    ----------
    latent_dim : z; cut to the width of the embeddings when that is smaller
    hidden : widths of the encoder's MLP; the decoder's are the same reversed
    """

    latent_dim: int = 64
    hidden: tuple[int, ...] = (1024, 512)

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden):
            raise SemidError(
                f"model.latent_dim {self.latent_dim} and model.hidden {list(self.hidden)} "
                "must be at least 1"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How the RQ-VAE is trained.

    Attributes
    ----------
    epochs : passes over the training rows, the autoencoder's included
    max_steps : where training of a very large table ends, however few epochs that is
    autoencoder_share : share of the steps before the codebooks start
    batch_size : rows per step; 0 takes 512, and up to 4,096 for catalogs beyond 24,000 items
    learning_rate, warmup_steps, weight_decay, grad_clip : AdamW, linear warm-up, then cosine to 0
    commitment : weight of the commitment loss beside reconstruction
    ema_decay : how slowly codewords follow their items, per step
    restart_below : codewords used less than this share of the mean are restarted
    restart_until : share of the steps after which only unused codewords still move
    init_rows : rows of the sample for input statistics and k-means
    """

    epochs: int = 50
    max_steps: int = 20_000
    autoencoder_share: float = 0.15
    batch_size: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    commitment: float = 0.25
    ema_decay: float = 0.95
    restart_below: float = 0.1
    restart_until: float = 0.85
    init_rows: int = 131_072

    def __post_init__(self) -> None:
        for name in ("epochs", "max_steps", "init_rows"):
            value = getattr(self, name)
            _require(f"training.{name}", value, value >= 1, "at least 1")
        for name in ("batch_size", "warmup_steps", "weight_decay", "commitment"):
            value = getattr(self, name)
            _require(f"training.{name}", value, value >= 0, "at least 0")
        for name in ("learning_rate", "grad_clip"):
            value = getattr(self, name)
            _require(f"training.{name}", value, value > 0, "above 0")
        for name in ("autoencoder_share", "ema_decay", "restart_below", "restart_until"):
            value = getattr(self, name)
            _require(f"training.{name}", value, 0 <= value <= 1, "between 0 and 1")


@dataclass(frozen=True)
class KMeansConfig:
    """How RQ-KMeans is fitted.

    Attributes
    ----------
    iterations : of k-means on each level
    max_rows : rows of the sample it learns from; every row when there are no more
    """

    iterations: int = 25
    max_rows: int = 2_000_000

    def __post_init__(self) -> None:
        for name in ("iterations", "max_rows"):
            value = getattr(self, name)
            _require(f"kmeans.{name}", value, value >= 1, "at least 1")


@dataclass(frozen=True)
class FitConfig:
    """All settings of a fit.

    Attributes
    ----------
    quantizer : ``rqvae`` or ``rqkmeans``
    levels : codewords per level
    seed : repeats the fit exactly on one machine
    holdout : share of items, by a hash of their id, that is measured but not trained on
    memory_gib : embeddings that take more than half of it are streamed
    """

    quantizer: str = "rqvae"
    levels: tuple[int, ...] = (256, 256, 256)
    seed: int = 0
    holdout: float = 0.1
    memory_gib: float = 4.0
    model: RQVAEConfig = field(default_factory=RQVAEConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)

    def __post_init__(self) -> None:
        if self.quantizer not in KINDS:
            raise SemidError(f"unknown quantizer {self.quantizer!r}; use {' or '.join(KINDS)}")
        if not self.levels or min(self.levels) < 1:
            raise SemidError(
                f"levels are {list(self.levels)}; give at least one, each of at least 1 codeword"
            )
        _require("holdout", self.holdout, 0 <= self.holdout < 1, "at least 0 and below 1")
        _require("seed", self.seed, 0 <= self.seed < 2**31, "at least 0 and below 2^31")
        _require("memory_gib", self.memory_gib, self.memory_gib >= 0, "at least 0")
        sample, rows = {
            "rqvae": ("training.init_rows", self.training.init_rows),
            "rqkmeans": ("kmeans.max_rows", self.kmeans.max_rows),
        }[self.quantizer]
        if rows < max(self.levels):
            raise SemidError(
                f"{sample} is {rows}, fewer than the {max(self.levels)} codewords of a level; "
                "k-means needs a row for each"
            )
