"""The good script: what a careful author writes in an afternoon, and the baseline cdrsync is measured against.

requests with keep-alive, one login, the whole range of days by offset in pages of 1000 (fewest requests), lxml read by
position, one Core executemany upsert and one commit for each page. Four secondary indexes, as cdrsync has. Where the
table holds calls it asks only for those after the highest uid, unless `--again` is given.

Knows nothing of rejects, late records, changes, audits, leases or hostile answers.
"""

from __future__ import annotations

import os
import sys
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import requests
from lxml import etree
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    create_engine,
    event,
    func,
    select,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.sql.dml import Insert

PAGE_SIZE = 1000
TEXT = Text().with_variant(String(190), "mysql", "mariadb")

METADATA = MetaData()
CDR = Table(
    "cdr",
    METADATA,
    Column("uid", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("ref", TEXT),
    Column("call_date", Date, nullable=False),
    Column("call_time", Time, nullable=False),
    Column("anumber", TEXT),
    Column("anumber_location", TEXT),
    Column("bnumber", TEXT),
    Column("alias", TEXT),
    Column("dialled", TEXT),
    Column("dialled_location", TEXT),
    Column("duration", Integer, nullable=False),
    Column("ring_time", Integer),
    Column("user_cost", Numeric(18, 6).with_variant(Integer, "sqlite"), nullable=False),
    Column("reason", Integer),
    Column("reason_q805", Integer),
    Column("has_recorded_call", Boolean),
    Column("has_voicemail_recording", Boolean),
    Column("has_fax_document", Boolean),
    Index("cdr_day", "call_date", "duration", "user_cost"),
    Index("cdr_anumber", "anumber"),
    Index("cdr_bnumber", "bnumber"),
    Index("cdr_started", "call_date", "call_time"),
)
NAMES = [column.name for column in CDR.columns]


def ask(session: requests.Session, url: str, login: str, parameters: str) -> Any:
    """The <CDRs> element of one page. The login travels in the same document."""
    body = (
        f'<?xml version="1.0"?><NoveroRequest>{login}<Request target="NoveroCDR" name="GetCDRs" id="Request1">'
        f"{parameters}<limit>{PAGE_SIZE}</limit></Request></NoveroRequest>"
    )
    answer = session.post(url, data=body.encode(), headers={"Content-Type": "text/xml"}, timeout=120)
    answer.raise_for_status()
    root = etree.fromstring(answer.content)
    for response in root:
        if response.get("Code") != "200":
            raise SystemExit(f"refused: {response.findtext('ResponseMessage')}")
    session_id = root.findtext("Response/SessionId")
    return session_id, root[-1][0]


def rows(cdrs: Any, *, exact_integers: bool) -> list[dict[str, Any]]:
    """The records of a page, typed."""
    page = []
    for cdr in cdrs:
        texts = [element.text or "" for element in cdr]
        cost = Decimal(texts[12])
        flags = [text == "1" for text in texts[15:18]] or [None, None, None]
        page.append(
            dict(
                zip(
                    NAMES,
                    (
                        int(texts[0]), texts[1], date.fromisoformat(texts[2]), time.fromisoformat(texts[3]),
                        *texts[4:10], int(texts[10]), int(texts[11]),
                        int(cost * 1_000_000) if exact_integers else cost, int(texts[13]), int(texts[14]), *flags,
                    ),
                    strict=True,
                )
            )
        )  # fmt: skip
    return page


def upsert(dialect: str) -> Insert:
    """INSERT, or update every column of a row that is already there."""
    if dialect == "mysql":
        from sqlalchemy.dialects.mysql import insert as mysql_insert

        statement = mysql_insert(CDR)
        return statement.on_duplicate_key_update({name: statement.inserted[name] for name in NAMES[1:]})
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        lite = sqlite_insert(CDR)
        return lite.on_conflict_do_update(
            index_elements=["uid"], set_={name: lite.excluded[name] for name in NAMES[1:]}
        )
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    post = postgresql_insert(CDR)
    return post.on_conflict_do_update(index_elements=["uid"], set_={name: post.excluded[name] for name in NAMES[1:]})


def pages(url: str, login: str, *, high_water: int | None, first: str, last: str) -> Iterator[Any]:
    """Every page: after the highest uid held, or of the whole range of days by offset."""
    session = requests.Session()
    offset = 0
    while True:
        if high_water is None:
            parameters = f"<StartDate>{first}</StartDate><EndDate>{last}</EndDate><offset>{offset}</offset>"
        else:
            parameters = f"<LastId>{high_water}</LastId>"
        session_id, cdrs = ask(session, url, login, parameters)
        if session_id:
            login = f"<SessionId>{session_id}</SessionId>"
        if not len(cdrs):
            return
        yield cdrs
        offset += len(cdrs)
        if high_water is not None:
            high_water = int(cdrs[-1][0].text)


def open_database(url: str) -> Engine:
    """The engine, with SQLite set as durable as cdrsync sets it."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def durable(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={os.environ.get('BENCH_SQLITE_SYNCHRONOUS', 'FULL')}")

    METADATA.create_all(engine)
    return engine


def main() -> None:
    """Bring the table up to date."""
    env = os.environ
    login = (
        '<Request target="Auth" name="SessionLogin" id="SessionRequest">'
        f"<Username>{env['BENCH_USERNAME']}</Username><Password>{env['BENCH_PASSWORD']}</Password>"
        f"<VKey>{env['BENCH_VKEY']}</VKey></Request>"
    )
    engine = open_database(env["BENCH_DATABASE_URL"])
    statement = upsert(engine.dialect.name)
    exact_integers = engine.dialect.name == "sqlite"
    high_water = None
    if "--again" not in sys.argv:
        with engine.connect() as connection:
            high_water = connection.scalar(select(func.max(CDR.c.uid)))
    first, last = env["BENCH_FIRST_DAY"], env["BENCH_END_DAY"]
    for cdrs in pages(env["BENCH_API_URL"], login, high_water=high_water, first=first, last=last):
        page = rows(cdrs, exact_integers=exact_integers)
        with engine.begin() as connection:
            connection.execute(statement, page)


if __name__ == "__main__":
    main()
