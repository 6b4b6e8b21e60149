"""One record that breaks its page's XML: the others come whole, it comes as a Reject, and nothing else ever does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from cdrsync.errors import ApiUnreachable, BadAnswer
from cdrsync.model import Batch, CdrsAsk, Origin
from cdrsync.source import salvage
from cdrsync.source.retry import RetryPolicy
from cdrsync.sync.tail import tail_pages
from tests.support.answers import logged_in, record
from tests.support.api import api

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.api import NoveroApi

BREAKS = {
    "ampersand": b"R&D",
    "control": b"a&#x1F;b",
    "latin": b"Caf\xeb",
    "entity": b"a&nbsp;b",
    "nul": b"a\x00b",
    "tag": b"<b>bold",
    "less": b"1 < 2",
    "foreign end": b"</bnumber>",
    "cdata": b"<![CDATA[x",
    "comment": b"<!-- -- -->",
    "attribute": b"<x a=1/>",
    "cdata end": b"]]>",
    "surrogate": b"&#xD83D;",
    "no end": b"</alias></CDR>",
}
PROVABLE = [name for name in BREAKS if name != "no end"]


@dataclass
class Operator:
    """Serves records by LastId or by date, over the wire format, and fails as a network does."""

    records: list[tuple[int, bytes]]  # uid and XML, in the order of the answer set
    clamp: int = 1_000_000
    faults: float = 0.0
    arrivals: list[tuple[int, bytes]] = field(default_factory=list)  # one comes before each answer, at the front
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    documents: int = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.documents += 1
        if self.arrivals:
            self.records.insert(0, self.arrivals.pop())
        body = b"".join(
            [b"<NoveroResponse>", *map(self._response, etree.fromstring(request.content)), b"</NoveroResponse>"]
        )
        if self.chance.random() < self.faults:
            body = self._spoilt(body)
        return httpx.Response(200, stream=httpx.ByteStream(body))

    def _response(self, one: etree._Element) -> bytes:
        asked = {child.tag: child.text or "" for child in one}
        if one.get("name") == "SessionLogin":
            return logged_in("abc", one.get("id", "")).encode()
        if one.tag != "Request":
            return b""
        found = [xml for uid, xml in self.records if uid > int(asked.get("LastId", 0))]
        offset, limit = int(asked.get("offset", 0)), min(int(asked["limit"]), self.clamp)
        head = f'<Response target="NoveroCDR" name="GetCDRs" Code="200" RequestId="{one.get("id")}"><CDRs>'
        return head.encode() + b"".join(found[offset : offset + limit]) + b"</CDRs></Response>"

    def _spoilt(self, body: bytes) -> bytes:
        at = self.chance.randrange(len(body))
        match self.chance.randrange(4):
            case 0:
                return body[:at]
            case 1:
                return body[:at] + self.chance.choice((b"\x00", b"&", b"<")) + body[at + 1 :]
            case 2:
                return body[:at] + b"<" + body[at:]
            case _:
                at = body.find(b"<", at)
                return body[:at] + body[at + 3 :]


def good(uid: int) -> bytes:
    return record(uid=str(uid)).encode()


def broken(uid: int, how: str) -> bytes:
    """Broken twice, where that can be: a network that spoils one place must not mend the record."""
    return record(uid=str(uid), alias="@@").encode().replace(b"@@", BREAKS[how] * (2 if how in PROVABLE else 1))


def over(operator: Operator) -> NoveroApi:
    return api(transport=httpx.MockTransport(operator), retry=RetryPolicy(attempts=6, wait_initial=0, wait_jitter=0))


def told(batch: Batch) -> tuple[list[int], list[int]]:
    return sorted(cdr.uid for cdr in batch.cdrs), sorted(reject.uid or 0 for reject in batch.rejects)


@pytest.mark.parametrize("how", PROVABLE)
@pytest.mark.parametrize(("count", "place"), [(1, 0), (2, 1), (51, 0), (51, 25), (51, 50)])
def test_the_others_come_and_it_is_kept(how: str, count: int, place: int) -> None:
    """Whatever breaks it, and wherever it stands: all others are read, it is a Reject with its uid and its text."""
    records = [(uid, broken(uid, how) if uid == place + 1 else good(uid)) for uid in range(1, count + 1)]
    operator = Operator(records)
    source = over(operator)
    (batch,) = source.ask([CdrsAsk(limit=1000, after_uid=0)]).answers
    assert isinstance(batch, Batch)

    assert told(batch) == ([uid for uid in range(1, count + 1) if uid != place + 1], [place + 1])
    assert batch.rejects[0].problem.startswith("its XML is broken: ")
    assert batch.rejects[0].raw.startswith("<CDR>\n")
    assert batch.rejects[0].raw.endswith("</CDR>")
    before = operator.documents
    assert source.ask([CdrsAsk(limit=1000, after_uid=0)]).answers == [batch]
    assert operator.documents == before + 1, "what is proven is known again at once"


@pytest.mark.parametrize("page_size", [1, 2, 7, 100])
@pytest.mark.parametrize("bad", [{1}, {50}, {10, 11, 12}, {1, 2, 3, 4}, set(range(2, 50, 2))])
def test_the_tail_moves_on(page_size: int, bad: set[int]) -> None:
    """Whatever the page's size, and with many broken records, the mark reaches the last call."""
    chance = random.Random(1)
    operator = Operator([(n, broken(n, chance.choice(PROVABLE)) if n in bad else good(n)) for n in range(1, 51)])
    pages = list(tail_pages(over(operator), origin=Origin.TAIL, stream="tail", after_uid=0, mark=0, limit=page_size))

    assert {cdr.uid for page in pages for cdr in page.cdrs} == set(range(1, 51)) - bad
    assert {reject.uid for page in pages for reject in page.rejects} == bad
    marks = [page.checkpoint.high_water_uid for page in pages if page.checkpoint and page.checkpoint.high_water_uid]
    assert max(marks) >= max(set(range(1, 51)) - bad)


