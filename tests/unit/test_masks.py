"""What an operator echoes of our secrets is masked, in whatever clothes it comes."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdrsync.errors import CdrsyncError
from cdrsync.model import Period, Refusal, Totals, TotalsAsk
from cdrsync.source.masks import Masks
from tests.support.answers import envelope, golden, logged_in, refused
from tests.support.api import ASK, SESSION, api, obliging
from tests.support.canary import PASSWORD, VKEY
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable

CLOTHES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    "basic auth": lambda secret: base64.b64encode(f"user@example.com:{secret}".encode()).decode(),
    "basic auth, shifted": lambda secret: base64.b64encode(f"ab:{secret}, more".encode()).decode(),
    "url": lambda secret: quote(secret, safe=""),
    "url path": quote,
    "url, lower": lambda secret: quote(secret, safe="").replace("%C3%A9", "%c3%a9").replace("%3C", "%3c"),
    "form": quote_plus,
    "html": html.escape,
    "html, numbers": lambda secret: "".join(f"&#{ord(one)};" if one in "&<>\"'" else one for one in secret),
    "xml": escape,
    "json": lambda secret: json.dumps(secret)[1:-1],
    "json, utf-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "php's json": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "latin-1": lambda secret: secret.encode().decode("latin-1"),
}
REST = (
    "cAnArY",
    "Y0FuQXJZ",
    "NBbkFyW",
    "jQW5Bc",
    "7Kq2",
    "c0ffee5e",
)  # of a secret, or of its base64 wherever it begins


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("secret", [PASSWORD, VKEY, SESSION, "pass word/+?&=%\\'\"<é€>", "p2345"])
def test_every_form_is_masked(clothes: str, secret: str) -> None:
    """Nothing of the secret is left that could be turned back into it."""
    masks = Masks("other", secret)
    text = masks.masked(f"wrong: {CLOTHES[clothes](secret)}!")

    assert "…" in text
    assert len(text) < len("wrong: !") + 40
    assert not any(rest in text for rest in REST)


@given(st.text(min_size=1, max_size=30), st.sampled_from(sorted(CLOTHES)))
def test_any_secret_in_any_clothes(secret: str, clothes: str) -> None:
    """Whatever characters it has: in its clothes it is not found afterwards, unless it is as short as a word."""
    try:
        sent = CLOTHES[clothes](secret)
    except UnicodeEncodeError:
        return
    masked = Masks(secret).masked(f"[{sent}]")
    if "basic" not in clothes:
        assert sent not in masked or (sent == "…") or (len(sent) < 8 and "base64" in clothes)


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("secret", [PASSWORD, VKEY, SESSION])
def test_no_message_repeats_it(clothes: str, secret: str) -> None:
    """Refusals, totals, failures: nothing that leaves the source holds it."""
    worn = CLOTHES[clothes](secret)

    def totals(seen: Seen) -> bytes:
        page = golden("page-get-totals").decode().split("<NoveroResponse>\n")[1].split("</NoveroResponse>")[0]
        page = page.replace("TestRequest", seen.ids()[-1]).replace("0 secs", escape(worn), 1)
        logins = [logged_in(SESSION, one) for one, name in zip(seen.ids(), seen.names, strict=True) if "Login" in name]
        return http(envelope(*logins, page.replace("<MissedTotal>0<", f"<MissedTotal>{escape(worn)}<")))

    def refuses(seen: Seen) -> bytes:
        logins = [logged_in(SESSION, one) for one, name in zip(seen.ids(), seen.names, strict=True) if "Login" in name]
        return http(envelope(*logins, refused("400", escape(f"bad {worn}"), seen.ids()[-1])))

    with peer(obliging, totals, refuses) as one:
        source = api(one.url)
        source.ask([ASK])
        (got,) = source.ask([TotalsAsk(Period.DAY)]).answers
        (refusal,) = source.ask([ASK]).answers
        source.close()
    assert isinstance(got, Totals)
    assert isinstance(refusal, Refusal)
    said = [*got.texts.values(), *got.unusable, refusal.message]
    for step in (
        ()
        if secret == SESSION
        else (
            lambda seen: http(envelope(refused("401", escape(f"no {worn}"), seen.ids()[0], "Auth", "SessionLogin"))),
            lambda seen: http(envelope(refused("503", escape(f"later {worn}"), seen.ids()[0], "Auth", "SessionLogin"))),
            lambda _: http(envelope(refused("400", escape(f"no {worn}"), "x")), "500 x"),
            lambda seen: http(envelope(logged_in(SESSION, seen.ids()[0]))),
        )
    ):
        with peer(step) as one:
            source = api(one.url)
            with pytest.raises(CdrsyncError) as raised:
                source.ask([ASK])
            source.close()
        said += [raised.value.message, str(raised.value)]
    assert not [text for text in said if worn in text or any(rest in text for rest in REST)]
