"""The status page in a real browser: light, dark, on a phone; well and in trouble."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import DatabaseUnavailable
from cdrsync.web import create_app, serve
from tests.support.web import AT, HOSTILE, HOSTILE_LONG, healthy, many, now, troubled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 800}, "color_scheme": "light", "is_mobile": True},
    "no-colours": {"viewport": {"width": 1280, "height": 900}, "forced_colors": "active"},
}
SHOWN = {  # what is shown, and the path
    "healthy": (healthy, "/"),
    "three": (lambda: many(3), "/"),
    "troubled": (troubled, "/"),
    "one-in-trouble": (troubled, "/account/sales"),
    "many": (lambda: many(300), "/"),
}

# Contrast of every text with the nearest opaque ground behind it (WCAG 2.2: 4.5 at least, 3 for large text).
FAINT_TEXTS = """() => {
  const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || element.closest('.unseen, svg')) continue;
    const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) faint.push(walker.currentNode.data.trim());
  }
  return [...new Set(faint)];
}"""

# What the days of the calendar look like with every colour taken away.
SHAPES = """() => Object.fromEntries(['complete', 'healed', 'gap', 'unaudited', 'unread'].map(mark => {
  const style = getComputedStyle(document.querySelector('.month .day.' + mark));
  const filled = !['rgba(0, 0, 0, 0)', 'transparent'].includes(style.backgroundColor);
  const drawn = style.borderTopColor === 'rgba(0, 0, 0, 0)' ? 'none' : style.borderTopStyle;
  return [mark, [filled, drawn, style.clipPath !== 'none', style.boxShadow !== 'none'].join()];
}))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CDRSYNC_REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module", params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def window(browser: Any, look: str) -> Iterator[Any]:
    """One for all pages of a look: a new one costs more than what is shown in it."""
    context = browser.new_context(**LOOKS[look])
    yield context.new_page()
    context.close()


@pytest.fixture(params=SHOWN)
def opened(request: pytest.FixtureRequest, window: Any) -> Iterator[Any]:
    """The page in the browser; at the end: it said nothing, and asked for nothing but itself."""
    make, path = SHOWN[request.param]
    said: list[str] = []
    asked: list[str] = []
    heard = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "dialog": lambda dialog: said.append(dialog.message),
        "request": lambda sent: asked.append(sent.url),
    }
    with served(make()) as url:
        for event, hear in heard.items():
            window.on(event, hear)
        window.goto(f"{url}{path}")
        window.shown = request.param
        yield window
        for event, hear in heard.items():
            window.remove_listener(event, hear)
        window.goto("about:blank")
    assert said == []
    assert [one for one in asked if one != "data:,"] == [f"{url}{path}"]