def test_without_a_uid_it_is_kept_all_the_same() -> None:
    """Where not even the uid can be read, the Reject has none."""
    nameless = broken(2, "latin").replace(b"<uid>2</uid>", b"<uid>\xff</uid>")
    (batch,) = over(Operator([(1, good(1)), (2, nameless), (3, good(3))])).ask([CdrsAsk(limit=10, after_uid=0)]).answers
    assert isinstance(batch, Batch)

    assert told(batch) == ([1, 3], [0])


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    bad=st.dictionaries(st.integers(0, 39), st.sampled_from(PROVABLE), max_size=4),
    clamp=st.sampled_from([1_000_000, 1, 3, 16]),
    limit=st.sampled_from([1, 2, 10, 1000]),
    faults=st.sampled_from([0.0, 0.2, 0.4]),
    arrivals=st.integers(0, 12),
    seed=st.integers(0, 10**6),
)
def test_under_faults_and_changing_pages(
    count: int, bad: dict[int, str], clamp: int, limit: int, faults: float, arrivals: int, seed: int
) -> None:
    """A network that truncates and garbles, pages that change meanwhile: no good record is ever a Reject, none is lost.

    Where the network fails too often, the whole ask fails; it never answers less.
    """
    records = [(n + 1, broken(n + 1, bad[n]) if n in bad else good(n + 1)) for n in range(count)]
    operator = Operator(
        list(records), clamp, faults, [(1000 + n, good(1000 + n)) for n in range(arrivals)], random.Random(seed)
    )
    source = over(operator)
    cdrs: set[int] = set()
    rejects: set[int | None] = set()
    for _ in range(200):
        try:
            offset, whole = 0, False
            while True:
                (batch,) = source.ask([CdrsAsk(limit=limit, offset=offset, after_uid=0)]).answers
                if not isinstance(batch, Batch):
                    break
                cdrs |= {cdr.uid for cdr in batch.cdrs}
                rejects |= {reject.uid for reject in batch.rejects if "XML is broken" in reject.problem}
                if not len(batch):
                    whole = True
                    break
                offset += len(batch)
        except ApiUnreachable:
            continue
        if whole:
            break
    wanted = set(range(1, count + 1)) - {n + 1 for n in bad}

    assert {uid for uid in cdrs if uid < 1000} == wanted
    assert rejects == {n + 1 for n in bad if n < count}


def test_a_truncated_or_garbled_answer_is_no_record() -> None:
    """What is broken in another way each time, or not within one record, stays a failure of the whole."""
    spoils: tuple[Callable[[bytes, int], bytes], ...] = (
        lambda body, n: body[: len(body) // 2 + n],
        lambda body, n: body.replace(b"<alias></alias>", b"<alias>&%d</alias>" % n),
        lambda body, _: body.replace(b"</CDRs>", b"Notice: x</CDRs>"),
        lambda body, _: body.replace(b"<CDRs>", b"<CDRs>&nbsp;"),
        lambda body, _: body.replace(b"<uid>1</uid>", b"<uid>1</uid>&").replace(b'RequestId="R', b'RequestId="X'),
    )
    for spoil in spoils:
        inner, count = Operator([(1, good(1))]), iter(range(1000))

        def served(request: httpx.Request) -> httpx.Response:
            body = inner(request).read()  # noqa: B023
            return httpx.Response(200, stream=httpx.ByteStream(spoil(body, next(count))))  # noqa: B023

        source = over(served)  # type: ignore[arg-type]
        with pytest.raises(BadAnswer):
            source.ask([CdrsAsk(limit=10, after_uid=0)])


def test_a_refused_session_beside_a_broken_record_is_no_bug_of_ours() -> None:
    """Whatever stands in the rest of a broken answer: a failure that is tried again."""
    inner = Operator([(1, broken(1, "ampersand"))])

    def served(request: httpx.Request) -> httpx.Response:
        body = inner(request).read()
        if inner.documents > 1:
            body = body.replace(b"</CDRs></Response>", b"</CDRs></Response><Response Code='401'/>")
        return httpx.Response(200, stream=httpx.ByteStream(body))

    source = over(served)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(BadAnswer):
            source.ask([CdrsAsk(limit=1, after_uid=0)])


def test_cutting_is_linear() -> None:
    """The lenient reader looks at each byte a bounded number of times, whatever is in them."""
    for body in (b"<CDR>" * 100_000, b"<CDR" * 100_000, b"</CDR>" * 100_000, b"<CDR><CDRs>" * 50_000):
        assert salvage.cut(body) is None
