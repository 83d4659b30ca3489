"""Fitting a quantizer of either kind: settings and rows in, a measured quantizer out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from semid.autoencoder import Autoencoder
from semid.config import as_plain, parse
from semid.cooccurrence import Partners, count_partners
from semid.data_facts import examine
from semid.devices import pick_device
from semid.embedding_columns import read_rows, spans
from semid.errors import SemidError, require_package
from semid.fit_config import FitConfig, require_contrast
from semid.id_columns import id_column
from semid.metrics.measurement import Measurement
from semid.quantizer import Quantizer, make_network
from semid.residual_kmeans import ResidualKMeans
from semid.tables import open_table
from semid.training import Callback, Trainer
from semid.training_data import LEAST_ROWS, ArrayData, TrainingData, held_out, require_rows
from semid.training_on import settings_on
from semid.verdicts import verdicts

# Rows that the closing measurement encodes at most, of training and of held-out items.
MEASURED_ROWS = 262_144
MEASURED_BATCH = 16_384


def fit(
    x: Any,
    quantizer: str = "rqvae",
    levels: Sequence[int] = (256, 256, 256),
    seed: int = 0,
    *,
    item_ids: Any = None,
    interactions: str | Path | None = None,
    item_id: str = "item_id",
    config: dict[str, Any] | None = None,
    init_from: Quantizer | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
) -> Quantizer:
    """Fit a quantizer to embeddings in memory.

    Parameters
    ----------
    x : embeddings, shape ``(n, d)``; NumPy, torch or Arrow; or a mapping of column names to such,
        for several embeddings of an item that are fused
    quantizer : one of `semid.fit_config.KINDS`
    levels : codewords per level
    seed : repeats the fit exactly on one machine
    item_ids : ids by which items are held out, ``(n,)``; their row numbers when not given
    interactions : table of who met which of `item_ids`, for items met together to get like codes;
        Parquet file, folder, glob or URI
    item_id : name of the id column of `interactions`
    config : further settings as in a ``--config`` file, such as ``{"training": {"epochs": 50}}``
    init_from : a fitted quantizer of the same kind and levels to go on from, which stays as it is;
        settings that `config` leaves out are then its own
    device : ``auto``, ``cpu`` or ``cuda``
    callbacks : told of steps and epochs, for progress and tracking

    Raises
    ------
    SemidError
        For bad rows, unknown settings, fewer training rows than codewords, or another model to go
        on from than rows and settings ask for.
    """
    x_nd, widths = read_rows(x, None if init_from is None else init_from.widths)
    if isinstance(levels, int):
        raise SemidError(f"levels is {levels}; give one number for each level, such as (256, 256)")
    arguments = {"levels": list(levels), "columns": list(widths), "seed": seed}
    settings = _settings({"quantizer": quantizer, **arguments}, config or {})
    if init_from is None:
        settings_for_fit = parse(FitConfig, settings, where="fit")
    else:
        init_from.require_width(x_nd)
        settings_for_fit = settings_on(
            {**init_from.config, "quantizer": init_from.kind},
            settings,
            where="fit",
            called="init_from",
            interactions=interactions is not None,
        )
    if interactions is not None and item_ids is None:
        raise SemidError("interactions name items by their ids; give item_ids, one for each row")
    ids = pa.array(range(len(x_nd))) if item_ids is None else id_column(item_ids, "item_ids")
    if len(ids) != len(x_nd):
        raise SemidError(f"{len(ids)} item_ids were given for {len(x_nd)} rows of x")
    held_n = held_out(ids, settings_for_fit.holdout)
    partners = None
    if interactions is not None:
        training = ids.filter(pa.array(~held_n))
        partners = count_partners(
            open_table(interactions), training, settings_for_fit.contrast, item_id=item_id
        )
    return fit_data(
        ArrayData(x_nd, held_n, widths),
        settings_for_fit,
        start=init_from,
        partners=partners,
        device=device,
        callbacks=callbacks,
    )


def _settings(arguments: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    if twice := [name for name in arguments if name in config]:
        raise SemidError(f"config holds {', '.join(twice)}, but these are arguments of fit itself")
    return {**config, **arguments}


def fit_data(
    data: TrainingData,
    config: FitConfig,
    *,
    start: Quantizer | None = None,
    partners: Partners | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> Quantizer:
    """Fit a quantizer to any source of rows, and measure it.

    `start` is a quantizer to go on from, fitted with settings that make the same model; see
    `semid.training_on`. It stays as it is, and nothing of it is initialised again. `partners`
    belong to the training rows; `checkpoint` is a file that a network's training state is kept in,
    to go on after a crash.

    Raises
    ------
    SemidError
        When there are fewer training rows than codewords, the rows have other columns than `start`,
        or the device is not there.
    """
    fitted = fit_unmeasured(
        data,
        config,
        start=start,
        partners=partners,
        device=device,
        callbacks=callbacks,
        checkpoint=checkpoint,
    )
    train_nd = data.sample(MEASURED_ROWS, seed=config.seed)
    held_out_nd = data.held_out_sample(MEASURED_ROWS, seed=config.seed)
    fitted.metrics |= measure(fitted, train_nd, held_out_nd)
    if fitted.levels:
        found = examine(train_nd, max(config.levels), seed=config.seed)
        said = verdicts(fitted.history, fitted.metrics, config, found)
        fitted.metrics |= {"data": found.as_plain(), "verdicts": said}
    return fitted


def fit_unmeasured(
    data: TrainingData,
    config: FitConfig,
    *,
    start: Quantizer | None = None,
    partners: Partners | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> Quantizer:
    """Fit a quantizer as `fit_data` does; its metrics only say what it was fitted to."""
    require_package("faiss", extra="cpu", purpose="training")
    require_rows(data, config.levels)
    require_contrast(config, given=partners is not None)
    network = _network(config, data, start)
    history: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"train_rows": data.train_rows, "held_out_rows": data.held_out_rows}
    if isinstance(network, Autoencoder):
        network.to(pick_device(device))
        trainer = Trainer(network, data, config, partners)
        trainer.run(callbacks, checkpoint)
        facts |= {} if partners is None else {"interactions": partners.facts}
        history = trainer.history
    else:
        facts["fitted_rows"] = _fit_kmeans(network, data, config, callbacks)
    network.eval().requires_grad_(False)
    return Quantizer(config.quantizer, network, data.widths, as_plain(config), history, facts)


def _network(
    config: FitConfig, data: TrainingData, start: Quantizer | None
) -> Autoencoder | ResidualKMeans:
    """Make the network of a fit: a new one, or one that has the state of a fitted quantizer."""
    network = make_network(config, data.widths)
    if start is not None:
        if dict(start.widths) != dict(data.widths):
            raise SemidError(
                f"the rows have the columns {dict(data.widths)}, by width, but the model to go on "
                f"from has {dict(start.widths)}; use the encoder that it was trained with"
            )
        network.load_state_dict(start.network.state_dict())
        network.trained = True
    return network


@torch.no_grad()
def _fit_kmeans(
    network: ResidualKMeans, data: TrainingData, config: FitConfig, callbacks: Sequence[Callback]
) -> int:
    # The sample, its residuals and k-means' copy of them: three quarters of the budget.
    fitting = max(int(config.memory_gib * 2**30) // (4 * 4 * data.width), LEAST_ROWS)
    sample_nd = data.sample(min(config.kmeans.max_rows, fitting), seed=config.seed)

    def on_level(done: int) -> None:
        for callback in callbacks:
            callback.on_step(done, len(config.levels))

    rows_nd = torch.from_numpy(np.ascontiguousarray(sample_nd))
    network.initialise(rows_nd, seed=config.seed, on_level=on_level)
    return len(sample_nd)


def measure(
    quantizer: Quantizer,
    train_nd: npt.NDArray[np.float32],
    held_out_nd: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """Measure a fitted quantizer on (samples of) its training and held-out rows, each ``(n, d)``.

    Returns the figures of `semid.metrics.measurement.Measurement`.
    """
    measurement = Measurement(quantizer.levels, spans(quantizer.widths))
    for x_nd, held in ((train_nd, False), (held_out_nd, True)):
        for start in range(0, len(x_nd), MEASURED_BATCH):
            rows_nd = x_nd[start : start + MEASURED_BATCH]
            held_n = np.full(len(rows_nd), held)
            if not quantizer.levels:
                measurement.add(rows_nd, None, quantizer.reconstruct(rows_nd), held_n)
                continue
            codes_nl = quantizer.quantize(rows_nd).codes_nl
            measurement.add(rows_nd, codes_nl, quantizer.decode(codes_nl), held_n)
    return measurement.result()
