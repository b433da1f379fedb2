"""A radiologist sees the results: the published OHIF viewer on a real Orthanc."""

from collections.abc import Iterator

import pytest

from tests.conftest import find_tool, missing
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.system.viewer.build import NoViewerError
from tests.system.viewer.ohif import SMALLEST_IOU, SMALLEST_LIKENESS, likeness
from tests.system.viewer.station import Station, reading_room

pytestmark = [pytest.mark.network, pytest.mark.slow]

PHANTOM = TorsoPhantom(shape=(7, 256, 256), pixel_mm=1.5, height_m=1.62, noise_hu=10.0)


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    out = tmp_path_factory.mktemp("viewer")
    analysis = phantom_analysis(PHANTOM)
    try:
        with reading_room(analysis, PHANTOM.datasets(), out, find_tool) as room:
            yield room
    except NoViewerError as error:
        missing(str(error))


def test_segmentation_lies_on_the_muscle(station: Station) -> None:
    sight = station.look_at("seg")
    assert "open this Segmentation" in sight.prompt
    assert "Skeletal muscle" in sight.panel
    assert sight.corner == "I:4 (4/7)"
    assert station.iou(sight) >= SMALLEST_IOU
    assert sight.errors == ()


def test_numbers_stand_on_the_slice_of_l3(station: Station) -> None:
    sight = station.look_at("sr")
    muscle = station.analysis.composition.tissues[0]
    assert f"Area: {muscle.area_cm2:.2f} cm2" in sight.pane
    assert f"Attenuation Coefficient: {muscle.mean_hu:.2f} [hnsf'U]" in sight.pane
    assert "Skeletal muscle index: " in sight.pane
    assert sight.corner == "I:4 (4/7)"


def test_key_image_opens_as_a_picture_with_its_banner(station: Station) -> None:
    sight = station.look_at("key_image")
    assert sight.prompt == ""
    assert "AI SMA L3 overlay (RESEARCH)" in sight.pane
    assert sight.corner == "1/1"
    assert station.likeness(sight) >= SMALLEST_LIKENESS
    # A page without its banner is noticed.
    page = station.results["key_image"].pixel_array.copy()
    page[:44] = 0
    assert likeness(sight.picture, page) < SMALLEST_LIKENESS
    assert sight.errors == ()


def test_segmentation_without_its_series_does_not_open(station: Station) -> None:
    sight = station.look_at("unplaced_seg")
    assert sight.prompt == ""
    assert station.iou(sight) < SMALLEST_IOU


def test_label_map_with_a_background_segment_has_the_wrong_colours(station: Station) -> None:
    sight = station.look_at("background_labelmap")
    assert "Background" in sight.panel
    assert station.iou(sight) < SMALLEST_IOU


def test_report_without_an_outline_on_the_slice_shows_no_number(station: Station) -> None:
    assert "cm2" not in station.look_at("single_group_sr").pane
