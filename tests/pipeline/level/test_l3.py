from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from pipeline.errors import LevelNotCoveredError, LevelUncertainError, ModelError
from pipeline.level.l3 import L3_FINDER, L3Finder, Reading, decide, load_level_finder
from pipeline.level.numbering import Positions
from pipeline.level.projections import SpineImages
from pipeline.objects.ct_series import read_volume
from pipeline.types import CTVolume, SliceSource
from pipeline.weights import MODELS_FOLDER
from tests.phantoms import TorsoPhantom
from tests.spine_phantom import reoriented

DEMO_L3_SLICE = 9


@pytest.fixture(scope="module")
def finder() -> L3Finder:
    return load_level_finder(None, torch.device("cpu"))


@pytest.fixture(scope="module")
def demo() -> CTVolume:
    folder = Path(str(files("dicom_node"))) / "demo" / "ct"
    return read_volume([pydicom.dcmread(path) for path in folder.glob("*.dcm")])


def test_middle_of_l3_is_found_in_a_real_series(finder: L3Finder, demo: CTVolume) -> None:
    level = finder.find(demo)
    assert level.name == "L3"
    assert abs(level.slice_index - DEMO_L3_SLICE) <= 1
    assert level.confidence > 0.6
    assert level.extent is not None
    assert level.extent[0] in {6, 7, 8}
    assert level.extent[1] in {11, 12, 13}
    assert len(level.evidence) >= 2


@pytest.mark.parametrize(
    ("flip_rows", "flip_columns", "transpose"),
    [(True, False, False), (False, True, False), (True, True, True)],
)
def test_stored_orientation_does_not_move_l3(
    finder: L3Finder, demo: CTVolume, flip_rows: bool, flip_columns: bool, transpose: bool
) -> None:
    level = finder.find(reoriented(demo, flip_rows, flip_columns, transpose))
    assert abs(level.slice_index - DEMO_L3_SLICE) <= 1


def test_matrix_size_does_not_move_l3(finder: L3Finder, demo: CTVolume) -> None:
    affine = demo.affine.copy()
    affine[:, 1:3] *= 2
    half = CTVolume(demo.hu[:, ::2, ::2].copy(), affine, demo.sources, demo.series_instance_uid)
    assert abs(finder.find(half).slice_index - DEMO_L3_SLICE) <= 1


def test_slices_above_l3_are_refused(finder: L3Finder, demo: CTVolume) -> None:
    affine = demo.affine.copy()
    affine[:3, 3] += affine[:3, 0] * 13
    above = CTVolume(demo.hu[13:].copy(), affine, demo.sources[13:], demo.series_instance_uid)
    with pytest.raises((LevelNotCoveredError, LevelUncertainError)):
        finder.find(above)


@pytest.mark.parametrize("noise_hu", [0.0, 30.0])
def test_body_without_vertebrae_is_refused(finder: L3Finder, noise_hu: float) -> None:
    with pytest.raises((LevelNotCoveredError, LevelUncertainError)):
        finder.find(TorsoPhantom(shape=(40, 128, 128), noise_hu=noise_hu).volume())


def _reading(lowest: int, probability: float, bodies: int = 6) -> Reading:
    """``bodies`` vertebrae 34 mm apart; with the rest of the probability they are one lower."""
    rows = 110
    views = SpineImages(
        side=np.zeros((rows, 4), np.float32),
        front=np.zeros((3, rows, 4), np.float32),
        slice_of_row=np.arange(rows) * 2 / 5,
        spine_mm=np.zeros((rows, 2)),
        edges_mm=(0.0, 0.0),
    )
    chain = 10 + 17 * np.arange(bodies)
    places = np.zeros((19, rows))
    for offset, share in ((0, probability), (1, 1 - probability)):
        for place, row in enumerate(chain):
            if lowest + offset - place <= 19:
                places[lowest + offset - place - 1, row] += share
    return Reading(views, chain.astype(np.float64), Positions(places))


VOLUME = CTVolume(
    np.zeros((44, 2, 2), np.int16),
    np.diag([5.0, 1.0, 1.0, 1.0]),
    tuple(SliceSource(str(i)) for i in range(44)),
    "1.2.3",
)


def test_third_vertebra_above_l5_is_l3() -> None:
    level = decide(_reading(lowest=17, probability=0.9), VOLUME)
    assert level.slice_index == round((10 + 2 * 17) * 2 / 5)
    assert level.confidence == pytest.approx(0.9)
    assert level.extent == (15, 20)


def test_chest_that_ends_above_l3_is_not_covered() -> None:
    with pytest.raises(LevelNotCoveredError, match="T9 to L2"):
        decide(_reading(lowest=14, probability=0.95), VOLUME)


def test_pelvis_that_ends_below_l3_is_not_covered() -> None:
    with pytest.raises(LevelNotCoveredError, match="L3 lies outside"):
        decide(_reading(lowest=18, probability=0.95, bodies=3), VOLUME)


def test_two_places_of_like_probability_are_uncertain() -> None:
    with pytest.raises(LevelUncertainError, match=r"probability of 0\.55"):
        decide(_reading(lowest=17, probability=0.55), VOLUME)


def test_too_few_bodies_to_count_are_refused() -> None:
    with pytest.raises(LevelNotCoveredError, match="2 vertebral bodies"):
        decide(_reading(lowest=15, probability=0.99, bodies=2), VOLUME)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match="smit_l3"):
        load_level_finder(MODELS_FOLDER / "smit_l3")


def test_finder_names_its_weights(finder: L3Finder) -> None:
    (identity,) = finder.models
    assert identity.name == L3_FINDER
    assert len(identity.sha256) == 64
