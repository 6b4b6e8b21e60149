"""The file formats of an export: CSV, CSV for spreadsheets, Parquet, and the workbooks of Excel."""

from __future__ import annotations

import re
from contextlib import ExitStack
from decimal import Decimal
from functools import lru_cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cdrsync.errors import ConfigError, install_hint
from cdrsync.model import COST_PLACES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from typing import BinaryIO

    from cdrsync.store.admin.views import DescribedColumn

ROW_GROUP = 100_000  # rows of Parquet that are written together: packed, some 20 MB
SHEET_ROWS = 1_000_000  # of a workbook's sheet, beside its headings: a spreadsheet holds 1,048,576
LONGEST_CELL = 32_767  # characters
EXACT_DIGITS = 15  # of a number in a spreadsheet


def temporary() -> AbstractContextManager[str]:
    """A folder for the length of a block."""
    return TemporaryDirectory(prefix="cdrsync-", ignore_cleanup_errors=True)


class Scratch(ExitStack):
    """What is in use while a file is written, and is cleared away at the end."""

    def __init__(self, make: Callable[[], AbstractContextManager[str]] = temporary) -> None:
        super().__init__()
        self._make = make

    def folder(self) -> str:
        """A new one, for temporary files."""
        return self.enter_context(self._make())


class Columns:
    """The columns to write. A cost comes as millionths of a pound: exact on every database."""

    def __init__(self, described: Sequence[DescribedColumn]) -> None:
        self.described = described
        self.names = [one.name for one in described]
        self.types = ["micros" if one.name == "cost" else one.type for one in described]


@lru_cache(16384)
def _pounds(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-COST_PLACES)


