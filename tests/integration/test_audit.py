"""The audit against the sandbox, on every database: equal, altered, late, healed, and never a false alarm."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from cdrsync.audit.audit import Audit
from cdrsync.audit.figures import Interpretation
from cdrsync.errors import ApiUnreachable, ConfigError, RequestRefused
from cdrsync.model import Checkpoint, Origin, Page, Period, Verdict, Window
from cdrsync.store.reads.ledger import SqlLedger
from cdrsync.store.schema.tables import cdr, coverage
from cdrsync.sync.streams import Stream
from tests.support.clock import LONDON
from tests.support.operator import Fault, Settings
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

ALL = list(Period)
DAY = date(2024, 5, 21)


def write(r: Rig, *statements: Any) -> None:
    with r.engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def some_uid(r: Rig, day: date = DAY) -> int:
    with r.engine.connect() as connection:
        query = select(cdr.c.uid).where(cdr.c.call_date == day, cdr.c.duration > 0).order_by(cdr.c.uid).limit(1)
        return int(connection.scalar(query) or 0)


def days_asked(r: Rig) -> Counter[str]:
    """How often each day was read from its beginning."""
    asked = (request.parameters for request in r.world.requests)
    return Counter(one["StartDate"] for one in asked if "StartDate" in one and one.get("offset", "0") == "0")


def verdicts(r: Rig) -> dict[date, str]:
    with r.engine.connect() as connection:
        return {row.call_date: row.verdict for row in connection.execute(select(coverage))}


def test_an_untouched_account_is_proven(migrated: Database) -> None:
    """All five periods agree, every day is complete, and the first proof is the first one only."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        report = r.audit.run(ALL)
        assert [finding.verdict for finding in report.findings] == [Verdict.COMPLETE] * 5
        assert (report.clean, report.proven, report.first_proof) == (True, True, True)
        assert set(verdicts(r).values()) == {"complete"}
        assert not r.audit.run(ALL).first_proof


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("deleted", "calls"),
        ("a thousandth of a penny", "£"),
        ("one second", "s,"),
        ("added", "calls"),
    ],
)
def test_rows_altered_behind_its_back_name_their_day(migrated: Database, what: str, words: str) -> None:
    """A row deleted, changed by the least amount, or added is a gap of its day; healing mends all but alien rows."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        uid = some_uid(r)
        here = cdr.c.uid == uid
        match what:
            case "deleted":
                write(r, delete(cdr).where(here))
            case "a thousandth of a penny":
                write(r, update(cdr).where(here).values(user_cost=cdr.c.user_cost + Decimal("0.00001")))
            case "one second":
                write(r, update(cdr).where(here).values(duration=cdr.c.duration + 1))
            case _:
                with r.engine.connect() as connection:
                    row = connection.execute(select(cdr).where(here)).one()._asdict()
                write(r, insert(cdr).values(**row | {"uid": 7}))
        report = r.audit.run(ALL)
        assert [gap.window.days() for gap in report.gaps if gap.window.first == gap.window.last] == [[DAY]]
        assert words in report.gaps[0].problem
        assert verdicts(r)[DAY] == "gap"
        healed = r.audit.run(ALL, heal=True)
        if what == "added":
            assert [gap.window.days() for gap in healed.gaps if gap.window.first == gap.window.last] == [[DAY]]
            write(r, delete(cdr).where(cdr.c.uid == 7))
            assert r.audit.run(ALL).clean
        else:
            assert healed.clean
            assert (healed.healed, healed.records_healed) == ((DAY,), 1)
            assert verdicts(r)[DAY] == "healed"
        assert r.assert_equal() == 300


def test_a_record_later_than_every_look_back_is_found_and_healed(migrated: Database) -> None:
    """With look-back and sweep off, a record that appears two days late is missed by all but the audit."""
    with rig(migrated.url, calls=300, lookback_interval=timedelta(), sweep_days=1) as r:
        late = r.world.add_late(
            2 * 86400, started=int(r.clock.seconds()) - 86400, duration=77, user_cost=Decimal("0.123")
        )
        for seconds in (60, 86400):
            r.clock.advance(seconds)
            r.world.add()
        r.run()
        r.clock.advance(86400)
        r.run("poll")
        r.run("backfill")
        assert r.ledger.held_uids([late.uid]) == set()
        report = r.audit.run(ALL)
        assert not report.clean
        healed = r.audit.run(ALL, heal=True)
        assert healed.clean
        assert healed.healed == (date.fromisoformat(late.calldate),)
        assert r.assert_equal() == 303


def stated(r: Rig, day: date) -> tuple[Any, ...]:
    query = select(coverage).where(coverage.c.call_date == day)
    with r.engine.connect() as connection:
        row = connection.execute(query).one()
    return row.calls, row.operator_calls, row.operator_duration, row.operator_charge


def test_what_the_operator_states_of_a_day_is_kept_until_its_calls_change(migrated: Database) -> None:
    """On a Tuesday the day by itself, and Monday as the week without it; a later call of the day ends it."""
    with rig(migrated.url, calls=450, now="2024-05-21T12:00:00+01:00") as r:
        r.run()
        r.audit.run(ALL)
        for day in (DAY, DAY - timedelta(days=1)):
            truth = [call for call in r.world.records() if call.calldate == str(day)]
            held, calls, duration, charge = stated(r, day)
            assert (held, calls, duration) == (len(truth), len(truth), sum(call.duration for call in truth))
            assert abs(charge - sum(call.user_cost for call in truth)) < Decimal("0.02")
        assert stated(r, DAY - timedelta(days=2))[1:] == (None, None, None)
        r.clock.advance(60)
        r.world.add()
        r.run("poll")
        assert stated(r, DAY)[1:] == (None, None, None)


def test_what_healing_can_not_mend_stays_and_is_not_read_again(migrated: Database) -> None:
    """A call that the operator counts but never lists is a gap after healing: reported, and asked for once only."""
    with rig(migrated.url, Settings(end_date_included=False), calls=300) as r:
        r.run()
        unreadable = r.world.add(started=int(r.clock.seconds()) - 2 * 86400, duration=5, raw="<CDR><uid>x</uid></CDR>")
        report = r.audit.run(ALL, heal=True)
        assert not report.clean
        assert "quarantine" in report.gaps[0].problem
        assert unreadable.uid not in r.ledger.held_uids([unreadable.uid])
        assert report.healed == ()
        once = days_asked(r)[str(DAY)]
        r.clock.advance(60)
        assert not r.audit.run(ALL, heal=True).clean
        assert days_asked(r)[str(DAY)] == once
        r.clock.advance(7 * 86400)
        r.run("backfill")
        assert not r.audit.run(ALL, heal=True).clean
        assert days_asked(r)[str(DAY)] == once + 1


def test_arrivals_while_it_asks_are_no_alarm(migrated: Database) -> None:
    """Two hundred calls a second arriving, audited again and again: never a gap."""
    with rig(migrated.url, Settings(rate=200.0, latency=0.02), calls=300, days=1) as r:
        r.run()
        for _ in range(10):
            r.clock.advance(0.1)
            report = r.audit.run(ALL, heal=True)
            assert report.gaps == []


def test_calls_that_a_poll_is_still_to_store_are_told(migrated: Database) -> None:
    """They are no gap, but nobody who counts the rows would find them: the report says how many they are."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        assert r.audit.run(ALL).to_come == 0
        r.world.add()
        r.world.add()
        report = r.audit.run(ALL)
        assert (report.clean, report.to_come, report.findings[-1].held.calls) == (True, 2, 302)
        assert r.audit.run(ALL, heal=True).to_come == 0
        assert r.assert_equal() == 302


