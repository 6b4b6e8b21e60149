"""The daemon: one worker thread an account, a schedule that marks tasks due, signals, and the service manager."""

from __future__ import annotations

from cdrsync.daemon.service import Service

__all__ = ["Service"]
