"""The operator of a fleet, in a process of its own: many logins, a few calls each, as little work as it can be.

`Operator` starts it. It notes who asked when, and may refuse more than so many requests a second (429, Retry-After).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
import urllib.request
from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from tests.benchmarks.data import FIRST_UID, LONDON
from tests.benchmarks.served import Served

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 3  # of each login, before the first poll
ROOM = 1000  # uids between two logins
RETRY_AFTER = 5  # seconds

_REQUEST = re.compile(r'<Request target="(\w+)" name="(\w+)" id="(\w+)">(.*?)</Request>', re.DOTALL)
_PARAMETER = re.compile(r"<(\w+)>([^<]*)</\1>")
_SESSION = re.compile(r"<SessionId>S(\d+)-\w+</SessionId>")
_USERNAME = re.compile(r"fleet(\d+)@example\.com")


def login(number: int) -> tuple[str, str, str]:
    """Username, password and VKey of an account."""
    return f"fleet{number}@example.com", f"fleet-password-{number}", f"fleet-vkey-{number:08d}"


def name_of(number: int) -> str:
    """The name of an account in the configuration."""
    return f"a{number:04d}"


def configure(folder: Path, number: int) -> Path:
    """Write the file of an account; return it."""
    username, password, vkey = login(number)
    file = folder / "accounts.d" / f"{name_of(number)}.toml"
    file.write_text(f'username = "{username}"\npassword = "{password}"\nvkey = "{vkey}"\n')
    file.chmod(0o600)
    return file


class World:
    """What the operator knows, and what it has seen."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._recent: deque[float] = deque()
        self._began = datetime.now(UTC).replace(microsecond=0)
        self._calls = [self._began - timedelta(seconds=60 + n) for n in range(CALLS, 0, -1)]
        self.asked: list[tuple[float, int, bool]] = []  # each question for calls: moment, login, was it a poll's last
        self.polled: set[int] = set()
        self.refused: list[float] = []
        self.requests = 0

    def add_call(self) -> None:
        """One more call of every login, now."""
        self._calls.append(datetime.now(UTC).replace(microsecond=0))

    def is_too_many(self) -> bool:
        """Count a request; whether it is one too many."""
        now = time.monotonic()
        self.requests += 1
        while self._recent and self._recent[0] < now - 1:
            self._recent.popleft()
        if self._limit is None or len(self._recent) < self._limit:
            self._recent.append(now)
            return False
        self.refused.append(now)
        return True

    def answer(self, body: str) -> str:
        """The answer to one document."""
        known = _SESSION.search(body)
        number = int(known[1]) if known else None
        parts = []
        for target, name, identity, inside in _REQUEST.findall(body):
            wanted = dict(_PARAMETER.findall(inside))
            if name == "SessionLogin":
                found = _USERNAME.fullmatch(wanted["Username"])
                given = (wanted["Username"], wanted["Password"], wanted["VKey"])
                number = int(found[1]) if found and given == login(int(found[1])) else None
                content = f"<SessionId>S{number}-{identity}</SessionId>"
            elif number is not None:
                content = self._told(number, name, wanted)
            code = 401 if number is None else 200
            parts.append(
                f'<Response target="{target}" name="{name}" Code="{code}" RequestId="{identity}">\n'
                f"{'' if number is None else content}</Response>\n"
            )
        return f'<?xml version="1.0"?>\n<NoveroResponse>\n{"".join(parts)}</NoveroResponse>\n'

    def _told(self, number: int, name: str, wanted: dict[str, str]) -> str:
        if name == "GetTotals":
            return self._totals(wanted["Period"])
        newest = FIRST_UID + number * ROOM + len(self._calls) - 1
        self.asked.append((time.monotonic(), number, int(wanted.get("LastId", 0)) >= newest))
        self.polled.add(number)
        calls = self._found(number, wanted)
        offset = int(wanted.get("offset", 0))
        page = calls[offset : offset + int(wanted.get("limit", 10))]
        return f"<CDRs>\n{''.join(_record(uid, at) for uid, at in page)}</CDRs>\n"

    def _found(self, number: int, wanted: dict[str, str]) -> list[tuple[int, datetime]]:
        first = FIRST_UID + number * ROOM
        calls = list(enumerate(self._calls, first))
        if "LastId" in wanted:
            return calls[max(0, int(wanted["LastId"]) - first + 1) :]
        days = wanted.get("StartDate", ""), wanted.get("EndDate", "9999")
        return [one for one in calls if days[0] <= f"{one[1].astimezone(LONDON):%Y-%m-%d}" <= days[1]]

    def _totals(self, period: str) -> str:
        calls = 0 if period == "last-month" else len(self._calls)
        return (
            f'<CDRTotals Period="{period}"><AnsweredTotal>{calls}</AnsweredTotal>'
            f"<MinsTotal>{calls * 10} secs</MinsTotal><MinsTotalNoFormat>{calls * 10}</MinsTotalNoFormat>"
            "<MissedTotal>0</MissedTotal><VoicemailTotal>0</VoicemailTotal>"
            f"<AvgLength>{10 if calls else 0} secs</AvgLength>"
            f"<ChargeTotal>{calls * 0.01:.2f}</ChargeTotal><AvgCost>0.01</AvgCost></CDRTotals>\n"
        )


