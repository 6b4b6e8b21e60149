"""The operator's clock (HTTP `Date`) is believed within minutes of ours, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from cdrsync.source.http_answer import read

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
URL = httpx.URL("http://127.0.0.1/")


@pytest.mark.parametrize(
    ("off", "believed"),
    [
        (timedelta(), True),
        (timedelta(minutes=-4), True),
        (timedelta(minutes=4), True),
        (timedelta(hours=-3), False),
        (timedelta(hours=1), False),
        (timedelta(days=-3650), False),
    ],
)
def test_a_clock_that_is_hours_off_is_not_believed(off: timedelta, *, believed: bool) -> None:
    said = NOW + off
    response = httpx.Response(
        200, headers={"Date": format_datetime(said, usegmt=True)}, stream=httpx.ByteStream(b"<x/>")
    )
    assert read(response, URL, NOW, 1000).answered_at == (said if believed else NOW)


@pytest.mark.parametrize("date", [None, "yesterday", "Sun, 99 May 2026 12:00:00 GMT"])
def test_without_a_readable_date_it_is_our_clock(date: str | None) -> None:
    response = httpx.Response(200, headers={"Date": date} if date else {}, stream=httpx.ByteStream(b"<x/>"))
    assert read(response, URL, NOW, 1000).answered_at == NOW
