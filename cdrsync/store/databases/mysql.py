"""MySQL and MariaDB: rows as SQL literals, in statements of many rows each.

PyMySQL formats each parameter by itself, which takes longer than the server needs to store it. Here a row becomes one
piece of text, and the server quotes back what it holds in the same way (QUOTE): equal text means an unchanged row.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from cdrsync.model import COST_PLACES, FLAGS, Cdr
from cdrsync.store.databases import iso
from cdrsync.store.databases.port import COLUMNS, NUMBER_COLUMNS, SLICE, held_of, ranges
from cdrsync.store.schema.types import micro
from cdrsync.tuning import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy.engine import Connection

    from cdrsync.store.databases.port import Number

STATEMENT_LENGTH = 2**20
"""Characters of one INSERT: enough for some thousands of rows. Fewer where the server's max_allowed_packet is small."""

_ROOM = 4096  # of a packet, for the statement around the rows

_INSERT = f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at) VALUES "  # noqa: S608 - our own column names
_NUMBERS = ("uid", "duration", "ring_time", "reason", "reason_q805", *FLAGS)


def _quoted_back(name: str) -> str:
    """The SQL that makes of a stored value what `literals` makes of ours."""
    if name == "started_at":
        return f"QUOTE(DATE_FORMAT({name}, '%%Y-%%m-%%d %%H:%%i:%%s.%%f'))"
    return f"IFNULL({name}, 'NULL')" if name in (*_NUMBERS, "user_cost") else f"QUOTE({name})"


_UIDS = "SELECT uid FROM cdr WHERE account_id = %s AND uid"
# Many rows as one text: PyMySQL would take longer to make a tuple of each than the server to find it.
_ROWS = (
    f"SELECT GROUP_CONCAT(CONCAT_WS(',', {', '.join(map(_quoted_back, Cdr._fields))}) SEPARATOR '\n')"  # noqa: S608 - our own column names
    " FROM cdr WHERE account_id = %s AND uid"
)
_NOTE = f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) VALUES "  # noqa: S608 - our own column names
_NOTED = " ON DUPLICATE KEY UPDATE number = number.number"


class MysqlRows:
    """The fast roads of MySQL and MariaDB."""

    def __init__(self) -> None:
        self._packet = 0  # bytes, max_allowed_packet

    def forms(self, calls: Sequence[Cdr]) -> Sequence[str]:
        """Each call as SQL literals."""
        return literals(calls, Cdr._fields)

    def held(self, connection: Connection, account_id: int, uids: Sequence[int]) -> set[int]:
        """Ask for plain rows: of a joined list that the server cut, known calls would be taken for new ones."""

        def among(count: int, parameters: Sequence[int]) -> list[int]:
            return [uid for (uid,) in connection.exec_driver_sql(ranges(count, "%s"), tuple(parameters))]

        def listed(uids: Sequence[int]) -> list[int]:
            return [uid for (uid,) in connection.exec_driver_sql(f"{_UIDS} IN ({_listed(uids)})", (account_id,))]

        return held_of(account_id, uids, among, listed)

    def same(self, connection: Connection, account_id: int, forms: Mapping[int, str]) -> set[int]:
        """Have the server quote the rows back, and compare the texts.

        Missed is what a line end within it cuts in two, and what the server cuts off (JOINED_BYTES).
        """
        found: set[int] = set()
        uids = list(forms)
        for start in range(0, len(uids), SLICE):
            some = uids[start : start + SLICE]
            joined: str | None = connection.exec_driver_sql(f"{_ROWS} IN ({_listed(some)})", (account_id,)).scalar_one()
            held = set(joined.split("\n")) if joined else set()
            found.update(uid for uid in some if forms[uid] in held)
        return found

    def insert(self, connection: Connection, account_id: int, forms: Sequence[str], now: datetime) -> None:
        """Write new calls, about a megabyte of them in a statement."""
        seen = f",'{_instants([now])[0]}'" * 2
        self._write(connection, forms, f"{_INSERT}({account_id},", f"{seen}),({account_id},", f"{seen})")

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """The same road. INSERT IGNORE would ignore bad values too."""
        begin = f"('{_instants([now])[0]}',"
        self._write(connection, literals(numbers, NUMBER_COLUMNS), f"{_NOTE}{begin}", f"),{begin}", f"){_NOTED}")

    def _write(self, connection: Connection, rows: Sequence[str], begin: str, between: str, end: str) -> None:
        """INSERT many rows, in statements that the server takes."""
        if not self._packet:
            self._packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
        for some in _batches(rows, len(between), self._packet):
            # Without parameters the driver leaves per cent signs alone.
            connection.exec_driver_sql(f"{begin}{between.join(some)}{end}", execution_options={"no_parameters": True})


