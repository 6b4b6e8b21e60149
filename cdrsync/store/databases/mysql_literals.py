"""Rows as SQL literals of MySQL and MariaDB: in what is written, and in what the server quotes back.

PyMySQL formats each parameter by itself, which takes longer than the server needs to store it. Here a row becomes one
piece of text, and the server quotes back what it holds in the same way (QUOTE): equal text means an unchanged row.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cdrsync import tuning
from cdrsync.model import COST_PLACES, FIELDS, Cdr, Kind
from cdrsync.store.databases.port import micro
from cdrsync.tuning import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, time
    from decimal import Decimal


def literals(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> list[str]:
    """Each row as SQL literals, separated by commas. `names` are its columns'."""
    columns = zip(names, zip(*rows, strict=True), strict=True)
    written = [_LITERALS.get(name, _texts)(column) for name, column in columns]
    return list(map(",".join, zip(*written, strict=True)))


_ESCAPING = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0", "\x1a": "\\Z"})


def _texts(column: Sequence[object]) -> Iterable[str]:
    return each(_text, column)


def _text(value: object) -> str:
    """As the server's own QUOTE does (`sql_mode` is ours, so the backslash escapes)."""
    if value is None:
        return "NULL"
    text = str(value)
    return f"'{text}'" if text.isalnum() else f"'{text.translate(_ESCAPING)}'"


def instants(column: Sequence[datetime]) -> list[str]:
    """To the microsecond, as the server writes them."""
    return [f"'{text}'" if "." in text else f"'{text}.000000'" for text in tuning.instants(column)]


def _clocks(column: Sequence[time]) -> list[str]:
    return [f"'{text}'" for text in tuning.clocks(column)]


def _pounds(value: Decimal) -> str:
    micro(value)
    return f"{value:.{COST_PLACES}f}"


def _whole(value: int | None) -> str:
    return "NULL" if value is None else str(int(value))


_OF_KIND: dict[Kind, Callable[[Sequence[Any]], Iterable[str]]] = {
    **dict.fromkeys((Kind.WHOLE, Kind.FLAG), partial(each, _whole)),
    Kind.DATE: partial(each, "'{}'".format),
    Kind.TIME: _clocks,
    Kind.POUNDS: partial(each, _pounds),
}
_LITERALS: dict[str, Callable[[Sequence[Any]], Iterable[str]]] = {
    **{field.column: _OF_KIND[field.kind] for field in FIELDS if field.kind in _OF_KIND},
    "uid": partial(map, str),
    "ref": partial(map, _text),
    "started_at": instants,
}
"""How the values of a column that is no text are written."""

_NUMBERS = {field.column for field in FIELDS if field.kind in (Kind.WHOLE, Kind.FLAG, Kind.POUNDS)}


def _quoted_back(name: str) -> str:
    """The SQL that makes of a stored value what `literals` makes of ours."""
    if name == "started_at":
        return f"QUOTE(DATE_FORMAT({name}, '%%Y-%%m-%%d %%H:%%i:%%s.%%f'))"
    return f"IFNULL({name}, 'NULL')" if name in _NUMBERS else f"QUOTE({name})"


STORED = (
    f"SELECT IFNULL(CONCAT_WS(',', {', '.join(map(_quoted_back, Cdr._fields))}), uid)"  # noqa: S608 - our own column names
    " FROM cdr FORCE INDEX (PRIMARY)"
)
"""Of the calls that are held: one text each, as `literals` makes it of ours."""
