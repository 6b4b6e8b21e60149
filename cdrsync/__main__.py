"""The process: `cdrsync …` and `python -m cdrsync …`."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    if "run" in sys.argv[1:]:
        # The daemon ends with 0 when it is told to stop, also in the half second before it listens for signals itself.
        # Nothing is in hand yet.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        from cdrsync import tuning

        tuning.for_pages()  # before there are threads
    else:
        from cdrsync.daemon.signals import INTERRUPT

        INTERRUPT.watch()
        gc.set_threshold(200_000)  # a start makes fewer: looking for garbage, of which there is none, takes 5% of it
    # What is left at the end goes with the process; looking for cycles in it takes a fifth of an idle sync.
    atexit.register(gc.freeze)
    # Where click is there, httpx imports its own command line, and with it rich and pygments: 40 ms at every start.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    from cdrsync import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