@contextlib.contextmanager
def served(shown: Any) -> Iterator[str]:
    """Where the page of what is shown is, without a path."""
    server = serve(create_app(shown), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def test_page(opened: Any, look: str, tmp_path: Path) -> None:
    """Nothing is cut off, our one style is applied, every text can be read; a picture is there to look at."""
    nothing_is_cut_off(opened)
    if look != "no-colours":  # the system's own colours
        assert opened.evaluate(FAINT_TEXTS) == []  # by the accessibility guidelines, in both colour schemes
    # The Content-Security-Policy lets the style through.
    assert opened.evaluate("getComputedStyle(document.querySelector('article, .card')).borderTopLeftRadius") == "14px"
    picture(opened, look, tmp_path)


def nothing_is_cut_off(opened: Any) -> None:
    """No sideways scrolling of the page, however long a name is: wide tables scroll for themselves."""
    width, inner = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width == inner
    inside = """selector => [...document.querySelectorAll(selector)]
        .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"""
    assert opened.evaluate(inside, ".figures, .month, .chart, h1, h2, .troubles, nav a") == []


def picture(opened: Any, look: str, tmp_path: Path) -> None:
    """A screenshot for a person to look at: in CDRSYNC_SCREENSHOTS, or in pytest's temporary directory."""
    folder = os.environ.get("CDRSYNC_SCREENSHOTS") or str(tmp_path)
    path = f"{folder}/{opened.shown}-{look}.png"
    opened.screenshot(path=path, full_page=True)
    assert os.path.getsize(path) > 20_000  # noqa: PTH202 - a blank page is smaller


@pytest.fixture(scope="module")
def plain(browser: Any) -> Iterator[Any]:
    """A window without a look of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def scriptless(browser: Any) -> Iterator[Any]:
    """A window that runs no scripts."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


@pytest.fixture
def in_trouble(scriptless: Any) -> Iterator[Any]:
    """The page of many troubles."""
    with served(troubled()) as url:
        scriptless.goto(f"{url}/")
        yield scriptless


def test_marks_differ_without_colour(plain: Any) -> None:
    """Complete, healed, gap, unaudited and unread are five shapes, not five colours."""
    with served(troubled()) as url:
        plain.goto(f"{url}/account/sales")
        shapes = plain.evaluate(SHAPES)
    assert len(set(shapes.values())) == len(shapes)


def test_troubles_stand_on_top(in_trouble: Any) -> None:
    """The headline names the worst and since when; what several accounts have is said once, each with its sign."""
    assert in_trouble.title() == "sales: the operator refused the login, for 2 days 4 h · and 5 more · cdrsync"
    lines = in_trouble.locator(".troubles li")
    assert [lines.nth(n).get_attribute("class") for n in range(6)] == ["bad"] * 2 + ["warning"] * 4
    assert "the operator refused the login" in lines.nth(0).inner_text()
    assert "since Mon 21 Jul 2025, 10:37:12" in lines.nth(0).inner_text()


def test_the_troubled_come_first(in_trouble: Any) -> None:
    """Every account is one line of a table, with what is the matter in a word or two."""
    rows = in_trouble.locator(".overview tbody tr")
    assert [rows.nth(n).locator("th").get_attribute("class") for n in range(4)] == ["bad", "bad", "warning", "good"]
    assert rows.nth(1).inner_text().split("\t")[:2] == [
        "sales",
        "login refused, gap on 2 days, quarantine, history unread",
    ]
    assert rows.nth(3).inner_text().split("\t")[:3] == ["support", "idle", "12 s ago"]


def test_works_without_javascript(in_trouble: Any) -> None:
    """Links to the accounts and folded tables need none."""
    in_trouble.locator(".overview a", has_text="support").click()
    assert in_trouble.url.endswith("/account/support")
    table = in_trouble.locator("details table.narrow")
    assert table.is_visible() is False
    in_trouble.locator("summary", has_text="As a table").click()
    assert table.is_visible() is True


def test_speaks_to_those_who_listen(in_trouble: Any) -> None:
    """The drawing and the calendar have a text of their own."""
    base = in_trouble.url
    in_trouble.goto(f"{base}account/support")
    chart = in_trouble.locator(".chart svg")
    assert chart.get_attribute("aria-label").startswith("663 calls today, most of them from 13:00 to 14:00")
    in_trouble.goto(f"{base}account/sales")
    gap = in_trouble.locator(".month td", has=in_trouble.locator(".gap")).first
    assert gap.text_content().startswith("9: 9 July 2025, gap: 901 calls held, the operator counts 904")


@pytest.mark.parametrize("name", [HOSTILE, HOSTILE_LONG])
def test_hostile_names_are_shown_as_written(name: str, in_trouble: Any) -> None:
    """Markup is text, what turns text around is written out, and a long name wraps; its page is found all the same."""
    shown = name.replace("\u202e", "\\u202e").replace("\0", "\\x00")
    in_trouble.locator(".overview a", has_text=shown).click()
    assert in_trouble.locator("h2").inner_text() == shown
    assert in_trouble.locator("script, main img").count() == 0


def test_a_phone_shows_how_the_runs_went(browser: Any) -> None:
    """Outcome and words of a failed run are within the screen, not behind a sideways scroll."""
    context = browser.new_context(**LOOKS["phone"])
    page = context.new_page()
    with served(troubled()) as url:
        page.goto(f"{url}/account/support")
        cells = page.locator(".runs .outcome")
        assert cells.count() > 0
        boxes = [cells.nth(n).bounding_box() for n in range(cells.count())]
    context.close()
    assert [box for box in boxes if box["x"] + box["width"] > 360] == []


def test_a_database_that_is_down_is_said_with_what_is_known(plain: Any) -> None:
    """The headline says so; no next run of the past is promised, but when the next try is."""
    shown = healthy()
    runs = {"poll": AT - timedelta(seconds=9), "next try": AT + timedelta(seconds=4)}
    shown.shown = now(replace(shown.shown.accounts[0], next_runs=runs))
    shown.failure = DatabaseUnavailable("the database can't be used: connection refused")
    with served(shown) as url:
        plain.goto(f"{url}/")
        headline, next_runs = plain.locator("h1").inner_text(), plain.locator(".next").inner_text()
    assert headline == "The database can't be used: connection refused"
    assert next_runs.split("\n") == ["next try", "in 4 s"]


def test_many_accounts_are_a_short_page(plain: Any) -> None:
    """300 accounts: those that are well are folded away, each has a page of its own."""
    with served(many(300)) as url:
        plain.goto(f"{url}/")
        height, title = plain.evaluate("document.documentElement.scrollHeight"), plain.title()
    assert height < 4000
    assert title == "30 accounts: the operator refused the login, for 2 days 4 h · and 1 more · cdrsync"
