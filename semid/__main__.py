"""The command line as a process: ``semid``, and ``python -m semid``."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

from semid.cli import main


def run() -> None:
    """Run the command line and end the process at once.

    Python would first spend up to a second on taking torch's modules apart, of which the system
    has no need.
    """
    try:
        main()
    except SystemExit as end:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # `main` has said so
                stream.flush()
        if isinstance(end.code, int):
            os._exit(end.code)
        raise


if __name__ == "__main__":
    run()
