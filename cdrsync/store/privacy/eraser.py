"""Personal data has an end: old calls lose their numbers or go, and one person's number goes when they ask.

First the rule is put down (`erasure`), so that nothing erased comes in again; then what is held is treated, day by day
or number by number, in small transactions beside whoever writes. A run that was cut off is completed by the next.
The ledger keeps the figures of every day: a day whose calls are gone still counts in an audit.
"""

from __future__ import annotations

import contextlib
from calendar import monthrange
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from cdrsync.errors import ConfigError
from cdrsync.model import Cdr, utc_now
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.port import WRITER, pieces
from cdrsync.store.lease import intervene
from cdrsync.store.numbering import FINAL
from cdrsync.store.privacy import quarantine
from cdrsync.store.privacy.person import Person, normal_form
from cdrsync.store.privacy.rules import DELETE, ERASED, PSEUDONYMISE, TEXTS, Key, Rules, check_key
from cdrsync.store.schema.tables import NUMBER, account, cdr, cdr_change, coverage, erasure, number
from cdrsync.store.summaries import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Engine

    from cdrsync.store.databases.port import Number

BATCH = 1000  # calls of one transaction
PERSONAL = ("anumber", "dialled", "extra")
WRITTEN = (*PERSONAL, "bnumber", *TEXTS)


@dataclass(frozen=True, slots=True)
class Erased:
    """What a run has treated so far."""

    calls: int = 0
    rejects: int = 0  # records of the quarantine
    day: date | None = None  # the day that was just done
    found: Mapping[str, int] = field(default_factory=dict, compare=False)  # what was erased where: table and column


