"""Latent semantic analysis: hashed n-grams, TF-IDF weights and a truncated SVD.

Knows nothing about files of items. No download, no GPU; memory after fitting does not grow with
the catalog. Legend: n rows, f hashed features, d dims.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from semid.encoders.ngrams import NGrams, count_ngrams
from semid.encoders.saved import SavedEncoder, restore_config, write_encoder
from semid.encoders.settings import DType, check_at_least, check_dtype, check_ngrams
from semid.encoders.text import DEFAULT_TEXT, check_text, compose, text_columns
from semid.errors import SemidError

if TYPE_CHECKING:
    import scipy.sparse as sp

logger = logging.getLogger(__name__)

CHUNK_ROWS = 131_072
# Rows whose n-gram counts are in memory at once: about 20 MB for product titles.
SLICE_ROWS = 8192
# Two are as good as five on category purity of neighbours, in half the time.
POWER_ITERATIONS = 2
# Singular values below this part of the largest are rounding noise of float32.
RANK_TOLERANCE = 1e-5


@dataclass(frozen=True)
class LsaConfig:
    """Settings of `LsaEncoder`.

    Attributes
    ----------
    text, template : which columns make up the text, see `semid.encoders.text.compose`
    dim : width d of the embeddings
    word_ngrams, char_ngrams : (shortest, longest), or (0, 0) for none
    features : number of hash buckets; collisions between rare n-grams are harmless
    fit_rows : sample size for the TF-IDF weights and the SVD
    normalize : scale every embedding to norm 1
    dtype : "float32" or "float16"
    seed : of the randomised SVD
    """

    text: tuple[str, ...] = DEFAULT_TEXT
    template: str | None = None
    dim: int = 128
    word_ngrams: NGrams = (1, 2)
    char_ngrams: NGrams = (3, 5)
    features: int = 2**17
    fit_rows: int = 100_000
    normalize: bool = True
    dtype: DType = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_text(self.text, self.template)
        check_ngrams("word_ngrams", self.word_ngrams)
        check_ngrams("char_ngrams", self.char_ngrams)
        if self.word_ngrams == self.char_ngrams == (0, 0):
            raise SemidError("word_ngrams and char_ngrams are both (0, 0); give one of them")
        for setting in ("dim", "features", "fit_rows"):
            check_at_least(setting, getattr(self, setting), 1)
        check_at_least("seed", self.seed, 0)
        check_dtype(self.dtype)


class LsaEncoder:
    """Texts to dense vectors by TF-IDF and SVD, both fitted on a sample.

    An item whose text holds no n-gram that the sample had (an empty text above all) gets the mean
    direction of the sample, since a zero vector could not be told from a broken one; the first
    batch with such items says so in a log warning.

    Attributes
    ----------
    config : LsaConfig
    idf_ : inverse document frequencies, float32, shape ``(f,)``
    components_ : the SVD's right singular vectors, float32, shape ``(f, d)``
    empty_ : the embedding of texts without a known n-gram, float32, shape ``(d,)``
    """

    idf_: np.ndarray
    components_: np.ndarray
    empty_: np.ndarray

    def __init__(self, config: LsaConfig) -> None:
        self._warned = False
        self.config = config

    @property
    def columns(self) -> tuple[str, ...]:
        """The item columns that make up the text."""
        return text_columns(self.config.text, self.config.template)

    @property
    def width(self) -> int:
        """Number of dims d of the embeddings."""
        return self.config.dim

    @property
    def fit_rows(self) -> int:
        """How many sampled rows `fit` wants."""
        return self.config.fit_rows

    @property
    def chunk_rows(self) -> int:
        """How many rows are worth a checkpoint of a job."""
        return CHUNK_ROWS

    def fit(self, items: pa.Table) -> Self:
        """Learn weights and components from a sample that fits in memory.

        Peak memory is about 1 GB for 100,000 product titles and grows with the length of the texts;
        time is about a minute on two cores.

        Raises
        ------
        SemidError
            A missing column, or a sample too small or too uniform for `dim`.
        """
        counts_nf = self._count_sample(items)
        frequency_f = np.bincount(counts_nf.indices, minlength=self.config.features)
        self._check_sample(counts_nf.shape[0], int((frequency_f > 0).sum()))
        idf_f = _smooth_idf(frequency_f, counts_nf.shape[0])
        weighted_nf = _weigh(counts_nf, idf_f)
        components_fd = self._decompose(weighted_nf)
        # Features that the sample lacks carry only the rounding noise of the SVD.
        components_fd[frequency_f == 0] = 0
        mean_1d = self._project(weighted_nf, components_fd).mean(axis=0, keepdims=True)
        self.idf_, self.components_ = idf_f, components_fd
        self.empty_ = self._normalized(mean_1d)[0]
        return self

    def encode(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Embed every row, shape ``(n, d)``; a row's result does not depend on the other rows.

        Raises
        ------
        SemidError
            A missing column, or an encoder that is not fitted.
        """
        self._check_fitted()
        out_nd = np.empty((items.num_rows, self.width), dtype=self.config.dtype)
        unknown_rows = 0
        for start in _starts(items):
            weighted_nf = _weigh(self._count(items.slice(start, SLICE_ROWS)), self.idf_)
            x_nd = self._project(weighted_nf, self.components_)
            unknown_n = ~x_nd.any(axis=1)
            x_nd[unknown_n] = self.empty_
            unknown_rows += int(unknown_n.sum())
            out_nd[start : start + SLICE_ROWS] = x_nd
        if unknown_rows and not self._warned:
            self._warned = True  # once: a large catalog has many batches
            logger.warning(
                "%d of %d items have an empty text or no n-gram known from the sample; "
                "they get the mean direction of the sample",
                unknown_rows,
                items.num_rows,
            )
        return out_nd

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` into `folder`."""
        self._check_fitted()
        arrays = {"idf": self.idf_, "components": self.components_, "empty": self.empty_}
        write_encoder(folder, kind="lsa", config=self.config, learned={}, arrays=arrays)

    @classmethod
    def restore(cls, saved: SavedEncoder) -> Self:
        """Build the encoder that `save` wrote."""
        encoder = cls(restore_config(LsaConfig, saved.config))
        encoder.idf_ = saved.arrays["idf"]
        encoder.components_ = saved.arrays["components"]
        encoder.empty_ = saved.arrays["empty"]
        return encoder

    def _check_fitted(self) -> None:
        if not hasattr(self, "empty_"):
            raise SemidError("this LSA encoder is not fitted; fit it on a sample of items first")

    def _count(self, items: pa.Table | pa.RecordBatch) -> sp.csr_matrix:
        return count_ngrams(
            compose(items, self.config.text, self.config.template),
            word_ngrams=self.config.word_ngrams,
            char_ngrams=self.config.char_ngrams,
            features=self.config.features,
        )

    def _count_sample(self, items: pa.Table) -> sp.csr_matrix:
        """Count n-grams in all of `items` but the rows without any."""
        import scipy.sparse as sp

        starts = _starts(items) or (0,)
        slices = [self._count(items.slice(start, SLICE_ROWS)) for start in starts]
        return sp.vstack(
            [counts_nf[np.diff(counts_nf.indptr) > 0] for counts_nf in slices], format="csr"
        )

    def _project(self, weighted_nf: sp.csr_matrix, components_fd: np.ndarray) -> np.ndarray:
        """Project TF-IDF rows, shape ``(n, d)``; rows without a known n-gram come out all zero."""
        # A sparse product sums each row by itself in the order of its sorted indices, unlike a
        # BLAS product, whose blocking depends on the number of rows.
        return self._normalized(weighted_nf @ components_fd)

    def _normalized(self, x_nd: np.ndarray) -> np.ndarray:
        if not self.config.normalize:
            return x_nd
        norms_n1 = np.linalg.norm(x_nd, axis=1, keepdims=True)
        x_nd /= np.where(norms_n1 > 0, norms_n1, 1)
        return x_nd

    def _check_sample(self, texts: int, ngrams: int) -> None:
        if min(texts, ngrams) < self.config.dim:
            raise SemidError(
                f"dim={self.config.dim} is more than the sample allows: it has {texts} texts that "
                f"are not empty and {ngrams} different n-grams; lower dim or give more items"
            )

    def _decompose(self, weighted_nf: sp.csr_matrix) -> np.ndarray:
        """Return the leading right singular vectors, float32, shape ``(f, d)``."""
        from sklearn.utils.extmath import randomized_svd

        _, singular_d, vectors_df = randomized_svd(
            weighted_nf,
            self.config.dim,
            n_iter=POWER_ITERATIONS,
            power_iteration_normalizer="LU",
            random_state=self.config.seed,
        )
        rank = int((singular_d > RANK_TOLERANCE * singular_d[0]).sum())
        if rank < self.config.dim:
            raise SemidError(
                f"dim={self.config.dim} is more than the sample allows: its texts span only "
                f"{rank} dimensions; lower dim or give more different items"
            )
        return np.ascontiguousarray(vectors_df.T, dtype=np.float32)


def _smooth_idf(frequency_f: np.ndarray, documents: int) -> np.ndarray:
    """Inverse document frequencies as scikit-learn smooths them, float32, shape ``(f,)``."""
    idf_f = np.log((1 + documents) / (1 + frequency_f)) + 1
    return idf_f.astype(np.float32)


def _weigh(counts_nf: sp.csr_matrix, idf_f: np.ndarray) -> sp.csr_matrix:
    """Turn counts into TF-IDF rows of norm 1, in place."""
    from sklearn.preprocessing import normalize

    counts_nf.data *= idf_f[counts_nf.indices]
    return normalize(counts_nf, copy=False)


def _starts(items: pa.Table | pa.RecordBatch) -> range:
    return range(0, items.num_rows, SLICE_ROWS)
