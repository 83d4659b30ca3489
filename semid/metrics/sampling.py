"""How far a figure of a sample may be off. Shapes: q of the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def standard_error(value_q: npt.NDArray[np.floating[Any]]) -> float | None:
    """Return the standard error of the mean of a sample, 0 up.

    In 19 of 20 samples the figure of all is within two of it. The sample's standard deviation over
    the root of its size (Student, "The probable error of a mean", 1908). None of fewer than two.
    """
    if len(value_q) < 2:
        return None
    return float(np.std(value_q, ddof=1) / np.sqrt(len(value_q)))
