"""Settings of the models that judge IDs, and presets of them; reading them loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from semid.config import as_plain, laid_over, parse
from semid.errors import SemidError
from semid.model_config import require, require_choice

MODELS = ("generative", "sequential", "item-ids")
"""By SIDs token by token, by all items' codes, and the latter with a code for every item."""

PRECISIONS = ("auto", "float32", "bfloat16")
_LEAST = {"dropout": 0, "weight_decay": 0}  # others are above 0
_SECTIONS = tuple(model.replace("-", "_") for model in MODELS)


@dataclass(frozen=True)
class NetworkSettings:
    """A transformer, and how it is trained.

    Attributes
    ----------
    width, layers, heads, head_width, feedforward : sizes of the transformer
    dropout : of embeddings, and of what every block adds
    max_items : the latest items of a history that are read
    epochs : passes over the users
    batch : users of a step
    learning_rate : the largest; it rises for a tenth of the steps and falls to nothing
    weight_decay : of AdamW, for all but the norms
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    head_width: int = 32
    feedforward: int = 512
    dropout: float = 0.2
    max_items: int = 20
    epochs: int = 12
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        for each in fields(self):
            _require_of_network(each.name, getattr(self, each.name))


def _require_of_network(name: str, value: float, section: str = "") -> None:
    """Raise `SemidError` for a value that a setting of a network cannot have."""
    least = _LEAST.get(name)
    if least is None:
        require(section + name, value, value > 0, "above 0")
    else:
        require(section + name, value, least <= value < 1, "from 0 to below 1")


@dataclass(frozen=True)
class ProbeSettings:
    """All settings of a probe.

    Attributes
    ----------
    generative : the model that predicts SIDs token by token
    sequential : the model that scores all items by their codes
    item_ids : the same with a code for every item
    beams : of the generative model's search; at least as many as items are asked for
    precision : of training and search: ``float32``, ``bfloat16``, or ``auto``, which is bfloat16
        where the device multiplies in it
    seed : of the first run; the others follow it
    """

    generative: NetworkSettings = field(default_factory=NetworkSettings)
    sequential: NetworkSettings = field(default_factory=NetworkSettings)
    item_ids: NetworkSettings = field(default_factory=NetworkSettings)
    beams: int = 30
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        require("beams", self.beams, self.beams >= 20, "at least 20, for a recall among 20")
        require("seed", self.seed, self.seed >= 0, "at least 0")
        require_choice("precision", self.precision, PRECISIONS)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "sequential": {
            **{"width": 64, "heads": 2, "feedforward": 256},
            **{"dropout": 0.3, "epochs": 10},
        },
        "item_ids": {
            **{"width": 64, "heads": 2, "feedforward": 256},
            **{"dropout": 0.4, "epochs": 20},
        },
    },
    # TIGER: 4 + 4 layers, 6 heads of 64, 128 wide, 1,024 in between, dropout 0.1, some 13M
    # parameters, 200,000 steps of 256 examples, which are 390 times those of Beauty.
    "paper": {
        "generative": {
            **{"width": 128, "layers": 8, "heads": 6, "head_width": 64, "feedforward": 1024},
            **{"dropout": 0.1, "epochs": 200, "batch": 256, "learning_rate": 1e-3},
        },
        "sequential": {
            **{"width": 256, "layers": 2, "heads": 4, "head_width": 64, "feedforward": 1024},
            **{"max_items": 50, "epochs": 60, "learning_rate": 1e-3},
        },
        "item_ids": {
            **{"width": 256, "layers": 2, "heads": 4, "head_width": 64, "feedforward": 1024},
            **{"max_items": 50, "epochs": 60, "learning_rate": 1e-3, "dropout": 0.4},
        },
        "beams": 50,
    },
}
"""``tiny`` for two cores of a CPU, ``paper`` for a GPU."""


def network_of(settings: ProbeSettings, model: str) -> NetworkSettings:
    """Return the settings of one of `MODELS`."""
    found: NetworkSettings = getattr(settings, model.replace("-", "_"))
    return found


def settings_of(preset: str, given: Mapping[str, Any]) -> ProbeSettings:
    """Return the settings of a preset with others laid over them.

    Raises
    ------
    SemidError
        For an unknown preset, or a setting that is unknown or not valid.
    """
    whole = as_plain(_preset(preset))
    for name in given:
        if name not in whole and name in whole[_SECTIONS[0]]:
            *others, last = (f"{section}.{name}" for section in _SECTIONS)
            raise SemidError(
                f"probe: unknown setting '{name}'; did you mean {', '.join(others)} or {last}?"
            )
    laid = laid_over(whole, given, where="probe")
    _refuse_values(laid)
    return parse(ProbeSettings, laid, where="probe")


def unlike_preset(
    settings: ProbeSettings, preset: str, models: Collection[str] = MODELS
) -> list[str]:
    """Return what differs from a preset, as ``sequential.epochs=2 (10)``, its own in brackets.

    Only settings that count for these of `MODELS`: another model's are left out.
    """
    unused = {model.replace("-", "_") for model in MODELS if model not in models}
    if "generative" in unused:
        unused.add("beams")
    there, found = as_plain(_preset(preset)), []
    for name, value in as_plain(settings).items():
        if name in unused:
            continue
        if isinstance(value, Mapping):
            found += [
                f"{name}.{key}={own} ({there[name][key]})"
                for key, own in value.items()
                if own != there[name][key]
            ]
        elif value != there[name]:
            found.append(f"{name}={value} ({there[name]})")
    return found


def _preset(name: str) -> ProbeSettings:
    if name not in PRESETS:
        raise SemidError(f"unknown preset {name!r}; use one of {', '.join(PRESETS)}")
    return parse(ProbeSettings, PRESETS[name], where=f"preset {name}")


def _refuse_values(laid: Mapping[str, Any]) -> None:
    """Raise `SemidError` for a number that cannot be, with its section, which a network lacks."""
    for section in _SECTIONS:
        given = laid[section] if isinstance(laid[section], Mapping) else {}
        for each in fields(NetworkSettings):
            value = given.get(each.name)
            if isinstance(value, int | float):
                _require_of_network(each.name, value, f"probe: {section}.")
