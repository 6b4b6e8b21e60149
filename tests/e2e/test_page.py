"""The status page in a real browser: light, dark, on a phone; well and in trouble."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.web import create_app, serve
from tests.support.web import HOSTILE_LONG, healthy, troubled

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
SHOWN = {"healthy": healthy, "troubled": troubled}

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


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SHOWN)
def opened(request: pytest.FixtureRequest, browser: Any, look: str) -> Iterator[Any]:
    """The page in the browser; at the end: it said nothing, and asked for nothing but itself."""
    server = serve(create_app(SHOWN[request.param]()), "127.0.0.1", 0)
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(f"http://127.0.0.1:{server.port}/")
    yield page
    context.close()
    server.close()
    assert said == []
    assert [url for url in asked if url != "data:,"] == [f"http://127.0.0.1:{server.port}/"]


def test_nothing_is_cut_off(opened: Any) -> None:
    """No sideways scrolling of the page, however long a name is: wide tables scroll for themselves."""
    width, inner = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width == inner
    inside = """selector => [...document.querySelectorAll(selector)]
        .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"""
    assert opened.evaluate(inside, ".figures, .month, .chart, h1, h2, .troubles, nav a") == []


def test_every_text_can_be_read(opened: Any, look: str) -> None:
    """Contrast by the accessibility guidelines, in both colour schemes."""
    if look == "no-colours":
        return  # the system's own colours
    assert opened.evaluate(FAINT_TEXTS) == []


def test_style_is_applied(opened: Any) -> None:
    """The Content-Security-Policy lets our one style through."""
    assert opened.evaluate("getComputedStyle(document.querySelector('article')).borderTopLeftRadius") == "14px"


def test_picture(opened: Any, look: str, tmp_path: Path) -> None:
    """A screenshot for a person to look at: in CDRSYNC_SCREENSHOTS, or in pytest's temporary directory."""
    folder = os.environ.get("CDRSYNC_SCREENSHOTS") or str(tmp_path)
    name = "healthy" if opened.title().startswith("All is well") else "troubled"
    path = f"{folder}/{name}-{look}.png"
    opened.screenshot(path=path, full_page=True)
    assert os.path.getsize(path) > 20_000  # noqa: PTH202 - a blank page is smaller


@pytest.fixture
def in_trouble(browser: Any) -> Iterator[Any]:
    """The page of many troubles."""
    server = serve(create_app(troubled()), "127.0.0.1", 0)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    yield page
    context.close()
    server.close()


def test_marks_differ_without_colour(browser: Any) -> None:
    """Complete, healed, gap, unaudited and unread are five shapes, not five colours."""
    server = serve(create_app(troubled()), "127.0.0.1", 0)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    shapes = page.evaluate(SHAPES)
    page.close()
    server.close()
    assert len(set(shapes.values())) == len(shapes)


def test_troubles_stand_on_top(in_trouble: Any) -> None:
    """What is wrong comes first, the worst before the rest, each with its sign."""
    assert in_trouble.title() == "2 wrong, 5 to look at · cdrsync"
    lines = in_trouble.locator(".troubles li")
    assert [lines.nth(n).get_attribute("class") for n in range(7)] == ["bad"] * 2 + ["warning"] * 5
    assert "the operator refused the login" in lines.nth(0).inner_text()


def test_works_without_javascript(in_trouble: Any) -> None:
    """Links to the accounts and folded tables need none."""
    in_trouble.locator("nav a", has_text="support").click()
    assert in_trouble.url.endswith("#account-4")
    table = in_trouble.locator("#account-4 details table.narrow")
    assert table.is_visible() is False
    in_trouble.locator("#account-4 summary", has_text="As a table").click()
    assert table.is_visible() is True


def test_speaks_to_those_who_listen(in_trouble: Any) -> None:
    """The drawing and the calendar have a text of their own."""
    chart = in_trouble.locator("#account-4 .chart svg")
    assert chart.get_attribute("aria-label").startswith("663 calls today, most of them from 13:00 to 14:00")
    gap = in_trouble.locator("#account-1 .month td", has=in_trouble.locator(".gap")).first
    assert gap.text_content().startswith("9: 9 July 2025, gap: 901 calls held, the operator counts 904")


def test_hostile_names_are_shown_as_written(in_trouble: Any) -> None:
    """Markup is text, what turns text around is written out, and a long name wraps."""
    heading = in_trouble.locator("#account-2 h2")
    assert heading.inner_text() == (
        "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\\u202egnp.exe{{7*7}}&amp;\\x00"
    )
    assert in_trouble.locator("script, main img").count() == 0
    assert in_trouble.locator("#account-3 h2").inner_text() == HOSTILE_LONG
