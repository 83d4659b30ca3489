"""Which device to compute on, and how its cores share the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from semid.errors import SemidError


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device called `name`; ``auto`` is a GPU when there is one, else the CPU.

    Raises
    ------
    SemidError
        When the name is unknown or the device is not there. Nothing falls back silently.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SemidError(
            f"unknown device {name!r}; use auto, cpu, cuda or cuda:<number>"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SemidError(
            f"device {name!r} was asked for but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs here; use --device cpu, or install the CUDA build "
            "of torch and its driver"
        )
    if device.type not in {"cpu", "cuda"}:
        raise SemidError(f"device {name!r} is not supported; use auto, cpu or cuda")
    return device


class Blocks:
    """Runs work on blocks of rows: on a CPU many at once, each by one thread.

    That keeps all cores busy; threads that share every small product wait for each other. The
    threads stay for the next call, as starting them takes as long as a block.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: ThreadPoolExecutor | None = None
        self._made_for: tuple[int, int] | None = None

    def __call__(self, work: Callable[[slice], None], rows: int, block_rows: int) -> None:
        """Run ``work`` on every block of at most `block_rows` of the rows."""
        starts = range(0, rows, block_rows)
        blocks = [slice(start, min(start + block_rows, rows)) for start in starts]
        if self._device.type != "cpu" or not blocks:
            for block in blocks:
                work(block)
            return
        before = torch.get_num_threads()
        try:
            list(self._threads(before).map(work, blocks))
        finally:
            torch.set_num_threads(before)  # what threads that start later begin with

    def _threads(self, count: int) -> ThreadPoolExecutor:
        made_for = os.getpid(), count  # threads do not survive a fork
        if self._pool is None or self._made_for != made_for:
            self._pool, self._made_for = _single_threads(count), made_for
        return self._pool


@contextmanager
def one_thread_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `threads` in which every operation of torch runs on its caller's thread."""
    before = torch.get_num_threads()
    try:
        with _single_threads(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # what threads that start later begin with


def _single_threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
