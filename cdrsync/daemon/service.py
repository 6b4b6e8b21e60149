"""The daemon's main thread: starts the workers, listens for signals, tells the service manager, ends in order.

It never waits for the API or the database, so that a signal is answered at any phase of start-up or work.

    SIGTERM, SIGINT   finish or roll back the page in hand, exit 0 within seconds; a second one exits at once
    SIGHUP            read the configuration again; a bad one is refused and the old one kept
    SIGUSR1           poll every account now
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from cdrsync import config, tuning
from cdrsync.daemon.notify import Notifier
from cdrsync.daemon.signals import STOP_SIGNALS, Signals, listening
from cdrsync.daemon.tasks import place
from cdrsync.errors import EXIT_OK, ConfigError
from cdrsync.monitor import logs, words
from cdrsync.monitor.activity import AccountState, Activity, Phase

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdrsync.config import AccountSettings, Inputs, Settings
    from cdrsync.daemon.sharing import Sharing
    from cdrsync.monitor.activity import Snapshot
    from cdrsync.wiring.database import Database

FEW = 8  # accounts that have room in one line
GRACE = 5.0  # seconds for the page in hand; what is not committed by then is rolled back by the database
LOOK_ROUND = 1.0  # seconds between two looks at the workers
SETTLING = 180.0  # seconds of a start, after which memory that it needed is given back
STATUS_INTERVAL = 5.0  # seconds between two STATUS lines
FIRST_SECONDS = 0.05  # an account's share of the time in which the first polls of many are spread …
FIRST_SPREAD = 50.0  # … which is no longer than this
POLLS_MISSED = 5  # an account is stale when so many polls in a row have not succeeded …
LEAST_STALE = 180.0  # seconds … but a single slow answer of the operator's is no reason
LONGEST_SILENCE = 420.0  # seconds: longer than one document of the API may take, with its retries' pauses


class Service:
    """One daemon process."""

    def __init__(self, inputs: Inputs, *, names: tuple[str, ...] = ()) -> None:
        self._inputs = inputs
        self._names = names
        self._notifier = Notifier()
        self._activity = Activity()
        self._web: Any = None
        self._sharing: Sharing | None = None
        self._databases: list[Database] = []  # the last one is today's
        self._fed_at = self._status_at = 0.0
        self._settles_at: float | None = time.monotonic() + SETTLING

    def run(self) -> int:
        """Run until a signal; return the exit code.

        Raises ConfigError for a configuration that is bad at the start, UnknownAccount where it lacks a named account.
        """
        with listening() as signals:
            self._settings = self._load()
            self._start()
            while True:
                for number in signals.wait(LOOK_ROUND):
                    if number in STOP_SIGNALS:
                        return self._stop(signals)
                    if number == signal.SIGHUP:
                        self._reload()
                    elif number == signal.SIGUSR1:
                        self.ring(None)
                self._tell()

    def ring(self, account: str | None) -> bool:
        """Make an account (None: every account) poll now; False where there is no such account. From any thread."""
        workers = [worker for name, worker in self._pool.workers.items() if account in (None, name)]
        for worker in workers:
            worker.poll_now()
            self._pool.wake(worker.account.name)
        return bool(workers)

    # ── start and reload ───────────────────────────────────────────────────────────────────────────────────────────

    def _load(self) -> Settings:
        settings = config.load(self._inputs).only(self._names)
        logs.hide(settings.secrets())
        logs.set_up(settings.log_format, settings.log_level, numbers=settings.log_numbers)
        return settings

    def _start(self) -> None:
        from cdrsync.daemon.pool import Pool
        from cdrsync.monitor.metrics import Metrics

        self._log = logs.get()
        self._metrics = Metrics(self._activity)
        self._pool = Pool(self._settings.workers)
        self._activity.stuck = self._stuck
        self._serve()
        self._employ(self._settings, before=None)
        names = words.some(self._pool.workers)
        self._log.info("started", accounts=names, page=self._web.url if self._web else None)
        self._notifier.ready(f"starting: {names}")
        self._warn_of_files()

    def _warn_of_files(self) -> None:
        from cdrsync.wiring.database import open_to_others, sqlite_file

        path = sqlite_file(self._settings.database_url)
        if path is not None and (loose := open_to_others(path)):
            told = " ".join(map(str, loose))
            self._log.warning("others may read or change the database's files", files=told, hint=f"chmod 600 {told}")

    def _employ(self, settings: Settings, before: Settings | None) -> None:
        """Start a worker for each account that is new, changed or parked; stop those of accounts that are gone."""
        from cdrsync.daemon.worker import Worker
        from cdrsync.wiring.database import Database

        accounts = {a.name: a for a in settings.accounts}
        self._activity.reset(map(_unheard, settings.accounts))
        moved = before is not None and _database(before) != _database(settings)
        if moved or not self._databases:
            self._share(Database(settings, shares=True))
        database = self._databases[-1]
        workers = self._pool.workers
        for name in workers.keys() - accounts.keys():
            self._pool.dismiss(name)
        new = [
            account
            for name, account in accounts.items()
            if moved or name not in workers or workers[name].account != account
        ]
        now, spread = time.monotonic(), min(FIRST_SPREAD, len(new) * FIRST_SECONDS)
        for account in new:
            worker = Worker(
                settings,
                account,
                database=database,
                activity=self._activity,
                metrics=self._metrics,
                first=now + place(account.name) * spread if len(new) > settings.workers else now,
            )
            self._pool.employ(worker)
        for name, worker in self._pool.workers.items():
            if worker.parked is not None:  # a person may have done something about it
                worker.poll_now()
                self._pool.wake(name)
        if self._sharing is not None:
            self._sharing.look()

    def _share(self, database: Database) -> None:
        """Take part in the sharing of the accounts of a database."""
        from cdrsync.daemon.sharing import Sharing

        if self._sharing is not None:
            self._sharing.end()
        self._databases.append(database)
        self._activity.cut_off = database.cut_off
        self._sharing = Sharing(database, lambda: list(self._pool.workers), self._assign, self._show_holders, self.ring)
        self._sharing.start()

    def _assign(self, ours: Collection[str], others: Collection[str]) -> None:
        for name, worker in self._pool.workers.items():
            if (name in ours or name in others) and worker.assign(ours=name in ours):
                self._pool.wake(name)

    def _show_holders(self, holders: Mapping[str, str]) -> None:
        for state in self._activity.snapshot().accounts:
            holder = holders.get(state.name, "")
            if holder != state.holder:
                self._activity.publish(state.name, holder=holder)

    def _serve(self) -> None:
        """Start the web server where one is configured, in place of the one before."""
        if self._web is not None:
            self._web.close()
            self._web = None
        listen = self._settings.http_listen
        if listen is None:
            return
        from cdrsync.wiring import page

        self._web = page.serve(
            listen,
            settings=lambda: self._settings,
            activity=self._activity,
            metrics=self._metrics,
            ring=self.ring,
        )

    def _reload(self) -> None:
        self._notifier.reloading()
        before = self._settings
        try:
            self._settings = self._load()
            if _web(before) != _web(self._settings):
                self._serve()
        except ConfigError as error:
            self._settings = before
            if self._web is None and before.http_listen is not None:
                self._serve()
            self._activity.reload_refused("; ".join(error.problems))
            self._log.error("configuration refused, the old one stays", problems="; ".join(error.problems))
        else:
            self._employ(self._settings, before)
            self._activity.reload_refused(None)
            self._log.info("configuration read again", accounts=words.some(self._pool.workers))
        self._notifier.ready(_status(self._activity.snapshot()))

    def _stuck(self) -> str | None:
        """Name an account whose worker makes no progress, in one line. From any thread."""
        silent = self._pool.silent()
        hanging = [name for name, seconds in silent.items() if seconds >= LONGEST_SILENCE]
        return f"{', '.join(hanging)}: no step for {max(silent.values()):.0f} s" if hanging else None

    # ── watch and end ──────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self) -> None:
        """Feed the watchdog while every worker makes progress; keep the status line true."""
        now = time.monotonic()
        interval = self._notifier.watchdog_interval
        silent = max(self._pool.silent().values(), default=0.0)
        if interval is not None and now - self._fed_at >= interval - LOOK_ROUND and silent < LONGEST_SILENCE:
            self._notifier.feed()
            self._fed_at = now
        if self._settles_at is not None and now >= self._settles_at:
            self._settles_at = None
            tuning.give_back()
        if now - self._status_at >= STATUS_INTERVAL:
            self._notifier.status(_status(self._activity.snapshot()))
            self._status_at = now

    def _stop(self, signals: Signals) -> int:
        self._log.info("stopping")
        if self._sharing is not None:
            self._sharing.end()
        self._activity.stop()
        self._notifier.stopping()
        self._pool.stop()
        deadline = time.monotonic() + GRACE
        while not self._pool.ended:
            left = deadline - time.monotonic()
            if left <= 0 or STOP_SIGNALS.intersection(signals.wait(min(left, 0.05))):
                # What is still in hand was not committed; the database rolls it back when the connection ends.
                self._log.warning("stopped with a page in hand: it will be read again")
                end_now(EXIT_OK)
        self._close()
        self._log.info("stopped")
        return EXIT_OK

    def _close(self) -> None:
        for database in self._databases:
            database.close()
        if self._web is not None:
            self._web.close()


def end_now(code: int) -> None:
    """End the process without waiting for any thread."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _unheard(account: AccountSettings) -> AccountState:
    stale_after = max(LEAST_STALE, POLLS_MISSED * account.poll_interval.total_seconds())
    return AccountState(account.name, timezone=account.timezone, stale_after=stale_after)


