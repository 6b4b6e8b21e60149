"""The web server's paths, headers and page, in-process."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Gauge

from cdrsync.errors import DatabaseUnavailable, SchemaMismatch
from cdrsync.monitor.activity import AccountState, Phase
from cdrsync.web import Doorbell, create_app
from tests.support.canary import DOORBELL_TOKEN
from tests.support.web import AT, HOSTILE, Shown, healthy, healthy_status, now, refused, troubled, well

if TYPE_CHECKING:
    from werkzeug.test import TestResponse


def get(shown: Shown, path: str) -> TestResponse:
    return create_app(shown).test_client().get(path)


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
    doorbell = Doorbell(DOORBELL_TOKEN, lambda _: None)
    answer = create_app(healthy(), registry=CollectorRegistry(), doorbell=doorbell).test_client().get(path)
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


def test_page_says_what_fails_beside_the_polls() -> None:
    """History for which the disk has no room: polls that bring nothing succeed, and the daemon is ready."""
    shown = healthy()
    failing = replace(
        well(),
        last_error="database or disk is full. Free space",
        last_error_kind="DatabaseUnavailable",
        failing_since=AT - timedelta(minutes=2),
    )
    shown.shown = now(failing)
    assert "database or disk is full. Free space" in get(shown, "/").text
    assert get(shown, "/readyz").text == "ready\n"
    shown.shown = now(replace(failing, phase=Phase.STANDING_BY))
    assert "disk is full" not in get(shown, "/").text


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
