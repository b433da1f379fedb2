"""The console in a real browser: log in, act with a confirmation, reach everything by keyboard."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from dicom_node.console.app import build_app
from dicom_node.demo.processes import free_port
from dicom_node.records import SeriesEvent, SeriesState
from tests.conftest import find_tool
from tests.dicom_node.console.conftest import PASSWORD, UID, Visitor
from tests.dicom_node.console.test_pages import OTHER, measure

pytestmark = pytest.mark.network

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_CONTRASTS = """() => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const channel = (v) => linear(v / 255);
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest(".hidden, .skip, svg")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${e.className} ${e.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_tool("chromium"), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def address(visitor: Visitor) -> Iterator[str]:
    """A console that listens, with a second series that was measured."""
    measure(visitor)
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(replace(visitor.desk, audit=visitor.trail)),
            port=free_port(),
            log_config=None,
            lifespan="off",
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh browser window; whatever the page complains of fails the test."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    with browser.new_context(base_url=address) as context:
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
    assert complaints == []


def log_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_from_the_login_to_a_retry_with_its_confirmation(page: Page, visitor: Visitor) -> None:
    log_in(page)
    page.get_by_role("link", name=UID, exact=True).click()
    page.get_by_role("link", name="Analyse again").click()
    assert visitor.desk.ledger.series(UID).state is SeriesState.FAILED
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="Analyse again").click()
    page.get_by_label("Why").fill("new model")
    page.get_by_role("button", name="Analyse again").click()
    page.get_by_role("status").get_by_text("Done").wait_for()
    assert visitor.desk.ledger.series(UID).state is SeriesState.COMPLETE
    assert page.get_by_text("Asked for once more").is_visible()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Password").wait_for()
    page.goto(f"/series/{UID}")
    assert page.url.endswith(f"/login?next=%2Fseries%2F{UID}")


def test_a_patient_is_found_and_stands_in_no_address(page: Page) -> None:
    log_in(page)
    page.get_by_label("Look for").select_option("patient")
    page.get_by_label("Search", exact=True).fill("P12")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name=OTHER, exact=True).wait_for()
    assert page.url.endswith("/search")


def test_the_overview_stays_fresh_by_itself(page: Page, visitor: Visitor) -> None:
    page.clock.install()
    log_in(page)
    tile = page.locator(".tile", has_text="failed")
    assert tile.locator("b").inner_text() == "1"
    page.get_by_text("The broker does not answer").wait_for()
    visitor.desk.ledger.advance(UID, SeriesEvent.RETRY_REQUESTED, visitor.clock())
    page.clock.run_for(6000)
    page.locator(".tile", has_text="failed").get_by_text("0", exact=True).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_and_reached(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
    log_in(page)
    for path in ("/", "/series", f"/series/{UID}", f"/series/{OTHER}", f"/series/{UID}/retry"):
        page.goto(path)
        assert page.evaluate(_CONTRASTS) == [], path
        for landmark in ("banner", "main", "contentinfo", "search"):
            assert page.get_by_role(landmark).count() == 1, landmark  # type: ignore[arg-type]
        assert page.locator("h1").count() == 1
        unnamed = "input:not([type=hidden]), select"
        for field in page.locator(unnamed).all():
            assert field.evaluate("e => e.labels.length") == 1
        assert page.locator("img:not([alt])").count() == 0
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_the_header_takes_one_line_of_a_laptop(page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 800})
    log_in(page)
    out = page.get_by_role("button", name="Log out").bounding_box()
    find = page.get_by_role("button", name="Find").bounding_box()
    assert out is not None
    assert find is not None
    assert find["y"] <= out["y"] + out["height"] / 2 <= find["y"] + find["height"]


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    log_in(page)
    for path in ("/", "/series", f"/series/{OTHER}"):
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, path
