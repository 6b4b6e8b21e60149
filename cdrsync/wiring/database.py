"""The database of the settings: opened for one piece of work, its schema checked or brought up to date.

Whatever opens it raises DatabaseUnavailable, SchemaMismatch, ConfigError.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cdrsync.errors import DatabaseUnavailable, LeaseHeld, SchemaMismatch, UnknownAccount

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from cdrsync.config import Settings
    from cdrsync.store.replica import Replica
    from cdrsync.store.save import SqlStore

BESIDE_WORKERS = 2  # connections: for beats, and for who looks on


class Database:
    """The database of the settings: this process's replica, and the schema brought up to date once for all accounts."""

    def __init__(self, settings: Settings, *, shares: bool = False) -> None:
        self._settings = settings
        self._shares = shares
        self._lock = threading.Lock()
        self._ready = False

    @functools.cached_property
    def replica(self) -> Replica:
        """Holds every lease of this process; it joins the others with the first one."""
        from cdrsync.store.replica import Replica

        settings, connections = self._settings, self._settings.workers + BESIDE_WORKERS
        return Replica(
            settings.database_url, lease_seconds=settings.lease_seconds, connections=connections, shares=self._shares
        )

    def cut_off(self) -> float | None:
        """As `Replica.cut_off`; None before the replica is there."""
        return self.replica.cut_off if "replica" in self.__dict__ else None

    def close(self) -> None:
        if "replica" in self.__dict__:
            self.replica.leave()

    def prepare(self) -> None:
        from cdrsync.store.admin import migrate

        with self._lock:
            if not self._ready:
                with engine(self._settings.database_url) as opened:
                    by = migrate.upgrade_apart if self._shares else migrate.upgrade
                    migrate.ensure(opened, auto=self._settings.auto_migrate, by=by)
                self._ready = True

    def open(self, store: SqlStore) -> None:
        """Take an account's lease, on a schema that is up to date. Raises LeaseHeld."""
        try:
            store.open()
        except SchemaMismatch:
            self.prepare()
            store.open()

    def open_patiently(
        self, store: SqlStore, tell: Callable[[str], object], stop: threading.Event | None = None
    ) -> None:
        """As `open`, but a holder that may be dead is waited for, until it may be replaced or is sure to live."""
        try:
            self.open(store)
        except LeaseHeld:
            holder = self.replica.take([store.account]).get(store.account)
            if holder is not None:
                self.replica.outlive(holder, tell, stop)
            store.open()

    def last_audit(self, name: str) -> tuple[datetime | None, datetime | None]:
        """As `status.last_audit`."""
        from cdrsync.store.reads import status

        return status.last_audit(self.replica.reader, name)


@contextlib.contextmanager
def engine(database_url: str, *, looks: bool = False) -> Iterator[Engine]:
    """Open an engine for reading and schema work; its connections are closed at the end. `looks`: as `open_engine`."""
    from cdrsync.store.databases.engine import open_engine

    opened = open_engine(database_url, looks=looks)
    try:
        yield opened
    finally:
        opened.dispose()


@contextlib.contextmanager
def found(settings: Settings, *, looks: bool = False) -> Iterator[Engine]:
    """Open a database that is there already, whatever its schema. `looks`: as `open_engine`."""
    path = sqlite_file(settings.database_url)
    if path is not None and is_missing(path):  # SQLite would make an empty one
        raise DatabaseUnavailable(f"there is no database at {path} yet", hint="cdrsync sync makes it")
    with engine(settings.database_url, looks=looks) as opened:
        yield opened


@contextlib.contextmanager
def existing(settings: Settings, names: Collection[str] = (), *, looks: bool = False) -> Iterator[Engine]:
    """Open a database that is there already, with this program's schema, to read in it. `looks`: as `open_engine`.

    Raises UnknownAccount for one of the `names` that neither configuration nor database has: an account that left the
    configuration can still be looked at.
    """
    from cdrsync.store.admin import migrate
    from cdrsync.store.reads import status

    with found(settings, looks=looks) as opened:
        migrate.check(opened)
        unknown = set(names) - {account.name for account in settings.accounts}
        if unknown and (unknown := unknown.difference(status.names(opened))):
            raise UnknownAccount([f"no account {n!r} in the configuration or the database" for n in sorted(unknown)])
        yield opened


def is_missing(path: Path) -> bool:
    """Whether there is certainly no such file; what this user may not look at may be there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def open_to_others(path: Path) -> list[Path]:
    """Of SQLite's file and those beside it: which others may read, change or lock. Callers' numbers are in them.

    None where this user may not look, or a file goes meanwhile: whoever opens the database says what is wrong with it.
    """
    try:
        beside = [*sorted(path.parent.glob(f"{path.name}-*")), *sorted(path.parent.glob(f"{path.name}.*.lock"))]
        return [one for one in (path, *beside) if one.is_file() and one.stat().st_mode & 0o066]
    except OSError:
        return []


def sqlite_file(database_url: str) -> Path | None:
    """Return the file of a SQLite database, None for the others."""
    if not database_url.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    path = make_url(database_url).database
    return Path(path) if path else None
