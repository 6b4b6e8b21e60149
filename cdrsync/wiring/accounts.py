"""The only file that names concrete classes: settings in, working parts out.

They are imported where they are made: a command that needs no API does not wait for the HTTP library. Whatever opens a
database raises DatabaseUnavailable, SchemaMismatch, ConfigError; whatever takes an account's lease LeaseHeld as well.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cdrsync.errors import DatabaseUnavailable, LeaseHeld, UnknownAccount
from cdrsync.wiring.database import Database, engine, existing

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from cdrsync.audit.audit import Audit
    from cdrsync.config import AccountSettings, Settings
    from cdrsync.model import Page, PageSaved, Period, Totals
    from cdrsync.source.api import NoveroApi
    from cdrsync.source.brake import Brake
    from cdrsync.source.exchange import RequestDone
    from cdrsync.store.privacy.eraser import Erased, Eraser
    from cdrsync.store.reads.ledger import SqlLedger
    from cdrsync.store.replica import Replica
    from cdrsync.store.save import SqlStore
    from cdrsync.store.spelling import NumberFacts
    from cdrsync.sync.ports import SyncSettings
    from cdrsync.sync.position import Position
    from cdrsync.sync.steps import Sync


@dataclass(frozen=True)
class AccountParts:
    """One account's parts, working on each other. `store` holds the lease while it is open."""

    name: str
    source: NoveroApi
    store: SqlStore
    sync: Sync
    _account: AccountSettings
    _reader: Engine

    @functools.cached_property
    def ledger(self) -> SqlLedger:
        """What the audit reads and keeps; made when it is first asked for, since a poll needs neither."""
        from cdrsync.store.reads.ledger import SqlLedger

        return SqlLedger(self._reader, self.name)

    @functools.cached_property
    def audit(self) -> Audit:
        return _audit(self._account, self.source, self.ledger, self.sync.position, self.sync)


@contextlib.contextmanager
def source(
    account: AccountSettings,
    *,
    stop: threading.Event | None = None,
    on_request: Callable[[RequestDone], None] | None = None,
    briefly: bool = False,
) -> Iterator[NoveroApi]:
    """Make an account's way to the API. `stop` ends its waits; `briefly`: it gives up after seconds."""
    from cdrsync.source.api import NoveroApi
    from cdrsync.source.exchange import Endpoint, Exchange
    from cdrsync.source.request import Login
    from cdrsync.source.retry import RetryPolicy

    login = Login(account.username, account.password, account.vkey)
    endpoint = Endpoint(account.api_url, login, account.timezone)
    made = NoveroApi(
        Exchange(endpoint, stop=stop, on_request=on_request),
        retry=RetryPolicy(attempts=3, total=10.0, wait_max=2.0, retry_after_max=2.0) if briefly else None,
    )
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def parts(
    settings: Settings,
    account: AccountSettings,
    replica: Replica,
    *,
    stop: threading.Event | None = None,
    on_request: Callable[[RequestDone], None] | None = None,
    briefly: bool = False,
) -> Iterator[AccountParts]:
    """Make an account's parts, as `source` says; nothing is connected yet, `store.open()` takes the lease."""
    from cdrsync.sync.read_ahead import read_ahead
    from cdrsync.sync.steps import Sync

    with contextlib.ExitStack() as stack:
        api = stack.enter_context(source(account, stop=stop, on_request=on_request, briefly=briefly))
        store = _store(settings, account, replica)
        stack.callback(_close, store)
        sync = Sync(api, store, sync_settings(account), read_ahead=functools.partial(read_ahead, ahead=store.formed))
        yield AccountParts(account.name, api, store, sync, account, replica.reader)


def _close(store: SqlStore) -> None:
    """Free the lease. Without the database it is freed by our leaving, or ends with our last beat."""
    with contextlib.suppress(DatabaseUnavailable):
        store.close()


@contextlib.contextmanager
def open_account(
    settings: Settings,
    account: AccountSettings,
    *,
    stop: threading.Event | None = None,
    on_request: Callable[[RequestDone], None] | None = None,
    tell: Callable[[str], object] = bool,
) -> Iterator[AccountParts]:
    """Open an account for one command: schema up to date, lease taken. `stop` ends every wait.

    Where the lease's holder may be dead, it is waited for, and `tell` hears of it.
    """
    with (
        contextlib.closing(Database(settings)) as database,
        parts(settings, account, database.replica, stop=stop, on_request=on_request) as made,
    ):
        database.open_patiently(made.store, tell, stop)
        yield made


@contextlib.contextmanager
def open_audit(
    settings: Settings, account: AccountSettings, *, writer: bool, stop: threading.Event | None = None
) -> Iterator[Audit]:
    """Open an audit for one command. A `writer` takes the lease (it may heal); others work beside the daemon."""
    from cdrsync.store.reads.ledger import SqlLedger
    from cdrsync.sync.position import Position

    if writer:
        with open_account(settings, account, stop=stop) as made:
            yield made.audit
        return
    with existing(settings) as opened, source(account, stop=stop) as api:
        ledger = SqlLedger(opened, account.name)
        yield _audit(account, api, ledger, Position(ledger, sync_settings(account)))


