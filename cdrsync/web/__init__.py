"""What the daemon shows over HTTP: liveness, readiness, metrics, a status page; and the doorbell.

    request ─► app ─► health | page ◄─ recent ◄─ StatusSource (wiring's: the activity, the database)
                 └──► doorbell ─► ring()

`state` is the seam: frozen values that the web server renders and the one port that it asks. Nothing here knows the
store, the daemon or the configuration, and nothing here writes.
"""

from __future__ import annotations

from cdrsync.web.access import Access
from cdrsync.web.app import create_app
from cdrsync.web.doorbell import Doorbell
from cdrsync.web.server import WebServer, serve
from cdrsync.web.state import Recent, StatusSource

__all__ = ["Access", "Doorbell", "Recent", "StatusSource", "WebServer", "create_app", "serve"]
