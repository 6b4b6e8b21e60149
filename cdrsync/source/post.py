"""One HTTP round trip to the operator: a document there, an answer back, within its deadline."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from cdrsync import __version__
from cdrsync.errors import ApiUnreachable
from cdrsync.source.http_answer import HttpAnswer, read
from cdrsync.source.reach import way
from cdrsync.source.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cdrsync.source.masks import Masks
    from cdrsync.source.stop import StopEvent

HEADERS = {
    "User-Agent": f"cdrsync/{__version__}",
    "Content-Type": "text/xml",
    "Accept": "text/xml",
    "Accept-Encoding": "gzip",
}
MAX_BYTES = 16 * 1024 * 1024  # of one decoded answer: some 25,000 records


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long one document may take, in seconds, and how large its answer may be."""

    connect: float = 10.0
    read: float = 120.0  # between two pieces of an answer; the operator's own client waits as long
    total: float = 300.0  # from the first byte sent to the last one received
    max_bytes: int = MAX_BYTES  # decoded


DEFAULT_BOUNDS = Bounds()


class Post:
    """An account's way to one address."""

    def __init__(
        self,
        url: httpx.URL,
        bounds: Bounds,
        *,
        proxy: httpx.Proxy | None,
        masks: Masks,
        stop: StopEvent,
        clock: Callable[[], datetime],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._bounds = bounds
        self._masks = masks
        self._stop = stop
        self._clock = clock
        self._way = way(url, proxy)
        self._transport = transport or Transport(url, stop, bounds.max_bytes)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __call__(self, content: bytes) -> HttpAnswer:
        """Send a document. Raises ApiUnreachable, BadAnswer."""
        if self._stop.is_set():
            raise stopping()
        bounds = self._bounds
        timeout = httpx.Timeout(bounds.read, connect=bounds.connect).as_dict()
        extensions = {"timeout": timeout, "deadline": time.monotonic() + bounds.total}
        sent = httpx.Request("POST", self._url, headers=HEADERS, content=content, extensions=extensions)
        try:
            with contextlib.closing(self._transport.handle_request(sent)) as response:
                return read(response, self._url, self._clock(), bounds.max_bytes)
        except httpx.TimeoutException as error:
            raise ApiUnreachable(f"no answer from {self._way} in time: {self._words(error)}") from None
        except httpx.HTTPError as error:
            if self._stop.is_set():
                raise stopping() from None
            raise ApiUnreachable(f"the connection to {self._way} failed: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return self._masks.masked(first.rstrip(".")[:200])


def stopping() -> ApiUnreachable:
    """What is raised once cdrsync is to stop."""
    return ApiUnreachable("cdrsync is stopping; the question to the operator was given up", hint="")
