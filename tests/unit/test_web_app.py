"""The web server's paths, headers and limits, in-process and over a real socket."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from cdrsync.errors import DatabaseUnavailable, SchemaMismatch
from cdrsync.monitor.activity import AccountState, Phase
from cdrsync.web import Doorbell, create_app, serve
from tests.support import plain_http
from tests.support.canary import DOORBELL_TOKEN
from tests.support.processes import until
from tests.support.web import AT, HOSTILE, Shown, healthy, healthy_status, now, refused, troubled, well

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.test import TestResponse

BEARER = {"Authorization": f"Bearer {DOORBELL_TOKEN}"}


def get(shown: Shown, path: str) -> TestResponse:
    return create_app(shown).test_client().get(path)


def doorbell(rings: list[int]) -> Doorbell:
    return Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1), clock=lambda: 0.0)


@contextmanager
def serving(shown: Shown, **options: Any) -> Iterator[str]:
    server = serve(create_app(shown, **options), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


def test_alive_never_touches_the_database() -> None:
    shown = healthy()
    shown.failure = DatabaseUnavailable("gone")
    answer = get(shown, "/livez")
    assert (answer.status_code, answer.text, shown.asked) == (200, "alive\n", 0)


def test_stuck_worker_is_not_alive() -> None:
    """Outside systemd, whose watchdog does this, the container's liveness probe restarts a daemon that hangs."""
    shown = Shown(now(well(), stuck="default: no step for 20 min"), {})
    answer = get(shown, "/livez")
    assert (answer.status_code, answer.text) == (503, "stuck: default: no step for 20 min\n")


CUT_OFF = "this replica has not reached the database for 23 s: another one may have its accounts"


def test_a_replica_that_is_cut_off_does_not_call_itself_alive() -> None:
    """It runs, and to begin it anew would not help: the probe passes, with the truth."""
    shown = healthy()
    shown.shown = replace(shown.shown, cut_off=23.4)
    assert (get(shown, "/livez").status_code, get(shown, "/livez").text) == (200, f"{CUT_OFF}\n")
    assert CUT_OFF in get(shown, "/").text


def test_ready_after_a_recent_poll() -> None:
    answer = get(healthy(), "/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")


def test_ready_where_another_replica_does_the_work() -> None:
    """A replica without an account of its own is well: it takes over when it has to."""
    standing_by = replace(well(), phase=Phase.STANDING_BY, last_success=None)
    assert get(Shown(now(standing_by), {}), "/readyz").text == "ready\n"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (Shown(now(AccountState("default")), {}), "default: no poll has succeeded yet"),
        (
            Shown(
                now(replace(well(), last_success=AT - timedelta(minutes=12))),
                {},
            ),
            "default: no poll has succeeded for 12 min",
        ),
        (Shown(now(well(), stopping=True), {}), "stopping"),
        (Shown(replace(now(well()), cut_off=23.4), {}), CUT_OFF),
        (
            Shown(now(well()), {}, failure=DatabaseUnavailable("the database can't be used:\nno route to host")),
            "the database can't be used: no route to host",
        ),
        (
            Shown(now(well()), {}, failure=SchemaMismatch("the schema is 0001, this program needs 0002")),
            "the schema is 0001, this program needs 0002",
        ),
    ],
)
def test_not_ready_says_why_in_one_line(shown: Shown, reason: str) -> None:
    answer = get(shown, "/readyz")
    assert (answer.status_code, answer.text) == (503, f"not ready: {reason}\n")


