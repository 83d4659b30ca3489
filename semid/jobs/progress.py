"""Progress bars of jobs; they go to stderr, and work in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa


class Bar(Protocol):
    """The part of a tqdm bar that jobs use."""

    total: float | None

    def update(self, n: int) -> Any:
        """Advance by `n`."""
        ...

    def set_postfix_str(self, s: str, refresh: bool = True) -> Any:
        """Show `s` behind the bar."""
        ...


def counted(batches: Iterator[pa.RecordBatch], shown: Bar) -> Iterator[pa.RecordBatch]:
    """Pass batches on, advancing a bar by the rows of each once it is dealt with."""
    for batch in batches:
        yield batch
        shown.update(batch.num_rows)


@contextmanager
def bar(what: str, total: int, unit: str, *, show: bool, delay: float = 0.0) -> Iterator[Bar]:
    """Show a progress bar of `total` units; one that stays silent unless `show`.

    One with a `delay` (seconds) is only seen if it takes longer.
    """
    from tqdm.auto import tqdm

    class Shown(tqdm):  # type: ignore[type-arg]
        @staticmethod
        def format_meter(*args: Any, **state: Any) -> str:
            """Write seconds a unit without the space that the unit begins with."""
            line: str = tqdm.format_meter(*args, **state)
            return line.replace(f"s/ {unit}", f"s/{unit}")

    with Shown(
        total=total,
        desc=f"{what:<12}",
        unit=f" {unit}",
        unit_scale=total > 100_000,
        disable=not show,
        delay=delay,
        # A log file wants a line now and then, not ten a second.
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    ) as shown:
        yield shown
        shown.total = shown.n  # it may have been a guess, and what is done is done


def say(sentence: str, *, show: bool) -> None:
    """Write a sentence above the bars; nothing unless `show`."""
    from tqdm.auto import tqdm

    if show:
        tqdm.write(sentence, file=sys.stderr)


class TrainingBar:
    """A training callback that moves a bar and shows the figures of the last epoch."""

    def __init__(self, shown: Bar) -> None:
        self._shown, self._at = shown, 0

    def on_step(self, step: int, total: int) -> None:
        """Advance to `step`; a resumed run begins further on."""
        self._shown.total = total
        self._shown.update(step - self._at)
        self._at = step

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        """Show held-out error and perplexity."""
        levels = [value for name, value in metrics.items() if name.startswith("perplexity_")]
        error, parts = metrics["held_out_error"], []
        if error is not None:
            parts.append(f"held-out error {error:.3f}")
        if levels and not metrics["used_0"]:
            parts.append("autoencoder warm-up")
        elif levels:  # a network without codes has none
            parts.append("perplexity " + "/".join(f"{value:.0f}" for value in levels))
        self._shown.set_postfix_str(", ".join(parts), refresh=False)
