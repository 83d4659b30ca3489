"""All settings of a fit, with their defaults. Frozen, checked, and saved inside the model.

They stand here, away from what they configure, so that reading settings loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from semid.errors import SemidError


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
            if getattr(self, name) < 1:
                raise SemidError(f"training.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("autoencoder_share", "ema_decay", "restart_below", "restart_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise SemidError(
                    f"training.{name} is {getattr(self, name)}; it must be between 0 and 1"
                )
        if min(self.learning_rate, self.grad_clip) <= 0 or self.batch_size < 0:
            raise SemidError(
                f"training.learning_rate is {self.learning_rate}, grad_clip {self.grad_clip} and "
                f"batch_size {self.batch_size}; the first two must be above 0, the last at least 0"
            )


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
        if self.quantizer not in {"rqvae", "rqkmeans"}:
            raise SemidError(f"unknown quantizer {self.quantizer!r}; use rqvae or rqkmeans")
        if not self.levels or min(self.levels) < 1:
            raise SemidError(
                f"levels are {list(self.levels)}; give at least one, each of at least 1 codeword"
            )
        if not 0 <= self.holdout < 1:
            raise SemidError(f"holdout is {self.holdout}; it must be at least 0 and below 1")
        if not 0 <= self.seed < 2**31:
            raise SemidError(f"seed is {self.seed}; it must be at least 0 and below 2^31")
