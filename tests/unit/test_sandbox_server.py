"""The sandbox over a port: connections, the control endpoints, and `serve` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cdrsync.cli import main
from tests.support import plain_http
from tests.support.operator import Call, Fault, Login, World, running
from tests.support.processes import until
from tests.unit.sandbox_client import GET_CDRS, Client, code, turn, world

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 30.0  # seconds; the machine may be busy
SERVE = """
import sys
from cdrsync.cli.sandbox import sandbox
sandbox.callback("127.0.0.1", 0, calls=int(sys.argv[1]), days=2, rate=0.0, seed=1)
"""


@pytest.fixture
def place() -> World:
    """Some calls of a day; the clock stands."""
    place = world()
    place.add_history(calls=50, days=1)
    return place


@pytest.fixture
def url(place: World) -> Iterator[str]:
    """Of a server over `place`."""
    with running(place) as url:
        yield url


def test_connections_are_kept_alive(place: World, url: str) -> None:
    """Many documents over one connection, chunked ones and those for people among them."""
    client = Client(place, url)
    trace: list[str] = []
    extensions = {"trace": lambda name, _: trace.append(name)}
    for _ in range(5):
        document = client.document((GET_CDRS, {}), session=client.log_in())
        client.http.post(url, content=document, extensions=extensions)
        client.http.get(url.replace("/api/", "/_sandbox/records"), extensions=extensions)
        client.http.get(url, extensions=extensions)
    assert trace.count("http11.send_request_headers.complete") == 15
    assert trace.count("connection.connect_tcp.started") <= 1
    client.http.close()


@pytest.mark.parametrize("path", ["/", "/api/", "/api", "/anything/else"])
def test_the_api_is_on_every_path(place: World, url: str, path: str) -> None:
    """The help pages show the bare root, the official clients /api/."""
    client = Client(place, url.replace("/api/", path))
    assert code(client.ask(GET_CDRS)) == "200"
    client.http.close()


@pytest.mark.parametrize(("fault", "error"), [(Fault.RESET, httpx.ReadError), (Fault.CUT, httpx.RemoteProtocolError)])
def test_broken_connections(place: World, url: str, fault: Fault, error: type[Exception]) -> None:
    """Really broken: a TCP reset before any byte, or an end in mid-body. The next request gets a new connection."""
    client = Client(place, url)
    client.log_in()
    place.faults.script(fault)
    with pytest.raises(error):
        client.send(GET_CDRS)
    assert code(client.ask(GET_CDRS)) == "200"
    client.http.close()


def test_a_reset_is_a_reset(place: World, url: str) -> None:
    """On the bare socket: ECONNRESET, not an orderly end."""
    place.faults.script(Fault.RESET)
    host, port = re.fullmatch(r"http://(.+):(\d+)/api/", url).groups()  # type: ignore[union-attr]
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as raw:
        raw.sendall(b"POST /api/ HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n<NoveroRequest/>")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


def test_a_slow_answer_arrives_whole(place: World, url: str) -> None:
    """Over the socket too, piece by piece."""
    place.configure(drip_pause=0.0, drip_bytes=100)
    client = Client(place, url)
    client.log_in()
    place.faults.script(Fault.SLOW_DRIP)
    assert len(client.uids(limit=20)) == 20
    client.http.close()


def test_the_end_closes_every_connection(place: World) -> None:
    """After the `with`, idle connections are over and no thread of the server is left."""
    before = set(threading.enumerate())  # those of others may end meanwhile
    client = Client(place)
    with running(place) as url:
        client = Client(place, url)
        client.log_in()
    with pytest.raises(httpx.TransportError):
        client.post("<NoveroRequest/>")
    until(lambda: before >= set(threading.enumerate()), "the end of its threads")
    client.http.close()


def test_an_address_in_use_is_an_error(place: World, url: str) -> None:
    """At once, as an OSError that names it."""
    port = int(url.split(":")[2].removesuffix("/api/"))
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"), running(place, port=port):
        pass


# Behind the scenes


class Control:
    """The control endpoints, as another process uses them."""

    def __init__(self, url: str) -> None:
        self.http = plain_http.client(base_url=url.replace("/api/", "/_sandbox/"))

    def get(self, name: str, **parameters: str) -> Any:
        return self.http.get(name, params=parameters).json()

    def records(self, **parameters: str) -> list[Any]:
        return [json.loads(line) for line in self.http.get("records", params=parameters).text.splitlines()]

    def post(self, verb: str, **body: Any) -> Any:
        return self.http.post(verb, json=body).json()


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    """Of the server."""
    control = Control(url)
    yield control
    control.http.close()


def test_records_as_json_lines(place: World, control: Control) -> None:
    """Every field of every visible call; costs as text, exact."""
    records = control.records()
    assert records == [call.as_json() for call in place.records()]
    assert list(records[0]) == list(Call._fields)
    assert re.fullmatch(r"\d+\.\d{3}", records[0]["user_cost"])


def test_calls_by_hand(place: World, control: Control) -> None:
    """At once or late, with any field given; "all" shows what has only a uid yet."""
    fields = {"alias": "späť", "user_cost": "0.120", "extra": [["Tag", "x"]]}
    now, late = control.post("calls", fields=fields)[0], control.post("calls", count=2, delay=60)
    assert (now["alias"], now["user_cost"], now["extra"]) == ("späť", "0.120", [["Tag", "x"]])
    assert (len(control.records()), len(control.records(visible="all"))) == (51, 53)
    turn(place, 60)
    assert control.records()[-3:] == [now, *late]


def test_changes_losses_and_a_restarted_sequence(place: World, control: Control) -> None:
    """The verbs of `World`, one by one."""
    uid = place.records()[0].uid
    control.post("change", uid=uid, fields={"user_cost": "1.234"})
    assert control.records()[0]["user_cost"] == "1.234"
    assert control.post("vanish", uid=uid)["uid"] == uid
    assert len(control.records()) == 49
    control.post("restart_sequence", at=1000)
    assert control.post("calls")[0]["uid"] in range(1000, 1100)


def test_settings_and_faults(place: World, control: Control) -> None:
    """Both can be changed from outside while it runs, and what fired can be counted there."""
    control.post("settings", limit_clamp=3, late_delay=[1, 2])
    assert (place.settings.limit_clamp, place.settings.late_delay) == (3, (1, 2))
    assert control.post("faults", script=["http-503", None], rates={"http-500": 1.0}) == {"pending": 2}
    client = Client(place)
    assert [client.post("<NoveroRequest/>").status_code for _ in range(3)] == [503, 200, 500]
    counters = control.get("counters")
    assert (counters["faults"]["http-503"], counters["faults"]["http-500"], counters["documents"]) == (1, 1, 3)


def test_totals_requests_and_sessions(place: World, control: Control) -> None:
    """Exact sums to compare with, the log of requests, and the end of all sessions."""
    client = Client(place)
    client.ask(GET_CDRS, limit=5)
    totals = control.get("totals", period="all")
    assert (totals["calls"], totals["charge"]) == (50, str(place.totals("all").charge))
    assert [seen["name"] for seen in control.get("requests")] == ["SessionLogin", "GetCDRs"]
    control.post("expire_sessions")
    assert code(client.ask(GET_CDRS)) == "401"


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("settings", {"colour": "red"}, 400),
        ("calls", {"fields": {"colour": "red"}}, 400),
        ("calls", {"fields": {"user_cost": "dear"}}, 400),
        ("calls", {"login": "nobody"}, 404),
        ("change", {"uid": 1, "fields": {}}, 404),
        ("vanish", {}, 400),
        ("faults", {"script": ["nonsense"]}, 400),
        ("nonsense", {}, 404),
    ],
)
def test_wrong_orders_are_refused(control: Control, verb: str, body: dict[str, Any], status: int) -> None:
    """With a line that says why."""
    answer = control.http.post(verb, json=body)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


# `cdrsync sandbox`


@contextmanager
def _serve(calls: int) -> Iterator[subprocess.Popen[str]]:
    """`serve` in a process of its own, certainly gone afterwards."""
    with subprocess.Popen([sys.executable, "-c", SERVE, str(calls)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_what_to_paste_and_ends_at_once(number: signal.Signals) -> None:
    """The printed environment logs in; a signal ends it with nothing more said, an open connection or not."""
    with _serve(100) as process:
        printed = _introduction(process)
        exported = dict(re.findall(r"export CDRSYNC_(\w+)=(\S+)", printed))
        assert "stand-ins and open nothing but this sandbox" in printed
        login = Login(exported["USERNAME"], exported["PASSWORD"], exported["VKEY"])
        client = Client(World(), exported["API_URL"], login)
        assert len(client.uids(limit=1000, LastId=0)) == 100
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        assert process.communicate()[0] == ""
        client.http.close()


def test_an_address_that_can_not_be_had_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """A port that is taken, a host that is another machine's: which one, why, what to do; exit 78."""
    remedy = "hint: Give another --port (0 takes a free one), or a --host that is this machine's\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["sandbox", "--calls", "1", "--port", port]) == 78
    said = f"error: can't listen on 127.0.0.1, port {port}: Address already in use\n{remedy}"
    assert capfd.readouterr() == ("", said)
    assert main(["sandbox", "--calls", "1", "--host", "192.0.2.1"]) == 78
    said = f"error: can't listen on 192.0.2.1, port 9811: Cannot assign requested address\n{remedy}"
    assert capfd.readouterr() == ("", said)


def _introduction(process: subprocess.Popen[str]) -> str:
    """All that `serve` prints, up to its last line."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("What it really holds"):
            break
    return "".join(lines)


def test_a_signal_ends_it_while_calls_are_still_made() -> None:
    """Before it serves anything: making fifty million calls would take minutes."""
    with _serve(50_000_000) as process:
        _wait_until_it_catches(process, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        assert process.communicate()[0] == ""


def _wait_until_it_catches(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Until the process has its handler in place, as its status in /proc says."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        if caught is not None and int(caught[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.02)
    raise TimeoutError


def test_a_client_that_was_killed_is_no_news(place: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Its reset ends the connection without a word: a campaign's output would drown in tracebacks."""
    with running(place) as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        before = set(threading.enumerate())
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: before >= set(threading.enumerate()), "the end of its threads")
    assert capfd.readouterr() == ("", "")
