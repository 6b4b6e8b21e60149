"""What the audit reads and keeps: calls per day counted from the rows, the ledger, verdicts. Writes no CDR.

It needs no lease: `cdrsync audit` runs beside the daemon.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, insert, literal, null, or_, select, update

from cdrsync.audit.figures import Figures, Interpretation, Stated
from cdrsync.audit.findings import Holdings
from cdrsync.model import MAX_INT, Cdr, Excess, LedgerDay, Period, Totals, Verdict, national
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.port import pieces
from cdrsync.store.position import Positions, ReadSession
from cdrsync.store.schema.tables import audit_result, cdr, coverage, operator_totals, reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from sqlalchemy import ColumnElement, Insert
    from sqlalchemy.engine import Connection, Engine

    from cdrsync.audit.findings import AuditReport, Finding

LARGEST = 10**12  # pounds or minutes that anybody can be said to owe; SQLite's scaled integers hold nine times as many
_AS_KEPT = ("calls", "duration", "charge", "downloaded_at", "audited_at", "operator_calls", "note")
_COUNTS = ("answered", "missed", "voicemail", "calls")


class SqlLedger(Positions):
    """One account's ledger (the audit's `Ledger` port), beside whoever holds its lease.

    Every method raises ConfigError while the account was never synced.
    """

    def __init__(self, engine: Engine, account: str) -> None:
        self._engine = engine
        self._session: ReadSession = ReadSession(engine, account)

    def holdings(self, *, number: str | None = None, up_to_uid: int | None = None) -> Holdings:
        """Calls per day and the ledger, of one moment. The index of days answers; no row is read."""
        account_id = self._session.account_id
        where = and_(cdr.c.account_id == account_id, *_of_number(number))
        query = select(coverage).where(coverage.c.account_id == account_id).order_by(coverage.c.call_date)
        with self._session.reading() as connection:
            connection.execution_options(**kind_of(self._engine.dialect.name).snapshot)
            rows = _by_day(connection, where)
            newer = {} if up_to_uid is None else _by_day(connection, and_(where, cdr.c.uid > up_to_uid))
            days = connection.execute(query).all()
            ledger = [ledger_day(row) for row in days]
        deleted = [row for row in days if row.pruned == "delete"]
        if number is None:
            rows |= {row.call_date: Figures(row.calls, row.duration, row.charge) for row in deleted}
        held = {day: of_day - newer.get(day, Figures()) for day, of_day in rows.items()}
        return Holdings(held, rows, ledger, frozenset(row.call_date for row in deleted))

    def days(self) -> list[date]:
        here = coverage.c.account_id == self._session.account_id
        with self._session.reading() as connection:
            return list(connection.scalars(select(coverage.c.call_date).where(here)))

    def held_uids(self, uids: Iterable[int]) -> set[int]:
        held: set[int] = set()
        here = cdr.c.account_id == self._session.account_id
        with self._session.reading() as connection:
            for some in pieces(sorted(set(uids))):
                held.update(connection.scalars(select(cdr.c.uid).where(here, cdr.c.uid.in_(some))))
        return held

    def quarantined(self) -> list[str]:
        here = and_(reject.c.account_id == self._session.account_id, reject.c.resolved_at.is_(None))
        with self._session.reading() as connection:
            return list(connection.scalars(select(reject.c.raw).where(here)))

    def calls_of(self, day: date) -> list[Cdr]:
        here = and_(cdr.c.account_id == self._session.account_id, cdr.c.call_date == day)
        calls = select(*(cdr.c[name] for name in Cdr._fields)).where(here).order_by(cdr.c.uid)
        with self._session.reading() as connection:
            return [Cdr._make(row) for row in connection.execute(calls)]

    def accept(self, day: date, excess: Excess, note: str, at: datetime) -> None:
        accepted = {f"accepted_{name}": value for name, value in excess._asdict().items()}
        values = {"verdict": Verdict.ACCEPTED.value, "note": note, "audited_at": at, **accepted}
        nothing = {"calls": 0, "duration": 0, "charge": Decimal(0)}
        row = {"account_id": self._session.account_id, "call_date": day, **nothing, **values}
        with translated(), self._engine.begin() as connection:
            connection.execute(self._upsert(*values), row)

    def established(self) -> Interpretation:
        account_id = self._session.account_id
        with self._session.reading() as connection:
            return established(connection, account_id)

    def proven_before(self) -> bool:
        query = select(literal(1)).where(
            audit_result.c.account_id == self._session.account_id,
            audit_result.c.period == Period.ALL.value,
            audit_result.c.verdict == Verdict.COMPLETE.value,
        )
        with self._session.reading() as connection:
            return connection.scalar(query.limit(1)) is not None

    def recount(self, days: Iterable[date]) -> None:
        account_id = self._session.account_id
        with translated(), self._engine.begin() as connection:
            for day in set(days) - _deleted(connection, account_id):
                figures = _by_day(connection, and_(cdr.c.account_id == account_id, cdr.c.call_date == day)).get(day)
                values = asdict(figures or Figures())
                if figures is None:  # a day without calls that the ledger does not know needs no row
                    here = and_(coverage.c.account_id == account_id, coverage.c.call_date == day)
                    connection.execute(update(coverage).where(here).values(**values))
                else:
                    key = {"account_id": account_id, "call_date": day, "verdict": Verdict.UNAUDITED.value}
                    connection.execute(self._upsert(*values), {**key, **values})

    def record_audit(self, report: AuditReport, verdicts: Mapping[date, Verdict]) -> None:
        at = report.audited_at
        notes = [(gap.window, gap.problem) for gap in report.gaps]
        account_id = self._session.account_id
        with translated(), self._engine.begin() as connection:
            for finding in report.findings:
                connection.execute(insert(audit_result).values(account_id=account_id, **_audit_columns(finding, at)))
                if finding.totals is not None:
                    _insert_totals(connection, account_id, finding.totals, at)
            changes = [
                {
                    "of_account": account_id,
                    "of_day": day,
                    "verdict": verdict.value,
                    "audited_at": at,
                    "note": next((note for window, note in notes if day in window), None),
                }
                for day, verdict in sorted(verdicts.items())
                if verdict is not Verdict.ACCEPTED  # what a person said of it stays
            ]
            if changes:
                connection.execute(_SET_VERDICT, changes)
            for day, stated in report.stated.items():
                here = and_(coverage.c.account_id == account_id, coverage.c.call_date == day)
                connection.execute(update(coverage).where(here).values(**_stated_columns(stated)))

    def record_totals(self, totals: Totals, at: datetime) -> None:
        account_id = self._session.account_id
        with translated(), self._engine.begin() as connection:
            _insert_totals(connection, account_id, totals, at)

    def _upsert(self, *columns: str) -> Insert:
        """Write a day's row, or these columns of it where it is there."""
        kind = kind_of(self._engine.dialect.name)
        return kind.upsert(coverage, ["account_id", "call_date"], lambda new: {name: new(name) for name in columns})


