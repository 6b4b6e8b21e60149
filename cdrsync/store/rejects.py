"""Records that can't be typed or held, as a page brings them: kept once, counted, resolved when they can be stored."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from cdrsync.model import MAX_UID
from cdrsync.store.databases.port import pieces
from cdrsync.store.privacy.raw_record import fingerprint
from cdrsync.store.schema.tables import reject
from cdrsync.store.upsert import keep_reject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cdrsync.model import Reject
    from cdrsync.store.databases.port import DatabaseKind

REJECT_LENGTH = 2**18  # characters kept of a rejected record


class Rejects:
    """The quarantine of one account, and the uids of the open ones, which are remembered between pages."""

    def __init__(self, kind: DatabaseKind) -> None:
        self._kind = kind
        self._keep = keep_reject(kind)
        self._open: set[int] = set()

    def read(self, connection: Connection, account_id: int) -> None:
        """Which are open."""
        opened = select(reject.c.uid).where(
            reject.c.account_id == account_id, reject.c.resolved_at.is_(None), reject.c.uid.is_not(None)
        )
        self._open = set(connection.execute(opened).scalars())

    def write(
        self, connection: Connection, account_id: int, rejects: Sequence[Reject], uids: Collection[int], now: datetime
    ) -> int:
        """Keep a page's rejects; those whose records it has stored (`uids`) are resolved. Answers how many are new."""
        stored = self._open.intersection(uids)
        if stored:
            here = (reject.c.account_id == account_id, reject.c.uid.in_(stored), reject.c.resolved_at.is_(None))
            connection.execute(update(reject).where(*here).values(resolved_at=now))
        if not rejects:
            return 0
        most = self._kind.text_bytes(connection)
        seen = Counter(map(fingerprint, rejects))
        records = {fingerprint(record): record for record in rejects}
        known = self._known(connection, account_id, records)
        connection.execute(
            self._keep,
            [
                {
                    "account_id": account_id,
                    "uid": record.uid if record.uid is None or record.uid <= MAX_UID else None,
                    "raw": holdable(record.raw, most),
                    "problem": holdable(record.problem, most),
                    "fingerprint": mark,
                    "seen": seen[mark],
                    "first_seen_at": now,
                    "last_seen_at": now,
                }
                for mark, record in sorted(records.items())
            ],
        )
        return len(records) - known

    def _known(self, connection: Connection, account_id: int, marks: Iterable[str]) -> int:
        """How many of these fingerprints are kept already."""
        known = 0
        for some in pieces(sorted(marks)):
            here = (reject.c.account_id == account_id, reject.c.fingerprint.in_(some))
            known += connection.scalar(select(func.count()).select_from(reject).where(*here)) or 0
        return known

    def noted(self, rejects: Sequence[Reject], uids: Collection[int]) -> None:
        """That was committed."""
        self._open.difference_update(uids)
        self._open.update(record.uid for record in rejects if record.uid is not None)


def holdable(text: str, most: int | None = None) -> str:
    """Text that the database takes: what no encoding knows, and NUL, are written out; the rest of a giant is cut.

    `most`: bytes.
    """
    plain = text[:REJECT_LENGTH].encode("utf-8", "backslashreplace").replace(b"\0", b"\\x00")
    if len(text) <= REJECT_LENGTH and (most is None or len(plain) <= most):
        return plain.decode()
    return f"{plain[:most].decode(errors='ignore')}… (cut: {len(text)} characters in all)"
