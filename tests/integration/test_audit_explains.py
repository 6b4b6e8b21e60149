"""What an audit says of every difference, and what a person can answer: on every database."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from cdrsync.model import Period, Verdict
from cdrsync.store.reads.quarantine import Quarantine
from cdrsync.store.reads.status import every_account
from cdrsync.store.schema.tables import cdr, coverage, reject
from tests.support.operator.hostile import spoilt
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

ALL = list(Period)
DAY = date(2024, 5, 21)
HOSTILE = 32
CALLS = 1200
NO_DAYS = ("0000-00-00", "2013-02-30", "", "21/05/2024")


def plant(r: Rig) -> None:
    """Hostile records among the history: half under days that are none, half that can't be typed otherwise."""
    held = sorted(call.uid for call in r.world.records())
    taken, places = set(held), held[50 :: len(held) // HOSTILE][:HOSTILE]
    for n, place in enumerate(places):
        uid = next(uid for uid in range(place, place + 1000) if uid not in taken)
        taken.add(uid)
        call = r.world.add(
            uid=uid, started=int(r.clock.seconds()) - 2 * 86400, duration=10 + n, user_cost=Decimal(n) / 100
        )
        if n % 2:
            raw = spoilt(call, 6)  # calltime 25:61:00
            r.world.change(uid, raw=raw)
        else:
            day = NO_DAYS[n // 2 % len(NO_DAYS)]
            xml = spoilt(call, 4).replace("2013-02-30", day)
            r.world.change(uid, raw=xml, calldate="0000-00-00")


def counts(r: Rig) -> tuple[int, int]:
    with r.engine.connect() as connection:
        return (
            connection.scalar(select(func.count()).select_from(cdr)) or 0,
            connection.scalar(select(func.count()).select_from(reject)) or 0,
        )


def test_what_no_date_shows_is_found_and_every_difference_is_explained(migrated: Database) -> None:
    """1,200 records of which 32 are hostile: held and quarantined are 1,200, and the audit names the 32."""
    with rig(migrated.url, calls=CALLS - HOSTILE, days=20, start="all") as r:
        plant(r)
        r.run()
        held, quarantined = counts(r)
        assert held == CALLS - HOSTILE
        assert quarantined < HOSTILE
        missing = r.audit.run(ALL).findings[-1]
        assert missing.verdict is Verdict.GAP
        assert f"{quarantined} of the {HOSTILE} missing are in quarantine" in missing.problem
        report = r.audit.run(ALL, heal=True)
        assert counts(r) == (CALLS - HOSTILE, HOSTILE)
        finding = report.findings[-1]
        assert f"{HOSTILE} calls fewer than the operator counts" in finding.problem
        seconds = sum(10 + n for n in range(HOSTILE))
        pounds = Decimal(sum(range(HOSTILE))) / 100
        assert f"all {HOSTILE} are in quarantine ({seconds} seconds, £{pounds.normalize():f})" in finding.problem
        assert report.tried


def test_a_person_accepts_a_gap_until_something_changes(migrated: Database) -> None:
    """No gap is left and the note is shown, audit after audit; another call of the day ends it."""
    with rig(migrated.url, calls=450) as r:
        r.run()
        r.world.add(started=int(r.clock.seconds()) - 2 * 86400, duration=5, raw="<CDR><uid>x</uid></CDR>")
        assert not r.audit.run(ALL, heal=True).clean
        gap = r.audit.accept(DAY, "the operator deletes it")
        assert gap is not None
        for _ in range(2):
            report = r.audit.run(ALL, heal=True)
            assert report.clean
            assert not report.proven
            assert Verdict.ACCEPTED in {finding.verdict for finding in report.findings}
            (account,) = every_account(r.engine)
            assert not account.gaps
            assert [(day.day, day.note) for day in account.ledger if day.verdict is Verdict.ACCEPTED] == [
                (DAY, "the operator deletes it")
            ]
            r.clock.advance(86400)
            r.run()
        r.world.add(started=int(r.clock.seconds()) - 4 * 86400, duration=5, raw="<CDR><uid>y</uid></CDR>")
        assert not r.audit.run(ALL).clean


def test_calls_that_the_operator_does_not_list_are_named_and_paint_no_week_red(migrated: Database) -> None:
    """Three calls too many: the day that holds them is the gap, with their uids."""
    with rig(migrated.url, calls=450, days=10) as r:
        r.run()
        with r.engine.begin() as connection:
            row = connection.execute(select(cdr).where(cdr.c.call_date == DAY).limit(1)).one()._asdict()
            for uid in (7, 8, 9):
                connection.execute(insert(cdr).values(**row | {"uid": uid, "duration": 60}))
            here = coverage.c.call_date == DAY
            more = {"calls": 3, "duration": 180, "charge": 3 * row["user_cost"]}
            changed = {name: coverage.c[name] + value for name, value in more.items()}
            connection.execute(coverage.update().where(here).values(**changed))
        report = r.audit.run(ALL, heal=True)
        assert [gap.window.days() for gap in report.gaps] == [[DAY]]
        assert "3 calls are held that the operator does not list: uid 7, 8, 9" in report.gaps[0].problem
        with r.engine.connect() as connection:
            red = connection.scalars(select(coverage.c.call_date).where(coverage.c.verdict == "gap")).all()
        assert red == [DAY]
        found = r.audit.explain(DAY)
        assert ([cdr.uid for cdr in found.suspects], found.missing, found.held - found.listed) == ([7, 8, 9], [], 3)
        assert r.audit.explain(DAY - timedelta(days=1)).agrees


def test_a_dismissed_reject_is_open_no_longer_and_explains_still(migrated: Database) -> None:
    """Seen again it stays dismissed; in another form it is another one."""
    with rig(migrated.url, calls=60) as r:
        raw = "<CDR><uid>5</uid><duration>x</duration></CDR>"
        bad = r.world.add(raw=raw)
        r.run()
        quarantine = Quarantine(r.engine)
        (kept,) = quarantine.records()
        assert quarantine.dismiss(kept.number, "a test call", r.clock())
        assert quarantine.records() == []
        (shown,) = quarantine.records(resolved=True)
        assert shown.dismissed_note == "a test call"
        r.run("look_back")
        r.run("sweep")
        assert quarantine.records() == []
        assert r.ledger.quarantined() == [raw]
        r.world.change(bad.uid, raw=raw.replace("x", "y"))
        r.run("sweep")
        assert len(quarantine.records()) == 1
        assert not quarantine.dismiss(99, "none of that number", r.clock())
