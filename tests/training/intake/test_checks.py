from dataclasses import replace

import numpy as np
import pytest

from pipeline.types import CTVolume
from tests.phantoms import TorsoPhantom
from tests.training.cases import labels as labels_of
from training.intake.checks import Code, check_case, find_swaps
from training.intake.found import Drawn

# Off the middle of the image, as bodies are, so that a mirrored drawing lies elsewhere.
PHANTOM = TorsoPhantom(shape=(6, 128, 128), noise_hu=8.0)


def _off_centre(phantom: TorsoPhantom) -> tuple[CTVolume, Drawn]:
    volume = phantom.volume()
    hu = np.roll(volume.hu, (9, 14), (1, 2))
    drawn = {i: np.roll(labels_of(phantom, i), (9, 14), (0, 1)) for i in range(2, 5)}
    return CTVolume(hu, volume.affine.copy(), volume.sources, ""), Drawn(drawn, whole=True)


VOLUME, DRAWN = _off_centre(PHANTOM)


def _changed(change: object) -> Drawn:
    return Drawn({i: change(one) for i, one in DRAWN.slices.items()}, whole=True)  # type: ignore[operator]


def test_sound_labels_pass() -> None:
    assert check_case("a", VOLUME, DRAWN) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (np.zeros_like, Code.EMPTY),
        (lambda one: np.roll(one, 8, axis=0), Code.SHIFTED),
        (lambda one: np.roll(one, -8, axis=1), Code.SHIFTED),
        (lambda one: one[::-1], Code.MIRRORED),
        (lambda one: one[:, ::-1], Code.MIRRORED),
        (lambda one: np.array([0, 3, 2, 1, 4, 5, 6, 7], dtype=np.uint8)[one], Code.CLASSES_SWAPPED),
        (lambda one: np.where(np.arange(128) < 34, one, 0), Code.AREA),
    ],
    ids=["empty", "rows", "columns", "upside down", "left right", "classes", "area"],
)
def test_wrong_labels_are_found(change: object, code: Code) -> None:
    assert code in {finding.code for finding in check_case("a", VOLUME, _changed(change))}


def test_values_that_are_no_hu_are_found() -> None:
    hu = VOLUME.hu.copy()
    hu[:, 60:70, 70:80] = -3000
    spoilt = CTVolume(hu, VOLUME.affine.copy(), VOLUME.sources, "")
    assert Code.HU in {finding.code for finding in check_case("a", spoilt, DRAWN)}
    bright = CTVolume(VOLUME.hu + np.int16(1000), VOLUME.affine.copy(), VOLUME.sources, "")
    assert Code.HU in {finding.code for finding in check_case("a", bright, DRAWN)}


def test_labels_of_two_patients_that_were_swapped_are_found() -> None:
    small = TorsoPhantom(shape=(6, 128, 128), outer_mm=(120.0, 80.0), thickness_mm=20.0)
    large = replace(small, outer_mm=(185.0, 140.0))
    volumes = {"small": small.volume(), "large": large.volume()}
    own = {
        name: Drawn({2: labels_of(phantom, 2)}, whole=True)
        for name, phantom in (("small", small), ("large", large))
    }
    swapped = {"small": own["large"], "large": own["small"]}
    assert find_swaps(volumes, own) == []
    findings = find_swaps(volumes, swapped)
    assert [(f.case, f.code) for f in findings] == [
        ("small", Code.SWAPPED),
        ("large", Code.SWAPPED),
    ]
