"""The operator's API for benchmarks: every record's bytes are ready before the first request.

Run as a process of its own (`ApiServer` does), threads on plain sockets, HTTP/1.1 with keep-alive. A page of records is
one slice of one block of bytes, so that no client is ever held up by its making. No gzip: compressing would cost more
than a loopback connection saves.

Answers SessionLogin, GetCDRs (LastId, StartDate, EndDate, offset, limit) and GetTotals, several in one document in
order. `POST /control` sets how many records are visible, the delay before every document and whether EndDate is
included (the operator does not say), and answers the counts since the last `POST /control`.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
import threading
import time
import urllib.request
from array import array
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from itertools import accumulate
from typing import Any
from xml.etree import ElementTree as ET

from tests.benchmarks.data import Recipe, calls, render
from tests.benchmarks.served import Served

USERNAME = "user@example.com"
PASSWORD = "bench-password"
VKEY = "a9d64e4c3289e7a14b51baf8adfec60a"
LIMIT_BY_DEFAULT = 10  # the operator's

_ENVELOPE = b'<?xml version="1.0"?>\n<NoveroResponse>\n'
_ENVELOPE_END = b"</NoveroResponse>\n"


class Records:
    """The records as bytes, with what is needed to find a page of them."""

    def __init__(self, recipe: Recipe) -> None:
        parts: list[bytes] = []
        self.uids: list[int] = []
        self.dates: list[str] = []
        durations, costs, answered, voicemails = [0], [0], [0], [0]
        for call in calls(recipe):
            parts.append(render(call))
            self.uids.append(call.uid)
            self.dates.append(call.call_date.isoformat())
            durations.append(call.duration)
            costs.append(int(call.user_cost * 1000))
            answered.append(int(call.duration > 0))
            voicemails.append(int(call.has_voicemail_recording is True))
        self.starts = array("Q", accumulate((len(part) for part in parts), initial=0))
        self._block = memoryview(b"".join(parts))
        self.last_day = recipe.last_day
        self._sums = [list(accumulate(column)) for column in (durations, costs, answered, voicemails)]

    def block(self, start: int, stop: int) -> memoryview:
        """The bytes of the records from position `start` up to `stop`."""
        return self._block[self.starts[start] : self.starts[stop]]

    def totals(self, period: str, visible: int) -> bytes:
        """The summary of a period, as the operator prints it."""
        start, stop = self._positions(period, visible)
        duration, cost, answered, voicemail = (sums[stop] - sums[start] for sums in self._sums)
        missed = stop - start - answered
        average = duration // answered if answered else 0
        return (
            f'      <CDRTotals Period="{period}">\n'
            f"        <AnsweredTotal>{answered - voicemail}</AnsweredTotal>\n"
            f"        <MinsTotal>{duration} secs</MinsTotal>\n"
            f"        <MinsTotalNoFormat>{duration}</MinsTotalNoFormat>\n"
            f"        <MissedTotal>{missed}</MissedTotal>\n"
            f"        <VoicemailTotal>{voicemail}</VoicemailTotal>\n"
            f"        <AvgLength>{average} secs</AvgLength>\n"
            f"        <ChargeTotal>{cost / 1000:.2f}</ChargeTotal>\n"
            f"        <AvgCost>{cost / 1000 / answered if answered else 0:.2f}</AvgCost>\n"
            "      </CDRTotals>\n"
        ).encode()

    def _positions(self, period: str, visible: int) -> tuple[int, int]:
        today = self.last_day
        month = today.replace(day=1)
        last_month = (month - timedelta(days=1)).replace(day=1)
        first, last = {
            "day": (today, today),
            "week": (today - timedelta(days=today.weekday()), today),
            "month": (month, today),
            "last-month": (last_month, month - timedelta(days=1)),
            "all": (today.replace(year=1990), today),
        }[period]
        return self.window(first.isoformat(), last.isoformat(), visible, end_included=True)

    def window(self, first: str, last: str, visible: int, *, end_included: bool) -> tuple[int, int]:
        """Positions of the records of a range of days (yyyy-mm-dd)."""
        bisect = bisect_right if end_included else bisect_left
        start = bisect_left(self.dates, first, 0, visible) if first else 0
        return start, max(start, bisect(self.dates, last, 0, visible) if last else visible)


class Service:
    """Answers documents. What `control` sets holds for the documents that come after it."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._sessions: set[str] = set()
        self._lock = threading.Lock()
        self.visible = len(records.uids)
        self.latency = 0.0  # seconds
        self.end_included = False
        self._counts = {"documents": 0, "requests": 0, "logins": 0, "records": 0}

    def control(self, wish: dict[str, Any]) -> dict[str, int]:
        """Change the settings named in `wish`; the counts so far, which start again at 0."""
        with self._lock:
            self.visible = int(wish.get("visible", self.visible))
            self.latency = float(wish.get("latency", self.latency))
            self.end_included = bool(wish.get("end_included", self.end_included))
            counts = self._counts
            self._counts = dict.fromkeys(counts, 0)
            return counts

    def answer(self, body: bytes) -> list[bytes | memoryview]:
        """The parts of the answer to one document of requests."""
        if self.latency:
            time.sleep(self.latency)
        document = ET.fromstring(body)
        allowed = document.findtext("SessionId") in self._sessions
        parts: list[bytes | memoryview] = [_ENVELOPE]
        counts = {"documents": 1, "requests": 0, "logins": 0, "records": 0}
        for request in document.iter("Request"):
            counts["requests"] += 1
            name = request.get("name", "")
            if name == "SessionLogin":
                counts["logins"] += 1
                allowed = self._login(request)
                code, content = ("200", self._session()) if allowed else ("401", _message("Login refused"))
                inner: list[bytes | memoryview] = [content]
            elif not allowed:
                code, inner = "401", [_message("Not logged in")]
            elif name == "GetCDRs" and request.find("Number") is None:
                start, stop = self._page(request)
                counts["records"] += stop - start
                code, inner = "200", [b"      <CDRs>\n", self._records.block(start, stop), b"      </CDRs>\n"]
            elif name == "GetTotals" and request.find("Number") is None:
                code, inner = "200", [self._records.totals(request.findtext("Period", "day"), self.visible)]
            else:
                code, inner = "400", [_message("This server answers GetCDRs and GetTotals of all numbers only")]
            parts += [
                f'    <Response target="{request.get("target")}" name="{name}" Code="{code}" '
                f'RequestId="{request.get("id")}">\n'.encode(),
                *inner,
                b"    </Response>\n",
            ]
        parts.append(_ENVELOPE_END)
        with self._lock:
            self._counts = {name: self._counts[name] + count for name, count in counts.items()}
        return parts

    def _login(self, request: ET.Element) -> bool:
        given = tuple(request.findtext(name) for name in ("Username", "Password", "VKey"))
        return given == (USERNAME, PASSWORD, VKEY)

    def _session(self) -> bytes:
        session = secrets.token_hex(16)
        self._sessions.add(session)
        return f"      <SessionId>{session}</SessionId>\n".encode()

    def _page(self, request: ET.Element) -> tuple[int, int]:
        visible = self.visible
        last_id = request.findtext("LastId")
        if last_id:
            start, stop = bisect_right(self._records.uids, int(last_id), 0, visible), visible
        else:
            first, last = request.findtext("StartDate", ""), request.findtext("EndDate", "")
            start, stop = self._records.window(first, last, visible, end_included=self.end_included)
        start = min(start + int(request.findtext("offset") or 0), stop)
        return start, min(start + int(request.findtext("limit") or LIMIT_BY_DEFAULT), stop)


