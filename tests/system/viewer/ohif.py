"""Open a result in the real OHIF viewer, as a radiologist does, and say what is on the screen."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright
from pydicom import Dataset

SMALLEST_IOU: Final = 0.97
SMALLEST_LIKENESS: Final = 0.9
"""Of a picture in a viewport to the stored one: scaling blurs letters."""

# WebGL in software; no calls to the browser's makers.
_FLAGS: Final = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_PATIENCE_MS: Final = 60_000
_PROMPT_MS: Final = 8_000
_STILL_MS: Final = 700
_LONGEST_UNREST: Final = 40
_PANE: Final = '[data-cy="viewport-pane"]'


@dataclass(frozen=True)
class Sight:
    """What one result looks like.

    Parameters
    ----------
    prompt : str
        What the viewer asks before it opens the object; empty without a question.
    pane : str
        Text in the viewport, the numbers on the image included.
    corner : str
        Text in the corner that names the slice.
    panel : str
        Text of the panel that lists segments.
    picture : Path
        The viewport as a PNG.
    errors : tuple of str
        Complaints of the page.
    """

    prompt: str
    pane: str
    corner: str
    panel: str
    picture: Path
    errors: tuple[str, ...]


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """Start a Chromium without a screen."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program, headless=True, args=list(_FLAGS)
        )
        yield running
        running.close()


def look(running: Browser, viewer: str, result: Dataset, out: Path) -> Sight:
    """Open a study on a fresh page, then one result of it by its thumbnail."""
    context = running.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    # A first visit is offered a tour, at any moment, and nothing can be clicked until it is ended.
    page.add_locator_handler(page.get_by_text("Skip all").first, lambda skip: skip.click())
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)[:300]))
    try:
        page.goto(f"{viewer}/viewer?StudyInstanceUIDs={result.StudyInstanceUID}")
        thumbnail = _thumbnail(page, int(result.SeriesNumber))
        thumbnail.wait_for()
        pane = page.locator(_PANE).first
        pane.wait_for()
        _wait_until_still(page, pane)
        thumbnail.dblclick()
        prompt = _answer_prompt(page)
        _wait_until_still(page, pane)
        _open_segment_panel(page)
        _wait_until_still(page, pane)
        name = f"{result.Modality}_{result.SeriesNumber}"
        pane.screenshot(path=out / f"{name}_pane.png")
        page.screenshot(path=out / f"{name}_page.png")
        return Sight(
            prompt=prompt,
            pane=_text(pane),
            corner=_text(page.locator('[data-cy="viewport-overlay-bottom-right"]').first),
            panel=_text(page.locator('[data-cy="side-panel-header-right"]').locator("xpath=../..")),
            picture=out / f"{name}_pane.png",
            errors=tuple(dict.fromkeys(errors)),
        )
    finally:
        context.close()


def overlay_iou(picture: Path, mask: NDArray[np.bool_], rgb: Sequence[int]) -> float:
    """Intersection over union of what is tinted in a viewport and of a mask fitted into it.

    Parameters
    ----------
    picture : Path
    mask : NDArray[np.bool_], shape (rows, columns)
    rgb : three int
        Colour of the segment; its hue counts, for the overlay is translucent.
    """
    with Image.open(picture) as image:
        screen = np.asarray(image.convert("RGB")).astype(np.float64)
    tinted = _tinted(screen, np.array(rgb, dtype=np.float64))
    height, width = tinted.shape
    fit = min(width / mask.shape[1], height / mask.shape[0])
    # Viewers leave a margin of their own.
    scales = fit * np.arange(0.90, 1.06, 0.0025)
    return max(_iou(tinted, _fitted(mask, (height, width), scale)) for scale in scales)


def likeness(picture: Path, rgb: NDArray[np.uint8]) -> float:
    """Correlation of a viewport with an image that is fitted into it, 1 when it shows just that.

    Parameters
    ----------
    picture : Path
    rgb : NDArray[np.uint8], shape (rows, columns, 3)
    """
    with Image.open(picture) as image:
        screen = image.convert("RGB")
    stored = Image.fromarray(rgb)
    fit = min(screen.width / stored.width, screen.height / stored.height)
    # Viewers leave a margin of their own, and write into the corners.
    return max(_correlation(screen, stored, fit * scale) for scale in np.arange(0.94, 1.02, 0.005))


def _correlation(screen: Image.Image, stored: Image.Image, scale: float) -> float:
    size = round(stored.width * scale), round(stored.height * scale)
    left, top = (screen.width - size[0]) // 2, (screen.height - size[1]) // 2
    shown = np.asarray(screen.crop((left, top, left + size[0], top + size[1])), dtype=np.float64)
    drawn = np.asarray(stored.resize(size, Image.Resampling.BILINEAR), dtype=np.float64)
    if shown.std() == 0:
        return 0.0  # nothing is shown
    return float(np.corrcoef(shown.ravel(), drawn.ravel())[0, 1])


def _thumbnail(page: Page, series_number: int) -> Locator:
    thumbnails = page.locator('[data-cy^="study-browser-thumbnail"]')
    return thumbnails.filter(has_text=re.compile(rf"S:\s*{series_number}(\D|$)")).first


def _answer_prompt(page: Page) -> str:
    yes = page.get_by_role("button", name="Yes").first
    try:
        yes.wait_for(timeout=_PROMPT_MS)
    except Error:
        return ""
    prompt = _text(page.locator('[data-cy="viewport-notification"]').first)
    yes.click()
    return prompt


def _open_segment_panel(page: Page) -> None:
    try:
        page.locator('[data-cy="panelSegmentation-btn"]').first.click(timeout=_PROMPT_MS)
    except Error:
        return  # not every object has one


def _wait_until_still(page: Page, pane: Locator) -> None:
    """Until two pictures some time apart are equal: nothing tells when a viewer has drawn."""
    last = b""
    for _ in range(_LONGEST_UNREST):
        picture = pane.screenshot()
        if picture == last:
            return
        last = picture
        page.wait_for_timeout(_STILL_MS)


def _text(locator: Locator) -> str:
    return " ".join(" ".join(locator.all_inner_texts()).split())


def _tinted(screen: NDArray[np.float64], rgb: NDArray[np.float64]) -> NDArray[np.bool_]:
    hue = rgb - rgb.mean()
    hue /= np.linalg.norm(hue)
    colour = screen - screen.mean(axis=2, keepdims=True)
    strength = np.linalg.norm(colour, axis=2)
    alike = (colour @ hue) / np.maximum(strength, 1e-6)
    tinted: NDArray[np.bool_] = (strength > 25) & (alike > 0.93)
    return tinted


def _fitted(mask: NDArray[np.bool_], size: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    row = np.floor((y + 0.5 - size[0] / 2) / scale + mask.shape[0] / 2).astype(int)
    column = np.floor((x + 0.5 - size[1] / 2) / scale + mask.shape[1] / 2).astype(int)
    inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    fitted = np.zeros(size, dtype=bool)
    fitted[inside] = mask[row[inside], column[inside]]
    return fitted


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))
