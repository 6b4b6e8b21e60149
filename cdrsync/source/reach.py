"""Whether the operator's server can be reached at all: the same way as every request, without credentials."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import httpx

from cdrsync.source.masks import Masks
from cdrsync.source.stop import StopEvent
from cdrsync.source.transport import Transport, named, password_of, proxy_for, way
from cdrsync.source.unreached import unreached

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

MAX_BYTES = 65536


class Reached(NamedTuple):
    """What answered."""

    proxy: str | None  # HOST:PORT that the way leads through
    tls: str | None  # its version; None on plain http
    certificate_ends: datetime | None  # UTC


def reach(url: str, seconds: float, stop: threading.Event | None = None) -> Reached:
    """Send one request without a body; any answer will do.

    Raises ApiUnreachable, Unverified, ConfigError (the environment's proxy or certificates can't be used).
    """
    to = httpx.URL(url)
    proxy = proxy_for(to)
    timeout = httpx.Timeout(seconds).as_dict()
    extensions = {"timeout": timeout, "deadline": time.monotonic() + seconds}
    transport = Transport(to, StopEvent(stop), MAX_BYTES)
    try:
        answer = transport.handle_request(httpx.Request("HEAD", to, extensions=extensions))
    except httpx.HTTPError as error:
        raise unreached(error, way(to, proxy), Masks(password_of(proxy)).masked) from None
    finally:
        transport.close()
    version, certificate = answer.extensions.get("tls", (None, None))
    return Reached(named(proxy), version, _ends(certificate or {}))


def _ends(certificate: Mapping[str, object]) -> datetime | None:
    ends = certificate.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if isinstance(ends, str) else None
