"""What commands read of a database that is there already, beside whoever writes in it."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from cdrsync.errors import UnknownAccount
from cdrsync.wiring.accounts import _store
from cdrsync.wiring.database import Database, existing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy.engine import Engine

    from cdrsync.config import AccountSettings, Settings
    from cdrsync.model import Checkpoint, Page, PageSaved
    from cdrsync.monitor.status import AccountStatus, Summary
    from cdrsync.store.reads.quarantine import Quarantine


def account_names(settings: Settings, names: Collection[str] = ()) -> list[str]:
    """The names of the database's accounts, or those of them that are asked for. Raises as `statuses`."""
    from cdrsync.store.reads import status

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        return [name for name in status.names(opened) if not names or name in names]


@contextlib.contextmanager
def quarantine(settings: Settings, names: Collection[str] = ()) -> Iterator[Quarantine]:
    """Open the quarantine of a database that is there already. Raises UnknownAccount as `statuses`."""
    from cdrsync.store.reads.quarantine import Quarantine

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        yield Quarantine(opened)


def retry_rejects(settings: Settings, account: AccountSettings) -> tuple[int, int]:
    """Read an account's rejects again, as `Quarantine.retry`. Raises LeaseHeld, DatabaseUnavailable, SchemaMismatch."""
    from cdrsync.source.decode import decode_record

    def save(page: Page) -> PageSaved:
        with contextlib.closing(Database(settings)) as database:
            store = _store(settings, account, database.replica)
            store.open()
            return store.save(page)

    with quarantine(settings) as kept:
        return kept.retry(account.name, functools.partial(decode_record, timezone=account.timezone), save)


def statuses(settings: Settings, names: Collection[str] = ()) -> list[AccountStatus]:
    """The state of the accounts of a database that have these names; none named: all.

    Raises DatabaseUnavailable, SchemaMismatch; UnknownAccount for a name that neither configuration nor database has.
    """
    from cdrsync.store.reads import status

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        return [one for one in status.every_account(opened) if not names or one.name in names]


def checkpoints(settings: Settings, names: Collection[str] = ()) -> list[tuple[str, Checkpoint]]:
    """Every checkpoint with the name of its account. Raises as `statuses`."""
    from cdrsync.store.reads import status

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        return [(name, one) for name, one in status.checkpoints(opened) if not names or name in names]


def overview(settings: Settings, names: Collection[str] = ()) -> list[Summary]:
    """The figures of the accounts of a database that have these names; none named: all. Raises as `statuses`."""
    from cdrsync.store.reads import status

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        return [one for one in status.overview(opened) if not names or one.name in names]


def ask_to_retry(settings: Settings, names: Collection[str]) -> None:
    """Ask the daemon that works on these accounts to try at once. Raises as `statuses`."""
    from cdrsync.store.identity import ask_to_retry as ask

    with existing(settings) as opened:
        _check_names(settings, opened, names)
        ask(opened, names)


def _check_names(settings: Settings, opened: Engine, names: Collection[str]) -> None:
    """Refuse names that nobody has: an account that left the configuration can still be looked at."""
    from cdrsync.store.reads import status

    unknown = set(names) - {account.name for account in settings.accounts}
    if unknown and (unknown := unknown.difference(status.names(opened))):
        raise UnknownAccount([f"no account {name!r} in the configuration or the database" for name in sorted(unknown)])