def _audit(
    account: AccountSettings, api: NoveroApi, ledger: SqlLedger, position: Position, sync: Sync | None = None
) -> Audit:
    from cdrsync.audit.audit import Audit

    return Audit(api, ledger, position, sync, timezone=account.timezone, page_size=account.page_size)


def fetch_totals(
    settings: Settings,
    account: AccountSettings,
    period: Period,
    number: str | None,
    *,
    stop: threading.Event | None = None,
) -> tuple[Totals, datetime]:
    """Ask for the operator's totals and keep them; answer them and their moment. Raises what the API's port does."""
    from cdrsync.audit.look import ask_totals
    from cdrsync.store.reads import status
    from cdrsync.store.reads.ledger import SqlLedger

    with source(account, stop=stop) as api:
        answer, at = ask_totals(api, period, number)
    with contextlib.closing(Database(settings)) as database, engine(settings.database_url) as opened:
        database.prepare()
        if account.name not in status.names(opened):
            # Who takes the lease makes the account's row. Where another instance has it, that one has made the row.
            with contextlib.suppress(LeaseHeld):
                _store(settings, account, database.replica).open()
        SqlLedger(opened, account.name).record_totals(answer, at)
    return answer, at


def _store(settings: Settings, account: AccountSettings, replica: Replica) -> SqlStore:
    from cdrsync.store.save import SqlStore

    return SqlStore(
        replica,
        account.name,
        login=account.username and f"{account.username.strip()} at {urlsplit(account.api_url).hostname}",
        classify=classify,
        pseudonym_key=settings.pseudonym_key,
    )


@contextlib.contextmanager
def held_account(settings: Settings, name: str) -> Iterator[SqlStore]:
    """Take the lease of an account that the database has, in the configuration or not. Raises UnknownAccount."""
    from cdrsync.store.reads import status
    from cdrsync.store.save import SqlStore

    with existing(settings) as opened:
        names = status.names(opened)
    if name not in names:
        raise UnknownAccount([f"the database has no account {name!r}; it has: {', '.join(names) or 'none'}"])
    with contextlib.closing(Database(settings)) as database:
        store = SqlStore(database.replica, name)
        store.open()
        yield store


def retry_rejects(settings: Settings, account: AccountSettings) -> tuple[int, int]:
    """Read an account's rejects again, as `Quarantine.retry`. Takes the lease where there is something to store."""
    from cdrsync.source.decode import decode_record
    from cdrsync.store.reads.quarantine import Quarantine

    def save(page: Page) -> PageSaved:
        with contextlib.closing(Database(settings)) as database:
            store = _store(settings, account, database.replica)
            store.open()
            return store.save(page)

    with existing(settings) as opened:
        decode = functools.partial(decode_record, timezone=account.timezone)
        return Quarantine(opened).retry(account.name, decode, save)


@contextlib.contextmanager
def eraser(settings: Settings, name: str) -> Iterator[Eraser]:
    """Make what erases in an account of the database, beside whoever writes there."""
    from cdrsync.store.privacy.eraser import Eraser
    from cdrsync.store.privacy.rules import Key

    with existing(settings) as opened:
        yield Eraser(opened, name, Key(settings.pseudonym_key) if settings.pseudonym_key else None)


def prune(settings: Settings, account: AccountSettings) -> Iterator[Erased]:
    """Treat the calls that are older than `retention_months`; nothing where it is not set. Yields after each day."""
    from datetime import datetime

    from cdrsync.store.privacy.eraser import months_before

    if settings.retention_months is None:
        return
    before = months_before(datetime.now(account.timezone).date(), settings.retention_months)
    with eraser(settings, account.name) as made:
        yield from made.prune(before, settings.retention_policy)


def classify(number: str) -> NumberFacts:
    """What a number is. The rules' library is loaded with the first new number: an idle start does without."""
    from cdrsync.store import numbering

    return numbering.classify(number)


def refresh_numbers(settings: Settings) -> int:
    """Classify anew, beside whoever writes, what an older edition of the rules classified; answers how many numbers."""
    from cdrsync.store import numbering

    with engine(settings.database_url) as opened:
        return numbering.refresh(opened, numbering.classify, numbering.RULES_VERSION)


def brake(settings: Settings, account: AccountSettings) -> Brake:
    """Return what slows down all accounts that ask the same operator, limited as `api_rate` says."""
    from cdrsync.source.brake import brake_of

    made = brake_of(account.api_url)
    made.limit(settings.api_rate)
    return made


def sync_settings(account: AccountSettings) -> SyncSettings:
    from cdrsync.sync.ports import SyncSettings

    start = account.start_date
    return SyncSettings(
        timezone=account.timezone,
        start=start if isinstance(start, date) else ("all" if start == "all" else "today"),
        numbers=account.numbers,
        page_size=account.page_size,
        lookback=account.lookback,
        lookback_interval=account.lookback_interval,
        sweep_days=account.sweep_days,
        workers=account.backfill_workers,
    )


def only_account(settings: Settings) -> AccountSettings:
    """Return the account that is meant. Raises UnknownAccount where there are several."""
    if len(settings.accounts) > 1:
        names = ", ".join(account.name for account in settings.accounts)
        raise UnknownAccount([f"say which account with --account: {names}"])
    return settings.accounts[0]
