"""HTTP answers, and how they go wrong on their way."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from cdrsync.sandbox import operator, render
from cdrsync.sandbox.calls import dice
from cdrsync.sandbox.server import XML
from tests.support.operator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.operator.world import Settings

_PIECE = b" " * 1_000_000
_HUGE_START = b'<?xml version="1.0"?>\n<NoveroResponse>\n'

_PAGE_FOR_PEOPLE = b"""<!DOCTYPE html>
<html><head><title>We'll be back soon</title></head>
<body><h1>Scheduled maintenance</h1><p>Please try again later.<br></body></html>
"""
_ENTITIES = b"""<!DOCTYPE NoveroResponse [
  <!ENTITY a "lol">
%s]>
""" % b"".join(
    b'  <!ENTITY %c "%s">\n' % (letter, b"&%c;" % (letter - 1) * 10) for letter in range(ord("b"), ord("j") + 1)
)
_DOCTYPE = b'<!DOCTYPE NoveroResponse SYSTEM "file:///etc/hostname">\n'


@dataclass(frozen=True)
class SpoiltAnswer(operator.HttpAnswer):
    """What goes back, and in which manner.

    whole: as HTTP means it · drip: a few bytes at a time · cut: the connection ends half-way · reset: a TCP reset in
    place of an answer · huge: `body` stands for a document of `Settings.huge_bytes`.
    """

    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": XML})
    manner: Literal["whole", "drip", "cut", "reset", "huge"] = "whole"


def spoil(answer: SpoiltAnswer, fault: Fault | None, settings: Settings, nth: int) -> SpoiltAnswer:
    """The answer as it arrives, given what befalls the `nth` document."""
    if fault is None or fault not in ANY_DOCUMENT:
        return answer
    return ANY_DOCUMENT[fault](answer, settings, nth)


def _with_status(status: int, *, retry: bool) -> Callable[[SpoiltAnswer, Settings, int], SpoiltAnswer]:
    def spoilt(_: SpoiltAnswer, settings: Settings, __: int) -> SpoiltAnswer:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if retry:
            headers["Retry-After"] = str(settings.retry_after)
        return SpoiltAnswer(body=b"Please try again later\n", status=status, headers=headers)

    return spoilt


def _error_envelope(answer: SpoiltAnswer, _: Settings, __: int) -> SpoiltAnswer:
    answered = re.findall(rb'<Response target="([^"]*)" name="([^"]*)" Code="[^"]*" RequestId="([^"]*)">', answer.body)
    failed = (
        render.response(target.decode(), name.decode(), "500", request_id.decode(), render.message("Internal error"))
        for target, name, request_id in answered
    )
    return replace(answer, status=500, body=render.document(failed))


def _truncated(answer: SpoiltAnswer, _: Settings, nth: int) -> SpoiltAnswer:
    end = answer.body.rindex(b"</NoveroResponse>")  # from there on, what is missing would be no loss
    return replace(answer, body=answer.body[: dice("truncated", nth).randint(1, end + 15)])


def _garbled(answer: SpoiltAnswer, _: Settings, nth: int) -> SpoiltAnswer:
    rng = dice("garbled", nth)
    middle = rng.randrange(1, answer.body.rindex(b"</NoveroResponse>"))
    return replace(answer, body=answer.body[:middle] + b"\x00\xff" + rng.randbytes(6) + answer.body[middle + 8 :])


def _with_body(body: bytes, content_type: str = XML) -> Callable[[SpoiltAnswer, Settings, int], SpoiltAnswer]:
    return lambda *_: SpoiltAnswer(body=body, headers={"Content-Type": content_type})


def _behind(doctype: bytes) -> Callable[[SpoiltAnswer, Settings, int], SpoiltAnswer]:
    def spoilt(answer: SpoiltAnswer, _: Settings, __: int) -> SpoiltAnswer:
        prolog = render.PROLOG.encode()
        return replace(answer, body=prolog + doctype + answer.body.removeprefix(prolog))

    return spoilt


def _bomb(answer: SpoiltAnswer, _: Settings, __: int) -> SpoiltAnswer:
    body = _behind(_ENTITIES)(answer, _, __).body
    end = body.rindex(b"</NoveroResponse>")
    return replace(answer, body=body[:end] + b"<bomb>&j;</bomb>" + body[end:])


ANY_DOCUMENT: Mapping[Fault, Callable[[SpoiltAnswer, Settings, int], SpoiltAnswer]] = {
    Fault.HTTP_429: _with_status(429, retry=True),
    Fault.HTTP_500: _with_status(500, retry=False),
    Fault.HTTP_500_ENVELOPE: _error_envelope,
    Fault.HTTP_503: _with_status(503, retry=True),
    Fault.TRUNCATED: _truncated,
    Fault.GARBLED: _garbled,
    Fault.HTML: _with_body(_PAGE_FOR_PEOPLE, "text/html; charset=utf-8"),
    Fault.EMPTY_BODY: _with_body(b""),
    Fault.WRONG_ROOT: _with_body(b'<?xml version="1.0"?>\n<Error><Message>Gateway</Message></Error>\n'),
    Fault.DOCTYPE: _behind(_DOCTYPE),
    Fault.ENTITY_BOMB: _bomb,
    Fault.HUGE: lambda answer, *_: replace(answer, manner="huge"),
    Fault.RESET: lambda answer, *_: replace(answer, manner="reset"),
    Fault.CUT: lambda answer, *_: replace(answer, manner="cut"),
    Fault.SLOW_DRIP: lambda answer, *_: replace(answer, manner="drip"),
}
"""Faults that can befall any document, and what they make of a good answer."""


def huge(size: int) -> Iterator[bytes]:
    """A document of `size` bytes that never comes to the point."""
    yield _HUGE_START
    for _ in range(size // len(_PIECE)):
        yield _PIECE


@lru_cache(maxsize=2)
def huge_gzip(size: int) -> bytes:
    """The same, packed into about a thousandth."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(piece) for piece in huge(size)) + packer.flush()


def gzip(body: bytes) -> bytes:
    """Packed, fast."""
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(body) + packer.flush()
