"""Looks at each step between the configuration and a committed row, and says what to do: `cdrsync doctor`."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from sqlalchemy import inspect

from cdrsync.config import KEYS, read
from cdrsync.config.values import mask_url, url_password
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import (
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_UNREACHABLE,
    ApiUnreachable,
    CdrsyncError,
    ConfigError,
    LeaseHeld,
    SchemaMismatch,
    Unverified,
)
from cdrsync.model import CdrsAsk, Period, TotalsAsk, utc_now
from cdrsync.monitor import logs
from cdrsync.source.reach import Reached, reach
from cdrsync.source.transport import proxy_for
from cdrsync.store.admin import migrate
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.privacy.rules import Key, check_key
from cdrsync.store.schema import versions
from cdrsync.wiring import accounts, database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from cdrsync.config import AccountSettings, Inputs, Settings

CONNECT_SECONDS = 10.0
CLOCK_SECONDS = 120.0  # a clock further off than this puts calls on the wrong day around midnight
FREE_BYTES = 200 * 1024 * 1024
CERTIFICATE_DAYS = 14


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state`: ok, warning, failed, skipped."""

    check: str
    state: str
    detail: str
    remedy: str = ""
    exit_code: int = EXIT_OK


def _failed(check: str, error: CdrsyncError, where: str = "") -> Finding:
    return Finding(check, "failed", f"{where}{logs.redact(error.message)}", error.hint, error.exit_code)


def examine(settings: Settings, inputs: Inputs) -> Iterator[Finding]:
    """Look at everything, in the order in which a sync needs it. Nothing is changed."""
    names = ", ".join(account.name for account in settings.accounts)
    yield Finding("configuration", "ok", f"accounts: {names}")
    yield from _files(inputs)
    yield from _listener(settings)
    seen: set[str] = set()
    for account in settings.accounts:
        if account.api_url not in seen:
            seen.add(account.api_url)
            yield from _network(account.api_url)
        yield from _login(account)
    yield from _database(settings)


def _files(inputs: Inputs) -> Iterator[Finding]:
    """Warn of files of the configuration that others may read although a secret stands in them, or may change."""
    reading = read(inputs)
    values = [item for found in (reading.shared, *reading.accounts.values()) for item in found.items()]
    secret = {value.file for name, value in values if value.file and _is_secret(name, value.value)}
    plain = {value.file for _, value in values if value.file} - secret
    for path in sorted(secret | plain):
        try:
            found = path.stat()
        except OSError:
            continue  # that it can't be read, the configuration's own problems say
        readers, writers = _others(found, 4), _others(found, 2)
        what = "holds a secret" if path in secret else "is configuration"
        if writers or (readers and path in secret):
            may = f"{writers} may change it" if writers else f"{readers} may read it"
            remedy = f"chmod {'600' if found.st_uid == os.geteuid() else '640'} {path}"
            yield Finding("configuration file", "warning", f"{path} {what} and {may}", remedy)


def _is_secret(name: str, value: object) -> bool:
    """Whether what stands in the file is a secret: a database's URL is one only with a password in it."""
    if name == "database_url":
        return url_password(str(value)) is not None
    return bool(KEYS[name].secret and value)


def _others(found: os.stat_result, permission: int) -> str:
    """Who beside its owner has a permission (4: to read, 2: to write) on a file; empty: nobody that matters."""
    if found.st_mode & permission:
        return "everybody"
    if not found.st_mode & permission << 3:
        return ""
    # Where the file is root's, and its group this user's, that is how this user reads it.
    ours = found.st_uid != os.geteuid() and found.st_gid in (os.getegid(), *os.getgroups())
    return "" if ours and permission == stat.S_IROTH else "its group"


def _listener(settings: Settings) -> Iterator[Finding]:
    listen = settings.http_listen
    if listen is not None and not listen.is_loopback and settings.http_password is None:
        detail = f"page and metrics on {listen} ask for no password"
        yield Finding("web server", "warning", detail, "Set http_password, or let only a proxy with a login reach them")


