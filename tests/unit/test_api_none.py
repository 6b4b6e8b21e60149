"""What stands in place of the records of an answer: that there are none, or that something is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import BadAnswer
from cdrsync.model import Batch
from tests.support.answers import envelope, logged_in, refused
from tests.support.api import ASK, AT_ONCE, ONCE, SESSION, api, obliging
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "message",
    [
        *("OK", "Success", "Request successful", "No records found", "No CDRs found.", "There are no calls"),
        *("0 records returned", "No matching records found for the given dates", "No call data available", "No data"),
        *("no new calls since 106398334", "No CDRs in this period", "There are no CDRs available for this period."),
        *("No calls were made between these dates", "Nothing found", "None", "Not found"),
    ],
)
def test_a_message_that_says_none_in_place_of_records(message: str) -> None:
    """Code 200 without <CDRs>: in words for success or for none, there is none."""
    with peer(_saying(message)) as one:
        source = api(one.url, retry=AT_ONCE)
        assert source.ask([ASK]).answers == [Batch([])]
        source.close()


@pytest.mark.parametrize(
    "message",
    [
        *("Temporarily overloaded, try again later", "No connection to the database", "Error", "Please wait"),
        *("No records available at the moment, try again later", "Successful login required", "Invalid LastId"),
        *("No access to call data", "No data available at the moment"),
        "No data in our cache try again later",
        "No data: the service is under maintenance",
    ],
)
def test_any_other_message_in_place_of_records_is_a_failure(message: str) -> None:
    """Code 200 without <CDRs>, but with words that don't say "none": asked again, never taken for an empty day."""
    with peer(_saying(message), _saying(message), obliging) as one:
        source = api(one.url, retry=AT_ONCE)
        assert len(source.ask([ASK]).answers) == 1
        source.close()
    assert len(one.seen) == 3
    with peer(_saying(message)) as one:
        source = api(one.url, retry=ONCE)
        with pytest.raises(BadAnswer, match=re.escape(f"holds no records, but says: {message}")):
            source.ask([ASK])
        source.close()


def _saying(message: str) -> Callable[[Seen], bytes]:
    return lambda seen: http(
        envelope(
            *(
                logged_in(SESSION, name) if name.startswith("Session") else refused("200", message, name)
                for name in seen.ids()
            )
        )
    )
