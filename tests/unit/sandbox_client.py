"""A client for the tests of the sandbox, as plain as can be: it shares nothing with `source` either."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import httpx

from tests.support import plain_http
from tests.support.clock import Clock
from tests.support.operator import Login, Settings, World, transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.operator import Call

URL = "http://sandbox.test/api/"
NOON = "2024-05-23T12:00:00+01:00"  # a Thursday
LOGIN = ("Auth", "SessionLogin")
GET_CDRS = ("NoveroCDR", "GetCDRs")
GET_CDR = ("NoveroCDR", "GetCDR")
GET_TOTALS = ("NoveroCDR", "GetTotals")


def world(settings: Settings | None = None, **options: Any) -> World:
    """A world whose clock stands at NOON until told otherwise."""
    clock = options.pop("clock", None) or Clock(NOON)
    return World(settings, clock=clock.seconds, sleep=clock.advance, **options)


def turn(world: World, seconds: float) -> None:
    """Let time pass."""
    world.sleep(seconds)


class Client:
    """Asks the sandbox in-process, or over `url` where one is given."""

    def __init__(self, world: World, url: str | None = None, login: Login | None = None) -> None:
        self.http = plain_http.client() if url else httpx.Client(transport=transport(world))
        self.url = url or URL
        self.login = login or world.logins[0]
        self.session: str | None = None

    def post(self, document: str | bytes) -> httpx.Response:
        return self.http.post(self.url, content=document)

    def document(self, *asked: tuple[tuple[str, str], Mapping[str, object]], session: str | None = None) -> str:
        root = ET.Element("NoveroRequest")
        if session is not None:
            ET.SubElement(root, "SessionId").text = session
        for number, ((target, name), parameters) in enumerate(asked, 1):
            request = ET.SubElement(root, "Request", target=target, name=name, id=f"r{number}")
            for key, value in parameters.items():
                ET.SubElement(request, key).text = str(value)
        return ET.tostring(root, encoding="unicode")

    def log_in(self) -> str:
        parameters = dict(zip(("Username", "Password", "VKey"), self.login, strict=True))
        answer = ET.fromstring(self.post(self.document((LOGIN, parameters))).content)
        self.session = answer.findtext("Response/SessionId")
        assert self.session is not None
        return self.session

    def send(self, name: tuple[str, str], /, **parameters: object) -> httpx.Response:
        session = self.session or self.log_in()
        return self.post(self.document((name, parameters), session=session))

    def ask(self, name: tuple[str, str], /, **parameters: object) -> ET.Element:
        """The one <Response>."""
        answered = self.send(name, **parameters)
        responses = ET.fromstring(answered.content).findall("Response")
        assert len(responses) == 1
        return responses[0]

    def uids(self, **parameters: object) -> list[int]:
        return uids(self.ask(GET_CDRS, **parameters))


def uids(response: ET.Element) -> list[int]:
    """Of the records in a response, in its order."""
    return [int(text) for record in response.iter("CDR") if (text := record.findtext("uid")) is not None]


def code(response: ET.Element) -> str | None:
    """Of a response."""
    return response.get("Code")


def texts(record: ET.Element) -> list[tuple[str, str]]:
    """Elements of a record and their texts, in order."""
    return [(child.tag, child.text or "") for child in record]


def printed(file: Path) -> Any:
    """A document as nested lists: tags, attributes, texts, children; indentation does not count."""
    return _nested(ET.fromstring(file.read_text(encoding="utf-8").replace("...", "")))


def nested(body: bytes) -> Any:
    """The same of an answer."""
    return _nested(ET.fromstring(body))


def _nested(element: ET.Element) -> Any:
    return [element.tag, dict(element.attrib), (element.text or "").strip(), [_nested(child) for child in element]]


def add_days(world: World, *days: str) -> list[Call]:
    """A minute-long call at ten o'clock UTC on each of the days."""
    mornings = [datetime.fromisoformat(f"{day}T10:00:00+00:00") for day in days]
    return [world.add(started=int(morning.timestamp()), duration=60) for morning in mornings]
