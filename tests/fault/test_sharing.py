"""Replicas share the accounts: joining, leaving, dying and hanging move only what they must, and nobody waits long."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select

from cdrsync.config import Inputs, load
from cdrsync.daemon.sharing import chosen
from cdrsync.daemon.tasks import NEVER
from cdrsync.daemon.worker import Worker
from cdrsync.monitor.activity import AccountState, Activity
from cdrsync.monitor.metrics import Metrics
from cdrsync.store.replica import NAME_LENGTH
from cdrsync.store.schema.tables import account, cdr, lease, replica
from cdrsync.wiring.database import Database as Joined
from tests.benchmarks import fleet_operator
from tests.support.operator import Login, Settings, World, running
from tests.support.processes import Daemon, daemon, environment, since_yesterday, stop_between_writes, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.conftest import Database

ACCOUNTS = 8
LEASE_SECONDS = 4
STALL = 6  # seconds that a busy machine may add
POLL_SECONDS = 2
LOGINS = [Login(f"user{n}@example.com", f"password-of-{n}", f"vkey-of-{n}-0000") for n in range(ACCOUNTS)]


def test_accounts_are_spread_and_few_move() -> None:
    """A third replica takes a third of a thousand accounts, a third of each one's; the others stay where they are."""
    names = [f"account{n}" for n in range(1000)]
    two = {name: chosen(name, ["a", "b"]) for name in names}
    three = {name: chosen(name, ["a", "b", "c"]) for name in names}
    assert min(Counter(two.values()).values()) > 430
    assert min(Counter(three.values()).values()) > 280
    assert {three[name] for name in names if three[name] != two[name]} == {"c"}
    assert chosen("x", []) == ""


@pytest.fixture
def world() -> World:
    made = World(Settings(), logins=LOGINS, seed=9)
    for one in LOGINS:
        made.add(username=one.username)
    return made


