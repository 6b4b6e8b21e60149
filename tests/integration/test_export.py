"""An export has the columns of the view `calls`, every value exact, from every database alike, in flat memory."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.cli import destination, main
from cdrsync.errors import ConfigError
from cdrsync.store.admin import dictionary
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from cdrsync.store.reads import export
from tests.support.examples import calls, page
from tests.support.small_account import ANSWERED, CALLS
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

COLUMNS = [column.name for view in dictionary.views() if view.name == "calls" for column in view.columns]
NOW = datetime(2026, 1, 5, 12, 0, 0, 250, tzinfo=UTC)


def save(url: str, account: str, *pages: list[Any]) -> None:
    store = OwnStore(url, account, classify=classify, clock=lambda: NOW)
    store.open()
    for one in pages:
        store.save(page(*one))
    store.close()


@pytest.fixture
def engine(migrated: Database) -> Iterator[Engine]:
    save(migrated.url, "main", [ANSWERED._replace(uid=99, alias='a "b",\nc')], CALLS)
    engine = open_engine(migrated.url)
    yield engine
    engine.dispose()


def exported(engine: Engine, kind: str = "csv", **options: Any) -> bytes:
    to = io.BytesIO()
    assert sum(export.export(engine, to, kind=kind, **options)) >= 0
    return to.getvalue()


def test_csv(engine: Engine) -> None:
    """RFC 4180, exact costs, instants with Z, an empty text told from NULL."""
    text = exported(engine).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == COLUMNS
    by_uid = {row[COLUMNS.index("uid")]: dict(zip(COLUMNS, row, strict=True)) for row in rows}
    assert list(by_uid) == ["99", "101", "102", "103", "104", "105"]
    assert by_uid["99"]["alias"] == 'a "b",\nc'
    assert text.splitlines()[5].startswith(
        '1,main,103,A3,2013-08-03T20:00:00Z,2013-08-03T20:00:15Z,2013-08-03T21:00:00,2013-08-03,21:00:00,21,,voicemail,'
        'false,voicemail,"",,,withheld,,,,1245830144,+441245830144,landline,,V:user@domain.com,,voicemail,,'
        "Voice to Email,15,,0.005000,5000,1,completed,1,completed,true,,,,"
        '2026-01-05T12:00:00.000250Z,2026-01-05T12:00:00.000250Z,true,""'
    )  # fmt: skip
    assert by_uid["105"]["cost"] == "-0.000001"
    assert by_uid["104"]["cost"] == "1234567.000001"
    assert by_uid["105"]["extra"] == '{"new":"1"}'


def test_parquet(engine: Engine) -> None:
    """The same values with their types: decimals, dates, UTC instants, true and false."""
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parquet.read_table(io.BytesIO(exported(engine, "parquet")))
    assert found.column_names == COLUMNS
    row = found.to_pylist()[4]
    assert (row["uid"], row["cost"], row["cost_micros"]) == (104, Decimal("1234567.000001"), 1234567000001)
    assert row["started_at"] == datetime(2013, 10, 27, 1, 30, tzinfo=UTC)
    assert row["started_local"] == datetime(2013, 10, 27, 1, 30)  # noqa: DTZ001 - the wall clock
    assert (row["call_date"], row["call_time"]) == (date(2013, 10, 27), time(1, 30))
    assert (row["answered"], row["has_fax_document"], row["ref"]) == (True, None, None)
    assert found.schema.field("cost").metadata[b"comment"] == b"Pounds, exact"


def test_a_range_of_days_and_accounts(engine: Engine, migrated: Database) -> None:
    """Both days are included; an account that is not there is named."""
    save(migrated.url, "other", [ANSWERED])
    day = date(2013, 10, 27)
    assert exported(engine, since=day, until=day).decode().count("\r\n") == 2
    assert exported(engine, since=day).decode().count("\r\n") == 3
    assert exported(engine, accounts=["other"]).decode().splitlines()[1].startswith("2,other,102,")
    assert export.count(engine, since=None, until=day, accounts=["main"]) == 5
    with pytest.raises(ConfigError, match="no account 'nobody'"):
        exported(engine, accounts=["nobody"])


def test_however_days_are_put_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call once and in order, whether a query reads all days, some, or one that is too large by itself."""
    whole = exported(engine)
    for span in (1, 2, 4, 5):
        monkeypatch.setattr(export, "SPAN", span)
        assert exported(engine) == whole


