"""`cdrsync doctor` before a sync comes upon what is wrong with a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from tests.support.api import answering
from tests.support.canary import LOGIN, PASSWORD
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.operator import Settings, World, running
from tests.support.peer import Seen, http, peer
from tests.support.processes import cdrsync, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Database


def test_what_a_user_may_not_do(database: Database) -> None:
    """Exit 78, what lacks, and the statement that mends it."""
    name = f"poor_{database_name(database.url)}"[:32]
    if isinstance(database.server, PostgresqlServer):
        database.server.execute(f"CREATE ROLE {name} LOGIN")
        url = database.url.replace("postgres@", f"{name}@")
    elif isinstance(database.server, MariadbServer):
        database.server.execute(f"CREATE USER {name}@'%' IDENTIFIED BY ''")
        database.server.execute(f"GRANT SELECT ON {database_name(database.url)}.* TO {name}@'%'")
        url = make_url(database.url).set(username=name).render_as_string(hide_password=False)
    else:
        pytest.skip("SQLite has no users")
    with running(World(Settings())) as api:
        run = cdrsync("doctor", env=environment(api, url))
    assert run.returncode == 78
    assert "FAIL  permissions" in run.stdout
    assert "GRANT " in run.stdout


AWAY = {"CDRSYNC_API_URL": "https://127.0.0.1:9/api/", "NO_PROXY": "", "no_proxy": ""}
SET_UP_WRONG = {
    "certificates that are not there": (AWAY | {"SSL_CERT_FILE": "/nonexistent"}, 78, "SSL_CERT_FILE: /nonexistent"),
    "a proxy of a kind that can't be": (AWAY | {"ALL_PROXY": "socks://127.0.0.1:1080/"}, 78, "ALL_PROXY: not the"),
    "a proxy's port": (AWAY | {"HTTPS_PROXY": "http://127.0.0.1:port"}, 78, "HTTPS_PROXY: not the address"),
    "a proxy's password": (
        AWAY | {"HTTPS_PROXY": f"http://user:{PASSWORD}#4711@127.0.0.1:9"}, 78, "HTTPS_PROXY: not the address",
    ),
    "a proxy that nobody runs": (AWAY | {"HTTPS_PROXY": "http://127.0.0.1:9"}, 69, "through the proxy 127.0.0.1:9"),
    "a server that nobody runs": (AWAY, 69, "127.0.0.1"),
    "plain http to elsewhere": ({"CDRSYNC_API_URL": "http://192.0.2.1/api/"}, 78, "api_url"),
    "an option of another driver": (
        {"CDRSYNC_DATABASE_URL": "mysql://u@127.0.0.1:9/x?useSSL=true"}, 78, "useSSL",
    ),
    "a database's port": ({"CDRSYNC_DATABASE_URL": "postgres://u@127.0.0.1:port/x"}, 78, "database_url"),
    "a database that nobody runs": (
        {"CDRSYNC_DATABASE_URL": "postgres://u@127.0.0.1:9/x?pgbouncer=true"}, 69, "127.0.0.1",
    ),
    "a login that is refused": ({"CDRSYNC_VKEY": "another"}, 77, "allow-list"),
}  # fmt: skip


@pytest.mark.waits
@pytest.mark.parametrize("fault", SET_UP_WRONG)
def test_doctor_finds_what_a_sync_would_meet(fault: str, tmp_path: Path) -> None:
    """By the same name and with the same exit code, and nothing that is secret is shown."""
    wrong, code, words = SET_UP_WRONG[fault]
    with running(World(Settings(), logins=[LOGIN])) as api:
        env = {**environment(api, f"sqlite:///{tmp_path / 'calls.db'}"), **wrong}
        found, synced = cdrsync("doctor", env=env), cdrsync("sync", env=env)
    assert (found.returncode, synced.returncode) == (code, code), (found.stdout, synced.stderr)
    for run in (found, synced):
        assert words in run.stdout + run.stderr
        assert "Traceback" not in run.stderr
        assert PASSWORD not in run.stdout + run.stderr


def test_doctor_finds_one_login_under_two_names(tmp_path: Path) -> None:
    """As `config check` does: every call would be held twice."""
    config = tmp_path / "cdrsync.toml"
    config.write_text("[accounts.one]\n[accounts.two]\n", encoding="utf-8")
    env = environment("http://127.0.0.1:9/api/", f"sqlite:///{tmp_path / 'calls.db'}")
    for command in (("doctor",), ("sync",), ("config", "check")):
        run = cdrsync(*command, "--config", str(config), env=env)
        assert (run.returncode, "one" in run.stderr, "two" in run.stderr) == (78, True, True), run.stderr


@pytest.mark.waits
def test_doctor_finds_an_operator_that_moved(tmp_path: Path) -> None:
    """An HTTP 301 says where it leads."""
    elsewhere = "https://new.example.com/api/"
    with peer(lambda _: http(b"", "301 Moved Permanently", Location=elsewhere)) as one:
        run = cdrsync("doctor", env=environment(one.url, f"sqlite:///{tmp_path / 'calls.db'}"))
    assert run.returncode == 69
    assert elsewhere in run.stdout


def _failing(when: Callable[[Seen], bool]) -> Callable[[Seen], bytes]:
    """An operator that fails at some documents."""

    def step(seen: Seen) -> bytes:
        if not seen.body:
            return http()
        return http(b"", "500 Internal Server Error") if when(seen) else http(answering(seen))

    return step


def _asks_for_many(seen: Seen) -> bool:
    return any(int(one.findtext("limit", "0")) > 200 for one in seen.root.iterchildren("Request"))


def _asks_several(seen: Seen) -> bool:
    return seen.names.count("GetCDRs") > 1


@pytest.mark.waits
@pytest.mark.parametrize(
    ("when", "words"),
    [
        (_asks_for_many, "the operator fails when asked for more than 125 records: pages are smaller"),
        (_asks_several, "the operator fails when asked several things in one document: each is asked by itself"),
    ],
)
def test_doctor_tells_what_the_operator_can_not_do(when: Callable[[Seen], bool], words: str, tmp_path: Path) -> None:
    """Asked in a sync's sizes: what is learned is a warning, for a sync finds its way by itself."""
    with peer(_failing(when)) as one:
        run = cdrsync("doctor", "--json", env=environment(one.url, f"sqlite:///{tmp_path / 'calls.db'}"))
    checks = json.loads(run.stdout)["checks"]
    assert run.returncode == 0, run.stdout
    assert [(one["state"], one["detail"]) for one in checks if one["check"] == "pages"] == [("warning", words)]


def test_doctor_finds_another_pseudonym_key(tmp_path: Path) -> None:
    """Before a call is refused because of it; under the right one all is well again."""
    world = World(Settings(), logins=[LOGIN], seed=1)
    world.add_history(calls=20, days=2)
    right, wrong = "a long and random text", "another long and random text"

    def run(key: str | None, *command: str) -> tuple[int, str]:
        told = {} if key is None else {"pseudonym_key": key}
        done = cdrsync(*command, env=environment(api, f"sqlite:///{tmp_path / 'calls.db'}", **told))
        return done.returncode, done.stdout + done.stderr

    with running(world) as api:
        assert run(right, "sync")[0] == 0
        assert run(right, "erase", "--number", "07700900123", "--yes")[0] == 0
        for key in (wrong, None):
            world.add()
            for command in ("doctor", "sync"):
                code, said = run(key, command)
                assert (code, "pseudonym_key is not" in said, right in said) == (78, True, False), said
        assert run(right, "doctor")[0] == run(right, "sync")[0] == 0
