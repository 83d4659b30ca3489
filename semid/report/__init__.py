"""The report: one page to see a table of semantic IDs in, and plots as functions.

``semid report`` writes the page (`semid.jobs.report`). The plots take arrays and what jobs say, and
return plotly figures; in a notebook each is a line. They need ``pip install 'semid[report]'``.
"""

from semid.report.changes import churn_by_level, code_shift, drift_over_time
from semid.report.choices import planned_levels, quantizer_tradeoff
from semid.report.figures import (
    code_usage,
    collision_sizes,
    error_by_level,
    item_map,
    prefix_treemap,
    shares_by_prefix,
    training_losses,
    training_perplexity,
)

__all__ = [
    "churn_by_level",
    "code_shift",
    "code_usage",
    "collision_sizes",
    "drift_over_time",
    "error_by_level",
    "item_map",
    "planned_levels",
    "prefix_treemap",
    "quantizer_tradeoff",
    "shares_by_prefix",
    "training_losses",
    "training_perplexity",
]
