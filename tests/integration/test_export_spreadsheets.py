"""Exports that a spreadsheet opens: workbooks, harmless CSV, the suffix that decides; and files of other users."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lxml import etree

from cdrsync.cli import destination, main
from cdrsync.errors import OutputFailed
from cdrsync.store.admin import dictionary
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.reads import export
from cdrsync.store.reads.formats import Columns, ExcelCsv, Scratch, Xlsx
from tests.integration.test_export import COLUMNS, save
from tests.support.forks import Program
from tests.support.processes import DEADLINE, REPOSITORY, environment
from tests.support.small_account import ANSWERED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
EPOCH = datetime(1899, 12, 30, tzinfo=UTC)  # day 0 of a spreadsheet
CALLS = next(view for view in dictionary.views() if view.name == "calls").columns
FORMULAS = [
    "=1+1", '=HYPERLINK("http://x")', "+44 121 496", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1",
    "=cmd|' /C calc'!A0",
]  # fmt: skip
LIKE_NUMBERS = [
    "07921255043", "5224557E00000012", "1E5", "0121 496 0116", "1/2", "10:30", "2024-05-01", "00", "1,234.50", "£5.00",
    "5%", "TRUE", "March 5", "1-Mar", "MAR1", "12345678901234567890",
]  # fmt: skip
WORDS = [
    "Sales",
    "5th floor",
    "!51FD5E98",
    "51FD5E980233A34F",
    "user@example.com",
    "a=b",
    "",
    "Mary",
    "x-1",
    'say "hi"',
    "É",
]


@pytest.fixture
def engine(migrated: Database) -> Iterator[Engine]:
    rows = [ANSWERED._replace(uid=1000 + n, alias=text) for n, text in enumerate([*FORMULAS, *LIKE_NUMBERS, *WORDS])]
    save(migrated.url, "main", rows)
    made = open_engine(migrated.url)
    yield made
    made.dispose()


def exported(engine: Engine, kind: str) -> bytes:
    to = io.BytesIO()
    assert sum(export.export(engine, to, kind=kind)) > 0
    return to.getvalue()


def sheets(book: bytes) -> list[list[list[tuple[str | None, str]]]]:
    """Of each sheet its rows, of each row its cells: type and text."""
    with zipfile.ZipFile(io.BytesIO(book)) as parts:
        shared = [
            "".join(str(part) for part in text.itertext())
            for text in etree.fromstring(parts.read("xl/sharedStrings.xml")).iter(f"{SHEET}si")
        ] if "xl/sharedStrings.xml" in parts.namelist() else []  # fmt: skip
        names = sorted(n for n in parts.namelist() if n.startswith("xl/worksheets/sheet"))
        return [
            [
                [(cell.get("t"), _text(cell, shared)) for cell in row.iter(f"{SHEET}c")]
                for row in etree.fromstring(parts.read(name)).iter(f"{SHEET}row")
            ]
            for name in names
        ]


def _text(cell: Any, shared: list[str]) -> str:
    assert cell.find(f"{SHEET}f") is None, "a formula"
    if cell.get("t") == "inlineStr":
        return "".join(cell.itertext())
    value = cell.findtext(f"{SHEET}v") or ""
    return shared[int(value)] if cell.get("t") == "s" else value


def test_csv_for_a_spreadsheet_is_harmless(engine: Engine) -> None:
    """No cell is a formula, no text loses a digit, and Excel sees that it is UTF-8."""
    content = exported(engine, "excel-csv")
    assert content.startswith(b"\xef\xbb\xbfaccount_id,")
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    aliases = [row[header.index("alias")] for row in rows]
    expected = [f"'{text}" for text in (*FORMULAS, *LIKE_NUMBERS)] + WORDS
    assert aliases == expected
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "@", "\t", "\r")) or cell.lstrip(" ").startswith("=")] == []
    assert [cell for cell in cells if cell.startswith("+")] == []
    caller = rows[0][header.index("caller_number")]
    assert caller == f"'{ANSWERED.anumber}"
    assert rows[0][header.index("started_at")] == f"{ANSWERED.started_at:%Y-%m-%d %H:%M:%S}"


def test_plain_csv_is_as_sent(engine: Engine) -> None:
    """For programs: not a character is added."""
    content = exported(engine, "csv")
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert [row[header.index("alias")] for row in rows] == [*FORMULAS, *LIKE_NUMBERS, *WORDS]


def test_a_workbook_is_typed(engine: Engine) -> None:
    """Texts are texts, whatever they look like; numbers, dates and truth are themselves."""
    (sheet,) = sheets(exported(engine, "xlsx"))
    header, *rows = sheet
    assert [text for _, text in header] == COLUMNS
    first = dict(zip(COLUMNS, _padded(engine, rows[0]), strict=True))
    assert first["ref"][0] in ("s", "inlineStr")
    assert first["caller_number"] == (first["caller_number"][0], ANSWERED.anumber)
    assert first["answered"] == ("b", "1")
    assert first["uid"] == (None, "1000")
    assert float(first["cost"][1]) == float(ANSWERED.user_cost)
    assert (EPOCH.toordinal() + float(first["call_date"][1])) == ANSWERED.call_date.toordinal()
    began = EPOCH + timedelta(days=float(first["started_at"][1]))
    assert abs(began - ANSWERED.started_at) < timedelta(milliseconds=2)


def _padded(engine: Engine, row: list[tuple[str | None, str]]) -> list[tuple[str | None, str]]:
    """With the cells that are empty: XlsxWriter leaves them out."""
    with engine.connect() as connection:
        columns = ", ".join(COLUMNS)
        held = connection.exec_driver_sql(f"SELECT {columns} FROM calls ORDER BY uid LIMIT 1").one()
    cells = iter(row)
    return [(None, "") if value is None else next(cells) for value in held]


def test_a_full_sheet_is_followed_by_another() -> None:
    """A spreadsheet ends at its 1,048,576th row."""
    to = io.BytesIO()
    row = [_example(column.type) for column in CALLS]
    with Scratch() as scratch:
        book = Xlsx(to, Columns(CALLS), scratch, sheet_rows=3)
        book.write([row] * 7)
        book.close()
    assert [len(rows) - 1 for rows in sheets(to.getvalue())] == [3, 3, 1]


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("end", ["done", "given up"])
def test_no_temporary_file_is_left(
    end: str, migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers' numbers are in them, and gigabytes."""
    save(migrated.url, "main", [ANSWERED])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = open_engine(migrated.url)
    rows = export.export(engine, io.BytesIO(), kind="xlsx")
    next(rows)
    assert list(tmp_path.rglob("*"))
    rows.close() if end == "given up" else list(rows)
    engine.dispose()
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
def test_a_workbook_for_which_there_is_no_room_is_said(migrated: Database, tmp_path: Path) -> None:
    """In one line, and nothing of it is left."""
    save(migrated.url, "main", [ANSWERED])
    command = [sys.executable, "-m", "cdrsync", "export", "--format", "xlsx", "-o", "/dev/full"]
    env = {**environment("http://127.0.0.1:9/", migrated.url), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    said = "error: can't write /dev/full: No space left on device. "
    assert (done.returncode, done.stderr.startswith(said), done.stderr.count("\n")) == (2, True, 1), done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_a_number_of_many_digits_is_a_text() -> None:
    """A spreadsheet keeps fifteen."""
    to = io.BytesIO()
    place = [column.name for column in CALLS].index("uid")
    row = [_example(column.type) for column in CALLS]
    row[place] = 9_223_372_036_854_775_807
    with Scratch() as scratch:
        book = Xlsx(to, Columns(CALLS), scratch)
        book.write([row])
        book.close()
    assert sheets(to.getvalue())[0][1][place][1] == "9223372036854775807"


def _example(kind: str) -> Any:
    return {
        "text": "x", "json": "{}", "boolean": True, "date": date(2024, 5, 1), "time": time(9, 30), "numeric": 5000,
        "timestamp": datetime(2024, 5, 1, 9, 30), "timestamptz": datetime(2024, 5, 1, 9, 30, tzinfo=UTC),  # noqa: DTZ001
    }.get(kind, 5)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "begins"),
    [("x.csv", b"account_id"), ("x.parquet", b"PAR1"), ("x.PQ", b"PAR1"), ("x.xlsx", b"PK"), ("x", b"account_id")],
)
@pytest.mark.usefixtures("engine")
def test_the_suffix_decides(name: str, begins: bytes, migrated: Database, tmp_path: Path) -> None:
    """And --format where it is given."""
    assert main(["export", "--database-url", migrated.url, "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert main(["export", "--database-url", migrated.url, "--format", "csv", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(b"account_id")


@pytest.mark.parametrize("args", [["-o", "x.xlsx"], ["--format", "parquet", "-o", "x"]])
def test_excel_is_for_csv(args: list[str], migrated: Database, capsys: Any) -> None:
    assert main(["export", "--database-url", migrated.url, "--excel", *args]) == 2
    assert "--excel is for CSV" in capsys.readouterr().err


def test_excel_csv_is_a_flag(engine: Engine, migrated: Database, tmp_path: Path) -> None:
    assert main(["export", "--database-url", migrated.url, "--excel", "-o", str(tmp_path / "x.csv")]) == 0
    assert (tmp_path / "x.csv").read_bytes() == exported(engine, "excel-csv")
    assert ExcelCsv.mark == (tmp_path / "x.csv").read_bytes()[:3]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
class TestOtherUsers:
    """In a folder that everybody may write in, a link or a file may lie in wait."""

    def refused(self, path: Path) -> str:
        with pytest.raises(OutputFailed) as caught, destination.written(path) as file:
            file.write(b"calls")
        return str(caught.value)

    def test_a_link_of_another_users_is_not_followed(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target", tmp_path / "calls.csv"
        target.write_bytes(b"before")
        link.symlink_to(target)
        os.lchown(link, 1234, 1234)
        assert "another user's link" in self.refused(link)
        assert target.read_bytes() == b"before"

    def test_nor_one_on_the_way(self, tmp_path: Path) -> None:
        folder, link = tmp_path / "folder", tmp_path / "out"
        folder.mkdir()
        link.symlink_to(folder)
        os.lchown(link, 1234, 1234)
        assert "another user's link" in self.refused(link / "calls.csv")
        assert list(folder.iterdir()) == []

    def test_nor_one_behind_ours(self, tmp_path: Path) -> None:
        first, second, target = tmp_path / "a", tmp_path / "b", tmp_path / "target"
        first.symlink_to("b")
        second.symlink_to(target)
        os.lchown(second, 1234, 1234)
        assert "another user's link" in self.refused(first)

    @pytest.mark.parametrize("kind", ["file", "pipe"])
    def test_a_file_of_another_users_is_not_written_into(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "calls.csv"
        if kind == "file":
            path.write_bytes(b"before")
        else:
            os.mkfifo(path)
        path.chmod(0o666)
        os.chown(path, 1234, 1234)
        assert "another user's" in self.refused(path)

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no shared memory")
    def test_shared_memory_is_a_folder_as_any(self, tmp_path: Path) -> None:
        """Everybody may write in it, although it lies among the devices."""
        target = tmp_path / "target"
        target.write_bytes(b"before")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            link = Path(folder) / "calls.csv"
            link.symlink_to(target)
            os.lchown(link, 1234, 1234)
            assert "another user's link" in self.refused(link)
        assert target.read_bytes() == b"before"

    def test_devices_are_everybodys(self) -> None:
        with destination.written(Path("/dev/null")) as file:
            file.write(b"calls")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to", ["pipe", "file"])
@pytest.mark.usefixtures("engine")
def test_streams_have_names(name: str, to: str, migrated: Database, tmp_path: Path) -> None:
    """What stands in the file before is left: it is open already, and where."""
    env = environment("http://127.0.0.1:1/", migrated.url)
    with contextlib.ExitStack() as open_files:
        if to == "pipe":
            reading, writing = os.pipe()
            read = open_files.enter_context(os.fdopen(reading, "rb"))
            write = open_files.enter_context(os.fdopen(writing, "wb"))
        else:
            write = open_files.enter_context((tmp_path / "x").open("wb"))
            read = open_files.enter_context((tmp_path / "x").open("rb"))
        program = Program(("export", "-o", name), env, REPOSITORY, stdout=write.fileno(), stderr=2)
        write.close()
        assert program.wait(DEADLINE) == 0
        assert read.read().startswith(b"account_id")


def test_links_that_go_round_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputFailed, match="Too many levels"), destination.written(tmp_path / "a") as file:
        file.write(b"calls")
