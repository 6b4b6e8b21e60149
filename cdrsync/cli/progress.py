"""Progress bars on standard error, where that is a terminal; nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdrsync.model import PageSaved

Show = "Callable[[PageSaved], None]"


def wanted() -> bool:
    """Say whether somebody looks at standard error."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def bar(label: str, *, days: int | None = None, calls: int | None = None) -> Iterator[Callable[[PageSaved], None]]:
    """Show pages as they are saved: of so many `days` to read, or so many `calls`, or just counting."""
    if not wanted():
        yield lambda saved: None  # noqa: ARG005 - nobody looks
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
        task = progress.add_task("", total=days or calls or None, label=label, step="", records=0, rate=0.0)
        seen = 0

        def show(saved: PageSaved) -> None:
            nonlocal seen
            seen += saved.records
            elapsed = progress.tasks[0].elapsed or 0.0
            advance = len(saved.completed) if days else saved.inserted + saved.updated + saved.unchanged
            progress.update(
                task,
                advance=advance,
                step=saved.origin.value,
                records=seen,
                rate=seen / elapsed if elapsed else 0.0,
            )

        yield show


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
