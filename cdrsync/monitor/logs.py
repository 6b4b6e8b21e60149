"""Log events: readable on a terminal, JSON lines elsewhere, with priorities under the journal.

One event per thing that matters, `event` and `account` first. Callers' numbers are masked unless `log_numbers` is on,
and no secret that `hide` was told of ever shows. structlog is imported when logging is set up, not before.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, cast

from cdrsync import tuning
from cdrsync.monitor.words import visible

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, MutableMapping

    Event = MutableMapping[str, Any]

HIDDEN = "***"
SHORTEST_SECRET = 4  # a shorter one would blot out ordinary words

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog's, as the journal reads them
COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}

NUMBER_KEYS = ("number", "numbers", "anumber", "bnumber", "dialled")
NUMBER_IN_TEXT = re.compile(  # uids have nine digits today
    r"(?<![\w.:-])(?<!uid )(?:(?:\+|00)\d{8,14}|0[1-9]\d{8,9}|44\d{9,10}|[1-9]\d{9})(?![\w:-])"
)
SHOWN_DIGITS = 3
LONGEST_MESSAGE = 300
MOST_CAUSES = 5  # of an error, that a traceback tells
REPEAT_SECONDS = 60.0  # between two lines of one cause of a library's
PATIENCE = 1.0  # seconds that a line waits for its reader

_secrets: set[str] = set()


def hide(secrets: Iterable[str]) -> None:
    """Never show these texts again, in this process: logs and error messages go through `redact`."""
    _secrets.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def redact(text: str) -> str:
    """Return the text with every known secret replaced."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def mask_number(number: str) -> str:
    """Return a phone number of which only the last digits show."""
    return "…" + number[-SHOWN_DIGITS:] if len(number) > SHOWN_DIGITS else number


def set_up(log_format: str, level: str, *, numbers: bool = False, stream: TextIO | None = None) -> None:
    """Set up structlog, and bring the warnings of libraries into the same shape. May be called again (SIGHUP)."""
    import logging

    with tuning.without("rich"):  # it would draw tracebacks, which nobody wants here: 30 ms and 5 MB of every start
        import structlog

    target = stream or sys.stderr
    chosen = choose_format(target) if log_format == "auto" else log_format
    render: Callable[[Any, str, Event], str] = {
        "json": _as_json,
        "journal": _as_journal_line,
        "text": _as_text(target),
    }[chosen]
    structlog.configure(
        processors=[_stamp, _clean if numbers else _clean_and_mask, render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Sink(target))),  # a line is one write
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_library_handler()]
    root.setLevel(logging.WARNING)


class _Sink(io.TextIOBase):
    """Where lines go. One that can't be written (a full disk, a reader that ended or sleeps) is dropped and counted."""

    dropped = 0

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._patience = PATIENCE
        try:
            self._descriptor: int | None = target.fileno()
        except (OSError, ValueError):
            self._descriptor = None

    def write(self, text: str) -> int:
        """Write a line, or lose it."""
        try:
            if self._descriptor is None:
                self._target.write(text)
            else:
                self._write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            _Sink.dropped += 1
        return len(text)

    def _write(self, descriptor: int, line: bytes) -> None:
        while line:
            if not select.select([], [descriptor], [], self._patience)[1]:
                self._patience = 0.0  # the next lines wait for nobody
                raise TimeoutError
            line = line[os.write(descriptor, line[: select.PIPE_BUF]) :]  # so much never blocks
        self._patience = PATIENCE


def dropped() -> int:
    """How many lines of this process could not be written."""
    return _Sink.dropped


def get(account: str | None = None) -> Any:
    """Return a logger, bound to an account where one is given: `log.info("page saved", inserted=3)`."""
    import structlog

    return structlog.get_logger() if account is None else structlog.get_logger(account=account)


def choose_format(stream: TextIO) -> str:
    """Return `journal` where systemd reads the stream, `text` on a terminal, else `json`."""
    try:
        here = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return "json"
    if os.environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}":
        return "journal"
    return "text" if stream.isatty() else "json"


