"""The web server on its socket: its port and its end, and clients that are slow, silent, many or nosy."""

from __future__ import annotations

import math
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import CollectorRegistry

from cdrsync.web import Access, create_app, serve
from cdrsync.web import server as server_module
from tests.support import plain_http
from tests.support.canary import DOORBELL_TOKEN, PASSWORD
from tests.support.processes import REPOSITORY, until
from tests.support.web import healthy, serving

if TYPE_CHECKING:
    from cdrsync.web import WebServer

PATIENCE = 60.0  # seconds, on a busy machine: who is kept out waits for ever
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def connections(server: WebServer, count: int, said: bytes, stack: ExitStack) -> list[socket.socket]:
    made = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) for _ in range(count)]
    for one in made:
        one.sendall(said)
    return made


def live(server: WebServer) -> str:
    return plain_http.get(f"{server.url}livez", timeout=PATIENCE).text


@pytest.mark.parametrize("count", [64, 600])
@pytest.mark.parametrize("said", [HEAD, b"", b"POST /doorbell HTTP/1.1\r\nContent-Length: 4000\r\n\r\nx"])
def test_unfinished_requests_keep_nobody_out(count: int, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that never end, connections that say nothing, bodies that never come: /livez answers meanwhile."""
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", math.inf)  # none is closed because it is slow
    monkeypatch.setattr(server_module, "IDLE_SECONDS", math.inf)
    with serving(healthy()) as server, ExitStack() as stack:
        connections(server, count, said, stack)
        assert [live(server) for _ in range(3)] == ["alive\n"] * 3


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET / HTTP/1.1\r\nAuthorization: Bearer \xff\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n: nameless\r\n\r\n",
        b"POST /doorbell HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /doorbell HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"\r\n\r\n\r\n\r\n GET\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_so_many_words(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A stranger's bytes make no error of ours in the log."""
    with serving(healthy()) as server, ExitStack() as stack:
        (one,) = connections(server, 1, said, stack)
        answer = one.recv(1000)
        assert live(server) == "alive\n"
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer
    # waitress says there that a request waits for a thread, as it may on a busy machine.
    assert [record for record in caplog.records if record.name != "waitress.queue"] == []


@pytest.mark.waits
def test_an_unfinished_request_is_ended_although_its_client_goes_on() -> None:
    """A byte now and then (slowloris) buys no more time: ten seconds from its beginning it is closed."""
    with serving(healthy()) as server, ExitStack() as stack:
        began = time.monotonic()
        (slow,) = connections(server, 1, HEAD, stack)

        def is_closed() -> bool:
            try:
                slow.sendall(b"a")
                slow.settimeout(0.3)
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(is_closed, "the end of the slow connection", 40)
        assert time.monotonic() - began > 8


@pytest.mark.waits
def test_hanging_database_leaves_the_rest_answering() -> None:
    """Twenty probes wait for a database that hangs; /livez answers while they do, and none waits for long."""
    shown = healthy()
    release = threading.Event()
    shown.on_ask = lambda: release.wait(60)
    with (
        serving(shown) as server,
        ThreadPoolExecutor(20) as pool,
        plain_http.client(base_url=server.url, timeout=60) as client,
    ):
        stuck = pool.submit(client.get, "/readyz")
        until(lambda: shown.asked, "it asks, and the others wait for it")
        waiting = [pool.submit(plain_http.get, f"{server.url}readyz", timeout=60) for _ in range(6)]
        assert client.get("/livez").status_code == 200
        answers = {answer.result().text for answer in waiting}
        assert stuck.done() is False
        release.set()
        assert stuck.result().text == "ready\n"
    assert answers == {"not ready: the database has not answered for several seconds\n"}


def test_waiting_for_a_hanging_database_does_not_hold_up_live() -> None:
    """More requests wait for the database than there are threads; /livez has one of its own."""
    shown = healthy()
    release = threading.Event()
    shown.on_ask = release.wait
    with serving(shown) as server, ThreadPoolExecutor(40) as pool, ExitStack() as end:
        end.callback(release.set)
        waiting = [pool.submit(plain_http.get, f"{server.url}readyz", timeout=120) for _ in range(40)]
        until(lambda: shown.asked > 0, "a question to the database")
        assert live(server) == "alive\n"
        release.set()
        assert {answer.result().status_code for answer in waiting} <= {200, 503}


def test_serves_above_the_limit_of_select() -> None:
    """5,000 descriptors are open in the process: the next connection has a number that select() can't watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 6000:
        pytest.fail(f"this machine allows {hard} descriptors, the test needs 6,000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (6000, hard))
    try:
        with ExitStack() as stack:
            for _ in range(5000):
                stack.enter_context(open("/dev/null", "rb"))  # noqa: PTH123 - the plainest way to a descriptor
            server = stack.enter_context(serving(healthy()))
            assert live(server) == "alive\n"
            assert plain_http.get(server.url, timeout=PATIENCE).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FEW_DESCRIPTORS = """
import resource, sys, threading
from cdrsync.monitor import logs
from cdrsync.web import create_app, serve
from tests.support.web import healthy
logs.set_up("json", "info")
server = serve(create_app(healthy()), "127.0.0.1", 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
print(server.port, flush=True)
sys.stdin.read()
"""


def test_one_cause_is_one_line_of_the_log() -> None:
    """No descriptor is left for 80 connections: that is said once, not a thousand times a second; then it goes on."""
    program = [sys.executable, "-c", FEW_DESCRIPTORS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, cwd=REPOSITORY, text=True, **pipes) as run:  # type: ignore[call-overload]
        port = int(run.stdout.readline())
        with ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)).sendall(HEAD)
            time.sleep(2)  # long enough for a flood
        answer = until(lambda: plain_http.get(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE).text, "an answer")
        error = run.communicate("")[1]
    assert answer == "alive\n"
    assert len(error.splitlines()) <= 5, error[-2000:]


class TestServer:
    """waitress, on a socket."""

    def test_says_nothing_of_itself(self) -> None:
        with serving(healthy()) as server:
            assert "Server" not in plain_http.get(f"{server.url}livez").headers

    def test_head_has_no_body(self) -> None:
        with serving(healthy()) as server:
            answer = plain_http.head(server.url)
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


class TestAccess:
    """By which names the server is asked, and by whom."""

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:9810", "LOCALHOST.", "127.0.0.1:9810", "127.9.9.9", "[::1]:9810", "[::1]"]
    )
    def test_this_machine_is_answered(self, host: str) -> None:
        assert create_app(healthy()).test_client().get("/", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example.com", "evil.example.com:9810", "localhost.evil.example.com", "127.0.0.1.evil.example.com",
         "10.0.0.5", "[fe80::1]", "", "local host", "[::1", "2130706433", "0x7f.1"],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/livez", "/nothing"])
    def test_another_name_is_not(self, host: str, path: str) -> None:
        """A stranger's page could read the answer through its visitor's browser (DNS rebinding)."""
        app = create_app(healthy(), registry=CollectorRegistry())
        answer = app.test_client().get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "http_hosts" in answer.text

    def test_a_configured_name_is_answered(self) -> None:
        client = create_app(healthy(), access=Access(["cdr.example.com"])).test_client()
        hosts = ["cdr.example.com", "CDR.example.com:443", "other.example.com"]
        assert [client.get("/", headers={"Host": host}).status_code for host in hosts] == [200, 200, 421]

    def test_beyond_this_machine_an_address_is_answered(self) -> None:
        """Probes and Prometheus ask by address, which no stranger can make a browser do."""
        client = create_app(healthy(), access=Access(beyond_loopback=True)).test_client()
        hosts = ["10.0.0.5:9810", "[2001:db8::5]:9810", "evil.example.com"]
        assert [client.get("/readyz", headers={"Host": host}).status_code for host in hosts] == [200, 200, 421]

    def test_page_and_metrics_may_have_a_password(self) -> None:
        """Basic with any user name, or Bearer; probes need none."""
        app = create_app(healthy(), registry=CollectorRegistry(), access=Access(password=DOORBELL_TOKEN))
        client = app.test_client()
        bearer = {"Authorization": f"Bearer {DOORBELL_TOKEN}"}
        for path in ("/", "/metrics"):
            refused = client.get(path)
            assert (refused.status_code, refused.headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
            assert client.get(path, auth=("anybody", "wrong")).status_code == 401
            assert client.get(path, auth=("anybody", DOORBELL_TOKEN)).status_code == 200
            assert client.get(path, headers=bearer).status_code == 200
        assert [client.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]

    def test_guesses_are_slowed_down(self) -> None:
        """And who knows the password is let in meanwhile."""
        access = Access(password=PASSWORD, clock=lambda: 0.0)
        client = create_app(healthy(), access=access).test_client()
        codes = [client.get("/", auth=("x", str(n))).status_code for n in range(25)]
        assert codes == [401] * 20 + [429] * 5
        assert client.get("/", auth=("x", PASSWORD)).status_code == 200

    def test_doorbell_of_one_account(self) -> None:
        """/doorbell/NAME polls that account, /doorbell all of them; a name that nobody has is 404, and only for those
        who know the token.
        """
        from cdrsync.web import Doorbell

        rings: list[str | None] = []
        clock = iter(range(0, 1000, 10))
        bell = Doorbell(DOORBELL_TOKEN, rings.append, known=lambda n: n == "sales", clock=lambda: float(next(clock)))
        client = create_app(healthy(), doorbell=bell).test_client()
        bearer = {"Authorization": f"Bearer {DOORBELL_TOKEN}"}
        codes = [
            client.post(path, headers=bearer).status_code for path in ("/doorbell/sales", "/doorbell", "/doorbell/x")
        ]
        assert (codes, rings) == ([202, 202, 404], ["sales", None])
        assert client.post("/doorbell/x").status_code == 401

    def test_rings_for_several_accounts_are_passed_on_together(self) -> None:
        """Within the gap each named account is polled once, none is forgotten."""
        from cdrsync.web import Doorbell

        rings: list[str | None] = []
        bell = Doorbell(DOORBELL_TOKEN, rings.append)
        for name in ("a", "b", "c", "b"):
            bell.press(f"Bearer {DOORBELL_TOKEN}", name)
        until(lambda: len(rings) == 3, "the late rings")
        bell.close()
        assert rings == ["a", "b", "c"]
