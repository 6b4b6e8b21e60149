"""Every account in some figures: a fixed number of statements, however many accounts there are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, or_, select

from cdrsync import errors
from cdrsync.model import BEGINNING, Verdict, utc_now
from cdrsync.monitor.status import RECENTLY, Failure, Summary
from cdrsync.store.process import Process
from cdrsync.store.reads.ledger import still_open
from cdrsync.store.schema.tables import account, audit_result, checkpoint, coverage, lease, reject, replica, sync_run
from cdrsync.sync.position import HistoryRead
from cdrsync.sync.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

INTENDED = (Stream.BOOTSTRAP, Stream.START)
"""Marks of what is wanted, as are those of `wanted` and of a job not done: they come before any answer."""

ENDED_WELL = ("ok", "stopped")  # outcomes of a run that are no failure


def summaries(connection: Connection, today: date, only: Collection[str] = ()) -> dict[int, Summary]:
    """The figures of every account, or of these, by its number, in the order of their names. `today`: in the UK."""
    accounts = (
        select(account, lease.c.taken_at, replica.c.host, replica.c.process)
        .outerjoin(lease, lease.c.account_id == account.c.id)
        .outerjoin(replica, replica.c.id == lease.c.replica_id)
        .order_by(account.c.name)
    )
    rows = connection.execute(accounts.where(account.c.name.in_(only)) if only else accounts).all()
    ids = [row.id for row in rows] if only else None

    def grouped(query: Select[Any], account_id: Any) -> Mapping[int, Any]:
        narrowed = query if ids is None else query.where(account_id.in_(ids))
        return {row.account_id: row for row in connection.execute(narrowed.group_by(account_id))}

    read = grouped(_read(), checkpoint.c.account_id)
    held = grouped(_held(today), coverage.c.account_id)
    gaps = _listed(connection, _gaps([number for number, row in held.items() if row.gaps]))
    waiting = select(reject.c.account_id, func.count().label("number")).where(still_open())
    rejects = grouped(waiting, reject.c.account_id)
    latest = func.max(audit_result.c.audited_at).label("at")
    audited = grouped(select(audit_result.c.account_id, latest), audit_result.c.account_id)
    unsure = _listed(connection, _unsure(ids))
    runs = grouped(_runs(), sync_run.c.account_id)
    failures = _failures(connection, runs, read)
    found = {}
    for row in rows:
        figures, marks = held.get(row.id), read.get(row.id)
        found[row.id] = Summary(
            name=row.name,
            calls=int(figures.calls) if figures else 0,
            first_day=figures.first_day if figures else None,
            last_day=figures.last_day if figures else None,
            gaps=tuple(gaps.get(row.id, ())),
            rejects_open=rejects[row.id].number if row.id in rejects else 0,
            read_at=max(filter(None, (marks.updated_at, marks.begun_at)), default=None) if marks else None,
            audited_at=audited[row.id].at if row.id in audited else None,
            unsure=tuple(unsure.get(row.id, ())),
            last_success=runs[row.id].at if row.id in runs else None,
            failure=failures.get(row.id),
            history=_history(marks, figures, today),
            days_lately=figures.lately if figures else 0,
            holder=str(Process(row.host, None, row.process, None)) if row.host else None,
            held_since=row.taken_at if row.host else None,
        )
    return found


def _listed(connection: Connection, query: Select[Any] | None) -> Mapping[int, list[Any]]:
    """The values of a query of accounts' numbers and one value, by account."""
    found: dict[int, list[Any]] = {}
    for number, value in () if query is None else connection.execute(query):
        found.setdefault(number, []).append(value)
    return found


def _held(today: date) -> Select[Any]:
    """What the ledger says, in one pass; of the wanted history the days read since all of the account's numbers are."""
    marks = _read().group_by(checkpoint.c.account_id).subquery()
    busy = case((coverage.c.calls > 0, coverage.c.call_date))
    downloaded = and_(
        coverage.c.call_date < today,
        or_(marks.c.start.is_(None), coverage.c.call_date >= marks.c.start),
        or_(marks.c.reached.is_(None), coverage.c.call_date >= marks.c.reached),
        coverage.c.downloaded_at.is_not(None),
        or_(marks.c.wanted_since.is_(None), coverage.c.downloaded_at >= marks.c.wanted_since),
    )
    lately = and_(downloaded, coverage.c.downloaded_at >= utc_now() - RECENTLY)
    return select(
        coverage.c.account_id,
        func.sum(coverage.c.calls).label("calls"),
        func.min(busy).label("first_day"),
        func.max(busy).label("last_day"),
        func.count(case((coverage.c.verdict == Verdict.GAP.value, 1))).label("gaps"),
        func.count(case((downloaded, 1))).label("days"),
        func.count(case((lately, 1))).label("lately"),
    ).join(marks, marks.c.account_id == coverage.c.account_id, isouter=True)


def _gaps(accounts: list[int]) -> Select[Any] | None:
    if not accounts:
        return None
    query = select(coverage.c.account_id, coverage.c.call_date).where(coverage.c.account_id.in_(accounts))
    return query.where(coverage.c.verdict == Verdict.GAP.value).order_by(coverage.c.account_id, coverage.c.call_date)


def _read() -> Select[Any]:
    """What the marks of an account say: when it was read, what history it wants, and how far back there is any."""

    def of(stream: str, value: Any) -> Any:
        return func.max(case((checkpoint.c.stream == stream, value)))

    begun = and_(checkpoint.c.stream == Stream.HISTORY, checkpoint.c.done)
    undone = ~checkpoint.c.done
    wanted = or_(checkpoint.c.stream == Stream.WANTED, checkpoint.c.stream.startswith(f"{Stream.WANTED}:"))
    intended = or_(wanted, checkpoint.c.stream.in_(INTENDED), and_(checkpoint.c.stream == Stream.BACKFILL, undone))
    return select(
        checkpoint.c.account_id,
        func.max(case((~intended, checkpoint.c.updated_at))).label("updated_at"),
        func.max(case((~intended, checkpoint.c.begun_at))).label("begun_at"),
        of(Stream.START, checkpoint.c.window_first).label("start"),
        func.max(case((begun, checkpoint.c.window_first))).label("reached"),
        func.max(case((wanted, checkpoint.c.begun_at))).label("wanted_since"),
    )


def _history(marks: Any, held: Any, today: date) -> HistoryRead | None:
    if marks is None:
        return None
    read = held.days if held else 0
    first = marks.reached if marks.start is None or marks.start <= BEGINNING else marks.start
    if first is None:
        return HistoryRead(None, None, read)
    wanted = max(0, (today - timedelta(days=1) - first).days + 1)
    return HistoryRead(first, wanted, min(read, wanted))


def _unsure(ids: list[int] | None) -> Select[Any]:
    latest = select(func.max(audit_result.c.id)).where(audit_result.c.number.is_(None))
    if ids is not None:
        latest = latest.where(audit_result.c.account_id.in_(ids))
    latest = latest.group_by(audit_result.c.account_id, audit_result.c.period)
    query = select(audit_result.c.account_id, audit_result.c.period).where(audit_result.c.id.in_(latest))
    return query.where(audit_result.c.verdict == Verdict.UNAUDITED.value).order_by(audit_result.c.id)


def _runs() -> Select[Any]:
    """The last run that did all it should, and the last that failed."""
    work = sync_run.c.origin.not_in(("checkpoint", "retire"))  # a person's word
    well = and_(work, sync_run.c.ended_at.is_not(None), sync_run.c.outcome.in_(ENDED_WELL))
    failed = and_(sync_run.c.ended_at.is_not(None), sync_run.c.outcome.not_in(ENDED_WELL))
    return select(
        sync_run.c.account_id,
        func.max(case((and_(work, sync_run.c.outcome == "ok"), sync_run.c.ended_at))).label("at"),
        func.coalesce(func.max(case((well, sync_run.c.id))), 0).label("well"),
        func.coalesce(func.max(case((failed, sync_run.c.id))), 0).label("failed"),
    )


def _failures(connection: Connection, runs: Mapping[int, Any], marks: Mapping[int, Any]) -> dict[int, Failure]:
    """Of the accounts whose last run failed, and that were not read since: how, and since when."""
    failing = {number: row for number, row in runs.items() if row.failed > row.well}
    if not failing:
        return {}
    query = select(sync_run).where(sync_run.c.account_id.in_(failing), sync_run.c.outcome.not_in(ENDED_WELL))
    query = query.where(sync_run.c.id > min(row.well for row in failing.values())).order_by(sync_run.c.id)
    lines: dict[int, list[Any]] = {}
    for line in connection.execute(query):
        if line.ended_at is not None and line.id > failing[line.account_id].well:
            lines.setdefault(line.account_id, []).append(line)
    return {
        number: _failure(of_account)
        for number, of_account in lines.items()
        if not (mark := marks.get(number)) or not mark.updated_at or mark.updated_at <= of_account[-1].ended_at
    }


def _failure(lines: list[Any]) -> Failure:
    last = lines[-1]
    kind = getattr(errors, last.outcome, None)
    hint = kind.default_hint if isinstance(kind, type) and issubclass(kind, errors.CdrsyncError) else ""
    return Failure(last.outcome, last.message or "it failed", hint, lines[0].started_at, last.ended_at)
