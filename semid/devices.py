"""Which device to compute on, and how its cores share the work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from semid.errors import SemidError

# While threads start, torch tells every thread that asks for the first time their number, one; so
# pools start one at a time, and none is asked for meanwhile.
_STARTING = threading.RLock()


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device called `name`; ``auto`` is a GPU when there is one, else the CPU.

    Raises
    ------
    SemidError
        When the name is unknown or the device is not there. Nothing falls back silently.
    """
    device = as_device(name)
    if device.type not in {"cpu", "cuda"}:
        raise SemidError(f"device {name!r} is not supported; use auto, cpu or cuda")
    return device


def as_device(name: str | torch.device) -> torch.device:
    """Return a torch device of any kind; raises `SemidError` when it is unknown or not there.

    ``auto`` is as of `pick_device`.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise SemidError(
            f"unknown device {name!r}; use auto, cpu, cuda or cuda:<number>"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SemidError(
            f"device {str(name)!r} was asked for but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs here; use cpu, or install the CUDA build "
            "of torch and its driver"
        )
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a model computes in a precision."""
    dtype = dtype_of(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of a precision; ``auto`` is bfloat16 where a device multiplies in it."""
    if precision == "auto":
        precision = "bfloat16" if _multiplies_bfloat16(device) else "float32"
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch from 2.10 on
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class Blocks:
    """Runs work on blocks of rows: on a CPU many at once, each by one thread.

    That keeps all cores busy; threads that share every small product wait for each other. The
    threads stay for the next call, as starting them takes as long as a block, and serve all whose
    torch has as many threads, at the same time too.
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
        list(self._threads().map(work, blocks))

    def _threads(self) -> ThreadPoolExecutor:
        with _STARTING:
            made_for = os.getpid(), torch.get_num_threads()  # threads do not survive a fork
            if self._pool is None or self._made_for != made_for:
                self._pool, self._made_for = _single_threads(made_for[1]), made_for
            return self._pool


@contextmanager
def one_thread_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `threads` in which every operation of torch runs on its caller's thread."""
    with _single_threads(threads) as pool:
        yield pool


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Start threads whose operations do not spread; those that start later begin as before."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        torch.get_num_threads()  # what a thread asks first makes it follow the others
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, initializer=start)
    with _STARTING:
        before = torch.get_num_threads()
        try:
            for _ in range(count):
                pool.submit(int)
            started.wait()
        except BaseException:  # those that have started would wait for ever
            started.abort()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(before)
    return pool