def established(connection: Connection, account_id: int) -> Interpretation:
    """The interpretation that the latest agreement of an account established. A disagreement says nothing of them."""
    query = (
        select(audit_result.c.interpretation)
        .where(
            audit_result.c.account_id == account_id,
            audit_result.c.interpretation.is_not(None),
            audit_result.c.verdict == Verdict.COMPLETE.value,
        )
        .order_by(audit_result.c.id.desc())
        .limit(1)
    )
    return Interpretation.parse(connection.scalar(query))


def ledger_day(row: Any) -> LedgerDay:
    as_kept = {name: getattr(row, name) for name in _AS_KEPT}
    accepted = Excess(row.accepted_calls, row.accepted_duration, row.accepted_charge)
    none = accepted.calls is None
    return LedgerDay(row.call_date, verdict=Verdict(row.verdict), accepted=None if none else accepted, **as_kept)


def still_open() -> ColumnElement[bool]:
    """Rejects about which something is to be done."""
    return and_(reject.c.resolved_at.is_(None), reject.c.dismissed_at.is_(None))


def _of_number(number: str | None) -> list[ColumnElement[bool]]:
    if number is None:
        return []
    plain = national(number)
    return [or_(cdr.c.bnumber == plain, cdr.c.bnumber == f"0{plain}", cdr.c.bnumber == f"44{plain}")]


def _by_day(connection: Connection, where: ColumnElement[bool]) -> dict[date, Figures]:
    query = select(cdr.c.call_date, func.count(), func.sum(cdr.c.duration), func.sum(cdr.c.user_cost)).where(where)
    rows = connection.execute(query.group_by(cdr.c.call_date))
    return {day: Figures(calls, int(duration), charge) for day, calls, duration, charge in rows}


def _deleted(connection: Connection, account_id: int) -> set[date]:
    """Days whose calls retention has deleted: what the ledger says of them can't be counted any more."""
    query = select(coverage.c.call_date).where(coverage.c.account_id == account_id, coverage.c.pruned == "delete")
    return set(connection.execute(query).scalars())


_SET_VERDICT = (
    update(coverage)
    .where(coverage.c.account_id == bindparam("of_account"), coverage.c.call_date == bindparam("of_day"))
    .values({name: bindparam(name) for name in ("verdict", "audited_at", "note")})
    .values({f"accepted_{name}": null() for name in Excess._fields})
)


def _audit_columns(finding: Finding, at: datetime) -> dict[str, Any]:
    stated = None if finding.totals is None else Stated.of(finding.totals, finding.interpretation)
    return {
        "period": finding.period.value,
        "number": finding.number,
        "first_day": finding.window.first,
        "last_day": finding.window.last,
        "audited_at": at,
        "verdict": finding.verdict.value,
        "held_calls": finding.held.calls,
        "held_duration": finding.held.duration,
        "held_charge": finding.held.charge,
        **_stated_columns(stated),
        "interpretation": str(finding.interpretation) or None,
        "note": "; ".join(text for text in (finding.problem, finding.remark) if text) or None,
    }


def _stated_columns(stated: Stated | None) -> dict[str, Any]:
    figures, _ = _holdable({name: getattr(stated, name, None) for name in ("calls", "duration", "charge")})
    return {f"operator_{name}": figure for name, figure in figures.items()}


def _holdable(figures: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The operator's figures as every database holds them, and what is to be said of those beyond all sense."""
    beyond = {name for name, figure in figures.items() if figure is not None and not -LARGEST < figure < LARGEST}
    beyond |= {name for name in _COUNTS if figures.get(name) is not None and figures[name] > MAX_INT}
    problems = [f"{name}: {figures[name]} is larger than can be" for name in sorted(beyond)]
    return {name: None if name in beyond else figure for name, figure in figures.items()}, problems


def _insert_totals(connection: Connection, account_id: int, totals: Totals, at: datetime) -> None:
    names = ("answered", "missed", "voicemail", "minutes_no_format", "charge")
    figures, problems = _holdable({name: getattr(totals, name) for name in names})
    connection.execute(
        insert(operator_totals).values(
            account_id=account_id,
            period=totals.period.value,
            number=totals.number,
            fetched_at=at,
            **figures,
            texts=json.dumps(totals.texts, ensure_ascii=False, sort_keys=True),
            unusable="\n".join([*totals.unusable, *problems]) or None,
        )
    )
