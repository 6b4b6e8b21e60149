"""The process: `cdrsync …` and `python -m cdrsync …`."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    _open_closed_streams()
    _write_whole()
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
    # Where click is there, httpx imports its own command line, and with it rich and pygments: 40 ms at every start.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    from cdrsync import cli

    code = cli.main(sys.argv[1:])
    # What is left goes with the process. To take it apart is a fifth of an idle sync, and no time for a signal to come.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _open_closed_streams() -> None:
    """Give a program started with `2>&-` somewhere to write: else the next file opened, a database, would be it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115 - to the end


def _write_whole() -> None:
    """Give streams their buffer back (PYTHONUNBUFFERED): without it what is written in part counts as written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream.buffer, io.RawIOBase):
            encoding, errors = stream.encoding, stream.errors
            whole = io.BufferedWriter(stream.detach())
            setattr(sys, name, io.TextIOWrapper(whole, encoding=encoding, errors=errors, line_buffering=True))


if __name__ == "__main__":
    main()
