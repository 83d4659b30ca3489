"""Work in processes of its own: spawned, never forked, and ended with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from semid.errors import SemidError


def in_processes(
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    start: Callable[..., None],
    start_with: tuple[Any, ...] = (),
    ended: str,
) -> Iterator[tuple[int, Any]]:
    """Yield the number of a call and what it returned, as they are done.

    Parameters
    ----------
    work, calls : a function of a module, and the arguments of every call
    workers : processes at once
    start, start_with : what every process does first; it begins with `end_with_parent`
    ended : what to say when a process is ended from outside

    Raises
    ------
    SemidError
        When a process is ended; and whatever a call raises. The other processes end at once.
    """
    # faiss and torch hang after a fork.
    pool = ProcessPoolExecutor(
        max(1, min(workers, len(calls))),
        multiprocessing.get_context("spawn"),
        start,
        start_with,
    )
    others = set(multiprocessing.active_children())
    try:
        with interrupts_held(), _apart_from_script():
            futures = {pool.submit(work, *call): number for number, call in enumerate(calls)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException as error:
        # At once: a pool that is asked to end works off its queue first.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        # Its thread ends with them; left alone, it would look for them while this process ends.
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise SemidError(
                f"{ended} was ended from outside, most likely because memory ran out; what is "
                "finished is kept: run the same command again"
                + (", with fewer --workers" if workers > 1 else "")
            ) from error
        raise
    pool.shutdown()


@contextmanager
def _apart_from_script() -> Iterator[None]:
    """Start processes here: they do not run the script that Python was started with once more.

    What they work on is semid's. A script without ``if __name__ == "__main__":`` would start this
    work again in each of them, and the parent would wait for ever to hand over what nobody reads.
    """
    script = sys.modules["__main__"]
    names = ("__file__", "__spec__")
    kept = {name: getattr(script, name) for name in names if hasattr(script, name)}
    for name in kept:
        setattr(script, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(script, name, value)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes here: they never hear Ctrl-C; the parent does, afterwards, and ends them.

    One that is interrupted while it hands its task to a process would leave that to fail aloud.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    heard: list[int] = []
    # The signal may reach any thread, and Python then interrupts this one: it needs both.
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        for number in heard[:1]:
            signal.raise_signal(number)


def end_with_parent() -> None:
    """Make this spawned process end when the one that started it does."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
