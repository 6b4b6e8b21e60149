"""An audit whose questions the operator refuses: what is said, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.errors import ApiUnreachable, RequestRefused
from cdrsync.model import Batch, Period, Refusal, Totals
from cdrsync.store.reads.overview import summaries
from cdrsync.store.schema.tables import coverage
from tests.support.rig import rig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.model import CdrsAsk, Document, TotalsAsk
    from tests.conftest import Database
    from tests.support.rig import Rig

ALL = list(Period)
DAY = date(2024, 5, 21)


def verdicts(r: Rig) -> dict[date, str]:
    with r.engine.connect() as connection:
        return {row.call_date: row.verdict for row in connection.execute(select(coverage))}


def test_an_audit_that_is_refused_altogether_shows(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was compared: status, page and alert say so until an audit is answered; no day's verdict changes."""
    with rig(migrated.url, calls=30) as r:
        r.run()
        ask = r.source.ask

        def refused(asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
            document = ask(asks)
            answers: list[Batch | Totals | Refusal] = [
                Refusal("403", "not for you") if isinstance(one, Totals) else one for one in document.answers
            ]
            return replace(document, answers=answers)

        def unsure() -> tuple[str, ...]:
            with r.engine.connect() as connection:
                (summary,) = summaries(connection, DAY).values()
            return summary.unsure

        for _ in range(2):
            before = verdicts(r)
            with monkeypatch.context() as patch:
                patch.setattr(r.source, "ask", refused)
                with pytest.raises(RequestRefused, match="not for you"):
                    r.audit.run(ALL, heal=True)
            assert (unsure(), verdicts(r)) == (tuple(ALL), before)
            assert r.audit.run(ALL).proven
            assert unsure() == ()


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("passing", "error"), [(True, ApiUnreachable), (False, RequestRefused)])
def test_a_refusal_of_its_question_for_new_calls(
    migrated: Database, monkeypatch: pytest.MonkeyPatch, passing: bool, error: type[Exception]
) -> None:
    """One that passes is tried again later, as everywhere; another one is the operator's last word."""
    with rig(migrated.url, calls=30) as r:
        r.run()
        ask = r.source.ask

        def refused(asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
            document = ask(asks)
            return replace(document, answers=[Refusal("500", "later", passing=passing), *document.answers[1:]])

        monkeypatch.setattr(r.source, "ask", refused)
        with pytest.raises(error):
            r.audit.run(ALL)