def _listed(uids: Iterable[int]) -> str:
    return ",".join(map(str, uids))


def literals(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> list[str]:
    """Each row as SQL literals, separated by commas. `names` are its columns'."""
    parts: list[Iterable[str]] = []
    between = ""
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        quote, texts = _literal(name, column)
        parts += [repeat(f"{between}{quote}"), texts]
        between = f"{quote},"
    return list(map("".join, zip(*parts, repeat(between[:-1]), strict=False)))  # what is repeated never ends


def _literal(name: str, column: Sequence[Any]) -> tuple[str, Iterable[str]]:
    """What stands before and behind each value of a column, and the texts between: few pages need more than quotes."""
    if name in _WRITTEN:
        quote, write = _WRITTEN[name]
        return quote, write(column)
    texts = {value: str(value) for value in set(column)}
    if None not in texts:
        together = "".join(texts.values())
        if not any(one in together for one in _ESCAPES):
            return "'", map(texts.__getitem__, column)
    return "", each(_quote, column)


def _batches(rows: Sequence[str], between: int, packet: int) -> Iterator[Sequence[str]]:
    """Rows that fit into a packet of so many bytes together. Raises ValueError for a row that never will.

    `between` characters stand between each row and the next.
    """
    most = min(STATEMENT_LENGTH, (packet - _ROOM) // 4)  # a character takes at most four bytes
    start = size = 0
    for place, length in enumerate(map(len, rows)):
        if length > most and len(rows[place].encode()) > packet - _ROOM:
            raise ValueError(f"longer than the server's max_allowed_packet, {packet} bytes")
        size += length + between
        if size > most and place > start:
            yield rows[start:place]
            start, size = place, length + between
    if len(rows) > start:
        yield rows[start:]


def _instants(column: Sequence[datetime]) -> list[str]:
    """To the microsecond, as the server writes them."""
    return [text if "." in text else f"{text}.000000" for text in iso.instants(column)]


_ESCAPES = {"\\": "\\\\", "'": "\\'", "\0": "\\0", "\x1a": "\\Z"}
_ESCAPING = str.maketrans(_ESCAPES)


def _quote(value: object) -> str:
    """As the server's own QUOTE does (`sql_mode` is ours, so the backslash escapes)."""
    return "NULL" if value is None else f"'{str(value).translate(_ESCAPING)}'"


def _money(pounds: Decimal) -> str:
    micro(pounds)
    return f"{pounds:.{COST_PLACES}f}"


def _plain(value: int | None) -> str:
    return "NULL" if value is None else str(int(value))


_WRITTEN: dict[str, tuple[str, Callable[[Sequence[Any]], Iterable[str]]]] = {
    **dict.fromkeys(_NUMBERS, ("", partial(each, _plain))),
    "uid": ("", partial(map, str)),
    "call_time": ("'", iso.clocks),
    "started_at": ("'", _instants),
    "user_cost": ("", partial(each, _money)),
}
"""Of each column that is no text and no date: what stands around its values, and how they are written."""