def _message(text: str) -> bytes:
    return f"      <ResponseMessage>{text}</ResponseMessage>\n".encode()


def _serve_connection(connection: socket.socket, service: Service) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            first_line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
            while len(received) < length:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            body, received = received[:length], received[length:]
            if first_line.split()[1] == "/control":
                kind, parts = "application/json", [json.dumps(service.control(json.loads(body or b"{}"))).encode()]
            else:
                kind, parts = "text/xml; charset=utf-8", service.answer(body)  # type: ignore[assignment]
            _send(connection, kind, parts)


def _send(connection: socket.socket, kind: str, parts: list[Any]) -> None:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Length: {sum(len(part) for part in parts)}\r\n\r\n"
    )
    small = bytearray(head.encode())
    for part in parts:
        if len(part) < 16_384:
            small += part
        else:
            connection.sendall(small)
            connection.sendall(part)
            small.clear()
    connection.sendall(small)


def serve(records: Records) -> None:
    """Serve on a free loopback port, printed as one line, until standard input ends."""
    service = Service(records)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve_connection, args=(connection, service), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.buffer.read()


class ApiServer(Served):
    """The server as a process of its own, for the length of a block."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(
            "tests.benchmarks.server", str(recipe.calls), str(recipe.days), recipe.end.isoformat(),
            "--seed", str(recipe.seed), "--ampersands", str(recipe.ampersands),
        )  # fmt: skip

    def control(self, **wish: float | bool) -> dict[str, int]:
        """Set `visible` (records), `latency` (seconds), `end_included`; the counts since the last call."""
        request = urllib.request.Request(self.url.replace("/api/", "/control"), json.dumps(wish).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


def main() -> None:
    """Generate the records, then serve them."""
    parser = argparse.ArgumentParser(description="The operator's API for benchmarks.")
    parser.add_argument("calls", type=int)
    parser.add_argument("days", type=int)
    parser.add_argument("end", type=lambda text: datetime.fromisoformat(text).astimezone(UTC))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--ampersands", type=int, default=0)
    options = parser.parse_args()
    serve(Records(Recipe(options.calls, options.days, options.end, options.seed, options.ampersands)))


if __name__ == "__main__":
    main()
