"""All settings of a fit, with their defaults. Frozen, checked, and saved inside the model.

They stand here, away from what they configure, so that reading settings loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from semid.applicability import refuse_strangers
from semid.errors import SemidError
from semid.model_config import CodebookConfig, ModelConfig, require, require_choice

# Networks, named for their bottlenecks, and baselines.
NETWORKS = ("rqvae", "vqvae", "fsq", "vae", "autoencoder")
BASELINES = ("rqkmeans", "kmeans", "pq", "opq")
KINDS = (*NETWORKS, *BASELINES)
WITHOUT_CODES = ("vae", "autoencoder")
# Quantizers of one level, and what each is with several.
FLAT = {"vqvae": "rqvae", "kmeans": "rqkmeans"}

RECONSTRUCTIONS = ("mse", "cosine")
LIBRARIES = ("faiss", "sklearn")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LossConfig:
    """What training minimises; every term is a mean over items and dims.

    Attributes
    ----------
    reconstruction : ``mse``, or ``cosine`` (one less the cosine, about the mean)
    commitment : weight of the squared distances between residuals and their codewords
    codebook : the same towards the codewords, where these learn by gradient
    diversity : weight of what the use of codewords lacks to the largest entropy
    uniformity : weight of what latents lack to being spread evenly (2005.10242), for items that
        hardly differ to get codes of their own
    kl : weight of a VAE's divergence from the standard normal
    """

    reconstruction: str = "mse"
    commitment: float = 0.5
    codebook: float = 1.0
    diversity: float = 0.0
    uniformity: float = 0.5
    kl: float = 0.001

    def __post_init__(self) -> None:
        require_choice("loss.reconstruction", self.reconstruction, RECONSTRUCTIONS)
        for name in ("commitment", "codebook", "diversity", "uniformity", "kl"):
            value = getattr(self, name)
            require(f"loss.{name}", value, value >= 0, "at least 0")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes
    ----------
    epochs : passes over the training rows, the autoencoder's included
    max_steps : where training of a very large table ends, however few epochs that is
    autoencoder_share : share of the steps before the codebooks start
    batch_size : rows per step; 0 takes 512, down to 128 below 5,120 training items and up to
        4,096 beyond 24,576
    learning_rate, warmup_steps, weight_decay, grad_clip : AdamW, linear warm-up, then cosine to 0
    precision : of the networks in training: ``auto`` is bfloat16 on a GPU that has it, else
        float32; ``float16`` needs a GPU and scales the loss
    utilization_floor : perplexity over K that every level should reach; the epoch that is kept is
        the one with the least held-out error among those that do
    """

    epochs: int = 28
    max_steps: int = 20_000
    autoencoder_share: float = 0.15
    batch_size: int = 0
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    precision: str = "auto"
    utilization_floor: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "max_steps"):
            value = getattr(self, name)
            require(f"training.{name}", value, value >= 1, "at least 1")
        for name in ("batch_size", "warmup_steps", "weight_decay"):
            value = getattr(self, name)
            require(f"training.{name}", value, value >= 0, "at least 0")
        for name in ("learning_rate", "grad_clip"):
            value = getattr(self, name)
            require(f"training.{name}", value, value > 0, "above 0")
        for name in ("autoencoder_share", "utilization_floor"):
            value = getattr(self, name)
            require(f"training.{name}", value, 0 <= value <= 1, "between 0 and 1")
        require_choice("training.precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class ContrastConfig:
    """How codes learn from the interactions table; without one nothing of it applies.

    Attributes
    ----------
    weight : of the contrast in the loss
    temperature : of the cosine similarities
    window : items of one user that are at most this many places apart are partners
    exclude_last : interactions at the end of every user's history that are left out, because an
        evaluation uses them: 2 for the leave-one-out split into validation and test
    before : only interactions with an earlier timestamp are used; empty for all
    popularity : power of a partner's popularity by which it is drawn more seldom
    partners : most partners that an item keeps, those met most often
    levels : ``all`` contrasts the codewords of every prefix, so that coarse codes follow behaviour
        too; ``last`` those of the full codes
    """

    weight: float = 4.0
    temperature: float = 0.1
    window: int = 2
    exclude_last: int = 2
    before: str | int | float = ""
    popularity: float = 0.5
    partners: int = 64
    levels: str = "all"

    def __post_init__(self) -> None:
        for name in ("weight", "popularity"):
            value = getattr(self, name)
            require(f"contrast.{name}", value, value >= 0, "at least 0")
        require("contrast.temperature", self.temperature, self.temperature > 0, "above 0")
        for name in ("window", "partners"):
            value = getattr(self, name)
            require(f"contrast.{name}", value, value >= 1, "at least 1")
        require("contrast.exclude_last", self.exclude_last, self.exclude_last >= 0, "at least 0")
        require_choice("contrast.levels", self.levels, ("all", "last"))


@dataclass(frozen=True)
class KMeansConfig:
    """How the baselines are fitted.

    Attributes
    ----------
    iterations : of k-means on each level
    max_rows : rows of the sample they learn from; every row when there are no more
    pca : principal components that are quantised in place of the embeddings; 0 for the embeddings
    size_limit : how many times the mean a cluster of the sample may hold, by a price for each
        codeword that is part of the model; 0 for any number
    init : where k-means starts: at ``random`` rows, FAISS's default, or by ``k-means++``, which
        ends nearer to the rows and takes longer
    library : of flat k-means: ``faiss`` or ``sklearn``
    """

    iterations: int = 25
    max_rows: int = 2_000_000
    pca: int = 0
    size_limit: float = 0.0
    init: str = "random"
    library: str = "faiss"

    def __post_init__(self) -> None:
        for name in ("iterations", "max_rows"):
            value = getattr(self, name)
            require(f"kmeans.{name}", value, value >= 1, "at least 1")
        require("kmeans.pca", self.pca, self.pca >= 0, "at least 0")
        limit = self.size_limit
        require("kmeans.size_limit", limit, limit == 0 or limit > 1, "0, or above 1")
        require_choice("kmeans.init", self.init, ("random", "k-means++"))
        require_choice("kmeans.library", self.library, LIBRARIES)


@dataclass(frozen=True)
class FitConfig:
    """All settings of a fit.

    Attributes
    ----------
    quantizer : one of `KINDS`; for the networks it names the bottleneck
    levels : codewords per level; networks without codes ignore them
    columns : embeddings of an item that are quantised together; a network has an encoder and a
        decoder for each
    seed : repeats the fit exactly on one machine
    holdout : share of items, by a hash of their id, that is measured but not trained on
    memory_gib : embeddings that take more than half of it are streamed
    """

    quantizer: str = "rqvae"
    levels: tuple[int, ...] = (256, 256, 256)
    columns: tuple[str, ...] = ("embedding",)
    seed: int = 0
    holdout: float = 0.1
    memory_gib: float = 4.0
    model: ModelConfig = field(default_factory=ModelConfig)
    codebooks: CodebookConfig = field(default_factory=CodebookConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)

    def __post_init__(self) -> None:
        if self.quantizer not in KINDS:
            raise SemidError(f"unknown quantizer {self.quantizer!r}; use one of {', '.join(KINDS)}")
        if not self.levels or min(self.levels) < 1:
            raise SemidError(
                f"levels are {list(self.levels)}; give at least one, each of at least 1 codeword"
            )
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise SemidError(
                f"columns are {list(self.columns)}; name at least one, and none of them twice"
            )
        require("holdout", self.holdout, 0 <= self.holdout < 1, "at least 0 and below 1")
        require("seed", self.seed, 0 <= self.seed < 2**31, "at least 0 and below 2^31")
        require("memory_gib", self.memory_gib, self.memory_gib >= 0, "at least 0")
        refuse_strangers(self)
        if self.quantizer not in WITHOUT_CODES:
            self._check_levels()

    def _check_levels(self) -> None:
        if self.quantizer in FLAT and len(self.levels) > 1:
            raise SemidError(
                f"a {self.quantizer} has one level, not {list(self.levels)}; give one, or use "
                f"{FLAT[self.quantizer]}"
            )
        if self.codebooks.shared and len(set(self.levels)) > 1:
            raise SemidError(
                f"levels are {list(self.levels)}, but one shared codebook needs all of one size"
            )
        sample, rows = "codebooks.init_rows", self.codebooks.init_rows
        if self.quantizer in BASELINES:
            sample, rows = "kmeans.max_rows", self.kmeans.max_rows
        if rows < max(self.levels):
            raise SemidError(
                f"{sample} is {rows}, fewer than the {max(self.levels)} codewords of a level; "
                "k-means needs a row for each"
            )


def require_contrast(config: FitConfig, *, given: bool) -> None:
    """Raise `SemidError` when interactions and the settings of a fit do not go together."""
    if given and config.quantizer in BASELINES:
        raise SemidError(
            f"a {config.quantizer} cannot learn from interactions; use one of {', '.join(NETWORKS)}"
        )
    if not given and config.contrast != ContrastConfig():
        raise SemidError(
            "settings of contrast do not apply here: they need an interactions table "
            "(--interactions)"
        )
