"""What goes wrong, when, and how often it did."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import dice

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Fault(StrEnum):
    """One way in which an answer goes wrong."""

    HTTP_429 = "http-429"  # with Retry-After
    HTTP_500 = "http-500"  # with a text for people
    HTTP_500_ENVELOPE = "http-500-envelope"  # with the XML envelope
    HTTP_503 = "http-503"  # with Retry-After
    TRUNCATED = "truncated"  # well-formed HTTP, half a document
    GARBLED = "garbled"  # bytes that no XML can hold, in the middle
    HTML = "html"  # HTTP 200 with a page for people
    EMPTY_BODY = "empty"  # HTTP 200 with nothing
    WRONG_ROOT = "wrong-root"  # well-formed XML of something else
    DOCTYPE = "doctype"  # the right document behind a DOCTYPE
    ENTITY_BOMB = "entity-bomb"  # a billion laughs
    HUGE = "huge"  # a few kB that unpack to Settings.huge_bytes
    RESET = "reset"  # TCP reset in place of an answer
    CUT = "cut"  # the connection ends in mid-body
    SLOW_DRIP = "slow-drip"  # a few bytes at a time
    ERROR_CODE = "error-code"  # the last request of the document is answered with Code 500
    MISSING_RESPONSE = "missing-response"  # the last request gets no answer
    WRONG_ID = "wrong-id"  # the last answer carries another RequestId
    SESSION_EXPIRED = "session-expired"  # the session in use ends before its time
    DUPLICATE = "duplicate"  # a record stands twice in a page
    REPEATED_PAGE = "repeated-page"  # the account's last page once more: no progress


class Faults:
    """Scripted faults first, in turn, then by their rates. `fired` counts those that took effect.

    Not thread-safe: `World` holds its lock around it.
    """

    def __init__(self, seed: object) -> None:
        self.fired: dict[Fault, int] = dict.fromkeys(Fault, 0)
        self._rng = dice("faults", seed)
        self._script: deque[Fault | None] = deque()
        self._rates: dict[Fault, float] = {}
        self._in_a_row = 0

    def script(self, *faults: Fault | str | None) -> None:
        """What befalls the next documents, one each (None: nothing). One that does not apply waits for its document."""
        self._script.extend(None if fault is None else Fault(fault) for fault in faults)

    def rates(self, rates: Mapping[Fault, float] | Mapping[str, float]) -> None:
        """The probability of each fault per document; replaces the rates set before. Their sum is at most 1."""
        self._rates = {Fault(fault): rate for fault, rate in rates.items()}

    @property
    def may_fire(self) -> bool:
        """Whether `pick` could answer a fault at all."""
        return bool(self._script or self._rates)

    @property
    def pending(self) -> int:
        """Scripted documents that are still to come."""
        return len(self._script)

    def pick(self, applicable: Collection[Fault], at_most_in_a_row: int | None) -> Fault | None:
        """What befalls this document, given which faults can show in it."""
        fault = self._scripted(applicable) if self._script else self._drawn(applicable, at_most_in_a_row)
        self._in_a_row = 0 if fault is None else self._in_a_row + 1
        if fault is not None:
            self.fired[fault] += 1
        return fault

    def _scripted(self, applicable: Collection[Fault]) -> Fault | None:
        if self._script[0] is not None and self._script[0] not in applicable:
            return None
        return self._script.popleft()

    def _drawn(self, applicable: Collection[Fault], at_most_in_a_row: int | None) -> Fault | None:
        chance = self._rng.random()
        for fault, rate in self._rates.items():
            chance -= rate
            if chance < 0:
                merciful = at_most_in_a_row is not None and self._in_a_row >= at_most_in_a_row
                return fault if fault in applicable and not merciful else None
        return None
