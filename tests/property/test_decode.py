"""Properties of `decode`: whatever comes, all responses or BadAnswer; what XML can carry comes out as it went in."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, time
from decimal import Decimal
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdrsync.errors import BadAnswer
from cdrsync.model import Cdr, Reject
from cdrsync.source import xml_any, xml_fast
from cdrsync.source.decode import decode
from tests.property.fuzz_decode import fuzz
from tests.support.answers import GOLDEN, LONDON, envelope, golden, record, records, response

# Every character that XML 1.0 can carry, but CR: a parser hands that on as LF.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from(
    "\t\n"
)
_TEXT = st.text(_CHARACTERS, max_size=40)
_INT = st.integers(0, 2**31 - 1)
_FLAG = st.sampled_from([None, True, False])
_SENT = {True: "1", False: "0", None: None}


def _only(body: bytes) -> Cdr | Reject:
    (one,) = decode(body, timezone=LONDON)
    assert one.batch is not None
    both: list[Cdr | Reject] = [*one.batch.cdrs, *one.batch.rejects]
    (only,) = both
    return only


@given(
    uid=st.integers(1, 2**63 - 1),
    day=st.dates(date(1990, 1, 1), date(2100, 12, 31)),
    clock=st.times().map(lambda one: one.replace(microsecond=0)),
    texts=st.tuples(*[_TEXT] * 7),
    counts=st.tuples(_INT, _INT, _INT, _INT),
    cost=st.decimals(Decimal(-999999999), Decimal(999999999), places=6),
    flags=st.tuples(_FLAG, _FLAG, _FLAG),
)
@example(1, date(2024, 10, 27), time(1, 30), ("&amp;",) * 7, (0, 0, 0, 0), Decimal("-0.000001"), (None, None, None))
def test_what_is_sent_is_what_is_read(
    uid: int,
    day: date,
    clock: time,
    texts: tuple[str, ...],
    counts: tuple[int, int, int, int],
    cost: Decimal,
    flags: tuple[bool | None, bool | None, bool | None],
) -> None:
    """Every value of a record comes out as it went into XML, to the last digit and character."""
    names = ("ref", "anumber", "anumber_location", "bnumber", "alias", "dialled", "dialled_location")
    duration, ring_time, reason, q805 = counts
    sent = {
        "uid": str(uid),
        "calldate": day.isoformat(),
        "calltime": clock.isoformat(),
        "duration": str(duration),
        "ring_time": str(ring_time),
        "user_cost": f"{cost:f}",
        "reason": str(reason),
        "reason_q805": str(q805),
        "HasRecordedCall": _SENT[flags[0]],
        "HasVoicemailRecording": _SENT[flags[1]],
        "HasFaxDocument": _SENT[flags[2]],
        **{name: escape(text) for name, text in zip(names, texts, strict=True)},
    }
    cdr = _only(envelope(response(record(**sent))))

    assert isinstance(cdr, Cdr)
    assert (uid, day, clock, None) == (cdr.uid, cdr.call_date, cdr.call_time, cdr.extra)
    assert texts == tuple(getattr(cdr, name) for name in names)
    assert (*counts, cost) == (cdr.duration, cdr.ring_time, cdr.reason, cdr.reason_q805, cdr.user_cost)
    assert flags == (cdr.has_recorded_call, cdr.has_voicemail_recording, cdr.has_fax_document)
    shown = cdr.started_at.astimezone(LONDON).replace(tzinfo=None)
    assert shown == datetime.combine(day, clock) or cdr.wall_clock == "skipped"
    assert cdr.started_at.tzinfo is UTC


@given(name=st.text(st.characters(codec="ascii", categories=["Ll", "Lu"]), min_size=1, max_size=9), text=_TEXT)
def test_an_unknown_element_never_harms(name: str, text: str) -> None:
    """A new element beside the known ones leaves a record what it was, and is kept."""
    plain = _only(envelope(response(record())))
    cdr = _only(envelope(response(record(**{f"New{name}": escape(text)}))))

    assert isinstance(cdr, Cdr)
    assert cdr.extra is not None
    assert plain == cdr._replace(extra=None)


@given(st.binary(max_size=300))
def test_any_bytes(body: bytes) -> None:
    """Bytes that are nothing at all are refused."""
    with pytest.raises(BadAnswer):
        decode(body, timezone=LONDON)


@settings(max_examples=300)
@given(
    st.sampled_from(GOLDEN),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=4),
)
def test_spoilt_bytes(name: str, edits: list[tuple[int, int, bytes]]) -> None:
    """A spoilt answer is read or refused, and where the fast reader takes it, the other reads the same."""
    body = golden(name)
    for at, length, put in edits:
        body = body[:at] + put + body[at + length :]
    fast = xml_fast.responses(body, LONDON)
    try:
        slow = xml_any.responses(body, LONDON)
    except BadAnswer:
        slow = None

    assert fast is None or fast == slow


@pytest.mark.parametrize("name", GOLDEN)
def test_cut_anywhere(name: str) -> None:
    """No beginning of an answer passes for the whole."""
    body = golden(name).rstrip()
    end = max(len(body) - 400, 0)  # where it looks almost whole: byte by byte
    for length in (*range(0, end, 11), *range(end, len(body))):
        with pytest.raises(BadAnswer):
            decode(body[:length], timezone=LONDON)


def test_mutated_answers() -> None:
    """Two thousand mutated answers: nothing but responses or BadAnswer, no case that takes long."""
    figures = fuzz(2000, seed=20240523)

    assert figures.problems == []
    assert figures.usual > 50
    assert figures.read > figures.usual
    assert figures.refused > 500


@pytest.mark.parametrize("spoilt", [False, True])
def test_memory_of_a_large_document(*, spoilt: bool) -> None:
    """Five pages of 1,000 records in one document take a bounded multiple of their own size, on both roads."""
    pages = [response(*records(1000, 1 + 1000 * n), request_id=f"Request{n}") for n in range(5)]
    body = envelope(*pages)
    if spoilt:
        body = body.replace(b"<uid>77</uid>", b"<uid> 77 </uid>")
    decode(envelope(pages[0]), timezone=LONDON)  # what is loaded once, on the first record
    tracemalloc.start()
    decode(body, timezone=LONDON)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 6 * len(body)
