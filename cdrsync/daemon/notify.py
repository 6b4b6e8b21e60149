"""sd_notify: tells systemd how the daemon is. See sd_notify(3); does nothing where NOTIFY_SOCKET is not set."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Datagrams to the service manager. A message that can't be delivered is lost: the daemon's work goes on."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # systemd advises to feed at half the time it allows, in seconds here.
        self.watchdog_interval = int(microseconds) / 2e6 if microseconds.isdigit() and for_us else None

    def ready(self, status: str) -> None:
        """The daemon is up, or has taken a new configuration."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def feed(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A new configuration is being read; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(message.encode(), self._address)
            except OSError:
                return