def _record(uid: int, at: datetime) -> str:
    wall = at.astimezone(LONDON)
    return (
        f"<CDR><uid>{uid}</uid><ref>{int(at.timestamp()):08X}{uid & 0xFFFFFFFF:08X}</ref><calldate>{wall:%Y-%m-%d}"
        f"</calldate><calltime>{wall:%H:%M:%S}</calltime><anumber>7921{uid % 1000000:06d}</anumber>"
        "<anumber_location>UK Mobile</anumber_location><bnumber>1245200200</bnumber><alias>-</alias>"
        "<dialled>447512345678</dialled><dialled_location>UK O2 Mobile</dialled_location><duration>10</duration>"
        "<ring_time>3</ring_time><user_cost>0.010</user_cost><reason>1</reason><reason_q805>1</reason_q805></CDR>\n"
    )


class _Connection(asyncio.Protocol):
    def __init__(self, world: World) -> None:
        self._world = world
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            found = re.search(rb"content-length:\s*(\d+)", head, re.IGNORECASE)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            body, self._received = rest[:length], rest[length:]
            self._transport.write(self._answer(head.split(b" ", 2)[1].decode(), body))

    def _answer(self, path: str, body: bytes) -> bytes:
        if path.startswith("/_fleet"):
            return _http("200 OK", "application/json", json.dumps(self._watched(path)).encode())
        if self._world.is_too_many():
            return _http("429 Too Many Requests", "text/plain", b"", f"Retry-After: {RETRY_AFTER}\r\n")
        return _http("200 OK", "text/xml", self._world.answer(body.decode()).encode())

    def _watched(self, path: str) -> dict[str, Any]:
        world = self._world
        if path.endswith("/add"):
            world.add_call()
        told: dict[str, Any] = {"now": time.monotonic(), "cpu": time.process_time(), "polled": len(world.polled)}
        if path.endswith("/all"):
            told |= {"asked": world.asked, "refused": world.refused, "requests": world.requests}
        return told


def _http(status: str, kind: str, body: bytes, more: str = "") -> bytes:
    date = formatdate(usegmt=True)
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Operator(Served):
    """The operator in a process of its own, for the length of a block."""

    def __init__(self, limit: float | None) -> None:
        super().__init__("tests.benchmarks.fleet_operator", *([] if limit is None else ["--limit", str(limit)]))
        self._root = self.url.removesuffix("api/")

    def told(self, what: str = "") -> dict[str, Any]:
        """Its clock, its CPU seconds, how many accounts asked; `all`: who asked when; `add`: adds a call of each."""
        with urllib.request.urlopen(f"{self._root}_fleet/{what}", timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def longest_wait(self, since: float = 0.0) -> float:
        """Seconds between two polls of an account at most, the second of them after `since` (monotonic)."""
        told = self.told("all")
        last: dict[int, float] = {}
        waits: list[float] = [0.0]
        for moment, number, is_poll in told["asked"]:
            if is_poll:
                if moment > since:
                    waits.append(moment - last.get(number, moment))
                last[number] = moment
        waits += [told["now"] - moment for moment in last.values()]
        return round(max(waits), 1)


async def _serve(limit: float | None) -> None:
    loop, world = asyncio.get_running_loop(), World(limit)
    server = await loop.create_server(lambda: _Connection(world), "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve on a free loopback port, printed as one line, until standard input ends."""
    parser = argparse.ArgumentParser(description="The operator of a fleet.")
    parser.add_argument("--limit", type=float, default=None)
    asyncio.run(_serve(parser.parse_args().limit))


if __name__ == "__main__":
    main()
