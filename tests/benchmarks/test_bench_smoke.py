"""The benchmark's own machinery is right: same records every time, true answers, and a comparison that finds errors."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from lxml import etree

from tests.benchmarks import questions, server
from tests.benchmarks.bed import NEW_CALLS, made
from tests.benchmarks.check import WrongRows, compare, rewritten
from tests.benchmarks.data import FIELDS, LONDON, Recipe, calls, last_full_hour, render
from tests.benchmarks.programs import CDRSYNC, GOOD_SCRIPT, PEERS_PYTHON, Program, Target

if TYPE_CHECKING:
    from tests.conftest import Database

RECIPE = Recipe(2_000, 20, datetime(2026, 11, 3, 15, tzinfo=UTC), ampersands=500)


def test_records_are_the_same_every_time() -> None:
    """Every process generates its own: they must agree, ascend, and differ by seed."""
    first = list(calls(RECIPE))
    assert len(first) == RECIPE.calls
    assert first == list(calls(RECIPE))
    assert first != list(calls(replace(RECIPE, seed=1)))
    assert [call.uid for call in first] == sorted({call.uid for call in first})
    assert [call.started_at for call in first] == sorted(call.started_at for call in first)


def test_wall_clock_and_ref_tell_the_instant() -> None:
    """The records cross the autumn night, and each is what a clock in London showed."""
    for call in calls(RECIPE):
        wall = call.started_at.astimezone(LONDON)
        assert (call.call_date, call.call_time) == (wall.date(), wall.time())
        assert int(call.ref.removeprefix("!")[:8], 16) == call.started_at.timestamp()


def test_printed_record_reads_back_as_the_call() -> None:
    """Every element is there, in the operator's order, escaped."""
    for call in calls(RECIPE):
        texts = [element.text or "" for element in etree.fromstring(render(call))]
        values = [value for value in call[: len(FIELDS)] if value is not None]
        assert texts == [str(int(value)) if isinstance(value, bool) else str(value) for value in values]


def test_server_answers_like_the_operator() -> None:
    """Login, LastId, dates with offset and limit, and totals, several in one document in order."""
    expected = list(calls(RECIPE))
    with server.ApiServer(RECIPE) as api, httpx.Client() as client:
        body = (
            '<NoveroRequest><Request target="Auth" name="SessionLogin" id="s">'
            f"<Username>{server.USERNAME}</Username><Password>{server.PASSWORD}</Password><VKey>{server.VKEY}</VKey>"
            '</Request><Request target="NoveroCDR" name="GetCDRs" id="a">'
            f"<LastId>{expected[9].uid}</LastId><limit>3</limit></Request>"
            '<Request target="NoveroCDR" name="GetCDRs" id="b"><StartDate>2026-10-25</StartDate>'
            "<EndDate>2026-10-26</EndDate><offset>1</offset></Request>"
            '<Request target="NoveroCDR" name="GetTotals" id="c"><Period>all</Period></Request></NoveroRequest>'
        )
        root = etree.fromstring(client.post(api.url, content=body).content)
        refused = etree.fromstring(client.post(api.url, content=body.replace(server.PASSWORD, "wrong")).content)
        counts = api.control()
    sunday = [call.uid for call in expected if call.call_date.isoformat() == "2026-10-25"]
    assert [(one.get("RequestId"), one.get("Code")) for one in root] == [(name, "200") for name in "sabc"]
    assert [int(uid.text or 0) for uid in root[1].iter("uid")] == [call.uid for call in expected[10:13]]
    assert [int(uid.text or 0) for uid in root[2].iter("uid")] == sunday[1 : 1 + server.LIMIT_BY_DEFAULT]
    assert root[3].findtext("CDRTotals/ChargeTotal") == f"{sum(call.user_cost for call in expected):.2f}"
    assert {one.get("Code") for one in refused} == {"401"}
    assert counts == {"documents": 2, "requests": 8, "logins": 2, "records": 3 + min(len(sunday) - 1, 10)}


def _bring_up_to_date(program: Program) -> None:
    """Catch up, find five new calls, read everything again: right each time, and a wrong value is noticed."""
    recipe = Recipe(2_000, 20, last_full_hour())
    with made(recipe, ("sqlite",)) as bed, bed.target("sqlite", program) as target:
        bed.timed(program, target, "new", visible=recipe.calls)
        bed.timed(program, target, "new", visible=recipe.calls + NEW_CALLS)
        bed.timed(program, target, "again", visible=recipe.calls + NEW_CALLS)
        if program is CDRSYNC:
            assert rewritten(target.database_url) == 0
        _spoil(target)
        with pytest.raises(WrongRows, match="duration: -1 instead of"):
            compare(program, target.database_url, bed.calls)


def _spoil(target: Target) -> None:
    with closing(sqlite3.connect(target.database_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE cdr SET duration = -1 WHERE uid = (SELECT max(uid) FROM cdr)")
        connection.commit()


def test_cdrsync_stores_what_the_source_has() -> None:
    """The whole process, as it is timed."""
    _bring_up_to_date(CDRSYNC)


@pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="the peers' environment is made by `make bench`")
def test_good_script_stores_what_the_source_has() -> None:
    """The baseline does the same work, or its time would mean nothing."""
    _bring_up_to_date(GOOD_SCRIPT)


def test_the_questions_are_asked_of_each_database(migrated: Database) -> None:
    """Filled, summed and analysed; each question has its time."""
    questions.fill(migrated.url, 1000)
    columns = {migrated.url: questions.timed(migrated.url, 1)}
    shown = questions.table(columns).splitlines()
    assert shown[0] == f"1: 1,000 calls, {migrated.url}"
    assert {f"question {number}" for number in range(1, 11)} <= columns[migrated.url].keys()
    assert len(shown) == 2 + len(columns[migrated.url])
