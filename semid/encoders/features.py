"""Numbers, categories, dates and lists to vectors, for catalogs without useful text.

Knows nothing about files of items. Legend: n rows, d dims.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from semid.encoders.feature_blocks import (
    DATE_WIDTH,
    NUMERIC_WIDTH,
    Scale,
    Vocabulary,
    date_block,
    fit_scale,
    fit_vocabulary,
    numeric_block,
    vocabulary_block,
)
from semid.encoders.item_columns import (
    as_days,
    as_numbers,
    as_string_lists,
    check_columns,
    is_list,
    read_column,
)
from semid.encoders.saved import SavedEncoder, restore_config, write_encoder
from semid.encoders.settings import DType, check_at_least, check_dtype, check_names
from semid.errors import RowError, SemidError, first_few

CHUNK_ROWS = 131_072


@dataclass(frozen=True)
class FeaturesConfig:
    """Settings of `FeaturesEncoder`.

    Attributes
    ----------
    numeric : columns to standardise, missing values set to the median
    category : columns with one value per item: one-hot, or hashed when there are many values
    dates : columns to split into age, month and weekday
    lists : columns with several values per item, each scaled to the same total weight
    signed_log : those of `numeric` whose logarithm counts (prices, sales): x becomes
        sign(x)·log(1 + abs(x)) before it is standardised
    max_categories : a column with more distinct values in the sample is hashed
    min_count : values seen less often in the sample share the dimension "other" with unknown ones
    hash_dim : dims of a hashed column
    fit_rows : sample size to learn from
    dtype : "float32" or "float16"
    """

    numeric: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    signed_log: tuple[str, ...] = ()
    max_categories: int = 256
    min_count: int = 1
    hash_dim: int = 64
    fit_rows: int = 100_000
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        for setting in ("numeric", "category", "dates", "lists", "signed_log"):
            check_names(setting, getattr(self, setting))
        check_names("numeric, category, dates and lists together", _all_columns(self))
        if not _all_columns(self):
            raise SemidError(
                "the features name no column; list columns under numeric, category, dates or lists"
            )
        strangers = [name for name in self.signed_log if name not in self.numeric]
        if strangers:
            raise SemidError(
                f"signed_log names {first_few([*strangers])}, which numeric does not; add it there"
            )
        for setting in ("max_categories", "min_count", "hash_dim", "fit_rows"):
            check_at_least(setting, getattr(self, setting), 1)
        check_dtype(self.dtype)


class FeaturesEncoder:
    """Item columns to vectors, one block of dims per column, in the order of the settings.

    The blocks: numeric ``[value, missing]``; category and lists ``[known values…, other, missing]``
    or ``[hash…, missing]``; dates ``[days, month sin, month cos, weekday sin, weekday cos,
    missing]``. Values are standardised over the sample, a list of m different values weighs each
    by 1/√m, and "missing" is 0.5 or -0.5, so that no row is all zero.

    Attributes
    ----------
    config : FeaturesConfig
    scales_ : what was learned about each column of `numeric` and `dates`
    vocabularies_ : what was learned about each column of `category` and `lists`
    """

    scales_: dict[str, Scale]
    vocabularies_: dict[str, Vocabulary]

    def __init__(self, config: FeaturesConfig) -> None:
        self.config = config

    @property
    def columns(self) -> tuple[str, ...]:
        """The item columns, in the order of their blocks."""
        return _all_columns(self.config)

    @property
    def width(self) -> int:
        """Number of dims d of the embeddings; raises `SemidError` before `fit`."""
        self._check_fitted()
        return (
            NUMERIC_WIDTH * len(self.config.numeric)
            + DATE_WIDTH * len(self.config.dates)
            + sum(vocabulary.width for vocabulary in self.vocabularies_.values())
        )

    @property
    def fit_rows(self) -> int:
        """How many sampled rows `fit` wants."""
        return self.config.fit_rows

    @property
    def chunk_rows(self) -> int:
        """How many rows are worth a checkpoint of a job."""
        return CHUNK_ROWS

    def fit(self, items: pa.Table) -> Self:
        """Learn scales and vocabularies from a sample that fits in memory.

        Raises
        ------
        SemidError
            A column that is missing, of the wrong type, or without any value.
        """
        config = self.config
        check_columns(items, self.columns)
        scales, vocabularies = {}, {}
        for name in (*config.numeric, *config.dates):
            values_n = self._read_values(items, name)
            logged = name in config.signed_log
            scales[name] = fit_scale(values_n, signed_log=logged, name=name)
        for name in (*config.category, *config.lists):
            vocabularies[name] = fit_vocabulary(
                self._read_strings(items, name)[0],
                max_categories=config.max_categories,
                min_count=config.min_count,
                hash_dim=config.hash_dim,
                name=name,
            )
        self.scales_, self.vocabularies_ = scales, vocabularies
        return self

    def encode(self, items: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Embed every row, shape ``(n, d)``; a row's result does not depend on the other rows.

        Raises
        ------
        SemidError
            A column that is missing or of the wrong type, a value that is not a number or a date,
            or one so far from the sample that `dtype` cannot hold it; an encoder not fitted.
        """
        self._check_fitted()
        check_columns(items, self.columns)
        out_nd = np.empty((items.num_rows, self.width), dtype=self.config.dtype)
        start = 0
        for name in self.columns:
            block_nw = self._block(items, name)
            out_nd[:, start : start + block_nw.shape[1]] = block_nw
            start += block_nw.shape[1]
        return out_nd

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` (without tensors) into `folder`."""
        self._check_fitted()
        learned = {
            "scales": {name: asdict(scale) for name, scale in self.scales_.items()},
            "vocabularies": {name: asdict(v) for name, v in self.vocabularies_.items()},
        }
        write_encoder(folder, kind="features", config=self.config, learned=learned, arrays={})

    @classmethod
    def restore(cls, saved: SavedEncoder) -> Self:
        """Build the encoder that `save` wrote."""
        encoder = cls(restore_config(FeaturesConfig, saved.config))
        scales, vocabularies = saved.learned["scales"], saved.learned["vocabularies"]
        encoder.scales_ = {name: restore_config(Scale, scales[name]) for name in scales}
        encoder.vocabularies_ = {
            name: restore_config(Vocabulary, vocabularies[name]) for name in vocabularies
        }
        return encoder

    def _block(self, items: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
        """Return the block of column `name`, shape ``(n, w)``."""
        if name in self.vocabularies_:
            strings, rows = self._read_strings(items, name)
            return vocabulary_block(strings, rows, items.num_rows, self.vocabularies_[name])
        values_n = self._read_values(items, name)
        block_of = date_block if name in self.config.dates else numeric_block
        block_nw = block_of(values_n, self.scales_[name])
        too_far_n = np.abs(block_nw[:, 0]) > np.finfo(self.config.dtype).max
        if too_far_n.any():
            row = int(too_far_n.argmax())
            raise RowError(
                f"column {name!r} is too far from the sample for {self.config.dtype}",
                row,
                f" ({values_n[row]}, the sample's mean is {self.scales_[name].mean:.6g}); "
                "correct it, or name the column under 'signed_log'",
            )
        return block_nw

    def _read_values(self, items: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
        column = read_column(items, name)
        return (as_days if name in self.config.dates else as_numbers)(column, name)

    def _read_strings(
        self, items: pa.Table | pa.RecordBatch, name: str
    ) -> tuple[pa.Array, np.ndarray]:
        column = read_column(items, name)
        if name in self.config.category and is_list(column.type):
            raise SemidError(f"column {name!r} holds lists; name it under 'lists' instead")
        return as_string_lists(column, name)

    def _check_fitted(self) -> None:
        if not hasattr(self, "vocabularies_"):
            raise SemidError(
                "this feature encoder is not fitted; fit it on a sample of items first"
            )


def _all_columns(config: FeaturesConfig) -> tuple[str, ...]:
    return (*config.numeric, *config.category, *config.dates, *config.lists)