def test_only_what_was_wanted_is_compared(migrated: Database) -> None:
    """With start_date in the middle of the history, longer periods disagree without being gaps, and say why."""
    with rig(migrated.url, calls=300, start=date(2024, 5, 22)) as r:
        r.run()
        r.world.add()  # that a poll is still to store it is not the reason
        report = r.audit.run(ALL)
        assert report.clean
        assert not report.proven
        found = {finding.period: (finding.verdict, finding.problem) for finding in report.findings}
        assert found[Period.DAY] == (Verdict.COMPLETE, "")
        assert found[Period.ALL][0] is Verdict.UNAUDITED
        assert "it begins before start_date, 2024-05-22" in found[Period.ALL][1]


def test_everything_is_wanted(migrated: Database) -> None:
    """start_date "all" walks back until as many calls are held as the operator counts, and is proven."""
    with rig(migrated.url, Settings(), calls=450, days=70, start="all") as r:
        r.run()
        assert r.assert_equal() == 450
        assert r.audit.run(ALL).proven


def test_minutes_and_separators(migrated: Database) -> None:
    """Another unit of MinsTotalNoFormat and figures like `7,859` and `£10.00` are read for what they are."""
    with rig(migrated.url, Settings(mins_unit="minutes", separators=True), calls=750) as r:
        r.run()
        report = r.audit.run(ALL)
        assert report.proven
        assert report.findings[-1].interpretation.duration == "minutes"


def test_one_number(migrated: Database) -> None:
    """A number is compared by itself, with or without its leading 0; an unknown one gets the operator's message."""
    with rig(migrated.url, calls=450) as r:
        r.run()
        with r.engine.connect() as connection:
            number = connection.scalar(select(cdr.c.bnumber).limit(1))
        assert number is not None
        for spelled in (number, f"0{number}"):
            report = r.audit.run([Period.ALL], number=spelled)
            assert [finding.verdict for finding in report.findings] == [Verdict.COMPLETE]
            assert report.findings[0].held.calls > 0
        r.world.faults.script(Fault.ERROR_CODE)
        with pytest.raises((RequestRefused, ApiUnreachable), match="Internal error"):
            r.audit.run([Period.ALL], number="0999999999")


