"""The whole of cdrsync in one process: sandbox, source, sync, audit and a real database, with time in the test's hand.

The oracle is the sandbox's own list of calls, compared with the table value by value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from cdrsync.audit.audit import Audit
from cdrsync.sandbox import DEMO_LOGIN
from cdrsync.source.request import Login
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.reads.ledger import SqlLedger
from cdrsync.store.schema.tables import cdr
from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.steps import Sync
from tests.support.api import ONCE, api
from tests.support.clock import LONDON, Clock
from tests.support.operator import Call, Settings, World, transport
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from cdrsync.source.api import NoveroApi
    from cdrsync.source.retry import RetryPolicy
    from cdrsync.store.save import SqlStore

NOON = "2024-05-23T12:00:00+01:00"  # a Thursday


@dataclass(frozen=True)
class Rig:
    """One account, its operator and its database."""

    world: World
    clock: Clock
    source: NoveroApi
    store: SqlStore
    engine: Engine
    ledger: SqlLedger
    sync: Sync
    audit: Audit
    settings: SyncSettings

    def under(self, **settings: Any) -> Rig:
        """The same account and database under another configuration."""
        changed = dataclasses.replace(self.settings, **settings)
        sync = Sync(self.source, self.store, changed, clock=self.clock)
        audit = Audit(self.source, self.ledger, sync.position, sync, timezone=LONDON, page_size=changed.page_size)
        return dataclasses.replace(self, sync=sync, audit=audit, settings=changed)

    def run(self, step: str = "catch_up", *arguments: Any) -> int:
        """Run a step of the algorithm to its end; answers how many records it inserted or updated."""
        return sum(saved.inserted + saved.updated for saved in getattr(self.sync, step)(*arguments))

    def assert_equal(self, *, since: date | None = None) -> int:
        """Fail at the first difference between the table and the sandbox's records; answers how many were compared."""
        return assert_equal(self.engine, self.world.records(), since=since)


def assert_equal(engine: Engine, calls: list[Call], *, since: date | None = None) -> int:
    """Compare the table with the operator's own records, value by value."""
    truth = {
        call.uid: expected(call)
        for call in calls
        if call.raw is None and (since is None or call.calldate >= since.isoformat())
    }
    with engine.connect() as connection:
        rows = connection.execute(select(*(cdr.c[name] for name in COLUMNS))).all()
    held = {row.uid: tuple(row) for row in rows}
    assert len(rows) == len(held), "doubled"
    assert sorted(truth.keys() - held.keys()) == [], "lost"
    assert sorted(held.keys() - truth.keys()) == [], "held without being the operator's"
    for uid, call in truth.items():
        if held[uid] != call:
            differences = {name: (a, b) for name, a, b in zip(COLUMNS, held[uid], call, strict=True) if a != b}
            raise AssertionError(f"uid {uid}: {str(differences)[:300]}")
    return len(truth)


COLUMNS = (
    *("uid", "ref", "call_date", "call_time", "started_at", "anumber", "anumber_location", "bnumber", "alias"),
    *("dialled", "dialled_location", "duration", "ring_time", "user_cost", "reason", "reason_q805"),
    *("has_recorded_call", "has_voicemail_recording", "has_fax_document", "extra"),
)


def expected(call: Call) -> tuple[Any, ...]:
    """A row of COLUMNS as the operator's record demands it."""
    return (
        call.uid,
        call.ref,
        date.fromisoformat(call.calldate),
        time.fromisoformat(call.calltime),
        datetime.fromtimestamp(call.started, UTC),
        call.anumber,
        call.anumber_location,
        call.bnumber,
        call.alias,
        call.dialled,
        call.dialled_location,
        call.duration,
        call.ring_time,
        call.user_cost,
        call.reason,
        call.reason_q805,
        call.has_recorded_call,
        call.has_voicemail_recording,
        call.has_fax_document,
        _extra(call.extra),
    )


def _extra(elements: tuple[tuple[str, str], ...]) -> str | None:
    """Unknown elements as the table keeps them: an element that came more than once is a list."""
    texts: dict[str, list[str]] = {}
    for name, content in elements:
        texts.setdefault(name, []).append(content)
    plain = {name: found if len(found) > 1 else found[0] for name, found in texts.items()}
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")) if plain else None


@contextlib.contextmanager
def rig(
    url: str,
    operator: Settings | None = None,
    *,
    now: str = NOON,
    calls: int = 0,
    days: float = 3,
    seed: int = 1,
    retry: RetryPolicy | None = None,
    **sync_settings: Any,
) -> Iterator[Rig]:
    """Everything wired together on a migrated database; `start` is long before the first call unless said."""
    clock = Clock(now)
    world = World(operator or Settings(), clock=clock.seconds, sleep=clock.advance, seed=seed)
    if calls:
        world.add_history(calls=calls, days=days)

    first_day = clock().date() - timedelta(days=int(days) + 1)
    chosen: dict[str, Any] = {"start": first_day, "page_size": 100} | sync_settings
    settings = SyncSettings(timezone=LONDON, **chosen)
    source = api(
        login=Login(DEMO_LOGIN.username, DEMO_LOGIN.password, DEMO_LOGIN.vkey),
        transport=transport(world),
        retry=retry or ONCE,
        clock=clock,
        monotonic=clock.seconds,
    )
    store = OwnStore(url, "default", clock=clock)
    engine = open_engine(url)
    ledger = SqlLedger(engine, "default")
    sync = Sync(source, store, settings, clock=clock)
    audit = Audit(source, ledger, sync.position, sync, timezone=LONDON, page_size=settings.page_size)
    try:
        store.open()
        yield Rig(world, clock, source, store, engine, ledger, sync, audit, settings)
    finally:
        source.close()
        store.close()
        engine.dispose()
