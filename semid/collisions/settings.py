"""What a user may ask of collisions, and what there is to say of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from semid.errors import SemidError

POLICIES = ("suffix", "reassign", "sinkhorn", "none")
# Under these no two items share a SID.
UNIQUE = ("suffix", "reassign")
OVERFLOWS = ("error", "suffix")
_ORDERS = ("asc", "desc")


@dataclass(frozen=True)
class CollisionConfig:
    """How raw SIDs become the SIDs of a table.

    Attributes
    ----------
    policy : one of `POLICIES`
    suffix_order : a column that says who gets the least suffix, as ``popularity:desc``; ascending
        without an order, nulls last; empty, and among equals: the item id (strings by code point)
    max_suffix : how many suffixes there may be, the width of the level they add; 0 for any number
    overflow : what becomes of items that ``reassign`` finds no free SID for: an ``error``, or a
        ``suffix``, which adds a level to every SID of the table
    """

    policy: str = "suffix"
    suffix_order: str = ""
    max_suffix: int = 0
    overflow: str = "error"

    def __post_init__(self) -> None:
        """Raise `SemidError` for what is unknown, or does not apply to the policy."""
        _require("collision policy", self.policy, POLICIES)
        _require("overflow", self.overflow, OVERFLOWS)
        if ":" in self.suffix_order:
            _require("order of suffixes", self.suffix_order.rpartition(":")[2], _ORDERS)
        if self.max_suffix < 0:
            raise SemidError(f"max_suffix is {self.max_suffix}; it must be at least 0, for any")
        for name, given in (("suffix_order", self.suffix_order), ("max_suffix", self.max_suffix)):
            if given and self.policy != "suffix":
                raise SemidError(
                    f"{name} is {given!r}, but the collision policy {self.policy} numbers nothing; "
                    "leave it out or use suffix"
                )
        if self.overflow != "error" and self.policy != "reassign":
            raise SemidError(
                f"overflow is {self.overflow!r}, but only the collision policy reassign can run "
                f"out of free IDs, not {self.policy}; leave it out"
            )

    @property
    def order_column(self) -> str | None:
        """The column that suffixes go by, if not the item id."""
        if not self.suffix_order:
            return None
        column, colon, _ = self.suffix_order.rpartition(":")
        return column if colon else self.suffix_order

    @property
    def descending(self) -> bool:
        """Whether the largest value of that column comes first."""
        return self.suffix_order.endswith(":desc")

    @property
    def has_suffix(self) -> bool:
        """Whether SIDs are one level longer than codes."""
        return self.policy == "suffix" or self.overflow == "suffix"

    @property
    def is_unique(self) -> bool:
        """Whether no two items share a SID."""
        return self.policy in UNIQUE


def _require(what: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise SemidError(f"the {what} {found!r} is none of {', '.join(known)}")


def require_room(
    levels: tuple[int, ...], items: int, config: CollisionConfig, *, held: int = 0
) -> None:
    """Raise `SemidError` when there are fewer SIDs than items that need one each.

    `held` is how many SIDs retired items hold.
    """
    room = prod(levels)
    if config.policy != "reassign" or config.overflow == "suffix" or room >= items + held:
        return
    shape = " x ".join(map(str, levels))
    are = "is" if held == 1 else "are"
    unused = f", of which {held:,} {are} held for retired items" if held else ""
    relief = ", or free some with --reclaim-after" if held else ""
    raise SemidError(
        f"{items:,} items cannot each have an ID of their own among {shape} = {room:,}{unused}; "
        f"train a model with more levels or more codewords, or use --collisions suffix{relief}"
    )


@dataclass(frozen=True)
class CollisionReport:
    """What the raw SIDs of a catalog look like.

    Attributes
    ----------
    items : rows of the table
    raw_unique : distinct raw SIDs
    raw_uniqueness : distinct raw SIDs over items; 1 means that no two items share one
    groups : raw SIDs that more than one item has
    items_in_collision_groups : items whose raw SID another item has too
    largest_group : items of the most frequent raw SID
    """

    items: int
    raw_unique: int
    raw_uniqueness: float
    groups: int
    items_in_collision_groups: int
    largest_group: int