class Csv:
    """RFC 4180 in UTF-8, for programs. NULL is nothing at all, an empty text is `""`: PostgreSQL's COPY reads it so."""

    mark = b""

    def __init__(self, to: BinaryIO, columns: Columns, scratch: Scratch) -> None:
        del scratch  # nothing is left behind
        self._to = to
        makers = self.makers()
        self._makers = [makers.get(kind, str) for kind in columns.types]
        to.write(self.mark + (",".join(columns.names) + "\r\n").encode())

    @staticmethod
    def makers() -> Mapping[str, Callable[[Any], str]]:
        """How the values of a type are written."""
        return {
            "text": _quoted,
            "json": _quoted,
            "boolean": lambda value: "true" if value else "false",
            "timestamptz": lambda value: value.isoformat().replace("+00:00", "Z"),
            "timestamp": lambda value: value.isoformat(),
            "micros": lambda micros: f"{_pounds(micros):f}",
        }

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, column by column."""
        columns = (
            ["" if value is None else make(value) for value in values]
            for make, values in zip(self._makers, zip(*rows, strict=True), strict=True)
        )
        lines = map(",".join, zip(*columns, strict=True))
        self._to.write(("\r\n".join(lines) + "\r\n").encode())

    def close(self) -> None:
        """Nothing ends it."""
        self._to.flush()


class ExcelCsv(Csv):
    """CSV that a spreadsheet opens by a double click.

    It begins with the mark by which Excel knows UTF-8. A text that would be taken for a formula, a number or a date
    begins with an apostrophe: it does nothing, and no digit is lost.
    """

    mark = b"\xef\xbb\xbf"

    @staticmethod
    def makers() -> Mapping[str, Callable[[Any], str]]:
        """As in plain CSV, but for texts and times."""
        return {
            **Csv.makers(),
            "text": lambda text: _quoted(_harmless(text)),
            "json": lambda text: _quoted(_harmless(text)),
            "timestamptz": _without_zone,
            "timestamp": _without_zone,
        }


_SPECIAL = re.compile('[",\r\n]').search
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - their wide forms, too
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_LIKE_A_NUMBER = re.compile(  # or a date, a time, a truth
    r"\s*(?:[£$€]?[\d.,][\d\s.,:/()-]*(?:e[+-]?\d+)?\s*(?:%|[ap]m)?|true|false"
    rf"|\d{{1,2}}[\s/-]?{_MONTH}(?:[\s/.-]?\d{{2,4}})?|{_MONTH}[\s/.-]?\d{{1,4}})\s*",
    re.IGNORECASE,
).fullmatch


def _quoted(text: str) -> str:
    if text and _SPECIAL(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'


def _harmless(text: str) -> str:
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) or _LIKE_A_NUMBER(text) else text


def _without_zone(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}"


class Parquet:
    """Typed columns with their meaning as metadata."""

    def __init__(self, to: BinaryIO, columns: Columns, scratch: Scratch) -> None:
        del scratch
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise ConfigError(["--format parquet needs pyarrow"], hint=install_hint("parquet")) from None
        types = {
            "text": pa.string(),
            "json": pa.string(),
            "bigint": pa.int64(),
            "integer": pa.int32(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "time": pa.time32("s"),
            "timestamp": pa.timestamp("us"),
            "timestamptz": pa.timestamp("us", tz="UTC"),
            "numeric": pa.decimal128(18, COST_PLACES),
        }
        self._arrow = pa
        self._schema = pa.schema(
            [pa.field(one.name, types[one.type], metadata={"comment": one.comment}) for one in columns.described]
        )
        self._writer = parquet.ParquetWriter(to, self._schema, compression="zstd")
        self._cost = columns.names.index("cost")
        self._group: list[Any] = []

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Collect rows until there is a group of them."""
        columns = [list(values) for values in zip(*rows, strict=True)]
        columns[self._cost] = [_pounds(micros) for micros in columns[self._cost]]
        arrays = [self._arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._group.append(self._arrow.record_batch(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._group) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(self._arrow.Table.from_batches(self._group), row_group_size=2 * ROW_GROUP)
            self._group = []

    def close(self) -> None:
        """Write the last group and the footer."""
        self._flush()
        self._writer.close()


class Xlsx:
    """A workbook: real dates, times and numbers; what is text stays text, numbers of telephones too.

    Instants are UTC, for a spreadsheet knows no time zones. A whole number of more digits than it keeps is a text.
    """

    def __init__(self, to: BinaryIO, columns: Columns, scratch: Scratch, sheet_rows: int = SHEET_ROWS) -> None:
        try:
            import xlsxwriter
        except ModuleNotFoundError:
            raise ConfigError(["--format xlsx needs XlsxWriter"], hint=install_hint("xlsx")) from None
        # Rows go to a temporary file as they come: no more than one is in memory. Whatever happens, none is left there.
        told = {"constant_memory": True, "tmpdir": scratch.folder(), "default_date_format": "yyyy-mm-dd"}
        self._scratch = scratch
        self._failed = xlsxwriter.exceptions.FileCreateError
        self._book: Any = xlsxwriter.Workbook(to, told)
        self._columns = columns
        self._heading = self._book.add_format({"bold": True})
        formats = {
            "date": "yyyy-mm-dd", "time": "hh:mm:ss", "timestamp": "yyyy-mm-dd hh:mm:ss",
            "timestamptz": "yyyy-mm-dd hh:mm:ss", "micros": "0.000###",
        }  # fmt: skip
        self._formats = [
            self._book.add_format({"num_format": formats[kind]}) if kind in formats else None for kind in columns.types
        ]
        self._sheet_rows = sheet_rows
        self._sheets = 0
        self._row = 0
        self._add_sheet()

    def _add_sheet(self) -> None:
        self._sheets += 1
        self._sheet = self._book.add_worksheet("calls" if self._sheets == 1 else f"calls {self._sheets}")
        self._scratch.callback(self._sheet.row_data_fh.close)
        self._sheet.freeze_panes(1, 0)
        for place, name in enumerate(self._columns.names):
            self._sheet.set_column(place, place, max(10, len(name) + 2))
            self._sheet.write_string(0, place, name, self._heading)
        self._row = 0

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows; a full sheet is followed by another."""
        kinds = list(enumerate(zip(self._columns.types, self._formats, strict=True)))
        for row in rows:
            if self._row == self._sheet_rows:
                self._add_sheet()
            self._row += 1
            for place, (kind, shown) in kinds:
                if (value := row[place]) is not None:
                    self._cell(place, kind, value, shown)

    def _cell(self, place: int, kind: str, value: Any, shown: Any) -> None:
        at = (self._row, place)
        if kind in ("text", "json"):
            self._sheet.write_string(*at, value[:LONGEST_CELL])
        elif kind == "boolean":
            self._sheet.write_boolean(*at, value)
        elif kind == "micros":
            self._sheet.write_number(*at, float(_pounds(value)), shown)
        elif kind in ("bigint", "integer"):
            if abs(value) < 10**EXACT_DIGITS:
                self._sheet.write_number(*at, value)
            else:
                self._sheet.write_string(*at, str(value))
        else:
            self._sheet.write_datetime(*at, value.replace(tzinfo=None) if kind == "timestamptz" else value, shown)

    def close(self) -> None:
        """Put the sheets together. Raises OSError."""
        try:
            self._book.close()
        except self._failed as error:
            raise error.args[0] from None


FORMATS: Mapping[str, type[Csv | Parquet | Xlsx]] = {
    "csv": Csv,
    "excel-csv": ExcelCsv,
    "parquet": Parquet,
    "xlsx": Xlsx,
}
