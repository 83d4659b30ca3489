"""IDs judged by recommenders: the models, how they are trained, and where targets rank.

`semid.jobs.probe.probe` runs them on ids tables. Public names are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semid.probe.clicks import ClickModel as ClickModel
    from semid.probe.clicks import auc_by_group as auc_by_group
    from semid.probe.clicks import judged as judged
    from semid.probe.fitting import fit as fit
    from semid.probe.generative import Continuation as Continuation
    from semid.probe.generative import GenerativeModel as GenerativeModel
    from semid.probe.judging import constraint_of as constraint_of
    from semid.probe.judging import figures as figures
    from semid.probe.judging import generated as generated
    from semid.probe.judging import scored as scored
    from semid.probe.sequential import SequentialModel as SequentialModel
    from semid.probe.settings import NetworkSettings as NetworkSettings
    from semid.probe.settings import ProbeSettings as ProbeSettings

# A run is known by it, and one of another number is made anew. Raise it whenever the same settings
# and data would give other figures, or a run's row other columns.
PROTOCOL = 1

_HOME = {
    "ClickModel": "semid.probe.clicks",
    "Continuation": "semid.probe.generative",
    "GenerativeModel": "semid.probe.generative",
    "NetworkSettings": "semid.probe.settings",
    "ProbeSettings": "semid.probe.settings",
    "SequentialModel": "semid.probe.sequential",
    "auc_by_group": "semid.probe.clicks",
    "constraint_of": "semid.probe.judging",
    "figures": "semid.probe.judging",
    "fit": "semid.probe.fitting",
    "generated": "semid.probe.judging",
    "judged": "semid.probe.clicks",
    "scored": "semid.probe.judging",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semid.probe' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
