"""HTTP to the tests' own servers, without certificates: to load the machine's takes 25 ms of CPU each time."""

from __future__ import annotations

import ssl
from functools import partial

import httpx

PATIENCE = 60.0  # seconds, on a busy machine

_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

client = partial(httpx.Client, verify=_NO_CERTIFICATES, timeout=PATIENCE)
get = partial(httpx.get, verify=_NO_CERTIFICATES, timeout=PATIENCE)
head = partial(httpx.head, verify=_NO_CERTIFICATES, timeout=PATIENCE)
post = partial(httpx.post, verify=_NO_CERTIFICATES, timeout=PATIENCE)
