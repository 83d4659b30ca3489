"""What the figures of a set of semantic IDs say, worst first, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def findings(figures: Mapping[str, Any], model: Any) -> list[dict[str, str]]:
    """Judge figures."""
    return []
