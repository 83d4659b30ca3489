"""The quantizer: embeddings to codes and back, one class around every kind of network.

It encodes in blocks of fixed size, so that the result of a row does not depend on the rows beside
it, and searches near-ties again in float64. It knows nothing about training or tables.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from semid.artifact import Artifact, as_numpy, read_artifact, refuse_changed, save_artifact
from semid.autoencoder import Autoencoder
from semid.block_search import BlockSearch
from semid.config import parse
from semid.devices import Blocks, pick_device
from semid.embedding_columns import Widths, read_rows
from semid.errors import SemidError, display_path
from semid.fit_config import BASELINES, KINDS, WITHOUT_CODES, FitConfig
from semid.ids import validate_codes
from semid.quantization import Search, look_up
from semid.reordering import Numbering, Order, numbering, reorder
from semid.residual_kmeans import ResidualKMeans

# Matrix products pick their kernels by shape: always this many rows, the last block padded, and a
# row gives the same bits wherever it stands. Large enough for speed, small enough for the cache.
BLOCK_ROWS = 2_048
# The same for the few rows that float64 searches again: smaller, since most of it is padding.
AGAIN_ROWS = 32


class Codes(NamedTuple):
    """Codes of n items and how sure they are.

    codes_nl : int32 ``(n, l)``
    distance_n : float32 ``(n,)``, squared error in latent space
    margin_n : float32 ``(n,)``, gap to the runner-up codeword over the distance, least over
        levels; infinite when no level has a second codeword
    """

    codes_nl: npt.NDArray[np.int32]
    distance_n: npt.NDArray[np.float32]
    margin_n: npt.NDArray[np.float32]


@dataclass(repr=False)
class Quantizer:
    """A fitted quantizer.

    Attributes
    ----------
    kind : one of `semid.fit_config.KINDS`
    network : the torch module; see `semid.block_search.Network`
    widths : of the embedding columns, by name, in the order in which they stand side by side
    config : the settings it was fitted with, as plain values
    history : one row of metrics per epoch
    metrics : what was measured at the end of fitting
    """

    kind: str
    network: Any
    widths: Widths
    config: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # Without threads and buffers: they cannot travel, and come back where they are needed.
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __repr__(self) -> str:
        return f"Quantizer({self.kind}, width={self.width}, levels={self.levels})"

    @property
    def width(self) -> int:
        """d, the dims of all embedding columns together."""
        return sum(self.widths.values())

    @property
    def levels(self) -> tuple[int, ...]:
        """Codewords per level."""
        return tuple(len(level.codebook_kz) for level in self.network.search_levels)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        device: torch.device = next(iter(self.network.state_dict().values())).device
        return device

    def encode(self, x: Any) -> npt.NDArray[np.int32]:
        """Return the raw codes of embeddings ``(n, d)``: int32 ``(n, l)``.

        `x` may be NumPy, torch or Arrow; for a model of several embedding columns a mapping of
        their names to such, or one matrix of all side by side. No rows have no codes, ``(0, l)``.
        The codes of a row do not depend on the other rows.

        Raises
        ------
        SemidError
            When the width is not the model's, or a row is NaN, infinite or all zeros.
        """
        return self.quantize(read_rows(x, self.widths, empty=True)[0]).codes_nl

    def quantize(self, x_nd: npt.NDArray[np.float32]) -> Codes:
        """Return codes, distances and margins of checked embeddings ``(n, d)``.

        Raises
        ------
        SemidError
            When the width is not the model's.
        """
        self.require_width(x_nd)
        self._coded()
        n = len(x_nd)
        codes = Codes(
            np.empty((n, len(self.levels)), np.int32),
            np.empty(n, np.float32),
            np.empty(n, np.float32),
        )
        near_tie_n = np.empty(n, np.bool_)

        def quantize(rows: slice) -> None:
            near_tie_n[rows] = _fill(codes, rows, self._single(x_nd[rows]))

        self._in_blocks(quantize, n, BLOCK_ROWS)
        again = np.flatnonzero(near_tie_n)

        def quantize_again(places: slice) -> None:
            _fill(codes, again[places], self._double(x_nd[again[places]]))

        self._in_blocks(quantize_again, len(again), AGAIN_ROWS)
        return codes

    def latents(self, x_nd: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what checked embeddings ``(n, d)`` are quantised as: ``(n, z)``.

        A row's do not depend on the other rows.

        Raises
        ------
        SemidError
            When the width is not the model's.
        """
        self.require_width(x_nd)
        width = self.network.search_levels[0].codebook_kz.shape[1]
        latent_nz = np.empty((len(x_nd), width), np.float32)

        def encode(rows: slice) -> None:
            latent_nz[rows] = self._single.latents(x_nd[rows])

        self._in_blocks(encode, len(x_nd), BLOCK_ROWS)
        return latent_nz

    def reconstruct(self, x: Any) -> npt.NDArray[np.float32]:
        """Return embeddings ``(n, d)`` after the way to their codes and back.

        A model without codes takes them to their latents and back.

        Raises
        ------
        SemidError
            As `encode`.
        """
        x_nd, _ = read_rows(x, self.widths)
        if self.levels:
            return self.decode(self.quantize(x_nd).codes_nl)
        self.require_width(x_nd)
        out_nd = np.empty_like(x_nd)

        @torch.inference_mode()
        def there_and_back(rows: slice) -> None:
            latent_bz = self.network.project(torch.tensor(x_nd[rows]).to(self.device))
            out_nd[rows] = self.network.reconstruct(latent_bz).cpu().numpy()

        self._in_blocks(there_and_back, len(x_nd), BLOCK_ROWS)
        return out_nd

    def require_width(self, x_nd: npt.NDArray[np.float32]) -> None:
        """Raise `SemidError` unless embeddings ``(n, d)`` have the model's width."""
        if x_nd.shape[1] != self.width:
            advice = "use the encoder that the model was trained with"
            if len(self.widths) > 1:
                columns = ", ".join(f"{name} ({width})" for name, width in self.widths.items())
                advice = f"give the columns {columns}, by name or side by side"
            raise SemidError(
                f"the embeddings have {x_nd.shape[1]} dimensions but the model was trained on "
                f"{self.width}; {advice}"
            )

    @cached_property
    def _in_blocks(self) -> Blocks:
        return Blocks(self.device)

    @cached_property
    def _single(self) -> BlockSearch:
        return BlockSearch(self.network, BLOCK_ROWS)

    @cached_property
    def _double(self) -> BlockSearch:
        return BlockSearch(copy.deepcopy(self.network).double(), AGAIN_ROWS)

    @property
    def numbering(self) -> Numbering:
        """What may be renumbered of its codes."""
        return numbering(self._coded().codes)

    def permuted(self, orders: Sequence[Order]) -> Quantizer:
        """Return a quantizer that is the same but for the numbers of its codes.

        What is coded c on level l has the code ``orders[l][c]`` there, and decodes to the same
        bits. Ties between codewords go to the lower number, as ever; see `Numbering.twins`.

        Raises
        ------
        SemidError
            When the orders do not fit the levels; see `semid.reordering.reorder`.
        """
        network = copy.deepcopy(self._coded())
        reorder(network.codes, orders)
        return replace(self, network=network)

    def _coded(self) -> Any:
        if not self.levels:
            raise SemidError(f"a model of the kind {self.kind} has no codes; reconstruct shows it")
        return self.network

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model directory, whole or not at all; where this very model stands, nothing.

        Raises
        ------
        SemidError
            When the folder holds another model, unless `overwrite`, or anything else, or cannot be
            written.
        """
        save_artifact(self.to_artifact(), Path(folder), overwrite=overwrite)

    def to_artifact(self) -> Artifact:
        """Return what a model directory holds of this quantizer."""
        weights = as_numpy(self.network.state_dict())
        return Artifact(
            self.kind, self.widths, self.levels, self.config, weights, self.history, self.metrics
        )

    def decode(self, codes: Any) -> npt.NDArray[np.float32]:
        """Return the reconstructed embeddings ``(n, d)`` of codes ``(n, l)``, or of a prefix.

        Several embedding columns stand side by side, as wide as `widths` says.

        Raises
        ------
        SemidError
            When there are more columns than levels or a code is not in its codebook.
        """
        try:
            codes_nl = np.asarray(codes)
            if codes_nl.dtype == object and codes_nl.ndim == 1 and len(codes_nl):  # of a frame
                codes_nl = np.stack(list(codes_nl))
        except ValueError as error:
            raise SemidError(f"codes cannot be read as a matrix of integers: {error}") from error
        levels = self.levels
        if codes_nl.ndim != 2 or not 1 <= codes_nl.shape[1] <= len(levels):
            raise SemidError(
                f"codes have shape {codes_nl.shape}; expected (n, l) with l from 1 to "
                f"{len(levels)}, raw codes and not IDs with a suffix"
            )
        validate_codes(codes_nl, levels[: codes_nl.shape[1]])
        out_nd = np.empty((len(codes_nl), self.width), np.float32)
        codebooks = [level.codebook_kz for level in self.network.search_levels]

        @torch.inference_mode()
        def decode(rows: slice) -> None:
            block_bl = torch.from_numpy(codes_nl[rows].astype(np.int64))
            latent_bz = look_up(block_bl.to(self.device), codebooks)
            out_nd[rows] = self.network.reconstruct(latent_bz).cpu().numpy()

        self._in_blocks(decode, len(codes_nl), BLOCK_ROWS)
        return out_nd


def _fill(codes: Codes, rows: Any, found: Search) -> npt.NDArray[np.bool_]:
    """Put what was found into `rows` of `codes`; return which rows are near-ties."""
    codes.codes_nl[rows] = found.codes_nl.cpu().numpy()
    codes.distance_n[rows] = found.distance_n.cpu().numpy()
    codes.margin_n[rows] = found.margin_n.cpu().numpy()
    near_tie_n: npt.NDArray[np.bool_] = found.near_tie_n.cpu().numpy()
    return near_tie_n


def make_network(config: FitConfig, widths: Widths) -> Autoencoder | ResidualKMeans:
    """Make the untrained network of a quantizer for embedding columns of `widths` dims."""
    kind, levels = config.quantizer, config.levels
    if kind in BASELINES:
        width = sum(widths.values())
        return ResidualKMeans(kind, width=width, levels=levels, config=config.kmeans)
    grids = {"fsq": len(levels), "rqvae": int(config.codebooks.fsq == "last")}.get(kind, 0)
    return Autoencoder(
        config.model,
        widths=tuple(widths.values()),
        levels=() if kind in WITHOUT_CODES else levels,
        codebooks=config.codebooks,
        grids=grids,
        gaussian=kind == "vae",
    )


def load(folder: str | Path, *, device: str = "cpu") -> Quantizer:
    """Load the quantizer of a model directory; nothing is initialised again.

    Raises
    ------
    SemidError
        When the directory is missing, incomplete, damaged or of a newer format.
    """
    found = read_artifact(Path(folder))
    shown = display_path(folder)
    if found.kind not in KINDS:
        raise SemidError(
            f"the model in {shown} is a {found.kind!r}, which this semid does not know (it knows "
            f"{', '.join(KINDS)}); upgrade semid"
        )
    where = f"the model in {shown} is damaged"
    config = parse(FitConfig, {**found.config, "quantizer": found.kind}, where=where)
    try:
        if config.columns != tuple(found.widths):
            raise RuntimeError(f"columns {list(found.widths)}, not {list(config.columns)}")
        network = make_network(config, found.widths)
        sizes = tuple(len(level.codebook_kz) for level in network.search_levels)
        if sizes != found.levels:
            raise RuntimeError(f"levels {list(found.levels)}, but settings make {list(sizes)}")
        network.load_state_dict({name: torch.from_numpy(a) for name, a in found.weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SemidError(
            f"the weights in {shown} do not fit its config.json ({reason}); "
            "copy the model again or train it again"
        ) from error
    refuse_changed(Path(folder))
    network.to(pick_device(device)).eval().requires_grad_(False)
    network.trained = True
    return Quantizer(found.kind, network, found.widths, found.config, found.history, found.metrics)
