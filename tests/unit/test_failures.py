"""What the daemon's failed polls leave in the table of runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cdrsync.daemon.work import Failures
from cdrsync.errors import ApiUnreachable, LoginRefused

if TYPE_CHECKING:
    from cdrsync.sync.runs import Tally


class Log:
    """The table of runs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str | None]] = []
        self._origin = ""

    def begin_run(self, origin: str) -> int:
        self._origin = origin
        return 1

    def end_run(self, run: int, done: Tally, message: str | None = None) -> None:
        assert run == 1
        self.lines.append((self._origin, done.outcome, message))


def test_each_kind_of_failure_is_told_once_an_hour_and_the_success_after_it() -> None:
    """Polls that go on as ever leave nothing: a table of a line a second would drown everything else."""
    log, now = Log(), [0.0]
    failures = Failures(log, clock=lambda: now[0])

    def poll(error: Exception | None = None) -> None:
        with contextlib.suppress(ApiUnreachable, LoginRefused), failures.tally("poll"):
            if error is not None:
                raise error

    poll()
    assert log.lines == []
    for second in range(100):
        now[0] = float(second)
        poll(LoginRefused("the operator refused the login"))
    poll(ApiUnreachable("no answer"))
    now[0] = 3600.0
    poll(LoginRefused("the operator refused the login"))
    poll()
    poll()
    assert log.lines == [
        ("poll", "LoginRefused", "the operator refused the login"),
        ("poll", "ApiUnreachable", "no answer"),
        ("poll", "LoginRefused", "the operator refused the login"),
        ("poll", "ok", None),
    ]
