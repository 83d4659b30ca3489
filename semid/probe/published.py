"""What others report of Amazon Beauty, for a probe of it to stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
    """Figures of a paper; None for what it does not say."""

    name: str
    recall_5: float | None
    ndcg_5: float | None
    recall_10: float | None
    ndcg_10: float | None
    differs: str


# All: leave-one-out, the whole catalog ranked.
BEAUTY = (
    Published(
        *("TIGER (Rajput et al., arXiv 2305.05065)", 0.0454, 0.0321, 0.0648, 0.0384),
        "13M parameters, an encoder and a decoder, 200,000 steps of 256; Sentence-T5 embeddings of "
        "more text; a token of the user",
    ),
    Published(
        *("TIGER by GRID (Ju et al., arXiv 2507.22224)", None, None, 0.0597, None),
        "a re-implementation on Flan-T5 embeddings",
    ),
    Published(
        *("SASRec, in TIGER's paper", 0.0387, 0.0249, 0.0605, 0.0318),
        "binary cross-entropy with one negative",
    ),
    Published(
        *("SASRec, tuned, as later work reports it", None, None, 0.0906, None),
        "settings searched for on this data",
    ),
)

_SIZES = {"items": 12_101, "users": 22_363, "interactions": 198_502}


def published_for(facts: Mapping[str, Any]) -> tuple[Published, ...]:
    """Return what is published of a data set of these ``items``, ``users``, ``interactions``.

    Nothing if interactions were left out (``unknown``): then other targets were ranked.
    """
    is_beauty = all(facts[name] == size for name, size in _SIZES.items())
    return BEAUTY if is_beauty and not facts["unknown"] else ()
