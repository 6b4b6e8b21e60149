"""The lease: one writer per account; how it is taken, kept by beats and given back."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, select, update

from cdrsync import config
from cdrsync.daemon.sharing import Sharing, chosen
from cdrsync.errors import LeaseHeld
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.replica import BEATS, Replica
from cdrsync.store.schema.tables import account, lease, replica
from cdrsync.wiring import database as wiring
from tests.integration.leases import QUICK, opened, page, replicas
from tests.support.processes import environment, until
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database

PATIENT = 4.0  # lease_seconds of one that must not end: beats come every half second, on a busy machine late


def test_a_second_instance_is_told_who_holds_it(migrated: Database) -> None:
    """Process and host, and since when; other accounts of the same database are free."""
    words = rf"account main is held by process {os.getpid()} on .* since 20.* UTC"
    with opened(migrated.url), opened(migrated.url, "other"), pytest.raises(LeaseHeld, match=words):
        OwnStore(migrated.url, "main").open()
    with opened(migrated.url):
        """Free again after close."""


def test_of_many_openers_one_gets_it(migrated: Database) -> None:
    """Whatever the timing."""
    taken: list[SqlStore] = []
    refused: list[LeaseHeld] = []

    def run() -> None:
        store = OwnStore(migrated.url, "main")
        try:
            store.open()
            taken.append(store)
        except LeaseHeld as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 5)
    taken[0].close()


@pytest.mark.waits
def test_a_quiet_holder_keeps_it(migrated: Database) -> None:
    """Beats tell the others that a holder without work is alive."""
    with opened(migrated.url) as store:
        deadline = time.monotonic() + 1.5 * PATIENT
        while time.monotonic() < deadline:
            with pytest.raises(LeaseHeld):
                OwnStore(migrated.url, "main", lease_seconds=PATIENT).open()
            time.sleep(0.25)
        assert store.save(page(1)).high_water_uid == 1


def test_many_leases_are_a_matter_of_a_few_statements(migrated: Database) -> None:
    """Taken, renewed, released and looked at: however many accounts, the statements are the same."""
    few, many = statements(migrated.url, ["one"]), statements(migrated.url, [f"account-{n}" for n in range(300)])
    assert few == many
    assert many["beat"] == 1
    assert max(many.values()) <= 12


def statements(url: str, names: list[str]) -> dict[str, int]:
    """How many statements each step takes."""
    said: list[str] = []

    def hear(*about: Any) -> None:
        said.append(about[2])

    counts = {}
    with replicas(url, 15.0, 15.0) as (first, second):
        for one in (first, second):
            event.listen(one.engine, "before_cursor_execute", hear)
        steps: dict[str, Callable[[], object]] = {
            "make": lambda: first.take(names),
            "release": lambda: first.release(names),
            "take": lambda: first.take(names),
            "beat": first.beat,
            "stand by": lambda: second.take(names),
        }
        for step, work in steps.items():
            said.clear()
            work()
            counts[step] = len([one for one in said if not one.startswith(("BEGIN", "SET"))])
        assert (first.held(), second.held()) == (set(names), set())
    return counts


def test_a_clean_farewell_frees_everything(migrated: Database) -> None:
    """The row of the replica goes, too."""
    with replicas(migrated.url, 15.0, 15.0) as (first, second):
        first.take(["a", "b", "c"])
        assert [peer.process.pid for peer in second.living()] == [os.getpid()]
        first.leave()
        assert second.living() == []
        assert second.take(["a", "b", "c"]) == {}


def test_a_lease_without_a_beat_is_not_shown_as_held(migrated: Database) -> None:
    """A replica that is cut off does not claim its accounts any more when others may have them."""
    with replicas(migrated.url, QUICK) as (first,):
        first.take(["main"])
        first._leaving.set()
        until(lambda: not first.held(), "the end of its lease")


def test_a_lease_in_doubt_that_is_to_be_anothers_is_free_with_the_next_look(migrated: Database) -> None:
    """An error came in the very moment in which the account was given to another replica: nobody uses the lease."""
    read = config.load(config.Inputs(environ=environment("http://127.0.0.1:1/", migrated.url)))
    ours, theirs = wiring.Database(read, shares=True), wiring.Database(read, shares=True)
    with contextlib.closing(ours), contextlib.closing(theirs):
        first, second = ours.replica, theirs.replica
        names = [f"account-{n}" for n in range(8)]
        first.take(names)
        for name in names:
            first.forget(name)
        second.join()
        Sharing(ours, lambda: names, lambda *_: None, lambda _: None, lambda _: None)._share()
        its = {name for name in names if chosen(name, [first.name, second.name]) == second.name}
        held = second.take(sorted(its))
        assert (held, first.held()) == ({}, set(names) - its)


@pytest.mark.parametrize("begun", [True, False], ids=["it was worked on", "it never was"])
def test_an_account_that_is_removed_during_a_look_keeps_no_lease(migrated: Database, begun: bool) -> None:
    """Its worker has ended, and nobody else would free it: a rename of the account was refused until a restart."""
    read = config.load(config.Inputs(environ=environment("http://127.0.0.1:1/", migrated.url)))
    known = ["removed", "stays"]
    with contextlib.closing(wiring.Database(read, shares=True)) as database:
        if begun:
            database.replica.take(known)

        def names() -> list[str]:
            """What is known as the look begins; then SIGHUP comes."""
            found = known[:]
            if "removed" in known:
                known.remove("removed")
                database.replica.release(["removed"])
            return found

        Sharing(database, names, lambda *_: None, lambda _: None, lambda _: None)._share()
        assert (database.replica.held(), set(database.replica.holders())) == ({"stays"}, {"stays"})


def test_a_replica_that_comes_back_stands_by_for_nobody(migrated: Database) -> None:
    """After an outage, or a step of the server's clock, its own last beat is old: the accounts stay its own."""
    read = config.load(config.Inputs(environ=environment("http://127.0.0.1:1/", migrated.url)))
    database, told = wiring.Database(read, shares=True), []
    with contextlib.closing(database):
        database.replica.take(["main"])
        hours_ago = database.replica._clock() - timedelta(hours=5)
        database.replica._write(lambda connection: connection.execute(update(replica).values(beat_at=hours_ago)))
        Sharing(database, lambda: ["main"], lambda *both: told.append(both), lambda _: None, lambda _: None)._share()
    assert told == [({"main"}, set())]


