"""One record that breaks the XML of its page: found, proven and cut out, so that it stops no other.

The page is read in smaller and smaller parts, down to one record. That record is cut out of its answer's bytes, from
`<CDR>` to `</CDR>`; a placeholder that no reader takes for a call stands in its place, and the answer must then be
whole. Only what two answers hold alike is believed: bytes that a network lost or garbled differ from one to the next.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.model import MAX_UID, Batch, CdrsAsk, Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

READINGS = 4  # of a single record, until two are alike
KEPT = 1_000  # broken records that are known again at once

_BEGIN = re.compile(rb"<CDR(?=[ \t\r\n>/])")
_ENDS = (b"</CDR>", b"</CDRs>")
_UID = re.compile(rb"<uid>[ \t\r\n]*([0-9]{1,19})[ \t\r\n]*</uid>")


class Salvage:
    """The broken records that are proven so far, for as long as the process lives."""

    def __init__(self) -> None:
        self._proven: dict[bytes, str] = {}  # the record's bytes → what is wrong with it

    def add(self, record: bytes, problem: str) -> Batch:
        """Keep a record that is proven to be broken; it is all that its batch holds."""
        self._proven = dict([*self._proven.items(), (record, problem)][-KEPT:])
        return Batch([], [_reject(record, problem)])

    def without_known(self, body: bytes) -> tuple[bytes, dict[str, Reject]]:
        """Put placeholders in the places of known broken records; and what each placeholder stands for."""
        stands_for = {}
        for number, (record, problem) in enumerate(self._proven.items()):
            if record in body:
                mark = _placeholder(number)
                body = body.replace(record, mark)
                stands_for[mark.decode()] = _reject(record, problem)
        return body, stands_for


def restored(batch: Batch, stands_for: dict[str, Reject]) -> Batch:
    """The batch with each placeholder's record in its place, as a Reject."""
    return Batch(batch.cdrs, [stands_for.get(reject.raw, reject) for reject in batch.rejects])


def cut(body: bytes) -> tuple[bytes, bytes] | None:
    """Take the only record out of an answer, and put a placeholder in its place. None where it has none, or several."""
    begins = [found.start() for found in _BEGIN.finditer(body)]
    if len(begins) != 1:
        return None
    (begin,) = begins
    record_end, list_end = (body.rfind(end) for end in _ENDS)
    end = record_end + len(_ENDS[0]) if record_end > begin else list_end
    if end <= begin:
        return None
    return body[begin:end], body[:begin] + _placeholder(0) + body[end:]


def is_placeholder(batch: Batch) -> bool:
    """Whether all that a batch holds is the placeholder of `cut`."""
    return not batch.cdrs and [reject.raw for reject in batch.rejects] == [_placeholder(0).decode()]


def in_parts(ask: CdrsAsk, read: Callable[[CdrsAsk], Batch | None], single: Callable[[CdrsAsk], Batch]) -> Batch:
    """Read what `ask` asks in parts, in order. `read` gives None where a part is broken, `single` one record or Reject.

    Parts grow again behind a broken record. As everywhere, only an empty part proves the end.
    """
    found = Batch([])
    at, size = 0, max(1, ask.limit // 2)
    while at < ask.limit:
        part = replace(ask, offset=ask.offset + at, limit=min(size, ask.limit - at))
        batch = read(part)
        if batch is None and part.limit > 1:
            size = part.limit // 2
            continue
        if batch is None:
            batch = single(part)
        else:
            size = min(2 * size, ask.limit)
        if not len(batch):
            break
        at += len(batch)
        found.cdrs.extend(batch.cdrs)
        found.rejects.extend(batch.rejects)
    return found


def proven(readings: Iterable[Batch | tuple[bytes, str]]) -> Batch | tuple[bytes, str]:
    """Of readings of one record, give the first that could be read, or the first broken bytes that came twice."""
    seen: set[bytes] = set()
    for reading in readings:
        if isinstance(reading, Batch) or reading[0] in seen:
            return reading
        seen.add(reading[0])
    raise BadAnswer("a record of the answer is broken, each time in another way")


def _placeholder(number: int) -> bytes:
    return b"<CDR><cut-out-%d/></CDR>" % number


def _reject(record: bytes, problem: str) -> Reject:
    uids = _UID.findall(record)
    uid = int(uids[0]) if len(uids) == 1 else 0
    return Reject(uid if 0 < uid <= MAX_UID else None, _text(record), f"its XML is broken: {problem}")


def _text(record: bytes) -> str:
    """The record's bytes as text that a database can hold."""
    try:
        text = record.decode()
    except UnicodeDecodeError:
        text = record.decode("windows-1252", errors="replace")
    # Rare, and its set takes as long to compile as all other patterns of a start.
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
