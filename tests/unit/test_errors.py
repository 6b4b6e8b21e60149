"""What a user reads of a failure: one line, the remedy behind it."""

from __future__ import annotations

import pytest

from cdrsync.errors import CdrsyncError


@pytest.mark.parametrize(
    ("message", "hint", "line"),
    [
        ("it failed", "Try this", "it failed. Try this"),
        ("it failed", "", "it failed"),
        ("is the server running?", "Start it", "is the server running? Start it"),
        ("it failed.", "Try this", "it failed. Try this"),
    ],
)
def test_message_and_remedy_are_sentences_on_one_line(message: str, hint: str, line: str) -> None:
    assert str(CdrsyncError(message, hint=hint)) == line
