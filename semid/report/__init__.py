"""The report: one page to see a table of semantic IDs in, and its plots as functions.

``semid report`` writes the page (`semid.jobs.report`). The plots return plotly figures and take
arrays; they need ``pip install 'semid[report]'``.
"""

from semid.report.figures import (
    code_usage,
    collision_sizes,
    error_by_level,
    item_map,
    prefix_treemap,
    training_losses,
    training_perplexity,
)

__all__ = [
    "code_usage",
    "collision_sizes",
    "error_by_level",
    "item_map",
    "prefix_treemap",
    "training_losses",
    "training_perplexity",
]
