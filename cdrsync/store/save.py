"""`store.save(page)`: the one way in which CDRs are written, with everything that is true once they are.

One transaction for a page, under the account's lease:

    erased      what was erased is taken out of the page                                (privacy.rules)
    compare     calls of the page that are held; of those, the ones that differ         (compare)
    insert      the new ones                                                            (databases)
    change      the different ones; flags that were not said keep their value           (changes)
    ledger      calls, duration and charge of each day touched; days read to their end  (upsert)
    rejects     kept once, counted; resolved where their record could now be stored     (rejects)
    numbers     each distinct one once                                                  (known_numbers)
    checkpoint  never backwards                                                         (upsert)
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, insert, select
from sqlalchemy.exc import DBAPIError

from cdrsync.model import Batch, Origin, Page, PageSaved, Reject, Verdict, utc_now
from cdrsync.store.changes import DayDelta, apply, deltas, last_words, refuse_others, said_again
from cdrsync.store.compare import compare, write_back
from cdrsync.store.databases.choose import kind_of, kind_of_error
from cdrsync.store.databases.port import Collision, TooLarge
from cdrsync.store.identity import Identity
from cdrsync.store.known_numbers import KnownNumbers
from cdrsync.store.position import Positions
from cdrsync.store.privacy.raw_record import as_xml
from cdrsync.store.privacy.rules import Key, Rules, current_rules
from cdrsync.store.rejects import Rejects
from cdrsync.store.runs import Runs
from cdrsync.store.schema.tables import cdr_change, checkpoint
from cdrsync.store.session import WriterSession
from cdrsync.store.summaries import is_due, months_of, open_days, open_months, sum_days
from cdrsync.store.upsert import complete_day, count_day, move_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from cdrsync.model import Cdr, Checkpoint
    from cdrsync.store.replica import Replica
    from cdrsync.store.spelling import NumberFacts

ATTEMPTS = 9  # of a commit, before the last, where others come between

_UID = attrgetter("uid")
_COUNTS = ("inserted", "updated", "unchanged", "rejected", "unholdable")
_STARTED = attrgetter("started_at")


class _Written(NamedTuple):
    """What became of a page's calls."""

    calls: Collection[Cdr]  # the last word on each
    new: Sequence[Cdr]
    changed: Sequence[Cdr]
    different: Mapping[int, Cdr]  # those as they were