def _library_handler() -> logging.Handler:
    import logging

    class Forward(logging.Handler):
        """What a library logs becomes an event of ours; the same cause, whatever its figures, once a minute."""

        def __init__(self) -> None:
            super().__init__()
            self._told: dict[tuple[str, str], tuple[float, int]] = {}  # cause → when told last, and unsaid since

        def emit(self, record: logging.LogRecord) -> None:
            cause = (record.name, str(record.msg))
            at, unsaid = self._told.get(cause, (-REPEAT_SECONDS, 0))
            if record.created - at < REPEAT_SECONDS:
                self._told[cause] = (at, unsaid + 1)
                return
            self._told[cause] = (record.created, 0)
            level = next((name for name, number in LEVELS.items() if record.levelno <= number), "error")
            more = {"unsaid": unsaid} if unsaid else {}
            getattr(get(), level)("library", logger=record.name, message=record.getMessage(), **more)

    return Forward()


def _stamp(_: Any, level: str, event: Event) -> Event:
    """Put the fixed keys first: event, account, level, timestamp."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    first = {"event": event.pop("event"), "account": event.pop("account", None), "level": level, "timestamp": now}
    return {**{key: value for key, value in first.items() if value is not None}, **event}


def _clean(_: Any, __: str, event: Event) -> Event:
    return {key: redact(value) if isinstance(value, str) else _simple(value) for key, value in event.items()}


def _clean_and_mask(logger: Any, level: str, event: Event) -> Event:
    return {key: _mask(key, value) for key, value in _clean(logger, level, event).items()}


def _mask(key: str, value: Any) -> Any:
    if key in NUMBER_KEYS:
        return mask_number(str(value))
    if isinstance(value, str) and key not in ("timestamp", "account"):
        return NUMBER_IN_TEXT.sub(lambda found: mask_number(found[0]), value)
    return value


def _simple(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


def _as_json(_: Any, __: str, event: Event) -> str:
    return json.dumps(event, ensure_ascii=True)


def _as_journal_line(_: Any, level: str, event: Event) -> str:
    del event["timestamp"], event["level"]  # the journal has both
    return f"<{PRIORITIES[level]}>{_words(event)}"


def _as_text(stream: TextIO) -> Callable[[Any, str, Event], str]:
    colours = stream.isatty() and not os.environ.get("NO_COLOR")

    def render(_: Any, level: str, event: Event) -> str:
        clock = str(event.pop("timestamp"))[11:19]
        del event["level"]
        shown = f"\x1b[{COLOURS[level]}m{level:<7}\x1b[0m" if colours else f"{level:<7}"
        return f"{clock} {shown} {_words(event)}"

    return render


def _words(event: Event) -> str:
    """Return `page saved account=default inserted=3`: on one line, whatever a value holds."""
    words = [visible(str(event["event"]))]
    for key, value in event.items():
        if key != "event":
            shown = visible(str(value))
            words.append(
                f"{key}={shown}"
                if re.fullmatch(r"[^\s\"=]+", shown)
                else f"{key}={json.dumps(shown, ensure_ascii=False)}"
            )
    return " ".join(words)


def one_line(error: BaseException) -> str:
    """Return an unforeseen error's class and first line: what follows may be a statement with callers' numbers.

    A driver's words may hold values of the row in hand, so only its code is told.
    """
    name = type(error).__name__
    module = type(error).__module__.partition(".")[0]
    if module == "sqlalchemy" or hasattr(sys.modules.get(module), "apilevel"):  # as PEP 249 has it in every driver
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlstate", None) or next(iter(cause.args), None)
        return f"{name} ({code})" if isinstance(code, int) or re.fullmatch(r"[0-9A-Z]{5}", str(code)) else name
    first = next(iter(str(error).splitlines()), "")
    return redact(NUMBER_IN_TEXT.sub(lambda found: mask_number(found[0]), f"{name}: {first}")[:LONGEST_MESSAGE])


def traceback_of(error: BaseException) -> str | None:
    """Return the traceback, without the values of variables and of rows, where CDRSYNC_DEBUG asks for it."""
    if not os.environ.get("CDRSYNC_DEBUG"):
        return None
    import traceback

    parts: list[str] = []
    following: BaseException | None = error
    while following is not None and len(parts) < MOST_CAUSES:
        frames = "".join(traceback.format_tb(following.__traceback__))
        parts.insert(0, f"Traceback (most recent call last):\n{frames}{one_line(following)}\n")
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return redact("\nwhich led to:\n\n".join(parts))