def _database(settings: Settings) -> tuple[object, ...]:
    return settings.database_url, settings.auto_migrate, settings.lease_seconds


def _web(settings: Settings) -> tuple[object, ...]:
    return (
        settings.http_listen,
        settings.http_hosts,
        settings.http_password,
        settings.doorbell_token,
        settings.database_url,
    )


def _status(snapshot: Snapshot) -> str:
    """Return one line: `default: last sync 12 s ago, lag 14 s; sales: failing: …`, of many those in trouble only."""
    told = []
    states = snapshot.accounts
    if len(states) > FEW:
        states = tuple(state for state in states if state.phase in (Phase.FAILING, Phase.PARKED))
        told.append(f"{len(snapshot.accounts)} accounts, {len(states)} in trouble")
    for state in states[:FEW]:
        lag = state.lag(snapshot.taken_at)
        if state.phase in (Phase.FAILING, Phase.PARKED):
            told.append(f"{state.name}: {state.phase}: {state.last_error}")
        elif state.last_success is None or lag is None:
            told.append(f"{state.name}: {state.phase}")
        else:
            since = (snapshot.taken_at - state.last_success).total_seconds()
            told.append(f"{state.name}: {state.phase}, last sync {since:.0f} s ago, lag {lag:.0f} s")
    return " ".join("; ".join(told).split())[:500]
