"""Which settings apply to which quantizer: one that was changed in vain is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from semid.errors import SemidError

_CODED = ("rqvae", "vqvae", "fsq")
_WITH_CODEBOOKS = ("rqvae", "vqvae")
_SEVERAL_LEVELS = ("rqvae", "fsq")
_NETWORKS = (*_CODED, "vae", "autoencoder")
_BASELINES = ("rqkmeans", "kmeans", "pq", "opq")
_WHOLE_SPACE = ("rqkmeans", "kmeans")

# The quantizers that a section, or one setting of it, is for; the closest entry counts.
_FOR: dict[str, tuple[str, ...]] = {
    "model": _NETWORKS,
    "training": _NETWORKS,
    "training.utilization_floor": (*_CODED, "rqkmeans"),
    "training.autoencoder_share": _CODED,
    "loss": _NETWORKS,
    "loss.commitment": _CODED,
    "loss.codebook": _CODED,
    "loss.diversity": _WITH_CODEBOOKS,
    "loss.uniformity": _CODED,
    "loss.kl": ("vae",),
    "codebooks": _WITH_CODEBOOKS,
    "codebooks.init_rows": _NETWORKS,
    "codebooks.shared": ("rqvae",),
    "codebooks.fsq": ("rqvae",),
    "codebooks.fsq_grid": _SEVERAL_LEVELS,
    "codebooks.layer_norm": _CODED,
    "codebooks.locality": ("rqvae",),
    "codebooks.separation": ("rqvae",),
    "codebooks.prefix_share": _SEVERAL_LEVELS,
    "codebooks.progressive": _SEVERAL_LEVELS,
    "contrast": _NETWORKS,
    "contrast.levels": _SEVERAL_LEVELS,
    "kmeans": _BASELINES,
    "kmeans.pca": _WHOLE_SPACE,
    "kmeans.size_limit": _WHOLE_SPACE,
    "kmeans.init": _WHOLE_SPACE,
    "kmeans.library": ("kmeans",),
}


def refuse_strangers(config: Any) -> None:
    """Raise `SemidError` for the first setting of a `FitConfig` that was changed in vain."""
    for setting, needs in _strangers(config):
        raise SemidError(f"{setting} does not apply here: it needs {needs}; leave it out")


def applies(setting: str, quantizer: str) -> bool:
    """Tell whether a quantizer has a setting, such as ``kmeans.pca``, or any of a section."""
    kinds = _FOR.get(setting, _FOR.get(setting.split(".")[0]))
    return kinds is None or quantizer in kinds


def _strangers(config: Any) -> Iterator[tuple[str, str]]:
    for section in ("model", "training", "contrast", "loss", "codebooks", "kmeans"):
        for name in _changed(getattr(config, section)):
            setting = f"{section}.{name}"
            kinds = _FOR.get(setting, _FOR[section])
            if not applies(setting, config.quantizer):
                *others, last = kinds
                one_of = f"{', '.join(others)} or {last}" if others else last
                yield setting, f"quantizer {one_of}"
    for setting, fits, needs in _combinations(config):
        section, name = setting.split()[0].split(".")
        if not fits and name in _changed(getattr(config, section)):
            yield setting, needs


def _combinations(config: Any) -> Iterator[tuple[str, bool, str]]:
    """Yield settings that need another one, whether it is there, and what it is."""
    model, books = config.model, config.codebooks
    hidden = "a layer in model.hidden"
    yield "model.activation", len(model.hidden) > 0, hidden
    yield "model.layer_norm", len(model.hidden) > 0, hidden
    yield "model.latent_dim", model.skip != "identity", "another model.skip than identity"
    for name in ("gumbel_start", "gumbel_end"):
        yield f"codebooks.{name}", books.estimator == "gumbel", "codebooks.estimator gumbel"
    for name in ("sinkhorn_epsilon", "sinkhorn_iterations"):
        yield f"codebooks.{name}", books.sinkhorn != "none", "codebooks.sinkhorn last or all"
    chosen = books.estimator != "gumbel"
    yield "codebooks.sinkhorn", chosen, "another codebooks.estimator than gumbel"
    for name in ("locality", "separation"):
        yield f"codebooks.{name}", chosen, "another codebooks.estimator than gumbel"
        yield f"codebooks.{name}", len(config.levels) > 1, "several levels"
    yield "codebooks.separation", books.fsq == "none", "a last level with a codebook"
    both = books.fsq == books.sinkhorn == "last"
    yield "codebooks.sinkhorn last", not both, "a last level with a codebook"
    yield "codebooks.shared", books.fsq == "none", "codebooks.fsq none"
    yield "codebooks.restart_until", books.restart_below > 0, "codebooks.restart_below above 0"
    grid = books.fsq != "none" or config.quantizer == "fsq"
    yield "codebooks.fsq_grid", grid, "codebooks.fsq last, or quantizer fsq"
    learnt = grid or books.update == "gradient"
    yield "loss.codebook", learnt, "codebooks.update gradient, or a level by fsq"


def _changed(section: object) -> Iterator[str]:
    for setting in fields(section):  # type: ignore[arg-type]
        if getattr(section, setting.name) != setting.default:
            yield setting.name
