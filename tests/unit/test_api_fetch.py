"""GetCDR: one record by uid or ref, however the operator says that it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import Batch
from tests.support.answers import envelope, logged_in, refused, response
from tests.support.api import SESSION, api, obliging
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable


def test_fetch() -> None:
    """One record is read by uid or by ref."""
    with peer(obliging) as one:
        source = api(one.url)
        by_uid = source.fetch(uid=106398335)
        by_ref = source.fetch(ref="!ABCDEF<&12345678")
        source.close()

    assert by_uid == by_ref
    assert [cdr.uid for cdr in by_uid.cdrs] == [106398335]
    assert one.seen[0].parameters("GetCDR") == {"CDRUID": "106398335"}
    assert one.seen[1].parameters("GetCDR") == {"CDRRef": "!ABCDEF<&12345678"}


def _second(*found: Callable[[str], str]) -> Callable[[Seen], bytes]:
    return lambda seen: http(envelope(logged_in(SESSION, seen.ids()[0]), *(one(seen.ids()[1]) for one in found)))


@pytest.mark.parametrize(
    "answer",
    [
        lambda request_id: f'<Response target="NoveroCDR" name="GetCDR" Code="200" RequestId="{request_id}"/>\n',
        lambda request_id: response(request_id=request_id, name="GetCDR"),
        lambda request_id: refused("404", "", request_id, name="GetCDR"),
        lambda request_id: refused("200", "Call data record not found", request_id, name="GetCDR"),
        lambda request_id: refused("200", "OK", request_id, name="GetCDR"),
        lambda request_id: refused("500", "CDR not found", request_id, name="GetCDR"),
        lambda request_id: refused("400", "No such record", request_id, name="GetCDR"),
    ],
)
def test_fetch_of_none(answer: Callable[[str], str]) -> None:
    """However the operator says that it has no such record, the batch is empty."""
    with peer(_second(answer)) as one:
        source = api(one.url)
        assert source.fetch(uid=5) == Batch([])
        source.close()


def test_fetch_refused() -> None:
    """Any other Code is a refusal of this request."""
    with peer(_second(lambda request_id: refused("400", "Bad", request_id, name="GetCDR"))) as one:
        source = api(one.url)
        with pytest.raises(RequestRefused, match="Code 400: Bad") as raised:
            source.fetch(uid=5)
        source.close()

    assert raised.value.code == "400"


def test_fetch_of_another_record() -> None:
    """A record other than the one asked for is no answer."""
    with peer(obliging) as one:
        source = api(one.url)
        with pytest.raises(BadAnswer):
            source.fetch(uid=5)
        source.close()
