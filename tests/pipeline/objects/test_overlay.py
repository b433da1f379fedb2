import dataclasses
import io
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.objects.overlay import draw_page, overlay_png
from pipeline.types import PriorMeasurement, QualityFlag, Severity, Verdict
from tests.phantoms import AXIAL, TorsoPhantom, phantom_analysis

SHAPE = (12, 64, 64)
PHANTOM = TorsoPhantom(SHAPE, 6.0)

BANNER = slice(0, 44)
AXIAL_VIEW = (slice(44, 684), slice(0, 700))
SPINE_VIEWS = (
    (slice(428, 676), slice(712, 908)),
    (slice(428, 676), slice(912, 1108)),
)
YELLOW = (255, 220, 0)


def picture(phantom: TorsoPhantom, level_index: int | None = None) -> NDArray[np.uint8]:
    return np.asarray(draw_page(phantom_analysis(phantom, level_index)))


def reddish(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    found: NDArray[np.bool_] = (red > green + 30) & (red > blue + 30)
    return found


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, -1, 0),
        (-1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, -1, 0),
        (0, 1, 0, -1, 0, 0),
        (0, -1, 0, 1, 0, 0),
    ],
)
def test_the_patient_lies_the_same_way_however_stored(orientation: tuple[float, ...]) -> None:
    expected = picture(TorsoPhantom(SHAPE, 6.0, orientation=AXIAL))
    found = picture(TorsoPhantom(SHAPE, 6.0, orientation=orientation))
    assert found.shape == expected.shape
    assert (reddish(found) == reddish(expected)).mean() > 0.999
    assert np.abs(found.astype(int) - expected).mean() < 1.0


def test_the_vertebra_is_at_the_back_and_muscle_all_round() -> None:
    axial = picture(PHANTOM)[AXIAL_VIEW]
    white = (axial > 250).all(axis=-1)
    white[:, :60] = white[:, -60:] = False  # the side letters
    assert np.nonzero(white)[0].mean() > 340
    assert np.nonzero(reddish(axial))[1].mean() == pytest.approx(349.5, abs=6)


def test_the_body_fills_the_view_and_the_couch_does_not() -> None:
    wide = TorsoPhantom((12, 128, 128), 6.0)
    for phantom in (PHANTOM, wide):
        columns = np.nonzero(reddish(picture(phantom)[AXIAL_VIEW]))[1]
        assert np.ptp(columns) > 550


def test_the_level_is_marked_where_the_slice_lies() -> None:
    phantom = TorsoPhantom((20, 64, 64), 6.0, 10.0)
    low, high = (picture(phantom, index) for index in (3, 16))
    for view in SPINE_VIEWS:
        yellow = [
            np.nonzero((one[view][:, 150] == YELLOW).all(axis=-1))[0].mean() for one in (low, high)
        ]
        assert yellow[0] > yellow[1] + 50


def test_the_head_is_up_in_the_views_of_the_spine() -> None:
    analysis = phantom_analysis(TorsoPhantom((20, 64, 64), 6.0, 10.0))
    hu = analysis.volume.hu.copy()
    hu[15:] = 1000
    volume = dataclasses.replace(analysis.volume, hu=hu)
    page = np.asarray(draw_page(dataclasses.replace(analysis, volume=volume)))
    for view in SPINE_VIEWS:
        rows = page[view].mean(axis=(1, 2))
        assert rows[:140].mean() > rows[140:].mean() + 30


def test_the_same_analysis_gives_the_same_bytes() -> None:
    assert overlay_png(phantom_analysis(PHANTOM)) == overlay_png(phantom_analysis(PHANTOM))


def test_a_png_shows_the_page() -> None:
    page = picture(PHANTOM)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(overlay_png(phantom_analysis(PHANTOM))))), page
    )


def test_a_banner_warns_across_the_whole_width() -> None:
    assert (picture(PHANTOM)[2] == YELLOW).all()


def test_every_verdict_looks_different() -> None:
    analysis = phantom_analysis(PHANTOM)
    boxes = set()
    for verdict in Verdict:
        assessment = dataclasses.replace(analysis.assessment, verdict=verdict)
        page = np.asarray(draw_page(dataclasses.replace(analysis, assessment=assessment)))
        boxes.add(tuple(int(value) for value in page[44 + 14 + 145, 720]))
    assert len(boxes) == len(Verdict)


def test_warnings_and_the_prior_are_told_below() -> None:
    analysis = phantom_analysis(PHANTOM)
    plain = draw_page(analysis)
    warned = dataclasses.replace(
        analysis, quality=(QualityFlag("X", Severity.WARNING, "Something is wrong."),)
    )
    assert draw_page(warned).height == plain.height + 24
    prior = PriorMeasurement(100.0, date(2025, 3, 4))
    assert draw_page(analysis, prior).height == plain.height + 24


def test_the_views_of_the_spine_cover_no_line_of_the_numbers() -> None:
    analysis = phantom_analysis(TorsoPhantom(SHAPE, 6.0, height_m=1.7))
    page = np.asarray(draw_page(analysis, PriorMeasurement(10.0, date(2025, 3, 4))))
    # Attenuation, index, previous area and change; a line of text is 20 pixels high.
    for top in range(322, 322 + 4 * 26, 26):
        written = (page[top + 2 : top + 24, 712:1104] > 200).all(axis=2)
        assert written.sum() > 300, top
    assert not (page[:, 1116:] > 100).any(axis=2)[322:428].any()


def test_without_cut_off_interval_and_height_the_page_is_drawn_all_the_same() -> None:
    analysis = phantom_analysis(PHANTOM)
    bare = dataclasses.replace(
        analysis,
        interval=None,
        assessment=dataclasses.replace(
            analysis.assessment, verdict=Verdict.NOT_ASSESSED, cutoff=None
        ),
    )
    assert draw_page(bare).width == draw_page(analysis).width
