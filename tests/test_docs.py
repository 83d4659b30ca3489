"""The settings page names every setting with the default that it has."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from semid.config import as_plain
from semid.encoders import CooccurrenceConfig, FeaturesConfig, LsaConfig, SentenceTransformerConfig
from semid.fit_config import FitConfig
from semid.probe.settings import settings_of

SECTIONS = {
    "## Training": FitConfig(),
    "`--encoder lsa`": LsaConfig(),
    "`--encoder features`": FeaturesConfig(numeric=("price",)),
    "`--encoder cooccurrence`": CooccurrenceConfig(),
    "`--encoder <sentence-transformers": SentenceTransformerConfig("model"),
    "## Recommenders that judge IDs": settings_of("tiny", {}),
}
PAGE = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()


def written(section: str) -> dict[str, str]:
    """The settings of a section of the page, with their defaults as they stand there."""
    stop = min(
        (PAGE.find(other) for other in SECTIONS if PAGE.find(other) > PAGE.find(section)),
        default=len(PAGE),
    )
    found = re.findall(r"^\| `([\w.]+)` \| `?(.*?)`? \|", PAGE[PAGE.find(section) : stop], re.M)
    return dict(found)


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        pairs |= (
            flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
        )
    return pairs


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_there_with_its_default(section: str) -> None:
    config = SECTIONS[section]
    assert dataclasses.is_dataclass(config)
    expected = {
        name: "none" if value is None else json.dumps(value)
        for name, value in flat(as_plain(config)).items()
        # Given by an option alone.
        if name not in ("model", "item_id") or section == "## Training"
    }
    if isinstance(config, FeaturesConfig):
        expected["numeric"] = "[]"  # given above, since some column has to be
    assert written(section) == expected
