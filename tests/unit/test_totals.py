"""Totals as the operator prints them → figures, each or none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cdrsync.errors import BadAnswer
from cdrsync.model import Period, TotalsAsk
from cdrsync.source.answers import read_totals
from cdrsync.source.decode import decode
from tests.support.answers import LONDON, golden


def test_totals_are_read_tolerantly() -> None:
    """Separators and signs are no obstacle; a figure that is not there is None and named."""
    (one,) = decode(golden("totals-with-separators"), timezone=LONDON)
    totals = read_totals(one.totals, TotalsAsk(Period.ALL))

    assert (totals.answered, totals.missed, totals.voicemail) == (7859, None, None)
    assert (totals.minutes_no_format, totals.charge) == (Decimal(123), Decimal("1010.50"))
    assert totals.texts["MinsTotal"] == "2 mins 3 secs"
    assert totals.unusable == ("MissedTotal: missing", "VoicemailTotal: missing")


@pytest.mark.parametrize("text", ["-5", "", "n/a", "7,85", "1.2.3", "1e5", "0.5", "٣", "2147483648", "9" * 15])
def test_a_count_that_is_none(text: str) -> None:
    """A negative, broken or missing figure is None, and its text is kept and named."""
    body = golden("page-get-totals").decode().replace("<MissedTotal>0<", f"<MissedTotal>{text}<")
    (one,) = decode(body.encode(), timezone=LONDON)
    totals = read_totals(one.totals, TotalsAsk(Period.DAY))

    assert totals.missed is None
    assert totals.texts["MissedTotal"] == text
    assert [line.split(":")[0] for line in totals.unusable] == ["MissedTotal"]


@pytest.mark.parametrize("element", ["ChargeTotal", "MinsTotalNoFormat"])
@pytest.mark.parametrize("text", ["999999999999999.999999", "1,000,000,000,000", "1000000000000", "9" * 400])
def test_a_figure_that_no_account_has_is_none(element: str, text: str) -> None:
    """A sum beyond what every database holds is no figure, but named; the largest that is held, is."""
    body = golden("page-get-totals").decode()
    before = body[body.index(f"<{element}>") : body.index(f"</{element}>")]
    for sent, held in ((text, None), ("999999999999.999999", Decimal("999999999999.999999"))):
        (one,) = decode(body.replace(before, f"<{element}>{sent}").encode(), timezone=LONDON)
        totals = read_totals(one.totals, TotalsAsk(Period.DAY))
        assert held == (totals.charge if element == "ChargeTotal" else totals.minutes_no_format)


@pytest.mark.parametrize(
    ("text", "charge"),
    [("-3.48", "-3.48"), ("-£1,003.48", "-1003.48"), ("£ -0.01", "-0.01"), ("--1", None), ("1-", None)],
)
def test_a_charge_below_zero_is_read(text: str, charge: str | None) -> None:
    """The operator pays back, so a period's charge may be negative; seconds are not, and other signs are no figure."""
    body = golden("page-get-totals").decode().replace("<ChargeTotal>0.00<", f"<ChargeTotal>{text}<")
    body = body.replace("<MinsTotalNoFormat>0<", "<MinsTotalNoFormat>-5<")
    (one,) = decode(body.encode(), timezone=LONDON)
    totals = read_totals(one.totals, TotalsAsk(Period.DAY))

    assert totals.charge == (None if charge is None else Decimal(charge))
    assert totals.minutes_no_format is None


def test_totals_of_another_period_are_refused() -> None:
    """Totals that name another of the operator's periods answer nothing."""
    (one,) = decode(golden("page-get-totals"), timezone=LONDON)

    with pytest.raises(BadAnswer, match="totals of 'day' where 'all' was asked"):
        read_totals(one.totals, TotalsAsk(Period.ALL))


def test_more_than_one_total_is_none() -> None:
    """Which of two <CDRTotals> is meant is not documented: no figure is taken, and the reason is said."""
    (one,) = decode(golden("page-get-totals"), timezone=LONDON)
    totals = read_totals(one.totals * 2, TotalsAsk(Period.DAY))

    assert totals.answered is None
    assert totals.unusable == ("2 <CDRTotals> where one was expected",)
