"""The stages alone, warm, in one process: what the machine allows, beside which a whole program has to be seen."""

from __future__ import annotations

import http.client
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import date
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lxml import etree
from sqlalchemy.engine import make_url

from tests.benchmarks import server
from tests.benchmarks.data import FIELDS, LONDON
from tests.benchmarks.programs import libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.bed import Bed

MOST = 100_000  # records of a stage: enough to be steady
PAGE = 1000
COLUMNS = ", ".join(FIELDS)
INDEXES = {
    "day": "call_date, duration, user_cost",
    "anumber": "anumber",
    "bnumber": "bnumber",
    "started": "call_date, call_time",
}
UPDATES = ", ".join(f"{name} = excluded.{name}" for name in FIELDS[1:])

Row = tuple[Any, ...]


def measured(bed: Bed) -> dict[str, float]:
    """Every stage and its records per second, best of two runs."""
    bed.api.control(visible=bed.visible, latency=0.0)
    calls = [tuple(call[:-1]) for call in bed.calls[: min(MOST, bed.visible)]]
    bodies = list(_bodies(bed.api.url, len(calls), 1))
    trees = [_texts(body) for body in bodies]
    stages: dict[str, Callable[[], int]] = {
        "fetch: http.client": lambda: _fetch(bed.api.url, len(calls), 1),
        "fetch: http.client, 5 requests in a document": lambda: _fetch(bed.api.url, len(calls), 5),
        "fetch: httpx": lambda: _fetch_httpx(bed.api.url, len(calls), 1),
        "fetch: httpx, 5 requests in a document": lambda: _fetch_httpx(bed.api.url, len(calls), 5),
        "read: lxml fromstring, children by position": lambda: sum(len(_texts(body)) for body in bodies),
        "read: cdrsync's decode, bytes to Cdr": lambda: _decode(bodies),
        "convert: texts to values": lambda: sum(len([_typed(texts) for texts in page]) for page in trees),
    }
    found = {name: _rate(stage) for name, stage in stages.items()}
    for kind in bed.servers:
        for name, save in _SAVES.get(kind, {}).items():
            rates = []
            for _ in range(2):
                url = bed.servers[kind].create()
                try:
                    bed.settle(kind)
                    rates.append(len(calls) / save(url, calls))
                finally:
                    bed.servers[kind].drop(url)
            found[f"save: {kind}, {name}"] = max(rates)
    return found


def _rate(stage: Callable[[], int]) -> float:
    rates = []
    for _ in range(2):
        begun = time.perf_counter()
        count = stage()
        rates.append(count / (time.perf_counter() - begun))
    return max(rates)


# ── fetch ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _document(offset: int, requests: int) -> bytes:
    login = f"<Username>{server.USERNAME}</Username><Password>{server.PASSWORD}</Password><VKey>{server.VKEY}</VKey>"
    pages = "".join(
        f'<Request target="NoveroCDR" name="GetCDRs" id="{n}"><offset>{offset + n * PAGE}</offset>'
        f"<limit>{PAGE}</limit></Request>"
        for n in range(requests)
    )
    return (
        f'<?xml version="1.0"?><NoveroRequest><Request target="Auth" name="SessionLogin" id="s">{login}</Request>'
        f"{pages}</NoveroRequest>"
    ).encode()


def _bodies(url: str, count: int, requests: int) -> Iterator[bytes]:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc)) as connection:
        for offset in range(0, count, PAGE * requests):
            connection.request("POST", parts.path, _document(offset, requests))
            yield connection.getresponse().read()


def _fetch(url: str, count: int, requests: int) -> int:
    return count if sum(len(body) for body in _bodies(url, count, requests)) else 0


def _fetch_httpx(url: str, count: int, requests: int) -> int:
    import httpx

    with httpx.Client(trust_env=False) as client:
        for offset in range(0, count, PAGE * requests):
            client.post(url, content=_document(offset, requests)).raise_for_status()
    return count


# ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _texts(body: bytes) -> list[list[str]]:
    return [[element.text or "" for element in cdr] for cdr in etree.fromstring(body)[-1][0]]


def _decode(bodies: list[bytes]) -> int:
    from cdrsync.source.decode import decode

    count = 0
    for body in bodies:
        batch = decode(body, timezone=LONDON)[-1].batch
        count += len(batch or ())
    return count


def _typed(texts: list[str]) -> Row:
    flags: list[bool | None] = [text == "1" for text in texts[15:18]] or [None, None, None]
    return (
        int(texts[0]), texts[1], date.fromisoformat(texts[2]), clock.fromisoformat(texts[3]), *texts[4:10],
        int(texts[10]), int(texts[11]), Decimal(texts[12]), int(texts[13]), int(texts[14]), *flags,
    )  # fmt: skip


# ── save ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_POSTGRESQL_COLUMNS = """
  uid bigint PRIMARY KEY, ref text, call_date date, call_time time, anumber text, anumber_location text, bnumber text,
  alias text, dialled text, dialled_location text, duration integer, ring_time integer, user_cost numeric(18, 6),
  reason integer, reason_q805 integer, has_recorded_call boolean, has_voicemail_recording boolean,
  has_fax_document boolean
