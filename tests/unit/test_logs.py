"""Log events: one line each, fixed order, no secret, no caller's number."""

from __future__ import annotations

import io
import json
import logging
import os
import sqlite3
from typing import TYPE_CHECKING

import psycopg
import pymysql
import pytest
import sqlalchemy.exc

from cdrsync.monitor import logs
from tests.support.canary import PASSWORD, VKEY

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Logging is the process's: leave it as it was found."""
    import structlog

    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def logged(log_format: str = "json", *, numbers: bool = False, level: str = "info", **values: object) -> str:
    stream = io.StringIO()
    logs.set_up(log_format, level, numbers=numbers, stream=stream)
    logs.get("default").info("page saved", **values)
    return stream.getvalue()


def test_json_lines_begin_with_event_and_account() -> None:
    """A fixed order, so that lines can be read beside each other and cut by simple tools."""
    event = json.loads(logged(inserted=3, message="x"))
    assert list(event) == ["event", "account", "level", "timestamp", "inserted", "message"]
    assert (event["event"], event["account"], event["level"], event["inserted"]) == ("page saved", "default", "info", 3)


def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who logs by the configuration of before a reload may do so at the same moment: no two lines become one."""
    written: list[str] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", written.append)
    logs.set_up("json", "info", numbers=False, stream=stream)
    for message in ("one", "two"):
        logs.get("default").info(message)
    assert [json.loads(line)["event"] for line in written] == ["one", "two"]
    assert all(line.endswith("}\n") for line in written)


def test_journal_lines_carry_their_priority() -> None:
    """The journal reads <6> and drops it; time and level are the journal's own."""
    assert logged("journal", inserted=3) == "<6>page saved account=default inserted=3\n"


def test_text_is_for_reading() -> None:
    """Time of day, level, what happened, and the rest as key=value."""
    line = logged("text", message="two words")
    assert line[8:] == ' info    page saved account=default message="two words"\n'


@pytest.mark.parametrize("log_format", ["text", "json", "journal"])
def test_one_event_is_one_line_whatever_it_holds(log_format: str) -> None:
    """A hostile alias can't forge lines or steer a terminal."""
    line = logged(log_format, alias="x\nERROR forged \x1b[2J \u202e\x85")
    assert line.count("\n") == 1
    assert not {"\x1b", "\u202e", "\x85"} & set(line)


def test_secrets_never_show() -> None:
    """Whatever a library puts into its message."""
    logs.hide([PASSWORD, VKEY])
    assert json.loads(logged(message=f"login {PASSWORD} with {VKEY}"))["message"] == "login *** with ***"
    assert logs.redact(f"x{VKEY}") == "x***"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Number 01213691057 is not yours", "Number …057 is not yours"),
        ("from +447921255043 and 7921255043", "from …043 and …043"),
        ("uid 106398335 on 2024-05-23 09:30:00", "uid 106398335 on 2024-05-23 09:30:00"),
        ("127.0.0.1:9810 and postgresql://db:5432", "127.0.0.1:9810 and postgresql://db:5432"),
    ],
)
def test_callers_numbers_are_masked(message: str, shown: str) -> None:
    """Only the last digits show, unless log_numbers is on."""
    event = json.loads(logged(message=message, number="01213691057", uid=106398335))
    assert (event["message"], event["number"], event["uid"]) == (shown, "…057", 106398335)
    assert json.loads(logged(message=message, numbers=True))["message"] == message


def test_a_level_keeps_the_lesser_ones_out() -> None:
    """log_level = warning logs no info."""
    assert logged(level="warning") == ""


def test_warnings_of_libraries_take_the_same_shape() -> None:
    """And their information stays out."""
    stream = io.StringIO()
    logs.set_up("json", "info", stream=stream)
    logging.getLogger("apscheduler").info("quiet")
    logging.getLogger("waitress").warning("loud %s", "words")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["level"], event["logger"], event["message"]) == (
        "library",
        "warning",
        "waitress",
        "loud words",
    )


def test_the_format_follows_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text on a terminal, the journal's where systemd reads it, JSON lines elsewhere."""
    read_end, write_end = os.pipe()
    terminal, other = os.openpty()
    with os.fdopen(write_end, "w") as pipe, os.fdopen(other, "w") as tty:
        assert logs.choose_format(pipe) == "json"
        assert logs.choose_format(tty) == "text"
        status = os.fstat(pipe.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert logs.choose_format(pipe) == "journal"
        assert logs.choose_format(tty) == "text"
        assert logs.choose_format(io.StringIO()) == "json"
    os.close(read_end)
    os.close(terminal)


@pytest.mark.parametrize(
    ("original", "told"),
    [
        (pymysql.err.IntegrityError(1062, "Duplicate entry '07921255043' for key"), "(1062)"),
        (psycopg.errors.UniqueViolation("duplicate key\nDETAIL: Key (number)=(07921255043) exists."), "(23505)"),
        (sqlite3.IntegrityError("UNIQUE constraint failed: 07921255043"), ""),
    ],
)
def test_a_drivers_words_are_not_told(original: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in one line nor in the traceback that CDRSYNC_DEBUG asks for: they hold numbers of callers."""
    monkeypatch.setenv("CDRSYNC_DEBUG", "1")
    statement, parameters = "INSERT INTO number VALUES (?)", {"number": "07921255043"}

    def fail() -> None:
        raise sqlalchemy.exc.IntegrityError(statement, parameters, original) from original

    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
        fail()
    line, traceback = logs.one_line(caught.value), logs.traceback_of(caught.value)
    assert line == f"IntegrityError {told}".rstrip()
    assert traceback is not None
    assert "test_a_drivers_words_are_not_told" in traceback
    assert [text for text in ("07921255043", "INSERT INTO", "[parameters") if text in traceback] == []


def test_a_number_in_an_unforeseen_error_is_masked() -> None:
    """Whoever raised it."""
    assert logs.one_line(ValueError("07921255043 is none")) == "ValueError: …043 is none"


def test_a_library_that_repeats_itself_is_told_once() -> None:
    """The same cause, whatever its figures, is one line a minute; another cause is another line."""
    stream = io.StringIO()
    logs.set_up("json", "info", stream=stream)
    for depth in range(500):
        logging.getLogger("waitress.queue").warning("Task queue depth is %d", depth)
    logging.getLogger("waitress").warning("server accept() threw an exception")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "Task queue depth is 0",
        "server accept() threw an exception",
    ]
