"""The audit of an account that is limited to some of its numbers: those are compared, each by itself, and no other."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from cdrsync.model import Period, Verdict
from cdrsync.store.reads.status import every_account
from cdrsync.store.schema.tables import cdr
from tests.support.operator import Settings
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

ALL = list(Period)


def busiest(r: Rig, count: int) -> tuple[str, ...]:
    """The numbers with the most calls, as they are dialled in the UK."""
    calls = Counter(call.bnumber for call in r.world.records())
    return tuple(f"0{number}" for number, _ in calls.most_common(count))


def held(r: Rig) -> Counter[str]:
    with r.engine.connect() as connection:
        return Counter(f"0{number}" for number in connection.scalars(select(cdr.c.bnumber)))


def test_only_its_numbers_are_compared(migrated: Database) -> None:
    """One number, then two: all is held that is wanted, so all agrees, is proven, and shows in the account's state."""
    with rig(migrated.url, calls=450) as r:
        for count in (1, 2):
            limited = r.under(numbers=busiest(r, count))
            limited.run()
            r.clock.advance(60)
            report = limited.audit.run(ALL, heal=True)
            assert [(finding.verdict, finding.number) for finding in report.findings] == [(Verdict.COMPLETE, None)] * 5
            assert (report.clean, report.proven) == (True, True)
            assert report.findings[-1].held.calls == sum(held(r).values())
            (standing,) = every_account(r.engine)
            assert [line.verdict for line in standing.audits] == [Verdict.COMPLETE] * 5


def test_a_lost_call_of_one_number_is_found_and_healed(migrated: Database) -> None:
    """A call that appears later than every look-back: that number's totals tell."""
    with rig(migrated.url, calls=450) as r:
        one, two = busiest(r, 2)
        limited = r.under(numbers=(one, two), lookback_interval=timedelta(), sweep_days=1)
        limited.run()
        late = r.world.add_late(2 * 86400, started=int(r.clock.seconds()) - 86400, bnumber=two[1:], duration=77)
        for seconds in (60, 2 * 86400):
            r.clock.advance(seconds)
            r.world.add(bnumber=one[1:])
            r.world.add(bnumber=two[1:])
            limited.run("poll")
        limited.run("backfill")
        assert r.ledger.held_uids([late.uid]) == set()
        report = limited.audit.run(ALL)
        assert report.findings[-1].verdict is Verdict.GAP
        assert two in report.findings[-1].problem
        assert one not in report.findings[-1].problem
        healed = limited.audit.run(ALL, heal=True)
        assert healed.clean
        assert r.ledger.held_uids([late.uid]) == {late.uid}


def test_arrivals_while_it_asks_are_no_alarm(migrated: Database) -> None:
    """Two hundred calls a second, audited again and again."""
    with rig(migrated.url, Settings(rate=200.0, latency=0.02), calls=300, days=1) as r:
        limited = r.under(numbers=busiest(r, 2))
        limited.run()
        for _ in range(8):
            r.clock.advance(0.1)
            assert limited.audit.run(ALL, heal=True).gaps == []


def test_a_number_that_is_not_its_own_is_no_gap(migrated: Database) -> None:
    """`--number` with another number than the configured ones: nothing of it was to be held."""
    with rig(migrated.url, calls=450) as r:
        one, two = busiest(r, 2)
        limited = r.under(numbers=(one,))
        limited.run()
        (finding,) = limited.audit.run([Period.ALL], number=two).findings
        assert finding.verdict is Verdict.UNAUDITED
        assert "limited to other numbers" in finding.problem
        assert limited.audit.run([Period.ALL], number=one[1:]).findings[0].verdict is Verdict.COMPLETE


def test_without_its_limit_everything_is_held_again(migrated: Database) -> None:
    """Days that were read for one number only are read again for all."""
    with rig(migrated.url, calls=450) as r:
        r.under(numbers=busiest(r, 1)).run()
        r.clock.advance(60)
        r.run()
        assert r.assert_equal() == 450
        assert r.audit.run(ALL).proven