"""
_POSTGRESQL_TYPES = (
    "int8", "text", "date", "time", "text", "text", "text", "text", "text", "text", "int4", "int4", "numeric",
    "int4", "int4", "bool", "bool", "bool",
)  # fmt: skip


def _postgresql(url: str, calls: list[Row], road: str) -> float:
    import psycopg

    with psycopg.connect(libpq_url(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE cdr ({_POSTGRESQL_COLUMNS})".encode())
        for name, columns in INDEXES.items():
            cursor.execute(f"CREATE INDEX ix_{name} ON cdr ({columns})".encode())
        if "staging" in road:
            cursor.execute("CREATE TEMPORARY TABLE staging (LIKE cdr) ON COMMIT DELETE ROWS")
        connection.commit()
        begun = time.perf_counter()
        for page in _pages(calls):
            if road == "executemany":
                cursor.executemany(
                    f"INSERT INTO cdr VALUES ({', '.join(['%s'] * len(FIELDS))}) "
                    f"ON CONFLICT (uid) DO UPDATE SET {UPDATES}".encode(),
                    page,
                )
            else:
                into = "staging" if "staging" in road else "cdr"
                form = " WITH (FORMAT BINARY)" if "binary" in road else ""
                with cursor.copy(f"COPY {into} ({COLUMNS}) FROM STDIN{form}".encode()) as copy:
                    if form:
                        copy.set_types(_POSTGRESQL_TYPES)
                    for row in page:
                        copy.write_row(row)
            if "staging" in road:
                cursor.execute(
                    f"INSERT INTO cdr SELECT * FROM staging ON CONFLICT (uid) DO UPDATE SET {UPDATES}".encode()
                )
            connection.commit()
        return time.perf_counter() - begun


def _pages(calls: list[Row]) -> Iterator[list[Row]]:
    return (calls[start : start + PAGE] for start in range(0, len(calls), PAGE))


def _sqlite(url: str, calls: list[Row], tail: str) -> float:
    rows = [
        (row[0], row[1], str(row[2]), str(row[3]), *row[4:12], int(row[12] * 1_000_000), *row[13:]) for row in calls
    ]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"CREATE TABLE cdr ({COLUMNS}, PRIMARY KEY (uid)) WITHOUT ROWID")
        for name, columns in INDEXES.items():
            connection.execute(f"CREATE INDEX ix_{name} ON cdr ({columns})")
        statement = f"INSERT INTO cdr VALUES ({', '.join('?' * len(FIELDS))}) {tail}"
        begun = time.perf_counter()
        for page in _pages(rows):
            connection.executemany(statement, page)
            connection.commit()
        return time.perf_counter() - begun


def _mariadb(url: str, calls: list[Row], road: str) -> float:
    import pymysql

    parsed = make_url(url)
    connection = pymysql.connect(
        host=parsed.host, port=parsed.port or 0, user="root", database=parsed.database, local_infile=True
    )
    with connection, connection.cursor() as cursor, tempfile.TemporaryDirectory() as directory:
        columns = _POSTGRESQL_COLUMNS.replace("text", "varchar(190)")
        cursor.execute(f"CREATE TABLE cdr ({columns}) ENGINE=InnoDB CHARACTER SET utf8mb4")
        for name, indexed in INDEXES.items():
            cursor.execute(f"CREATE INDEX ix_{name} ON cdr ({indexed})")
        connection.commit()
        updates = ", ".join(f"{name} = VALUES({name})" for name in FIELDS[1:])
        upsert = f"INSERT INTO cdr VALUES ({', '.join(['%s'] * len(FIELDS))}) ON DUPLICATE KEY UPDATE {updates}"
        path = Path(directory, "page")
        begun = time.perf_counter()
        for page in _pages(calls):
            if road == "multi-row upsert":
                cursor.executemany(upsert, page)
            else:
                path.write_text("".join("\t".join(_plain(value) for value in row) + "\n" for row in page))
                cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE cdr CHARACTER SET utf8mb4")
            connection.commit()
        return time.perf_counter() - begun


def _plain(value: Any) -> str:
    if value is None:
        return "\\N"
    return str(int(value)) if isinstance(value, bool) else str(value)


_SAVES: dict[str, dict[str, Callable[[str, list[Row]], float]]] = {
    "postgresql": {
        "binary COPY into the table": lambda url, calls: _postgresql(url, calls, "binary"),
        "text COPY into the table": lambda url, calls: _postgresql(url, calls, "text"),
        "binary COPY to staging, upsert": lambda url, calls: _postgresql(url, calls, "binary staging"),
        "executemany upsert": lambda url, calls: _postgresql(url, calls, "executemany"),
    },
    "sqlite": {
        "executemany upsert": lambda url, calls: _sqlite(url, calls, f"ON CONFLICT (uid) DO UPDATE SET {UPDATES}"),
        "executemany insert": lambda url, calls: _sqlite(url, calls, ""),
    },
    "mariadb": {
        "multi-row upsert": lambda url, calls: _mariadb(url, calls, "multi-row upsert"),
        "LOAD DATA LOCAL INFILE": lambda url, calls: _mariadb(url, calls, "load"),
    },
}
