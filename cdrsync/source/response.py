"""What one document of the API holds, typed: one `Response` per request, in the operator's order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdrsync.model import Batch

OK = "200"
"""The `Code` of a request that was done. It stands on every Response; any other is a refusal."""


LONGEST_WORDS = 300  # of a message that is repeated


@dataclass(frozen=True, slots=True)
class TotalsSent:
    """One `<CDRTotals>` as sent: its Period (None where absent) and the text of every element."""

    period: str | None
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """One `<Response>`: its four attributes ("" where absent) and what its elements carry.

    Only the content of a Response with Code 200 is read; of any other, its `<ResponseMessage>`.
    """

    target: str
    name: str
    code: str
    request_id: str
    message: str = ""  # without a secret that the operator may echo, once `exchange` has it
    session_id: str | None = field(default=None, repr=False)  # a secret while the session lives
    batch: Batch | None = None  # of GetCDRs and GetCDR
    totals: tuple[TotalsSent, ...] = ()  # of GetTotals

    @property
    def words(self) -> str:
        """The operator's message, short."""
        return (self.message or "no message")[:LONGEST_WORDS]

    @property
    def said(self) -> str:
        """Code and words of a refusal on one line."""
        return f"Code {self.code[:20] or 'missing'}: {self.words}"

    @property
    def ok(self) -> bool:
        """Whether the operator says that this request was done."""
        return self.code == OK
