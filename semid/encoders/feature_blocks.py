"""One block of dimensions per item column: what is learned from a sample, and how values use it.

Knows nothing about which column gets which block. Every block ends in an indicator that is 0.5
where the value is missing and -0.5 where it is there, so that no row can come out all zero.
Legend: n rows, w dims of a block, u distinct strings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from semid.errors import SemidError

NUMERIC_WIDTH = 2
DATE_WIDTH = 6
EPOCH = np.datetime64("1970-01-01", "D")
EPOCH_WEEKDAY = 3  # a Thursday, Monday being 0


@dataclass(frozen=True)
class Scale:
    """How numbers are standardised, learned from the values that are there.

    Attributes
    ----------
    fill : the median, which stands in for missing values
    mean, std : of the values, after the signed logarithm where one is taken
    signed_log : whether x becomes sign(x)·log(1 + abs(x)) first
    """

    fill: float
    mean: float
    std: float
    signed_log: bool


@dataclass(frozen=True)
class Vocabulary:
    """How strings become vectors: one-hot over known values, or signed hashing.

    Attributes
    ----------
    values : the known values, sorted, or None for hashing
    hash_dim : width of a hashed vector
    """

    values: tuple[str, ...] | None
    hash_dim: int

    @property
    def width(self) -> int:
        """Width w of the block: known values and "other", or the hash; then the indicator."""
        return (self.hash_dim if self.values is None else len(self.values) + 1) + 1


def fit_scale(values_n: np.ndarray, *, signed_log: bool, name: str) -> Scale:
    """Learn a `Scale` from float64 values with NaN for what is missing.

    Raises
    ------
    SemidError
        No value is there, or their spread overflows.
    """
    from sklearn.preprocessing import StandardScaler

    present = values_n[~np.isnan(values_n)]
    if not present.size:
        raise _nothing_there(name, len(values_n))
    if signed_log:
        present = _signed_log(present)
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(present[:, None])
    if not np.isfinite([scaler.mean_[0], scaler.var_[0]]).all():
        raise SemidError(
            f"column {name!r} is too widely spread to standardise ({present.min()} to "
            f"{present.max()}); name it under 'signed_log' or correct it"
        )
    return Scale(
        fill=float(np.median(present)),
        mean=float(scaler.mean_[0]),
        std=float(scaler.scale_[0]),
        signed_log=signed_log,
    )


def numeric_block(values_n: np.ndarray, scale: Scale) -> np.ndarray:
    """Standardise numbers: [value, missing], float64, shape ``(n, 2)``."""
    missing_n = np.isnan(values_n)
    logged_n = _signed_log(values_n) if scale.signed_log else values_n
    filled_n = np.where(missing_n, scale.fill, logged_n)
    return np.column_stack([(filled_n - scale.mean) / scale.std, missing_n - 0.5])


def date_block(days_n: np.ndarray, scale: Scale) -> np.ndarray:
    """Encode days: [standardised, month sin, month cos, weekday sin, weekday cos, missing].

    `days_n` counts days since 1970, NaN for what is missing; cycles are 0 there. January and
    Monday are at angle 0. Float64, shape ``(n, 6)``.
    """
    missing_n = np.isnan(days_n)
    date_n = EPOCH + np.where(missing_n, 0, days_n).astype(np.int64)
    month_n = date_n.astype("datetime64[M]").astype(np.int64) % 12
    weekday_n = (date_n.astype(np.int64) + EPOCH_WEEKDAY) % 7
    month_angle_n, weekday_angle_n = 2 * np.pi * month_n / 12, 2 * np.pi * weekday_n / 7
    cycles = [f(angle) for angle in (month_angle_n, weekday_angle_n) for f in (np.sin, np.cos)]
    standardised_n, indicator_n = numeric_block(days_n, scale).T
    return np.column_stack(
        [standardised_n, *(np.where(missing_n, 0, cycle_n) for cycle_n in cycles), indicator_n]
    )


def fit_vocabulary(
    strings: pa.Array, *, max_categories: int, min_count: int, hash_dim: int, name: str
) -> Vocabulary:
    """Learn a `Vocabulary` from the strings of a sample, missing ones left out.

    Raises
    ------
    SemidError
        No string is there.
    """
    if not len(strings):
        raise _nothing_there(name, None)
    counted = pc.value_counts(strings)
    if len(counted) > max_categories:
        return Vocabulary(None, hash_dim)
    frequent = counted.filter(pc.greater_equal(counted.field("counts"), min_count))
    return Vocabulary(tuple(sorted(frequent.field("values").to_pylist())), hash_dim)


def vocabulary_block(
    strings: pa.Array, rows: np.ndarray, n: int, vocabulary: Vocabulary
) -> np.ndarray:
    """Add up the vectors of each row's different strings, divided by the root of their number.

    `strings` and `rows` are as `as_string_lists` returns them. Float32, shape ``(n, w)``.
    """
    block_nw = np.zeros((n, vocabulary.width), dtype=np.float32)
    distinct = strings.dictionary_encode()
    ids = distinct.indices.to_numpy()
    shape = (n, len(distinct.dictionary))
    has_nu = sp.csr_matrix((np.ones(len(ids), dtype=np.float32), (rows, ids)), shape=shape)
    has_nu.data[:] = 1  # the constructor added up a string that its row holds twice
    lengths_n = np.diff(has_nu.indptr)
    vectors_uw = _vectors(distinct.dictionary, vocabulary)
    block_nw[:, :-1] = (has_nu @ vectors_uw).toarray()
    block_nw[:, :-1] /= np.sqrt(np.maximum(lengths_n, 1))[:, None]
    block_nw[:, -1] = (lengths_n == 0) - 0.5
    return block_nw


def _vectors(distinct: pa.Array, vocabulary: Vocabulary) -> sp.csr_matrix:
    """Return one vector per string, float32, shape ``(u, w - 1)``."""
    from sklearn.feature_extraction import FeatureHasher

    shape = (len(distinct), vocabulary.width - 1)
    if not len(distinct):  # which scikit-learn refuses
        return sp.csr_matrix(shape, dtype=np.float32)
    if vocabulary.values is None:
        # Python's own hash() differs from process to process; this one is MurmurHash3.
        hasher = FeatureHasher(vocabulary.hash_dim, input_type="string", dtype=np.float32)
        hashed_uw: sp.csr_matrix = hasher.transform([value] for value in distinct.to_pylist())
        return hashed_uw
    other = len(vocabulary.values)
    known = pa.array(vocabulary.values, pa.large_string())
    slots = pc.index_in(distinct, value_set=known).fill_null(other).to_numpy()
    ones = np.ones(len(distinct), dtype=np.float32)
    return sp.csr_matrix((ones, slots, np.arange(len(distinct) + 1)), shape=shape)


def _signed_log(values: np.ndarray) -> np.ndarray:
    logged: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return logged


def _nothing_there(name: str, rows: int | None) -> SemidError:
    sample = "the sample" if rows is None else f"the sample's {rows} rows"
    return SemidError(f"column {name!r} has no value in {sample}; leave it out of the settings")
