"""The operator's API as `cdrsync` asks it, with the suite's login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdrsync.model import CdrsAsk
from cdrsync.source.api import NoveroApi
from cdrsync.source.exchange import Bounds, Endpoint, Exchange
from cdrsync.source.request import Login
from cdrsync.source.retry import RetryPolicy
from tests.support.answers import envelope, golden, logged_in, record, records, refused, response
from tests.support.canary import CANARIES, PASSWORD, VKEY
from tests.support.clock import LONDON
from tests.support.peer import Seen, http

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = Login("user@example.com", PASSWORD, VKEY)
ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(attempts=3, wait_initial=0.0, wait_jitter=0.0)
ASK = CdrsAsk(limit=1000, after_uid=106398334)
SESSION = f"{CANARIES['a session id']}0000000000000001"


def api(
    url: str = "http://127.0.0.1/api/",
    login: Login = CANARY,
    *,
    bounds: Bounds | None = None,
    retry: RetryPolicy = ONCE,
    **more: Any,
) -> NoveroApi:
    """An API that tries once, unless told otherwise; `more` as of `Exchange`."""
    return NoveroApi(Exchange(Endpoint(url, login, LONDON, bounds or Bounds()), **more), retry=retry)


def obliging(seen: Seen) -> bytes:
    """Answer every request with what the operator's page shows."""
    return http(answering(seen))


def answering(seen: Seen, session_id: str = SESSION) -> bytes:
    """The body of an obliging answer."""
    found = []
    for name, request_id in zip(seen.names, seen.ids(), strict=True):
        match name:
            case "SessionLogin":
                found.append(logged_in(session_id, request_id))
            case "GetTotals":
                page = golden("page-get-totals").decode().replace("TestRequest", request_id)
                found.append(page.split("<NoveroResponse>\n")[1].split("</NoveroResponse>")[0])
            case "GetCDR":
                found.append(response(record(), request_id=request_id, name=name).replace("CDRs>", "Found>"))
            case _:
                found.append(response(*records(2), request_id=request_id))
    return envelope(*found).replace(b"<Found>", b"").replace(b"</Found>", b"")


def refusing(code: str, message: str, status: str = "200 OK") -> Callable[[Seen], bytes]:
    """Refuse every request of a document."""

    def step(seen: Seen) -> bytes:
        targets = ["Auth" if name == "SessionLogin" else "NoveroCDR" for name in seen.names]
        found = [
            refused(code, message, request_id, target, name)
            for request_id, target, name in zip(seen.ids(), targets, seen.names, strict=True)
        ]
        return http(envelope(*found), status)

    return step
