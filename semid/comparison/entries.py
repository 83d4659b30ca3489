"""What can be compared: every kind of quantizer, variants of the baselines, and random codes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semid.applicability import applies
from semid.config import as_plain, parse, refuse_unknown
from semid.errors import SemidError
from semid.fit_config import FLAT, KINDS, FitConfig

RANDOM = "random"
# The default quantizer with the contrast of an interactions table.
CONTRAST = "rqvae-contrast"
# Names in a comparison that are a kind with settings of its own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rqkmeans++": ("rqkmeans", {"init": "k-means++"}),
    "rqkmeans-pca": ("rqkmeans", {"pca": 64}),
    "rqkmeans-balanced": ("rqkmeans", {"size_limit": 1.25}),
    "kmeans-sklearn": ("kmeans", {"library": "sklearn", "init": "k-means++"}),
}
NAMES = (*KINDS, *VARIANTS, RANDOM, CONTRAST)
DEFAULT = (
    *("rqvae", "fsq", "vqvae", "rqkmeans", "rqkmeans++", "rqkmeans-pca"),
    *("rqkmeans-balanced", "kmeans", "kmeans-sklearn", "pq", "opq", RANDOM),
)
_KIND = {RANDOM: "rqkmeans", CONTRAST: "rqvae"}
_VARIED = {f"kmeans.{setting}" for _, own in VARIANTS.values() for setting in own}
_GIVEN_BY_COMPARE = ("quantizer", "levels")


@dataclass(frozen=True)
class Entry:
    """One quantizer of a comparison: its name there, and the settings of its fits."""

    name: str
    config: FitConfig


def entries(
    names: Sequence[str],
    *,
    levels: Sequence[int],
    flat: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> list[Entry]:
    """Return what a comparison runs.

    Parameters
    ----------
    names : of `NAMES`
    levels : codewords per level
    flat : codewords of quantizers with one level; 0 for as many as the first level
    settings : further settings as of a fit; each goes to the quantizers that have it. Those of
        `VARIANTS` go to the variants alone

    Raises
    ------
    SemidError
        For a name that is unknown or given twice, or a setting that none of them has.
    """
    for name in names:
        if name not in NAMES:
            raise SemidError(f"unknown quantizer {name!r}; use one of {', '.join(NAMES)}")
        if names.count(name) > 1:
            raise SemidError(f"the quantizer {name!r} is given twice; name each once")
    if not names:
        raise SemidError(f"no quantizer is given; name some of {', '.join(NAMES)}")
    given = dict(settings or {})
    if own := [key for key in _GIVEN_BY_COMPARE if key in given]:
        raise SemidError(f"the settings hold {own[0]}, but a comparison takes it as --{own[0]}")
    refuse_unknown(FitConfig, given, where="compare")
    placed: set[str] = set()
    found = [Entry(name, _config(name, levels, flat, given, placed)) for name in names]
    for setting in _named(given):
        if setting not in placed:
            raise SemidError(
                f"{setting} applies to none of {', '.join(names)}; leave it out, or compare a "
                "quantizer that has it"
            )
    return found


def _config(
    name: str, levels: Sequence[int], flat: int, given: Mapping[str, Any], placed: set[str]
) -> FitConfig:
    kind, own = VARIANTS.get(name, (_KIND.get(name, name), {}))
    sizes = [flat or levels[0]] if kind in FLAT and levels else list(levels)
    settings: dict[str, Any] = {"quantizer": kind, "levels": sizes}
    if own:
        settings["kmeans"] = copy.copy(own)
    for setting, value in _named(given).items():
        section, _, key = setting.partition(".")
        varied = setting not in _VARIED or setting.removeprefix("kmeans.") in own
        varied = varied and (section != "contrast" or name == CONTRAST)
        if not key:
            settings[section] = value
        elif name != RANDOM and applies(setting, kind) and varied:
            settings.setdefault(section, {})[key] = value
        else:
            continue
        placed.add(setting)
    return parse(FitConfig, settings, where=f"compare, {name}")


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten sections of settings to ``section.key``."""
    return {
        f"{key}.{inner}" if inner else key: value
        for key, section in given.items()
        for inner, value in (section if isinstance(section, Mapping) else {"": section}).items()
    }


def plan(compared: Sequence[Entry]) -> dict[str, Any]:
    """Return the settings of a comparison as plain values."""
    return {entry.name: as_plain(entry.config) for entry in compared}
