"""Processes that a test starts, overheard: secrets in what they print are noticed as the test reads it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Self

from tests.support.canary import WATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Overheard:
    """A process's pipe, read by a test: passes everything on and looks at it."""

    def __init__(self, pipe: Any, where: str) -> None:
        self._pipe = pipe
        self._where = where

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._pipe, name)
        return self._listening(value) if name in {"read", "read1", "readline", "readlines"} else value

    def __iter__(self) -> Iterator[Any]:
        for line in self._pipe:
            WATCH.look(self._where, line)
            yield line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pipe.close()

    def _listening(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any) -> Any:
            content = method(*args)
            for part in content if isinstance(content, list) else [content]:
                WATCH.look(self._where, part)
            return content

        return read


class Popen(subprocess.Popen[Any]):
    """A process whose output is looked at as the test reads it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stdout = self.stdout and Overheard(self.stdout, "a process's output")  # type: ignore[assignment]
        self.stderr = self.stderr and Overheard(self.stderr, "a process's error output")  # type: ignore[assignment]

    def communicate(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        answer = super().communicate(*args, **kwargs)
        WATCH.look("a process's output", answer[0])
        WATCH.look("a process's error output", answer[1])
        return answer
