"""The web server of the daemon: the activity and the database behind it, the doorbell in front of the workers."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, NamedTuple

from cdrsync import web
from cdrsync.errors import CdrsyncError, ConfigError
from cdrsync.monitor.metrics import Figures
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.reads import status
from cdrsync.wiring.database import sqlite_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cdrsync.config import Listen, Settings
    from cdrsync.monitor.activity import Activity, Snapshot
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.monitor.status import AccountStatus, Summary

METRICS_SECONDS = 60.0  # how old what the metrics tell of the database may be


class Daemon:
    """What the page shows: the activity, and the database read beside the workers. The page's `StatusSource`."""

    def __init__(self, settings: Callable[[], Settings], activity: Activity) -> None:
        self._settings = settings
        self._activity = activity
        self._engine = open_engine(settings().database_url, looks=True)

    def now(self) -> Snapshot:
        return self._activity.snapshot()

    def check_database(self) -> None:
        migrate.check(self._engine)

    def overview(self) -> dict[str, Summary]:
        self.check_database()  # the daemon has only just begun where there is no schema yet
        return {summary.name: summary for summary in status.overview(self._engine)}

    def status(self, account: str) -> AccountStatus:
        self.check_database()
        timezone = self._settings().account(account).timezone
        return status.one_account(self._engine, account, now=self._activity.snapshot().taken_at, timezone=timezone)

    def close(self) -> None:
        self._engine.dispose()


class Server(NamedTuple):
    """The running web server of a daemon. `close`: it rings no more, serves no more, reads no more."""

    url: str
    close: Callable[[], None]


def serve(
    listen: Listen,
    *,
    settings: Callable[[], Settings],
    activity: Activity,
    metrics: Metrics,
    ring: Callable[[str | None], object],
) -> Server:
    """Serve health, metrics and the status page on threads of their own, the doorbell where it has a token.

    `settings` are those in force at the moment of the call. Raises ConfigError where the address can't be had.
    """
    given = settings()
    access = web.Access(given.http_hosts, given.http_password, beyond_loopback=not listen.is_loopback)
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(contextlib.closing(Daemon(settings, activity)))
        metrics.database = _figures(source, given.database_url, settings)
        doorbell = None
        if given.doorbell_token:
            doorbell = web.Doorbell(given.doorbell_token, ring, known=_is_account(settings), counted=metrics.doorbell)
        app = web.create_app(source, registry=metrics.registry, doorbell=doorbell, access=access)
        try:
            server = opened.enter_context(contextlib.closing(web.serve(app, listen.host, listen.port)))
        except OSError as error:
            problem = f"http_listen: can't listen on {listen}: {error.strerror or error}"
            raise ConfigError([problem], hint='Choose another address, or http_listen = "" for none') from None
        if doorbell is not None:
            opened.callback(doorbell.close)
        return Server(server.url, opened.pop_all().close)


def _figures(source: Daemon, database_url: str, settings: Callable[[], Settings]) -> Callable[[], Figures | None]:
    """What metrics tell of the configured accounts by the database, at most METRICS_SECONDS old while it answers.

    While it does not, what it said last: no alert of a gap ends because the database is away.
    """
    recent = web.Recent(source, kept=METRICS_SECONDS)
    file = sqlite_file(database_url)
    known: Mapping[str, Summary] | None = None

    def figures() -> Figures | None:
        nonlocal known
        held = recent.overview()
        known = known if isinstance(held, CdrsyncError) else held
        if known is None:
            return None
        free = None
        if file is not None:
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(file.absolute().parent).free
        return Figures([known[account.name] for account in settings().accounts if account.name in known], free)

    return figures


def _is_account(settings: Callable[[], Settings]) -> Callable[[str], bool]:
    return lambda name: any(account.name == name for account in settings().accounts)
