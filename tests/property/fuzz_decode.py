"""Mutated answers through `decode`: `python -m tests.property.fuzz_decode --cases 1000000 --seed 1`.

Each case takes a good answer and spoils some bytes of it. What must hold: responses or BadAnswer, nothing else; no
case slower than a bound; where the fast reader takes an answer, the other reads the same. Prints a line of figures, and
the bytes of whatever broke a promise; exits 1 then.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.source import xml_any, xml_fast
from cdrsync.source.decode import decode, without_noise
from cdrsync.source.salvage import cut
from tests.support.answers import GOLDEN, LONDON, envelope, golden, logged_in, record, records, refused, response

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.response import Response

SLOWEST = 2.0  # seconds of processor time that one small answer may take

_SEEDS = [golden(name) for name in GOLDEN] + [
    envelope(response(*records(2))),
    envelope(response(*[one.replace(" ", "") for one in records(24)])),
    envelope(response(record(alias="Café &amp; \U0001f4de"))),
    envelope(logged_in(), response(record()), response(request_id="Request2"), refused("500", "no", "Request3")),
    envelope(response(record(HasFaxDocument=None, novel="x"))).replace(b"\n", b"\r\n"),
    envelope(response(record(alias="R&D"))),
    b"<b>Notice</b>: x\n" + envelope(response(*records(1))) + b"Notice",
]
_TOKENS = [
    *(b"<", b">", b"/", b"&", b'"', b"=", b"\x00", b"\x0b", b"\r", b"\xff", b"\xc3", b"\xef\xbf\xbe", b"]]>"),
    *(b"<!--", b"-->", b"<![CDATA[", b"&amp;", b"&#0;", b"&#x110000;", b"&x;", b"<?x?>", b"</CDR>", b"<CDR>", b"0"),
    *(b"<!DOCTYPE x>", b"<CDRs/>", b"<uid>1</uid>", b"<alias/>", b' xmlns="u"', b"9" * 400, b"<a>" * 300, b"</CDRs>"),
]
_VALUES = [
    *(b"", b" ", b"0", b"1", b"-1", b"00", b"1.5", b"1e3", b"NaN", b"2147483648", b"999999999999999999", b"9" * 5000),
    *(
        b"2024-10-27",
        b"2024-02-30",
        b"0000-00-00",
        b"01:30:00",
        b"24:00:00",
        b"23:59:60",
        b"&amp;&lt;",
        b"&#10;",
        b"\n",
    ),
    *("\u0661\u0662 \U0001f4de\u202e\x85\u2028".encode(), b"]]", b"]]>", b"<b/>", b"<![CDATA[<uid>1</uid>]]>", b"\r\n"),
]


@dataclass
class Figures:
    """What a run of the fuzzer saw."""

    cases: int = 0
    usual: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds of processor time
    problems: list[str] = field(default_factory=list)

    def line(self, seed: int) -> str:
        """All of it on one line."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return (
            f"fuzz_decode: {self.cases} cases, seed {seed}: {self.read} read ({self.usual} of them of the usual form), "
            f"{self.refused} refused, slowest {self.slowest * 1000:.1f} ms, peak {peak} MB, "
            f"{len(self.problems)} problems"
        )


def mutated(chance: random.Random) -> bytes:
    """A good answer with one to four places spoilt."""
    body = bytearray(chance.choice(_SEEDS))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        at = chance.randrange(len(body) + 1)
        length = chance.choice((0, 1, 1, 2, 5, 20, 200))
        match chance.randrange(8):
            case 0:
                body[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del body[at : at + length]
            case 2:
                body[at:at] = chance.choice(_TOKENS)
            case 3:
                body[at : at + length] = chance.choice(_TOKENS)
            case 4:
                body[at:at] = body[at : at + length * 10]
            case 5 | 6:
                _retell(body, at, chance.choice(_VALUES))
            case _:
                other = chance.choice(_SEEDS)
                start = chance.randrange(len(other))
                body[at : at + length] = other[start : start + length]
    return bytes(body)


def _retell(body: bytearray, at: int, value: bytes) -> None:
    """Put `value` in the place of the next text between two tags."""
    start = body.find(b">", at) + 1
    end = body.find(b"<", start)
    if 0 < start <= end:
        body[start:end] = value


def fuzz(cases: int, seed: int) -> Figures:
    """Run so many cases. The same seed gives the same cases."""
    chance = random.Random(seed)
    figures = Figures()
    for _ in range(cases):
        body = mutated(chance)
        began = time.process_time()
        _one(body, figures)
        taken = time.process_time() - began
        figures.slowest = max(figures.slowest, taken)
        if taken > SLOWEST:
            figures.problems.append(f"{taken:.1f} s for {body!r}")
    return figures


def _one(body: bytes, figures: Figures) -> None:
    """Both readers, the one in small pieces as a network might bring them, and the lenient ones beside them."""
    figures.cases += 1
    try:
        read = _outcome(lambda: decode(body, timezone=LONDON))
        _lenient(body, figures)
        by_any = _outcome(lambda: xml_any.responses(body, LONDON, piece=len(body) // 3 + 1))
        figures.usual += xml_fast.responses(body, LONDON) is not None
    except Exception as error:  # noqa: BLE001 - any exception at all is what is looked for
        figures.problems.append(f"{error!r} for {body!r}")
        return
    if read != by_any:
        figures.problems.append(f"the two readers differ on {body!r}")
    figures.read += read is not None
    figures.refused += read is None


def _lenient(body: bytes, figures: Figures) -> None:
    """What is cut out or taken off leaves an answer that is read or refused, and never a call from the cut itself."""
    within = without_noise(body)
    if within is not None:
        _outcome(lambda: decode(within[0], timezone=LONDON))
    only = cut(body)
    if only is None:
        return
    rest = _outcome(lambda: decode(only[1], timezone=LONDON))
    calls = [cdr for one in rest or () if one.batch for cdr in one.batch.cdrs]
    if calls:
        figures.problems.append(f"a call in what is left of {body!r}")


def _outcome(read: Callable[[], list[Response]]) -> list[Response] | None:
    try:
        return read()
    except BadAnswer:
        return None


def main() -> int:
    """Run the fuzzer from the command line."""
    parser = argparse.ArgumentParser(description="Mutated answers through cdrsync's decode.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    figures = fuzz(asked.cases, asked.seed)
    for problem in figures.problems[:20]:
        print(problem)
    print(figures.line(asked.seed))
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