def test_the_command(engine: Engine, migrated: Database, tmp_path: Path, capsysbinary: Any) -> None:
    """To a file or to standard output; the words for people go to standard error."""
    file = tmp_path / "calls.csv"
    assert main(["export", "--database-url", migrated.url, "-o", str(file)]) == 0
    assert main(["export", "--database-url", migrated.url]) == 0
    assert capsysbinary.readouterr() == (file.read_bytes(), f"6 calls written to {file}\n6 calls written\n".encode())
    assert file.read_bytes() == exported(engine)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.csv"]
    assert main(["export", "--database-url", migrated.url, "--format", "parquet"]) == 2


def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Half a file can't be taken for a whole one."""
    target = tmp_path / "calls.csv"

    def fail() -> None:
        with destination.written(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_keeps_its_mode_and_a_new_one_is_private(engine: Engine, migrated: Database, tmp_path: Path) -> None:
    """Callers' numbers are personal data; a link is followed, not replaced."""
    target, link = tmp_path / "calls.csv", tmp_path / "link.csv"
    link.symlink_to(target.name)
    write = ["export", "--database-url", migrated.url, "-o", str(link)]
    for mode in (0o600, 0o640):
        assert main(write) == 0
        assert (link.is_symlink(), target.stat().st_mode & 0o777) == (True, mode)
        assert target.read_bytes() == exported(engine)
        target.chmod(0o640)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_pipe_is_written_into(kind: str, engine: Engine, migrated: Database, tmp_path: Path) -> None:
    """What is no regular file stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        assert main(["export", "--database-url", migrated.url, "--format", kind, "-o", str(pipe)]) == 0
        assert read.result(30) == exported(engine, kind)
    assert list(tmp_path.iterdir()) == [pipe]
    assert pipe.is_fifo()


def test_dash_is_standard_output(engine: Engine, migrated: Database, capsysbinary: Any) -> None:
    assert main(["export", "--database-url", migrated.url, "-o", "-"]) == 0
    assert capsysbinary.readouterr() == (exported(engine), b"6 calls written\n")
    assert not Path("-").exists()


def test_what_can_not_be_written_is_one_line(migrated: Database, tmp_path: Path, capsys: Any) -> None:
    """No folder, a link to itself: exit 2, the path and the reason, nothing left behind."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for path, reason in ((tmp_path / "none/calls.csv", "No such file"), (loop, "Too many levels")):
        assert main(["export", "--database-url", migrated.url, "-o", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: can't write {path}: {reason}")
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [loop]


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("command", "unbuffered"), [(["export"], ""), (["export"], "1"), (["status"], ""), (["status", "--json"], "1")]
)
def test_full_standard_output_is_no_bug_of_ours(command: list[str], unbuffered: str, migrated: Database) -> None:
    save(migrated.url, "main", CALLS)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cdrsync", *command, "--database-url", migrated.url],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    said = "error: can't write to standard output: No space left on device. "
    assert (done.returncode, done.stderr.startswith(said), done.stderr.count("\n")) == (2, True, 1), done.stderr


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", ["export", "db describe --format dbt"])
def test_output_that_the_disk_takes_in_part_is_said(command: str, migrated: Database, tmp_path: Path) -> None:
    """Also without Python's own buffer, as in the image: there a system call that takes less is no error."""
    save(migrated.url, "main", calls(300))
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        " os.execv(sys.executable, [sys.executable, '-m', 'cdrsync', *sys.argv[1:]])"
    )
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "CDRSYNC_DATABASE_URL": migrated.url}
    with (tmp_path / "said").open("wb") as said:
        program = [sys.executable, "-c", limited, *command.split()]
        done = subprocess.run(program, env=env, stdout=said, stderr=subprocess.PIPE, text=True, check=False)
    words = "error: can't write to standard output: File too large. "
    assert (done.returncode, done.stderr.startswith(words), done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_memory_is_flat(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five times as many calls of a day need no more memory: pieces are written as they come."""
    monkeypatch.setattr(export, "ROWS_AT_ONCE", 200)
    import tracemalloc

    class Sink(io.BytesIO):
        def write(self, data: Any) -> int:
            return len(data)

    peaks = []
    engine = open_engine(migrated.url)
    held = 0
    for wanted in (800, 4_000):
        save(migrated.url, "main", calls(wanted)[held:])
        held = wanted
        tracemalloc.start()
        assert sum(export.export(engine, Sink(), kind="csv")) == wanted
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    engine.dispose()
    assert peaks[1] < peaks[0] * 1.5
