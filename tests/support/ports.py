"""A port of loopback for a server that is told its port before it starts."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(
    10_000, 32_000
)  # below those that Linux gives to whoever connects: one of these is free now and taken soon
TRIES = 1000

_random = random.SystemRandom()  # other processes of the suite look for ports as well


def free_port() -> int:
    """A port of loopback that nobody listens on. Raises RuntimeError where there is none."""
    for port in _random.sample(PORTS, TRIES):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"no free port was found from {PORTS.start} to {PORTS.stop}")
