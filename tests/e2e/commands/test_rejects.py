"""`cdrsync rejects` as a user types it: records that could not be read are listed, shown and tried again."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.support.processes import answer, cdrsync, environment

if TYPE_CHECKING:
    from tests.support.operator import World
    from tests.support.servers import Servers


def test_rejects_are_listed_shown_and_tried_again(env: dict[str, str], world: World) -> None:
    """A record that can't be typed is kept as sent; once it can be, `retry` stores it."""
    uid = world.add(raw="<CDR><uid>{uid}</uid><calldate>2024-02-30</calldate></CDR>").uid
    run = cdrsync("sync", env=env)
    assert (run.returncode, run.stderr) == (
        1, "default: 1 record that can't be read was put into quarantine: cdrsync rejects list\n"
    )  # fmt: skip
    run = cdrsync("sync", env=env)  # it comes again, and is nothing new
    assert (run.returncode, run.stderr) == (0, "")
    (listed,) = answer("rejects", "list", env=env, code=1)["rejects"]
    assert listed["account"] == "default"
    shown = answer("rejects", "show", str(listed["number"]), env=env)["reject"]
    assert shown["raw"].startswith("<CDR>")
    assert answer("rejects", "retry", env=env, code=1) == {
        "version": 1,
        "command": "rejects retry",
        "stored": 0,
        "left": 1,
    }
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    good = _printed(uid)
    with closing(sqlite3.connect(path)) as connection:  # as if a newer program could read what this one could not
        connection.execute("UPDATE reject SET raw = ?", (good,))
        connection.commit()
    assert answer("rejects", "retry", env=env)["stored"] == 1
    assert answer("rejects", "list", env=env)["rejects"] == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT user_cost FROM cdr WHERE uid = ?", (uid,)).fetchone() == (5000,)


def test_a_reject_that_the_database_still_can_not_hold_is_left(api: str, world: World, servers: Servers) -> None:
    """`retry` counts what is held after it, not what it could read: a number too long for the index stays open."""
    env = environment(api, servers.get("postgresql").create())
    world.add(anumber="".join(random.Random(1).choices("0123456789abcdef", k=20_000)))
    run = cdrsync("sync", env=env)
    assert (run.returncode, "1 record that can't be read was put into quarantine" in run.stderr) == (1, True)
    for _ in range(2):
        retried = answer("rejects", "retry", env=env, code=1)
        assert (retried["stored"], retried["left"]) == (0, 1)
    (left,) = answer("rejects", "list", env=env, code=1)["rejects"]
    assert left["resolved_at"] is None
    assert "the database can't hold it" in left["problem"]


def _printed(uid: int) -> str:
    return (
        f"<CDR><uid>{uid}</uid><ref>51FD5E980233A34F</ref><calldate>2013-08-03</calldate><calltime>20:48:40</calltime>"
        "<anumber>7700900123</anumber><anumber_location>x</anumber_location><bnumber>1245830144</bnumber><alias></alias>"
        "<dialled>0</dialled><dialled_location>Unknown</dialled_location><duration>0</duration><ring_time>0</ring_time>"
        "<user_cost>0.005</user_cost><reason>2</reason><reason_q805>0</reason_q805></CDR>"
    )