class SqlStore(Identity, Positions, Runs):
    """One account of a replica. `open` before anything else; `save` from one thread at a time.

    Every method raises DatabaseUnavailable or LeaseLost when the database or the lease is away; after either, nothing
    of the page in hand is stored, and `open` is what helps.
    """

    _session: WriterSession

    def __init__(
        self,
        replica: Replica,
        account: str,
        *,
        login: str | None = None,
        classify: Callable[[str], NumberFacts] | None = None,
        pseudonym_key: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.account = account
        self._login = login  # a username and where it logs in; None: whose calls these are is not asked
        self._key = Key(pseudonym_key) if pseudonym_key else None
        self._rules = Rules()  # what was erased, and must not come back
        self._clock = clock
        self._session = WriterSession(replica, account)
        self._kind = kind_of(self._session.dialect)
        self._numbers = KnownNumbers(classify)
        self._rejects = Rejects(self._kind)
        self._summed = False  # nothing was changed since the summary was brought up to date
        self._open_months: set[date] = set()  # no rows of theirs are in the summary
        self._open_days: set[date] = set()  # nor of these
        self._count_day = count_day(self._kind)
        self._complete_day = complete_day(self._kind)
        self._move_checkpoint = move_checkpoint(self._kind)

    def open(self) -> None:
        """Take the account's lease, unless the replica has it; the account is made on its first use.

        After an error: all of it anew.

        Raises LeaseHeld, SchemaMismatch, ConfigError.
        """
        self._session.open()
        self._summed = False
        self._open_months, self._open_days = set(), set()
        if self._login:
            self.claim(self._login)
        self._forget()

    def close(self) -> None:
        """Free the lease. Raises DatabaseUnavailable."""
        self._session.close()

    def save(self, page: Page) -> PageSaved:
        """Commit the page whole, or nothing of it. A call that the database can't hold becomes a Reject.

        A page that is more than the database takes in one transaction is committed in halves.
        """
        try:
            return self._commit_again(page)
        except TooLarge:
            if len(page) <= 1:
                raise
            middle, end = len(page.cdrs) // 2, len(page.rejects) // 2
            first = Page(page.origin, page.cdrs[:middle], page.rejects[:end])
            second = replace(page, cdrs=page.cdrs[middle:], rejects=page.rejects[end:])
            return _together(self.save(first), self.save(second))
        except (DBAPIError, ValueError, OverflowError) as error:
            if not _value_error(error):
                raise
            unholdable = self._unholdable(page.cdrs)
            if not unholdable:  # it was of that moment: written anew, all of them went well
                return self._commit_again(page)
        rejects = [Reject(call.uid, as_xml(call), problem) for call, problem in unholdable]
        bad = {id(call) for call, _ in unholdable}
        rest = [call for call in page.cdrs if id(call) not in bad]
        saved = self.save(Page(page.origin, rest, [*page.rejects, *rejects], page.checkpoint, page.completes))
        return replace(saved, unholdable=(*(call.uid for call, _ in unholdable), *saved.unholdable))

    def formed(self, page: Page) -> Page:
        """The page, with what `save` needs and no database: for the thread that has read it."""
        if not page.cdrs:
            return page
        try:
            forms = self._kind.forms(page.cdrs)
        except (ValueError, OverflowError):  # `save` meets it again, and finds out which call it is
            return page
        return replace(page, forms=dict(zip(map(id, page.cdrs), forms, strict=True)))

    def as_kept(self, batch: Batch) -> Batch:
        """An answer without what was erased, as `save` has just kept it."""
        return Batch(list(self._rules.apply(batch.cdrs)), self._rules.quarantine(batch.rejects))

    def sum_days(self, *, look: bool = False) -> bool:
        """Bring the summary up to date, some days at a time; False once none is left.

        `look`: even where nothing was changed here; others may have changed something.
        """
        if self._summed and not look:
            return False
        with self._session.reading() as connection:
            more = is_due(connection, self._session.account_id)
        if more:
            self._open_months, self._open_days = set(), set()  # whatever becomes of it
            with self._session.transaction() as connection:
                more = sum_days(connection, self._session.account_id)
        self._summed = not more
        return more

    # ── one transaction ────────────────────────────────────────────────────────────────────────────────────────────

    def _commit_again(self, page: Page) -> PageSaved:
        """Commit the page; at once again where another transaction came between."""
        for _ in range(ATTEMPTS):
            try:
                return self._commit(page)
            except Collision:
                time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - not a secret
        return self._commit(page)

    def _commit(self, page: Page) -> PageSaved:
        now = self._clock()
        with self._session.transaction() as connection:
            if len(page):
                self._learn_rules(connection)
            rejects = self._rules.quarantine(page.rejects)
            written = self._write(connection, page.cdrs, now, page.forms)
            if page.origin is not Origin.PERSON:
                refuse_others(written.different, written.changed)
            days = deltas(written.new, written.changed, written.different)
            opened = days.keys() - self._open_days
            months = months_of(opened) - self._open_months
            open_months(connection, self._session.account_id, months)
            self._count(connection, days)
            open_days(connection, self._session.account_id, opened)
            self._complete(connection, page.completes, now)
            uids = set(map(_UID, written.calls))
            rejected = self._rejects.write(connection, self._session.account_id, rejects, uids, now)
            numbers = self._numbers.rows([*written.new, *written.changed])
            if numbers:
                self._kind.note_numbers(connection, numbers, now)
            high_water = self._move(connection, page.checkpoint, now)
        self._summed = self._summed and not written.new and not written.changed
        self._open_months |= months
        self._open_days |= opened
        self._numbers.noted(numbers)
        self._rejects.noted(rejects, uids)
        return PageSaved(
            page.origin,
            inserted=len(written.new),
            updated=len(written.changed),
            unchanged=len(page) - len(written.new) - len(written.changed) - rejected,
            rejected=rejected,
            high_water_uid=high_water,
            completed=page.completes,
            newest_started_at=max(map(_STARTED, written.calls), default=None),
        )

    def _learn_rules(self, connection: Connection) -> None:
        """Erasures since the last page."""
        rules = current_rules(connection, self._session.account_id, self._rules, self._key)
        if rules is not self._rules:
            self._rules = rules
            self._numbers.forget()  # an erasure takes numbers away that no call has any more
            self._summed = False

    def _write(self, connection: Connection, cdrs: Sequence[Cdr], now: datetime, known: Mapping[int, Any]) -> _Written:
        """Rows and their history. In the order of the primary key, databases write a third faster."""
        ascending = sorted(self._rules.apply(cdrs), key=_UID)
        calls = last_words(ascending)
        if not calls:
            return _Written((), (), (), {})
        account_id = self._session.account_id
        forms = self._forms(calls, known)
        held = compare(self._kind, connection, account_id, forms)
        changed, history = apply(held.different, calls)
        if len(calls) < len(ascending):
            again = said_again(
                ascending, lambda uid: held.different.get(uid) or (calls[uid] if uid in held.uids else None)
            )
            history = [*(one for one in history if one.uid not in again), *chain.from_iterable(again.values())]
        new = [call for uid, call in calls.items() if uid not in held.uids]
        if new:
            self._kind.insert(connection, account_id, [forms[call.uid] for call in new], now)
        if changed:
            write_back(connection, account_id, changed, now)
        if history:
            connection.execute(
                insert(cdr_change),
                [{"account_id": account_id, "changed_at": now, **change._asdict()} for change in history],
            )
        return _Written(calls.values(), new, changed, held.different)

    def _forms(self, calls: Mapping[int, Cdr], known: Mapping[int, Any]) -> dict[int, Any]:
        """Of each call, by uid: as it is known, or made here."""
        forms = {uid: known.get(id(call)) for uid, call in calls.items()}
        left = [calls[uid] for uid, form in forms.items() if form is None]
        if left:
            forms.update(zip(map(_UID, left), self._kind.forms(left), strict=True))
        return forms

    def _count(self, connection: Connection, days: Mapping[date, DayDelta]) -> None:
        if days:
            counted = [
                {
                    "account_id": self._session.account_id,
                    "call_date": day,
                    "calls": delta.calls,
                    "duration": delta.duration,
                    "charge": delta.charge,
                    "verdict": Verdict.UNAUDITED.value,
                }
                for day, delta in sorted(days.items())
            ]
            connection.execute(self._count_day, counted)

    def _complete(self, connection: Connection, days: Iterable[date], now: datetime) -> None:
        empty = {"calls": 0, "duration": 0, "charge": Decimal(0), "verdict": Verdict.UNAUDITED.value}
        completed = [
            {"account_id": self._session.account_id, "call_date": day, "downloaded_at": now, **empty}
            for day in sorted(set(days))
        ]
        if completed:
            connection.execute(self._complete_day, completed)

    def _move(self, connection: Connection, to: Checkpoint | None, now: datetime) -> int | None:
        """Write the page's checkpoint; answers the high-water mark that is true then."""
        if to is None:
            return None
        here = and_(checkpoint.c.account_id == self._session.account_id, checkpoint.c.stream == to.stream)
        if to.lowers:
            connection.execute(delete(checkpoint).where(here))
        connection.execute(
            self._move_checkpoint,
            {
                "account_id": self._session.account_id,
                "stream": to.stream,
                "high_water_uid": to.high_water_uid,
                "high_water_ended_at": to.high_water_ended_at,
                "window_first": to.window and to.window.first,
                "window_last": to.window and to.window.last,
                "begun_at": to.begun_at,
                "done": to.done,
                "updated_at": now,
            },
        )
        found: int | None = connection.execute(select(checkpoint.c.high_water_uid).where(here)).scalar_one()
        return found

    # ── what the database can't hold ───────────────────────────────────────────────────────────────────────────────

    def _unholdable(self, calls: list[Cdr]) -> list[tuple[Cdr, str]]:
        """Find the calls that can't be stored, by halves: one bad call in 5,000 takes some 25 rehearsals."""
        problem = self._rehearse(calls)
        if problem is None:
            return []
        if len(calls) == 1:
            return [(calls[0], problem)]
        middle = len(calls) // 2
        return self._unholdable(calls[:middle]) + self._unholdable(calls[middle:])

    def _rehearse(self, calls: list[Cdr]) -> str | None:
        """Write the calls and roll back: None if that went well, otherwise the value error in one line."""
        try:
            with self._session.rehearsal() as connection:
                self._write(connection, calls, self._clock(), {})
        except TooLarge:
            if len(calls) == 1:
                raise
            return "more than one transaction holds"  # of one of its halves that need not be so
        except (DBAPIError, ValueError, OverflowError) as error:
            if not _value_error(error):
                raise
            return f"the database can't hold it: {_reason(error)}"
        return None

    # ── what is remembered between pages ───────────────────────────────────────────────────────────────────────────

    def _forget(self) -> None:
        self._numbers.forget()
        with self._session.reading() as connection:
            self._rejects.read(connection, self._session.account_id)


def _together(first: PageSaved, rest: PageSaved) -> PageSaved:
    """What two commits did."""
    counts = {name: getattr(first, name) + getattr(rest, name) for name in _COUNTS}
    starts = [one.newest_started_at for one in (first, rest) if one.newest_started_at is not None]
    return replace(rest, **counts, newest_started_at=max(starts, default=None))


def _value_error(error: Exception) -> bool:
    """Whether a value is at fault, not the database's state."""
    if not isinstance(error, DBAPIError):
        return True
    kind = kind_of_error(error.orig)
    return kind is not None and kind.refuses_value(error)


def _reason(error: Exception) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())
