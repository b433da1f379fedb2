import dataclasses
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.objects.overlay import overlay_png
from tests.phantoms import AXIAL, TorsoPhantom, phantom_analysis

SHAPE = (12, 64, 64)


def picture(phantom: TorsoPhantom) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(overlay_png(phantom_analysis(phantom)))))


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
    pixels = picture(TorsoPhantom(SHAPE, 6.0))
    axial = pixels[34:674, :640]
    white = (axial > 250).all(axis=-1)
    white[:, :60] = white[:, -60:] = False  # the side letters
    rows = np.nonzero(white)[0]
    assert rows.mean() > 340
    columns = np.nonzero(reddish(axial))[1]
    assert columns.mean() == pytest.approx(319.5, abs=3)


def test_the_level_is_marked_where_the_slice_lies() -> None:
    phantom = TorsoPhantom((20, 64, 64), 6.0, 10.0)
    low, high = (
        np.asarray(Image.open(io.BytesIO(overlay_png(phantom_analysis(phantom, index)))))
        for index in (3, 16)
    )
    yellow = [
        np.nonzero((one[34:354, 950] == (255, 220, 0)).all(axis=-1))[0].mean()
        for one in (low, high)
    ]
    assert yellow[0] > yellow[1] + 80


def test_the_head_is_up_in_the_side_views() -> None:
    analysis = phantom_analysis(TorsoPhantom((20, 64, 64), 6.0, 10.0))
    hu = analysis.volume.hu.copy()
    hu[15:] = 1000
    volume = dataclasses.replace(analysis.volume, hu=hu)
    analysis = dataclasses.replace(analysis, volume=volume)
    pixels = np.asarray(Image.open(io.BytesIO(overlay_png(analysis))))
    for top in (34, 34 + 320):
        view = pixels[top : top + 320, 700:900].mean(axis=(1, 2))
        assert view[:160].mean() > view[160:].mean() + 30


def test_the_same_analysis_gives_the_same_bytes() -> None:
    phantom = TorsoPhantom(SHAPE, 6.0)
    assert overlay_png(phantom_analysis(phantom)) == overlay_png(phantom_analysis(phantom))


def test_a_banner_warns_across_the_whole_width() -> None:
    pixels = picture(TorsoPhantom(SHAPE, 6.0))
    assert (pixels[2] == (255, 220, 0)).all()