def test_one_number_over_days_that_retention_has_deleted(migrated: Database) -> None:
    """What is left of them is the ledger, which knows no numbers: the audit says so instead of crying gap."""
    with rig(migrated.url, calls=450) as r:
        r.run()
        with r.engine.connect() as connection:
            number = connection.scalar(select(cdr.c.bnumber).where(cdr.c.call_date == DAY).limit(1))
        gone = update(coverage).where(coverage.c.call_date == DAY).values(pruned="delete")
        write(r, delete(cdr).where(cdr.c.call_date == DAY), gone)
        (finding,) = r.audit.run([Period.ALL], number=number).findings
        assert finding.verdict is Verdict.UNAUDITED
        assert "retention has deleted calls" in finding.problem
        assert r.audit.run(ALL).proven


def test_a_refused_period_does_not_stop_the_others(migrated: Database) -> None:
    """The operator refuses one request of the document: that is said, the other periods are compared."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        r.world.faults.script(Fault.ERROR_CODE)
        try:
            report = r.audit.run(ALL)
        except (RequestRefused, ApiUnreachable):
            return
        refused = [finding for finding in report.findings if "refused" in finding.problem]
        assert len(refused) == 1
        assert refused[0].verdict is Verdict.UNAUDITED


def test_readings_that_missing_calls_suggested_do_not_last(migrated: Database) -> None:
    """Without any voicemail call the counts fit another reading. Once healed, everything agrees again."""
    with rig(migrated.url, calls=450) as r:
        r.run()
        voicemail = [call.uid for call in r.world.records() if call.kind == "voicemail"]
        write(r, delete(cdr).where(cdr.c.uid.in_(voicemail)))
        assert not r.audit.run(ALL).clean
        assert r.ledger.established() == Interpretation()
        assert r.audit.run(ALL, heal=True).clean
        assert r.audit.run(ALL).proven


def test_a_week_that_begins_on_sunday_is_no_gap(migrated: Database) -> None:
    """On which day the operator's week begins is not documented: the month around it vouches for its days."""
    with rig(migrated.url, Settings(week_begins="sunday"), now="2024-05-19T12:00:00+01:00", calls=450, days=30) as r:
        r.run()
        report = r.audit.run(ALL)
        assert (report.clean, report.proven) == (True, True)
        (week,) = (finding for finding in report.findings if finding.period is Period.WEEK)
        assert week.verdict is Verdict.UNAUDITED
        assert "month, which holds all of its days, agrees" in week.problem


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("found", ["by date", "by uid"])
@pytest.mark.parametrize("day", ["2024-05-24", "2024-12-24", "2038-01-19"])
def test_a_call_dated_after_today_is_among_all_calls(migrated: Database, day: str, found: str) -> None:
    """The operator counts it, whatever its date: held, it proves; not yet held, it is read by uid before any alarm."""
    with rig(migrated.url, calls=300) as r:
        if found == "by date":
            r.run()
        uid = r.world.records()[-5].uid
        r.world.change(uid, calldate=day)
        if found == "by uid":
            r.run()
        else:
            r.run("look_back")
        report = r.audit.run(ALL, heal=True)
        assert (report.gaps, report.proven) == ([], True)
        with r.engine.connect() as connection:
            assert connection.scalar(select(cdr.c.call_date).where(cdr.c.uid == uid)) == date.fromisoformat(day)


def test_history_that_was_ended_too_early_is_opened_by_healing(migrated: Database) -> None:
    """An earlier version took months that had been read before for empty ones."""
    with rig(migrated.url, calls=450, days=70, start="all") as r:
        ended = Checkpoint(Stream.HISTORY, window=Window(date(2024, 5, 1), date(2024, 5, 23)), done=True)
        r.run("poll")
        r.store.save(Page(Origin.BACKFILL, [], checkpoint=ended))
        r.run()
        assert not r.audit.run(ALL).clean
        assert r.audit.run(ALL, heal=True).proven
        assert r.assert_equal() == 450


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("days", [5, 50])
def test_calls_that_an_empty_first_sync_could_not_see_need_one_healing(migrated: Database, days: int) -> None:
    """Nothing at all at the first sync, with all wanted; then there is history."""
    with rig(migrated.url, start="all") as r:
        r.run()
        r.world.add_history(calls=300, days=days)
        assert not r.audit.run(ALL).clean
        report = r.audit.run(ALL, heal=True)
        assert (report.clean, report.proven, report.unread) == (True, True, False)
        assert r.assert_equal() == 300


def test_an_account_that_was_never_synced_can_not_be_audited(migrated: Database) -> None:
    """One line that says so, and what to do."""
    with rig(migrated.url, calls=10) as r:
        ledger = SqlLedger(r.engine, "another")
        with pytest.raises(ConfigError, match="no account 'another' yet"):
            Audit(r.source, ledger, r.sync.position, timezone=LONDON, page_size=100).run(ALL)