def months_before(today: date, months: int) -> date:
    """The same day so many months ago, or the month's last."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(year, month + 1, min(today.day, monthrange(year, month + 1)[1]))


class Eraser:
    """Erases in one account, beside the holder of its lease: each writes the lease's row, so they take turns."""

    def __init__(
        self, engine: Engine, account_name: str, key: Key | None, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._engine = engine
        self._key = key
        self._clock = clock
        with self._transaction() as connection:
            found = connection.execute(select(account.c.id).where(account.c.name == account_name)).scalar()
        if found is None:
            raise ConfigError([f"the database has no account {account_name!r}"])
        self._account_id: int = found

    def prune(self, before: date, policy: str) -> Iterator[Erased]:
        """Pseudonymise or delete (`policy`) the calls of every day before a day; yields after each day and at the end.

        Raises ConfigError where pseudonyms need a key, DatabaseUnavailable.
        """
        key = None if policy == DELETE else self._needed_key()
        days = self._days(before, policy)
        rules = Rules(key=key, pseudonymise_before=date.max)
        of_rejects = Rules(1, key, before if key is None else date.min, before)
        with self._transaction() as connection:
            aged = quarantine.aged(connection, self._account_id, of_rejects, before)
        seen: set[str] = set()
        done = Erased()
        run = self._put_down(what=policy, before_day=before, key_check=key and key.check) if days or aged else None
        for day in days:
            for uids in self._batches(cdr.c.call_date == day):
                with self._writing() as connection:
                    done = Erased(done.calls + self._treat(connection, uids, rules, seen))
            with self._writing() as connection:
                here = and_(coverage.c.account_id == self._account_id, coverage.c.call_date == day)
                connection.execute(update(coverage).where(here).values(pruned=policy))
            yield Erased(done.calls, day=day)
        if run is not None:
            yield self._finish(run, done, seen, aged)

    def erase_number(self, wanted: str) -> Erased:
        """Erase one person's number, in whatever form it is given or was sent, wherever it stands, now and for good.

        Raises ConfigError without a key or with another than before, DatabaseUnavailable.
        """
        key = self._needed_key()
        meant = normal_form(wanted)
        token = key.token(meant)
        run = self._put_down(what=NUMBER, token=token, key_check=key.check)
        rules = Rules(1, key, tokens=frozenset([token]), stand_in=key.stand_in(meant))  # retention may have made one
        person = Person(self._account_id, rules, meant)
        with self._transaction() as connection:
            seen = set(person.forms(connection))
        with self._writing() as connection:
            person.clean_texts(connection, seen)
        done = Erased()
        for uids in self._batches(person.calls(seen)):
            with self._writing() as connection:
                done = Erased(done.calls + self._treat(connection, uids, person.rules, seen, person.found))
        with self._writing() as connection:  # whoever read a call again meanwhile has noted what it was before
            person.clean_history(connection)
        with self._transaction() as connection:
            gone = [(row, None) for row, _ in quarantine.treated(connection, self._account_id, person.rules)]
        return self._finish(run, done, seen, gone, person.found)

    # ── the steps ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _transaction(self, *, writer: bool = False) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            connection.execution_options(**{WRITER: writer})
            with connection.begin():
                if writer:
                    intervene(connection, self._account_id)
                yield connection

    def _writing(self) -> contextlib.AbstractContextManager[Connection]:
        return self._transaction(writer=True)

    def _needed_key(self) -> Key:
        if self._key is None:
            raise ConfigError(
                ["erasing numbers needs a pseudonym_key"], hint="Set it to any long random text, and keep it for good"
            )
        with self._transaction() as connection:
            check_key(connection, self._key)
        return self._key

    def _put_down(self, **rule: Any) -> int:
        """Make the rule hold: whoever saves from now on obeys it. Waits for the page that is being saved."""
        with self._writing() as connection:
            here = account.c.id == self._account_id
            connection.execute(update(account).where(here).values(erasures=account.c.erasures + 1))
            values = {"account_id": self._account_id, "begun_at": self._clock(), "calls": 0, "rejects": 0, **rule}
            made = connection.execute(insert(erasure).values(values)).inserted_primary_key
        return int(made[0]) if made else 0

    def _days(self, before: date, policy: str) -> list[date]:
        """Days that the policy has not been carried out on, oldest first."""
        left: ColumnElement[bool] = coverage.c.pruned.is_(None)
        if policy == DELETE:
            left = or_(left, coverage.c.pruned == PSEUDONYMISE)
        query = select(coverage.c.call_date).where(
            coverage.c.account_id == self._account_id, coverage.c.call_date < before, left
        )
        with self._transaction() as connection:
            return sorted(connection.execute(query).scalars())

    def _batches(self, where: ColumnElement[bool]) -> Iterator[list[int]]:
        """The uids of the calls in question, some at a time."""
        last = 0
        while True:
            query = select(cdr.c.uid).where(cdr.c.account_id == self._account_id, where, cdr.c.uid > last)
            with self._transaction() as connection:
                uids = list(connection.execute(query.order_by(cdr.c.uid).limit(BATCH)).scalars())
            if not uids:
                return
            yield uids
            last = uids[-1]

    def _treat(
        self, connection: Connection, uids: list[int], rules: Rules, seen: set[str], found: Counter[str] | None = None
    ) -> int:
        """Treat some calls and the history of their changes; the numbers that went are added to `seen`."""
        columns = [cdr.c[name] for name in Cdr._fields]
        calls: list[Cdr] = []
        for some in pieces(uids):
            here = and_(cdr.c.account_id == self._account_id, cdr.c.uid.in_(some))
            calls += [Cdr._make(row) for row in connection.execute(select(*columns).where(here))]
        mark(connection, self._account_id, {call.call_date for call in calls})
        changes = self._changes(connection, uids)
        seen.update(text for call in calls for text in (call.anumber, call.dialled, call.bnumber) if text)
        seen.update(text for row in changes for text in (row.old_value, row.new_value) if text)
        if rules.key is None:
            for some in pieces(uids):
                for table in (cdr, cdr_change):
                    connection.execute(
                        delete(table).where(table.c.account_id == self._account_id, table.c.uid.in_(some))
                    )
            return len(calls)
        treated = [(call, rules.one(call)) for call in calls]
        self._note_pseudonyms(connection, treated)
        replaced = [new for old, new in treated if new != old]
        if replaced:
            mine = {"of_account": self._account_id}
            values = [{**mine, "of_uid": new.uid, **{name: getattr(new, name) for name in WRITTEN}} for new in replaced]
            connection.execute(_REPLACE, values)
        if found is not None:
            for before, after in treated:
                found.update(f"cdr.{name}" for name in WRITTEN if getattr(before, name) != getattr(after, name))
        self._rewrite_changes(connection, changes, rules)
        return len(replaced)

    def _changes(self, connection: Connection, uids: list[int]) -> list[Any]:
        found: list[Any] = []
        for some in pieces(uids):
            here = and_(cdr_change.c.account_id == self._account_id, cdr_change.c.uid.in_(some))
            query = select(cdr_change, cdr.c.call_date).join(
                cdr, and_(cdr.c.account_id == cdr_change.c.account_id, cdr.c.uid == cdr_change.c.uid)
            )
            found += connection.execute(query.where(here, cdr_change.c.column_name.in_(PERSONAL))).all()
        return found

    def _rewrite_changes(self, connection: Connection, changes: list[Any], rules: Rules) -> None:
        """The history forgets what the calls forget."""
        for row in changes:
            if row.column_name == "extra":
                values: dict[str, Any] = {"old_value": None, "new_value": None}
            else:
                values = {name: rules.text(getattr(row, name), row.call_date) for name in ("old_value", "new_value")}
            here = (cdr_change.c.account_id == self._account_id, cdr_change.c.id == row.id)
            connection.execute(update(cdr_change).where(*here).values(values))

    def _note_pseudonyms(self, connection: Connection, treated: list[tuple[Cdr, Cdr]]) -> None:
        """A pseudonym keeps the kind and the country of its number, and nothing else."""
        became = {
            before: after
            for old, new in treated
            for before, after in zip(_numbers(old), _numbers(new), strict=True)
            if before and after and before != after
        }
        facts: dict[str, Any] = {}
        for some in pieces(sorted(became)):
            for row in connection.execute(select(number).where(number.c.number.in_(some))):
                facts[row.number] = row
        rows = {after: _pseudonym_row(after, facts.get(before)) for before, after in became.items()}
        if rows:
            ordered = [rows[after] for after in sorted(rows)]
            kind_of(connection.dialect.name).note_numbers(connection, ordered, self._clock())

    def _finish(
        self,
        run: int,
        done: Erased,
        seen: Collection[str],
        rejects: Collection[quarantine.Treated],
        found: Counter[str] | None = None,
    ) -> Erased:
        """Numbers that no call has any more go, and the quarantine's records; the log says that it is done."""
        found = found or Counter()
        open_runs = and_(erasure.c.account_id == self._account_id, erasure.c.ended_at.is_(None))
        with self._transaction() as connection:
            cut_off = connection.execute(select(erasure.c.id).where(open_runs, erasure.c.id != run)).first()
            if cut_off is not None:  # which numbers it had treated, nobody knows
                seen = set(connection.execute(select(number.c.number)).scalars())
            forgotten = self._unused(connection, seen) if seen else []
        with self._writing() as connection:
            quarantine.write(connection, self._account_id, rejects)
            for some in pieces(forgotten):
                connection.execute(delete(number).where(number.c.number.in_(some)))
                found["number.number"] += len(some)
            if rejects:
                found["reject.raw"] += len(rejects)
            here = account.c.id == self._account_id  # writers forget which numbers are in the table
            connection.execute(update(account).where(here).values(erasures=account.c.erasures + 1))
            done = Erased(done.calls, len(rejects), found=dict(sorted(found.items())))
            told = ", ".join(f"{where} {times}" for where, times in done.found.items())
            log = {"ended_at": self._clock(), "calls": done.calls, "rejects": done.rejects, "found": told}
            ours = (erasure.c.account_id == self._account_id, erasure.c.id == run)
            connection.execute(update(erasure).where(*ours).values(log))
            connection.execute(update(erasure).where(open_runs).values(ended_at=self._clock()))
        kind_of(self._engine.dialect.name).leave_no_trace(self._engine)
        return done

    def _unused(self, connection: Connection, seen: Collection[str]) -> list[str]:
        """Those of the numbers that no call of any account has."""
        unused = {text for text in seen if text not in ("", "0", ERASED)}
        # Few are destinations, and no index is there for them: one pass over all.
        unused -= set(connection.execute(select(cdr.c.dialled).distinct()).scalars())
        for column in (cdr.c.anumber, cdr.c.bnumber):
            for some in pieces(sorted(unused)):
                unused -= set(connection.execute(select(column).where(column.in_(some)).distinct()).scalars())
        return sorted(unused)


def _numbers(call: Cdr) -> tuple[str | None, ...]:
    return call.anumber, call.dialled, call.bnumber


def _pseudonym_row(text: str, facts: Any) -> Number:
    if text == ERASED or facts is None:
        return text, None, "erased" if text == ERASED else None, None, FINAL, None, None, None
    abroad = facts.e164 and not facts.e164.startswith("+44")
    return text, None, "international" if abroad else facts.kind, facts.region, FINAL, None, facts.kind_source, None


_REPLACE = (
    update(cdr)
    .where(cdr.c.account_id == bindparam("of_account"), cdr.c.uid == bindparam("of_uid"))
    .values({name: bindparam(name) for name in WRITTEN})
)
