"""The settings of a fit that goes on from a model: the model's own, but for those that are given.

What makes the shape of a model, or says what its codewords mean, must stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semid.config import as_plain, laid_over, parse
from semid.errors import SemidError
from semid.fit_config import FitConfig

_SHAPE = (
    *("quantizer", "columns", "levels"),
    *("model.latent_dim", "model.hidden", "model.activation", "model.layer_norm", "model.skip"),
    *("codebooks.metric", "codebooks.shared", "codebooks.layer_norm", "codebooks.fsq"),
    *("codebooks.fsq_grid", "kmeans.pca"),
)
# Prices of codewords: a model has them or not, however high they are.
_PRICES = ("codebooks.balance", "kmeans.size_limit")


def settings_on(
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    where: str,
    called: str,
    interactions: bool = False,
) -> FitConfig:
    """Return the settings of a fit that starts from a model.

    Parameters
    ----------
    model : the settings that the model was fitted with, as plain values
    settings : those that are given now
    where : what they are given to, for messages
    called : the model, for messages
    interactions : whether an interactions table is given; without, the model's contrast is none of
        the fit's

    Raises
    ------
    SemidError
        For bad settings, and for the first that would make another model, with both values.
    """
    known = as_plain(parse(FitConfig, model, where=called))
    if not interactions:
        del known["contrast"]
    wanted = laid_over(known, settings, where=where)
    for name in (*_SHAPE, *_PRICES):
        was, now = _at(known, name), _at(wanted, name)
        if bool(was) != bool(now) if name in _PRICES else was != now:
            raise SemidError(
                f"{where}: {name} is {now} but the model {called} has {was}; leave it out, or "
                "train from the beginning, without --init-from"
            )
    return parse(FitConfig, wanted, where=where)


def _at(settings: Any, name: str) -> Any:
    for key in name.split("."):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return list(settings) if isinstance(settings, tuple) else settings
