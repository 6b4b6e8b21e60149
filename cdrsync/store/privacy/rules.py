"""What has been erased stays so: the rules that `save` puts every page through before anything is compared or written.

Three rules of an account, each put down in `erasure` before it is carried out (`retention`):

    delete          calls of days before a day are not stored
    pseudonymise    calls of days before a day have pseudonyms for the caller and the destination
    number          a number that a person had erased is replaced wherever it stands, however it is written

A pseudonym is a keyed hash of the number: the same number has the same pseudonym, and a page that is read again is
equal to what is held. Whoever puts down a rule locks the account's row, which `save` shares: no page that was begun
under the old rules is committed after the new ones hold.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, overload

from sqlalchemy import select

from cdrsync.errors import ConfigError
from cdrsync.store.privacy.raw_record import documented, record_of
from cdrsync.store.schema.tables import account, erasure
from cdrsync.store.spelling import readings, replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from cdrsync.model import Cdr, Reject

PSEUDONYMISE, DELETE = "pseudonymise", "delete"
ERASED = "~erased"
"""Stands for the number of a person who had it erased."""

TEXTS = ("ref", "alias", "anumber_location", "dialled_location")
"""Columns of a call in which a number may stand among other words."""

_MARK = "~"  # begins every pseudonym; no number as sent has it
_MAILBOX = "V:"
_PLAIN = ("", "0")  # withheld, nothing dialled: nobody's number
_REMEMBERED = 50_000  # hashes kept in memory, some 10 MB
_LENGTH = 10  # bytes of the hash in a pseudonym: two of a million numbers share one with a chance of 1 in 2 trillion


class Key:
    """The secret `pseudonym_key`. Without it neither a pseudonym nor a token can be made."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._hashes: dict[tuple[str, str], str] = {}

    @property
    def check(self) -> str:
        """By which another key is noticed."""
        return self._hash("check", "")

    def token(self, number: str) -> str:
        """By which a number that was erased is known again: of its normal form (`spelling`), or of a mailbox."""
        return self._hash("token", number)

    def pseudonym(self, number: str | None) -> str | None:
        """What stands for a number, however it is written. Nobody's number, or what stands for one already, stays."""
        if number is None or number in _PLAIN or number.removeprefix(_MAILBOX).startswith(_MARK):
            return number
        if number.startswith(_MAILBOX):
            return self.stand_in(number.casefold().replace("v:", _MAILBOX, 1))
        return self.stand_in(next(iter(readings(number)), number))

    def stand_in(self, meant: str) -> str:
        """The pseudonym of a number in its normal form (`spelling`), or of a mailbox."""
        mailbox = _MAILBOX if meant.startswith(_MAILBOX) else ""  # a voicemail is still seen to be one
        digest = bytes.fromhex(self._hash("pseudonym", meant))[:_LENGTH]
        return f"{mailbox}{_MARK}{b32encode(digest).decode()}"

    def _hash(self, purpose: str, text: str) -> str:
        found = self._hashes.get((purpose, text))
        if found is None:
            if len(self._hashes) >= _REMEMBERED:
                self._hashes.clear()
            found = hmac.new(self._secret, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()
            self._hashes[purpose, text] = found
        return found


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one account."""

    version: int = 0
    key: Key | None = None
    delete_before: date = date.min
    pseudonymise_before: date = date.min
    tokens: frozenset[str] = frozenset()
    stand_in: str | None = None  # the pseudonym of a number that is being erased

    def apply(self, calls: Sequence[Cdr]) -> Sequence[Cdr]:
        """The calls as they may be stored."""
        oldest = max(self.delete_before, self.pseudonymise_before)
        if not self.tokens and (oldest == date.min or all(call.call_date >= oldest for call in calls)):
            return calls
        return [self.one(call) for call in calls if call.call_date >= self.delete_before]

    def one(self, call: Cdr) -> Cdr:
        """A call without what was erased. Elements we don't know go too: they may name anybody."""
        if self.key is None:
            return call
        day = call.call_date
        treated = call._replace(anumber=self.text(call.anumber, day), dialled=self.text(call.dialled, day))
        if self.tokens:
            texts = {name: self.within(getattr(call, name)) for name in TEXTS}
            treated = treated._replace(bnumber=self.text(call.bnumber, date.max), **texts)
        kept = treated == call and day >= self.pseudonymise_before and self.within(call.extra) == call.extra
        return call if kept else treated._replace(extra=None)

    def quarantine(self, records: Sequence[Reject]) -> list[Reject]:
        """The records as they may be kept in quarantine: treated like calls, as far as they can be read."""
        if not self.version:
            return list(records)
        return [treated for record in records if (treated := self._record(record)) is not None]

    def _record(self, record: Reject) -> Reject | None:
        if self.tokens:
            record = record._replace(raw=self.within(record.raw), problem=self.within(record.problem))
        texts = documented(record.raw)
        day = _day(dict(texts).get("call_date", ""))
        if day < self.delete_before:
            return None
        if day >= self.pseudonymise_before:
            return record
        treated = [
            (column, self.text(text, day) or "" if column in ("anumber", "dialled") else text) for column, text in texts
        ]
        told = replaced(record.problem, lambda _: True, ERASED)
        return record._replace(raw=record_of(treated), problem=told)

    def text(self, number: str | None, day: date) -> str | None:
        """A caller or destination of a day as it may be stored."""
        if self.key is None or not number:
            return number
        if self.tokens:
            mailbox = number.startswith(_MAILBOX)
            meant = (number.casefold().replace("v:", _MAILBOX, 1),) if mailbox else readings(number)
            number = ERASED if any(map(self.is_erased, meant)) else self.within(number)
        return self.key.pseudonym(number) if day < self.pseudonymise_before else number

    @overload
    def within(self, text: str) -> str: ...
    @overload
    def within(self, text: str | None) -> str | None: ...
    def within(self, text: str | None) -> str | None:
        """A text without the numbers that persons had erased."""
        if not text or not self.tokens:
            return text
        return replaced(text.replace(self.stand_in, ERASED) if self.stand_in else text, self.is_erased, ERASED)

    def is_erased(self, number: str) -> bool:
        """Whether a person had this number (normal form) erased."""
        return self.key is not None and self.key.token(number) in self.tokens


def _day(text: str) -> date:
    """A record that does not say its day counts as a new one: what can't be read must not be lost."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return date.max


def check_key(connection: Connection, key: Key | None) -> None:
    """Raises ConfigError where numbers were erased in this database by another key than this."""
    other = select(erasure.c.id).where(erasure.c.key_check.is_not(None))
    if key is not None:
        other = other.where(erasure.c.key_check != key.check)
    if connection.execute(other.limit(1)).first() is not None:
        problem = "is not set: it is the one" if key is None else "is not the one"
        raise ConfigError(
            [f"pseudonym_key {problem} by which numbers were erased in this database before"],
            hint="Set it to what it was; it can't be changed: under another key erased numbers would come back",
        )


def current_rules(connection: Connection, account_id: int, known: Rules, key: Key | None) -> Rules:
    """The rules that hold until the caller's transaction ends, which wrote the lease's row; `known` where unchanged.

    Raises ConfigError where they need a key and there is none, or another.
    """
    query = select(account.c.erasures).where(account.c.id == account_id)
    version: int = connection.execute(query).scalar_one()
    if version == known.version:
        return known
    delete = pseudonymise = date.min
    tokens = set()
    for row in connection.execute(select(erasure).where(erasure.c.account_id == account_id)):
        if row.what == DELETE:
            delete = max(delete, row.before_day)
            continue
        if key is None or row.key_check != key.check:
            problem = "is not set" if key is None else "is not the one that was used before"
            raise ConfigError(
                [f"numbers of this account were erased, and pseudonym_key {problem}"],
                hint="Set pseudonym_key to what it was: without it, erased numbers would come back",
            )
        if row.what == PSEUDONYMISE:
            pseudonymise = max(pseudonymise, row.before_day)
        else:
            tokens.add(row.token)
    return Rules(version, key, delete, pseudonymise, frozenset(tokens))
