"""Progress bars on standard error, where that is a terminal; nothing elsewhere."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING

from cdrsync.cli import output
from cdrsync.monitor.words import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

    from cdrsync.model import PageSaved


def wanted() -> bool:
    """Say whether somebody looks at standard error."""
    return sys.stderr.isatty()


class _Quiet:
    """Nobody looks: a wait is one line for the log of a cron job, once for each cause."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._told: set[str] = set()

    def __call__(self, saved: PageSaved) -> None:
        """Show nothing."""

    def waiting(self, why: str, seconds: float) -> None:
        """Say it once; another number or time in it is no other cause."""
        del seconds
        cause = re.sub(r"\d+", "", why)
        if cause not in self._told:
            self._told.add(cause)
            output.note(f"{self._label}: {why}; it goes on by itself")


class _Bar:
    def __init__(self, progress: Progress, label: str, *, days: int | None, calls: int | None) -> None:
        self._progress = progress
        self._of_days = bool(days)
        self._task = progress.add_task("", total=days or calls or None, label=label, step="", records=0, rate=0.0)
        self._seen = 0

    def __call__(self, saved: PageSaved) -> None:
        self._seen += saved.records
        elapsed = self._progress.tasks[0].elapsed or 0.0
        advance = len(saved.completed) if self._of_days else saved.inserted + saved.updated + saved.unchanged
        rate = self._seen / elapsed if elapsed else 0.0
        self._progress.update(self._task, advance=advance, step=saved.origin.value, records=self._seen, rate=rate)

    def waiting(self, why: str, seconds: float) -> None:
        self._progress.update(self._task, step=f"waits {seconds:.0f} s: {visible(why)}")


Show = _Quiet | _Bar
"""What is shown of work that goes on: each page, and what is waited for."""


@contextlib.contextmanager
def bar(label: str, *, days: int | None = None, calls: int | None = None) -> Iterator[Show]:
    """Show pages as they are saved: of so many `days` to read, or so many `calls`, or just counting."""
    if not wanted():
        yield _Quiet(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        SpinnerColumn(),
        TextColumn("{task.fields[label]} [cyan]{task.fields[step]:<10}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[records]:>10,} calls {task.fields[rate]:>7,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, label, days=days, calls=calls)


@contextlib.contextmanager
def counting(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` calls are done, as they are."""
    if not wanted():
        yield lambda more: None  # noqa: ARG005 - nobody looks
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda more: shown.advance(task, more)
