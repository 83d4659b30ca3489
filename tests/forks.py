"""Commands that start fast enough to be killed often, and what waits for and ends them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
from conftest import environment

FORK = """
import json, os, sys
import duckdb, faiss, pandas, sklearn.utils.extmath, torch
import semid.fitting, semid.jobs.run, semid.metrics.measurement, semid.quantizer
import semid.jobs.assign, semid.jobs.retire, semid.index_building
from semid.cli import main

for line in sys.stdin:
    child = os.fork()
    if not child:
        os.setsid()
        sys.argv = ["semid", *json.loads(line)]
        log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            main()
        except SystemExit as end:  # taking down all that was imported takes a second and more
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Starts commands as children of a process that has imported everything and done nothing.

    So the time of a command is the time of its work, and that is where a signal meets it. The last
    command that was started looks like a `subprocess.Popen`.
    """

    def __init__(self, log):
        self.log = log
        self.parent = subprocess.Popen(
            [sys.executable, "-c", FORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(LOG=log),
        )

    def start(self, *arguments):
        self.parent.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self.parent.stdin.flush()
        self.pid, self.returncode = int(self.parent.stdout.readline()), None
        return self

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout):
        with contextlib.suppress(psutil.NoSuchProcess):
            try:
                psutil.Process(self.pid).wait(timeout)
            except psutil.TimeoutExpired as error:
                raise subprocess.TimeoutExpired("semid", timeout) from error
        self.returncode = int(self.parent.stdout.readline())
        return "", self.log.read_text()


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
    return found


def end(process, signal_number):
    """Signal a process; check that the processes it started end with it.

    It may have ended by itself just now, and is then taken as it is.
    """
    family = []
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        family = psutil.Process(process.pid).children(recursive=True)
        if signal_number == signal.SIGINT:
            os.killpg(process.pid, signal_number)  # as a terminal does
        else:
            process.send_signal(signal_number)
    out, err = process.communicate(timeout=180)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    return out, err