@pytest.fixture
def env(world: World, migrated: Database, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What every replica is told."""
    with running(world) as url:
        yield told(url, migrated.url, tmp_path, [(one.username, one.password, one.vkey) for one in LOGINS])


def told(api_url: str, database_url: str, path: Path, logins: list[tuple[str, str, str]]) -> dict[str, str]:
    """Several accounts, polls and leases of a few seconds."""
    folder = path / "accounts.d"
    folder.mkdir()
    for number, (username, password, vkey) in enumerate(logins):
        file = folder / f"a{number}.toml"
        text = f'username = "{username}"\npassword = "{password}"\nvkey = "{vkey}"\n'
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
    (path / "cdrsync.toml").touch()
    settings = environment(
        api_url, database_url, poll_interval=f"{POLL_SECONDS}s", lease_seconds=str(LEASE_SECONDS),
        start_date=since_yesterday(), audit_time="off", config=str(path / "cdrsync.toml"),
    )  # fmt: skip
    for name in ("USERNAME", "PASSWORD", "VKEY"):
        del settings[f"CDRSYNC_{name}"]
    return settings


@pytest.fixture
def engine(migrated: Database) -> Iterator[Engine]:
    made = create_engine(migrated.url)
    yield made
    made.dispose()


def holders(engine: Engine) -> dict[int, set[str]]:
    """Which accounts each process holds."""
    query = select(replica.c.process, account.c.name).join(lease, lease.c.replica_id == replica.c.id)
    found: dict[int, set[str]] = {}
    with engine.connect() as connection:
        for process, name in connection.execute(query.join(account, account.c.id == lease.c.account_id)):
            found.setdefault(process, set()).add(name)
    return found


def shared(engine: Engine, *replicas: Daemon) -> bool:
    """Whether each account is held by the one of these replicas whose it is."""
    query = select(replica.c.process, replica.c.id).where(replica.c.process.in_([one.pid for one in replicas]))
    with engine.connect() as connection:
        names = {process: one[:NAME_LENGTH] for process, one in connection.execute(query)}
    wanted = {f"a{number}": chosen(f"a{number}", names.values()) for number in range(ACCOUNTS)}
    found = {name: names.get(process) for process, held in holders(engine).items() for name in held}
    return len(names) == len(replicas) and found == wanted


def all_arrive(world: World, engine: Engine) -> None:
    """A new call of every account is held, once."""
    for one in LOGINS:
        world.add(username=one.username)
    wanted = sum(len(world.records(one.username)) for one in LOGINS)

    def held() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(select(func.count()).select_from(cdr)).scalar() == wanted)

    until(held, "a call of every account")


@pytest.mark.parametrize("what", ["assigned to another", "removed"])
def test_an_account_that_was_never_begun_is_given_up(migrated: Database, what: str) -> None:
    """Leases are claimed for all accounts at once: most of a thousand may go before their first poll."""
    settings = load(Inputs(environ=environment("http://127.0.0.1:1/", migrated.url)))
    joined = Joined(settings, shares=True)
    activity = Activity()
    activity.reset([AccountState("default")])
    worker = Worker(
        settings, settings.accounts[0], database=joined, activity=activity, metrics=Metrics(activity), first=NEVER
    )
    try:
        joined.replica.take(["default"])
        worker.assign(ours=True)
        assert joined.replica.holders() == {"default": joined.replica.name}
        worker.assign(ours=False)
        if what == "removed":
            worker.end()
        else:
            worker.turn(long=False)
        assert joined.replica.holders() == {}
    finally:
        joined.close()


def test_replicas_share_hand_over_and_take_over(world: World, env: dict[str, str], engine: Engine) -> None:
    """Three share; one that is killed, hangs or leaves is replaced; no call is lost or doubled."""
    with daemon(env) as first:
        until(lambda: shared(engine, first), "the first one has all")
        with daemon(env) as second, daemon(env) as third:
            until(lambda: shared(engine, first, second, third), "three share")
            all_arrive(world, engine)
            third.signal(signal.SIGKILL)  # seen at once: it was on this machine
            until(lambda: shared(engine, first, second), "two share what the dead one had")
            all_arrive(world, engine)
            stop_between_writes(second.pid)
            until(lambda: shared(engine, first), "what the hanging one had is taken")
            all_arrive(world, engine)
            second.signal(signal.SIGCONT)
            until(lambda: shared(engine, first, second), "it has its part again")
            all_arrive(world, engine)
            assert second.stop() == 0
            until(lambda: shared(engine, first), "what it left is taken")
            all_arrive(world, engine)
        assert first.stop() == 0
        bugs = [line for one in (first, second) for line in one.lines if "internal error" in line]
        assert bugs == []


def test_nobody_waits_long_while_replicas_join_and_restart(migrated: Database, engine: Engine, tmp_path: Path) -> None:
    """Three join one by one, then each is restarted: every account is polled again within two leases' time."""
    logins = [fleet_operator.login(number) for number in range(ACCOUNTS)]
    with fleet_operator.Operator(None) as operator, contextlib.ExitStack() as stack:
        settings = told(operator.url, migrated.url, tmp_path, logins)
        replicas: list[Daemon] = []
        for _ in range(3):
            replicas.append(stack.enter_context(daemon(settings)))
            until(lambda: shared(engine, *replicas), f"{len(replicas)} share")
            if len(replicas) == 1:
                until(lambda: operator.told()["polled"] == ACCOUNTS, "the first polls")
        for place in range(3):
            assert replicas[place].stop() == 0
            replicas[place] = stack.enter_context(daemon(settings))
            until(lambda: shared(engine, *replicas), "three share again")
        assert operator.longest_wait() <= POLL_SECONDS + 2 * LEASE_SECONDS + STALL
        assert [one.stop() for one in replicas] == [0, 0, 0]


def test_an_account_that_only_one_replica_knows_is_worked_on(world: World, env: dict[str, str], engine: Engine) -> None:
    """The others' configuration lacks it, so that the replica it belongs to never takes it: another does."""
    with daemon(env, "--account", "a0") as first:
        until(lambda: holders(engine).keys() == {first.pid}, "the first one has the account that it knows")
        with daemon(env) as second:
            begun = time.monotonic()
            until(lambda: sum(map(len, holders(engine).values())) == ACCOUNTS, "every account has a replica")
            assert time.monotonic() - begun < 60
            assert holders(engine).get(first.pid, set()) <= {"a0"}
            all_arrive(world, engine)
            assert (first.stop(), second.stop()) == (0, 0)