def test_not_ready_names_every_reason() -> None:
    shown = Shown(now(refused()), {}, failure=DatabaseUnavailable("gone"))
    answer = get(shown, "/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith("not ready: gone; sales: the operator refused the login")
    assert answer.text.count("\n") == 1


def test_of_several_accounts_one_in_trouble_is_no_reason() -> None:
    """One refused login, or one account that was not polled yet: the process works, and says which account waits."""
    answer = get(Shown(now(well(), refused()), {}), "/readyz")
    assert answer.status_code == 200
    assert answer.text.startswith("ready; of 2 accounts not current: sales: the operator refused the login")
    starting = [AccountState(f"a{n}") for n in range(12)]
    answer = get(Shown(now(*starting), {}), "/readyz")
    assert (answer.status_code, answer.text.count("no poll")) == (200, 8)
    assert answer.text.endswith("; and 4 more\n")
    for failing in (
        Shown(now(well(), refused(), stopping=True), {}),
        Shown(replace(now(well(), refused()), cut_off=23.4), {}),
    ):
        assert get(failing, "/readyz").status_code == 503


def test_metrics_are_the_registry() -> None:
    registry = CollectorRegistry()
    Gauge("cdrsync_gaps", "Days.", ["account"], registry=registry).labels("default").set(2)
    answer = create_app(healthy(), registry=registry).test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    assert 'cdrsync_gaps{account="default"} 2.0' in answer.text


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_allowed(path: str, method: str) -> None:
    answer = create_app(healthy(), registry=CollectorRegistry()).test_client().open(path, method=method)
    assert answer.status_code == (404 if path == "/nothing" else 405)


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/nothing", "/doorbell"])
def test_every_answer_carries_the_security_headers(path: str) -> None:
    rings: list[int] = []
    answer = create_app(healthy(), registry=CollectorRegistry(), doorbell=doorbell(rings)).test_client().get(path)
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    found = {name: answer.headers[name] for name in ("X-Content-Type-Options", "Referrer-Policy", "Cache-Control")}
    assert found == {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def test_a_bug_of_ours_shows_no_traceback() -> None:
    shown = Shown(now(well()), {})  # no status: a KeyError
    answer = get(shown, "/")
    assert (answer.status_code, answer.text) == (500, "500 Internal Server Error\n")


def test_page_of_an_unreachable_database_still_shows_the_daemon() -> None:
    shown = healthy()
    shown.failure = DatabaseUnavailable("the database can't be used: connection refused")
    answer = get(shown, "/")
    assert answer.status_code == 200
    assert "the database can&#39;t be used: connection refused" in answer.text
    assert "1084183829" in answer.text
    assert "Ledger of days" not in answer.text


def test_page_escapes_everything() -> None:
    """Nothing that the operator, a caller or a configuration file wrote becomes markup, or turns text around."""
    text = get(troubled(), "/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    forbidden = ["<script", "<img", "{{7", "49}}", "\u202e", "\x00", "onerror=alert(2)>"]
    assert [piece for piece in forbidden if piece in text] == ["{{7"]  # shown as written, not computed
    assert HOSTILE not in text


def test_page_has_no_outside_resource_and_no_inline_style() -> None:
    text = get(troubled(), "/").text
    assert [
        piece for piece in ("http://", "https://", "style=", '<link rel="stylesheet', 'src="') if piece in text
    ] == []


def test_page_reloads_only_on_request() -> None:
    client = create_app(healthy()).test_client()
    assert ["http-equiv" in client.get(path).text for path in ("/", "/?refresh=60", "/?refresh=0")] == [
        False,
        True,
        False,
    ]


def test_page_says_that_a_configuration_was_refused() -> None:
    """In words, since when, and what names every problem; the daemon is well otherwise."""
    shown = healthy()
    shown.shown = replace(shown.shown, reload_refused="page_size must be a whole number", reload_refused_at=AT)
    text = get(shown, "/").text
    assert "a changed configuration was refused, the old one stays: page_size must be a whole number" in text
    assert "cdrsync config check" in text
    assert get(shown, "/readyz").text == "ready\n"


def test_overview_says_who_works_on_an_account() -> None:
    """Where replicas share the accounts, one that another replica has is well, and names it."""
    away = replace(well("away"), phase=Phase.STANDING_BY, last_success=None)
    shown = Shown(now(away, well()), {"away": healthy_status("away"), "default": healthy_status()})
    text = get(shown, "/").text
    assert "with process 4711 on cdr1" in text
    assert "All is well" in text
    assert "lease: process 4711 on cdr1" in get(shown, "/account/away").text


def test_page_of_an_account_that_is_not_there() -> None:
    assert get(healthy(), "/account/nobody").status_code == 404
    assert get(healthy(), "/account/default").status_code == 200


def test_database_is_asked_once_however_many_look() -> None:
    shown = healthy()
    client = create_app(shown).test_client()
    for _ in range(20):
        client.get("/")
    assert shown.asked == 2  # for all accounts' figures, and for the one that is shown


def test_hanging_database_leaves_the_rest_answering() -> None:
    """Twenty probes wait for a database that hangs; /livez answers while they do, and none waits for long."""
    shown = healthy()
    release = threading.Event()
    shown.on_ask = lambda: release.wait(60)
    with serving(shown) as url, ThreadPoolExecutor(20) as pool, plain_http.client(base_url=url, timeout=60) as client:
        stuck = pool.submit(client.get, "/readyz")
        until(lambda: shown.asked, "it asks, and the others wait for it")
        waiting = [pool.submit(plain_http.get, f"{url}/readyz", timeout=60) for _ in range(6)]
        assert client.get("/livez").status_code == 200
        answers = {answer.result().text for answer in waiting}
        assert stuck.done() is False
        release.set()
        assert stuck.result().text == "ready\n"
    assert answers == {"not ready: the database has not answered for several seconds\n"}


class TestDoorbell:
    """POST /doorbell makes the next poll happen now, for those who know the token."""

    def test_is_off_without_a_token(self) -> None:
        assert create_app(healthy()).test_client().post("/doorbell", headers=BEARER).status_code == 404

    def test_rings(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        answer = client.post("/doorbell", headers=BEARER, json={"event_type": "call-completed", "ref": "!51FD5E98"})
        assert (answer.status_code, answer.text, rings) == (202, "accepted\n", [1])

    def test_takes_the_token_as_basic_password(self) -> None:
        """Many senders of webhooks know no other way than https://anybody:TOKEN@host/doorbell."""
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post("/doorbell", auth=("anybody", DOORBELL_TOKEN)).status_code == 202
        assert rings == [1]

    @pytest.mark.parametrize(
        "authorization",
        [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {DOORBELL_TOKEN[:-1]}", f"Bearer {DOORBELL_TOKEN}x",
         f"Digest {DOORBELL_TOKEN}", "Basic %%%", "Basic OnRvbw==", "Bearer \u00e9"],
    )  # fmt: skip
    def test_refuses_anything_else(self, authorization: str | None) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = client.post("/doorbell", headers=headers)
        assert (answer.status_code, answer.text, rings) == (401, "refused\n", [])

    def test_takes_no_token_from_the_address(self) -> None:
        """An address ends up in the logs of every proxy on the way."""
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post(f"/doorbell?token={DOORBELL_TOKEN}").status_code == 401
        assert rings == []

    def test_is_never_rung_by_reading(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert (client.get("/doorbell", headers=BEARER).status_code, rings) == (405, [])

    def test_refuses_a_large_body(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post("/doorbell", headers=BEARER, data=b"x" * 4097).status_code == 413
        assert rings == []

    def test_refuses_a_large_body_of_unstated_length(self) -> None:
        rings: list[int] = []
        with serving(healthy(), doorbell=doorbell(rings)) as url:
            answer = plain_http.post(f"{url}/doorbell", headers=BEARER, content=(b"x" * 1000 for _ in range(10)))
        assert (answer.status_code, rings) == (413, [])

    def test_limits_rings_and_guesses_apart(self) -> None:
        """Whoever guesses tokens is slowed down, and can't keep the operator's rings out by it."""
        rings: list[int] = []
        outcomes: list[str] = []
        bell = Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1), counted=outcomes.append, clock=lambda: 0.0)
        client = create_app(healthy(), doorbell=bell).test_client()
        guesses = [client.post("/doorbell", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(25)]
        assert guesses == [401] * 20 + [429] * 5
        answers = [client.post("/doorbell", headers=BEARER) for _ in range(22)]
        bell.close()
        assert [answer.status_code for answer in answers] == [202] * 20 + [429] * 2
        assert answers[-1].headers["Retry-After"] == "1"
        assert outcomes == ["refused"] * 20 + ["limited"] * 5 + ["accepted"] * 20 + ["limited"] * 2

    def test_many_rings_become_two_polls(self) -> None:
        """A storm of rings makes one poll at once and one after it: none of the calls is missed, no storm goes on."""
        rings: list[int] = []
        late = threading.Event()

        def ring(_: str | None) -> None:
            rings.append(1)
            if len(rings) == 2:
                late.set()

        bell = Doorbell(DOORBELL_TOKEN, ring)
        for _ in range(15):
            bell.press(BEARER["Authorization"])
        assert late.wait(30)
        bell.close()
        assert rings == [1, 1]

    def test_does_not_ring_after_the_end(self) -> None:
        rings: list[int] = []
        bell = Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1))
        bell.close()
        bell.press(BEARER["Authorization"])
        assert rings == []

    def test_needs_a_token(self) -> None:
        with pytest.raises(ValueError, match="open to everybody"):
            Doorbell("", lambda _: None)


class TestServer:
    """waitress, on a socket."""

    def test_says_nothing_of_itself(self) -> None:
        with serving(healthy()) as url:
            assert "Server" not in plain_http.get(f"{url}/livez").headers

    def test_head_has_no_body(self) -> None:
        with serving(healthy()) as url:
            answer = plain_http.head(url)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 1000

    def test_port_in_use_is_an_error_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            serve(create_app(healthy()), "127.0.0.1", taken.getsockname()[1])

    def test_port_is_free_again_after_the_end(self) -> None:
        """Also while a client keeps its connection: `Restart=` and a new configuration take the same port."""
        server = serve(create_app(healthy()), "127.0.0.1", 0)
        with plain_http.client(base_url=f"http://127.0.0.1:{server.port}") as client:
            assert client.get("/livez").text == "alive\n"
            server.close()
            again = serve(create_app(healthy()), "127.0.0.1", server.port)
            again.close()

    def test_end_does_not_wait_for_a_hanging_answer(self) -> None:
        shown = healthy()
        entered, release = threading.Event(), threading.Event()

        def hang() -> None:
            entered.set()
            release.wait(60)

        shown.on_ask = hang
        server = serve(create_app(shown), "127.0.0.1", 0)
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(plain_http.get, f"http://127.0.0.1:{server.port}/readyz", timeout=60)
            assert entered.wait(30)
            server.close()
            with pytest.raises(httpx.HTTPError):
                hanging.result()
            release.set()

    def test_loopback_of_either_family(self) -> None:
        server = serve(create_app(healthy()), "::1", 0)
        try:
            assert plain_http.get(f"http://[::1]:{server.port}/livez").text == "alive\n"
        finally:
            server.close()