def _network(url: str) -> Iterator[Finding]:
    """Reach the operator's server the way every request goes: through the proxy, trusting what this machine trusts."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        if proxy_for(httpx.URL(url)) is None:
            addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
            yield Finding("DNS", "ok", f"{host} is {', '.join(sorted(addresses))}")
        reached = reach(url, CONNECT_SECONDS, INTERRUPT.event)
    except OSError as error:
        remedy = "Check api_url and this machine's resolver"
        yield Finding("DNS", "failed", f"{host}: {error.strerror}", remedy, EXIT_UNREACHABLE)
    except Unverified as error:
        yield _failed("TLS", error)
    except ApiUnreachable as error:
        INTERRUPT.check()
        yield Finding("connection", "failed", error.message, error.hint, error.exit_code)
    except ConfigError as error:
        yield _failed("environment", error)
    else:
        through = f" through the proxy {reached.proxy}" if reached.proxy else ""
        plain = "" if reached.tls else " (plain http, this machine only)"
        yield Finding("connection", "ok", f"{host}:{port} answers{through}{plain}")
        if reached.tls:
            yield _certificate(reached)


def _certificate(reached: Reached) -> Finding:
    ends = reached.certificate_ends
    days = (ends - utc_now()).total_seconds() / 86400 if ends else None
    detail = f"{reached.tls}, certificate valid" + (f" for {days:.0f} days" if days is not None else "")
    if days is not None and days < CERTIFICATE_DAYS:
        return Finding("TLS", "warning", detail, "The operator must renew it soon")
    return Finding("TLS", "ok", detail)


def _login(account: AccountSettings) -> Iterator[Finding]:
    """Log in and ask what a sync asks, in its sizes; then compare the clocks."""
    check = f"login {account.name}"
    today = datetime.now(account.timezone).date()
    page = CdrsAsk(account.page_size, start_date=today, end_date=today + timedelta(days=1))
    try:
        with accounts.source(account, stop=INTERRUPT.event) as api:
            document = api.ask([TotalsAsk(Period.DAY), page, page])
            limits = api.limits.told()
    except CdrsyncError as error:
        INTERRUPT.check()
        yield _failed(check, error)
        return
    yield Finding(check, "ok", f"{account.username} is let in")
    for words in limits:
        yield Finding("pages", "warning", words, "Nothing needs doing; a smaller page_size saves the attempts")
    if document.operator_clock is None:
        yield Finding("clock", "skipped", "the operator sends no time")
        return
    offset = (utc_now() - document.operator_clock).total_seconds()
    if abs(offset) > CLOCK_SECONDS:
        detail = f"this machine is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the operator"
        yield Finding("clock", "warning", detail, "Let chrony or systemd-timesyncd set it")
    else:
        yield Finding("clock", "ok", f"within {max(1, round(abs(offset)))} s of the operator's")


def _database(settings: Settings) -> Iterator[Finding]:
    path = database.sqlite_file(settings.database_url)
    try:
        yield from _permissions(settings) if path is None else [_sqlite(path)]
        yield from _schema(settings, path)
    except LeaseHeld as error:
        yield Finding("writing", "ok", f"a running instance has the lease: {error.message}")
    except SchemaMismatch as error:
        yield _failed("schema", error)
    except CdrsyncError as error:
        yield _failed("database", error, f"{mask_url(settings.database_url)}: ")
    yield Finding("disk space", "skipped", "the database server's own matter") if path is None else _disk(path)


def _schema(settings: Settings, path: Path | None) -> Iterator[Finding]:
    if path is not None and database.is_missing(path):
        yield Finding("database", "ok", f"{path} will be made by the first sync")
        return
    with database.engine(settings.database_url, looks=True) as engine:
        found = migrate.current(engine)
        yield Finding("database", "ok", f"{engine.dialect.name} answers")
        if found is None and settings.auto_migrate:
            yield Finding("schema", "ok", "none yet: the first sync makes it")
            return
        migrate.check(engine)
        yield Finding("schema", "ok", f"version {found}")
        yield from _pseudonyms(engine, settings)


def _pseudonyms(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Where numbers were erased: whether the key is theirs. A sync meets it with its first call."""
    key = Key(settings.pseudonym_key) if settings.pseudonym_key else None
    try:
        with translated(), engine.connect() as connection:
            check_key(connection, key)
    except ConfigError as error:
        yield _failed("pseudonym_key", error)


def _permissions(settings: Settings) -> Iterator[Finding]:
    """Ask the server whether the user may do what sync does, without doing it."""
    with database.engine(settings.database_url, looks=True) as opened, translated(), opened.connect() as connection:
        found = list(kind_of(opened.dialect.name).obstacles(connection))
        connection.rollback()
        made = bool(found) and versions.VERSION_TABLE in inspect(connection).get_table_names()
    for obstacle in found:
        failed = obstacle.always or not made
        state, code = ("failed", EXIT_CONFIG) if failed else ("warning", EXIT_OK)
        yield Finding("permissions", state, obstacle.what, obstacle.remedy, code)
    if not found:
        yield Finding("permissions", "ok", "this user may read, write and migrate")


def _sqlite(path: Path) -> Finding:
    """Whether this user may write SQLite's file, and beside it."""
    folder = path.absolute().parent
    if not os.access(folder, os.F_OK):
        return Finding("permissions", "failed", f"there is no folder {folder}", f"mkdir -p {folder}", EXIT_UNREACHABLE)
    for target in (folder, path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if os.access(target, os.F_OK) and not os.access(target, os.W_OK):
            remedy = f"Let this user write in {folder}, or set database_url"
            return Finding("permissions", "failed", f"{target} is read-only for this user", remedy, EXIT_UNREACHABLE)
    if loose := database.open_to_others(path):
        files = " ".join(map(str, loose))
        return Finding("permissions", "warning", f"others may read or change {files}", f"chmod 600 {files}")
    return Finding("permissions", "ok", f"{path if os.access(path, os.F_OK) else folder} can be written")


def _disk(path: Path) -> Finding:
    directory = next(
        parent for parent in (path.absolute().parent, *path.absolute().parents) if os.access(parent, os.F_OK)
    )
    free = shutil.disk_usage(directory).free
    detail = f"{free / 1e9:.1f} GB free at {directory}"
    if free < FREE_BYTES:
        return Finding("disk space", "warning", detail, "A million calls take some 300 MB")
    return Finding("disk space", "ok", detail)
