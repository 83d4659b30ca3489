"""What every benchmark needs: the machine in a line, and a command's time and peak memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

GIB = 2**30


def machine() -> str:
    """Describe the machine: processor, cores, memory, Python."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / GIB
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


@dataclass(frozen=True)
class Run:
    """A finished command: wall-clock seconds, peak memory over its processes, and its JSON."""

    seconds: float
    peak_bytes: int
    output: dict[str, Any]


def semid(*arguments: str) -> Run:
    """Run a semid command with ``--json`` and measure it as a whole, start-up included.

    The peak is the sum of resident memory over the command's processes, sampled 5 times a second;
    pages that they share count more than once.
    """
    command = [sys.executable, "-m", "semid", *arguments, "--json"]
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for member in (process, *_children(process)):
                try:
                    total += member.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            time.sleep(0.2)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{err}")
    return Run(seconds, peak, json.loads(out))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []
