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
from cdrsync.sync.position import HISTORY_STREAM, START_STREAM, WANTED_STREAM, HistoryRead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

ENDED_WELL = ("ok", "stopped")  # outcomes of a run that are no failure


def summaries(connection: Connection, today: date, *, only: str | None = None) -> dict[int, Summary]:
    """The figures of every account, or of one, by its number, in the order of their names. `today`: in the UK."""
    accounts = (
        select(account, lease.c.taken_at, replica.c.host, replica.c.process)
        .select_from(account.outerjoin(lease, lease.c.account_id == account.c.id))
        .outerjoin(replica, replica.c.id == lease.c.replica_id)
        .order_by(account.c.name)
    )
    rows = connection.execute(accounts if only is None else accounts.where(account.c.name == only)).all()
    ids = None if only is None else [row.id for row in rows]

    def grouped(query: Select[Any], account_id: Any) -> Mapping[int, Any]:
        narrowed = query if ids is None else query.where(account_id.in_(ids))
        return {row.account_id: row for row in connection.execute(narrowed.group_by(account_id))}

    held = grouped(_held(), coverage.c.account_id)
    gaps: dict[int, list[date]] = {}
    for row in connection.execute(_gaps()):
        gaps.setdefault(row.account_id, []).append(row.call_date)
    rejects = grouped(_rejects(), reject.c.account_id)
    read = grouped(_read(), checkpoint.c.account_id)
    downloaded = grouped(_downloaded(today), coverage.c.account_id)
    audited = grouped(_audited(), audit_result.c.account_id)
    unsure: dict[int, list[str]] = {}
    for row in connection.execute(_unsure()):
        unsure.setdefault(row.account_id, []).append(row.period)
    runs = {row.account_id: row for row in connection.execute(_last_runs())}
    well = grouped(_last_success(), sync_run.c.account_id)
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
            last_success=well[row.id].at if row.id in well else None,
            failure=_failure(runs.get(row.id), marks),
            history=_history(marks, downloaded.get(row.id), today),
            days_lately=downloaded[row.id].lately if row.id in downloaded else 0,
            holder=str(Process(row.host, None, row.process, None)) if row.host else None,
            held_since=row.taken_at if row.host else None,
        )
    return found


def _held() -> Select[Any]:
    busy = case((coverage.c.calls > 0, coverage.c.call_date))
    return select(
        coverage.c.account_id,
        func.sum(coverage.c.calls).label("calls"),
        func.min(busy).label("first_day"),
        func.max(busy).label("last_day"),
    )


def _gaps() -> Select[Any]:
    query = select(coverage.c.account_id, coverage.c.call_date).where(coverage.c.verdict == Verdict.GAP.value)
    return query.order_by(coverage.c.account_id, coverage.c.call_date)


def _rejects() -> Select[Any]:
    return select(reject.c.account_id, func.count().label("number")).where(still_open())


def _read() -> Select[Any]:
    """What the marks of an account say: when it was read, what history it wants, and how far back there is any."""

    def of(stream: str, value: Any) -> Any:
        return func.max(case((checkpoint.c.stream == stream, value)))

    begun = and_(checkpoint.c.stream == HISTORY_STREAM, checkpoint.c.done)
    wanted = or_(checkpoint.c.stream == WANTED_STREAM, checkpoint.c.stream.startswith(f"{WANTED_STREAM}:"))
    return select(
        checkpoint.c.account_id,
        func.max(checkpoint.c.updated_at).label("updated_at"),
        func.max(checkpoint.c.begun_at).label("begun_at"),
        of(START_STREAM, checkpoint.c.window_first).label("start"),
        func.max(case((begun, checkpoint.c.window_first))).label("reached"),
        func.max(case((wanted, checkpoint.c.begun_at))).label("wanted_since"),
    )


def _downloaded(today: date) -> Select[Any]:
    """Days read to their end of the history that is wanted, since all of the account's numbers are."""
    marks = _read().group_by(checkpoint.c.account_id).subquery()
    lately = case((coverage.c.downloaded_at >= utc_now() - RECENTLY, coverage.c.call_date))
    return (
        select(coverage.c.account_id, func.count().label("days"), func.count(lately).label("lately"))
        .join(marks, marks.c.account_id == coverage.c.account_id)
        .where(
            coverage.c.call_date < today,
            or_(marks.c.start.is_(None), coverage.c.call_date >= marks.c.start),
            or_(marks.c.reached.is_(None), coverage.c.call_date >= marks.c.reached),
            coverage.c.downloaded_at.is_not(None),
            or_(marks.c.wanted_since.is_(None), coverage.c.downloaded_at >= marks.c.wanted_since),
        )
    )


def _history(marks: Any, downloaded: Any, today: date) -> HistoryRead | None:
    if marks is None:
        return None
    read = downloaded.days if downloaded else 0
    first = marks.reached if marks.start is None or marks.start <= BEGINNING else marks.start
    if first is None:
        return HistoryRead(None, None, read)
    wanted = max(0, (today - timedelta(days=1) - first).days + 1)
    return HistoryRead(first, wanted, min(read, wanted))


def _audited() -> Select[Any]:
    return select(audit_result.c.account_id, func.max(audit_result.c.audited_at).label("at"))


def _unsure() -> Select[Any]:
    latest = select(func.max(audit_result.c.id)).where(audit_result.c.number.is_(None))
    latest = latest.group_by(audit_result.c.account_id, audit_result.c.period)
    known = [verdict.value for verdict in Verdict if verdict is not Verdict.UNAUDITED]
    query = select(audit_result.c.account_id, audit_result.c.period).where(audit_result.c.id.in_(latest))
    return query.where(audit_result.c.verdict.not_in(known)).order_by(audit_result.c.id)


def _last_success() -> Select[Any]:
    well = (sync_run.c.outcome == "ok", sync_run.c.ended_at.is_not(None), sync_run.c.origin != "checkpoint")
    return select(sync_run.c.account_id, func.max(sync_run.c.ended_at).label("at")).where(*well)


def _last_runs() -> Select[Any]:
    """Each account's last run, and since when its runs have failed."""
    later = sync_run.alias()
    failed = and_(later.c.ended_at.is_not(None), later.c.outcome.not_in(ENDED_WELL))
    well = select(func.max(sync_run.c.id)).where(
        sync_run.c.account_id == later.c.account_id, sync_run.c.outcome.in_(ENDED_WELL)
    )
    failures = (
        select(later.c.account_id, func.min(later.c.started_at).label("since"), func.max(later.c.id).label("last"))
        .where(failed, later.c.id > func.coalesce(well.scalar_subquery(), 0))
        .group_by(later.c.account_id)
        .subquery()
    )
    return select(sync_run, failures.c.since).join(failures, failures.c.last == sync_run.c.id)


def _failure(run: Any, marks: Any) -> Failure | None:
    """The failure of a last run, unless the operator was read since."""
    if run is None or (marks is not None and marks.updated_at > run.ended_at):
        return None
    kind = getattr(errors, run.outcome, None)
    hint = kind.default_hint if isinstance(kind, type) and issubclass(kind, errors.CdrsyncError) else ""
    return Failure(run.outcome, run.message or "it failed", hint, run.since, run.ended_at)
