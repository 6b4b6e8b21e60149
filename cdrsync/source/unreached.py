"""Why the operator's server was not reached, in one line, and what a person can do about just that."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

import httpx

from cdrsync.errors import ApiUnreachable, Unverified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 200  # characters of what another program says
NAME_HINT = "Check api_url and this machine's resolver (DNS)"
TLS_HINT = "What answers there does not speak TLS as this machine does: check api_url's port, and proxies in between"
LOGIN_HINT = "Write the proxy's user and password into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT"
PROXY_HINT = "Ask who runs the proxy to let this machine through; NO_PROXY names hosts that need none"
CONNECT_HINT = "Check api_url; a firewall may drop outgoing connections, and proxies are taken from HTTPS_PROXY"


def unreached(error: httpx.HTTPError, way: str, masked: Callable[[str], str]) -> ApiUnreachable:
    """The failure of one request to the server that `way` names (`transport.way`), `masked` (`masks`)."""
    cause = next(_system_errors(error), None)
    said = masked(_said(error, cause))
    if isinstance(error, httpx.TimeoutException):
        message = f"no answer from {way} in time: {said}"
    else:
        message = f"the connection to {way} failed: {said}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unverified(message)
    return ApiUnreachable(message, hint=_hint(error, cause))


def _hint(error: httpx.HTTPError, cause: OSError | None) -> str | None:
    if isinstance(error, httpx.ProxyError):
        return LOGIN_HINT if str(error).startswith("407") else PROXY_HINT
    if isinstance(cause, ssl.SSLError):
        return TLS_HINT
    if isinstance(cause, socket.gaierror):
        return NAME_HINT
    return CONNECT_HINT if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else None


def _said(error: httpx.HTTPError, cause: OSError | None) -> str:
    """The system's words before the library's, which says of several addresses that all attempts failed."""
    if isinstance(cause, ssl.SSLError | socket.gaierror):
        words = re.sub(r"^\[\w+: \w+\] | \(_ssl\.c:\d+\)$", "", cause.strerror or "")
    else:
        words = os.strerror(cause.errno) if cause and cause.errno else ""
    if isinstance(error, httpx.ConnectTimeout):
        words = "it took no connection"
    words = words or next(iter(str(error).splitlines()), "") or "it was ended before there was an answer"
    return words.rstrip(".")[:LONGEST]


def _system_errors(error: BaseException) -> Iterator[OSError]:
    """What the system said below an error, the nearest first; of several attempts each."""
    below = error.exceptions if isinstance(error, BaseExceptionGroup) else [error.__cause__ or error.__context__]
    for cause in below:
        if isinstance(cause, OSError) and cause.errno:
            yield cause
        if cause is not None:
            yield from _system_errors(cause)