class _Looks(Sharing):
    """Looks that go wrong (n), or well (y)."""

    looks = iter("nnynn")

    def _share(self) -> None:
        look = next(self.looks, "")
        self._ended = not look
        self._changed.set()
        if look == "n":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
def test_what_goes_wrong_at_each_look_is_told_once(migrated: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Some thousand lines an hour say no more than one; the same after a look that went well is news."""
    read = config.load(config.Inputs(environ=environment("http://127.0.0.1:1/", migrated.url)))
    with contextlib.closing(wiring.Database(read, shares=True)) as database:
        _Looks(database, list, lambda *_: None, lambda _: None, lambda _: None)._run()
    told = capsys.readouterr()
    assert (told.out + told.err).count("Too many open files") == 2


def test_a_lease_of_nobody_is_free(migrated: Database) -> None:
    """Somebody deleted a replica's row by hand, or a restored backup names one that is not there."""
    with replicas(migrated.url, 15.0) as (first,):
        engine = open_engine(migrated.url)
        with engine.begin() as connection:
            connection.execute(insert(account).values(name="main", created_at=first._clock()))
            of_main = connection.scalar(select(account.c.id))
            values = {"account_id": of_main, "replica_id": "f" * 32, "token": "0", "commits": 4, "interventions": 0}
            connection.execute(insert(lease).values(values))
        engine.dispose()
        assert first.take(["main"]) == {}


class _SlowOnce(Replica):
    """A replica whose first beat takes as long as there should be between two."""

    def __init__(self, url: str) -> None:
        super().__init__(url, lease_seconds=9.0)
        self.first_ended = 0.0  # monotonic, as is the next
        self.second: float | None = None

    def beat(self) -> None:
        begun = time.monotonic()
        super().beat()
        if not self.first_ended:
            time.sleep(self.lease_seconds / BEATS)
            self.first_ended = time.monotonic()
        elif self.second is None:
            self.second = begun


@pytest.mark.waits
@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
def test_a_beat_that_took_long_is_followed_by_another_at_once(migrated: Database) -> None:
    """It was that old when it came through: a pause beside would cost the leases a third of their time."""
    slow = _SlowOnce(migrated.url)
    try:
        slow.take(["main"])
        until(lambda: slow.second is not None, "a second beat")
    finally:
        slow.leave()
    assert slow.second is not None
    assert slow.second - slow.first_ended < slow.lease_seconds / BEATS
