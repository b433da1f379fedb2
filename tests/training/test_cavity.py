import numpy as np
import pytest
from scipy import ndimage

from tests.phantoms import TorsoPhantom
from tests.training.cases import labels as labels_of
from training.cavity import Cavity, change_cavity, flood, lay_organ

PHANTOM = TorsoPhantom(shape=(1, 256, 256))
LABELS = labels_of(PHANTOM, 0)
MUSCLE = LABELS == 1
# Fat between the wall and the organs, as most people have.
LABELS[(LABELS == 6) & ndimage.binary_dilation(MUSCLE, iterations=12)] = 4
HU = np.where(LABELS == 4, -100, PHANTOM.volume().hu[0]).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_an_organ_touches_the_wall_and_leaves_every_label_but_the_cavitys(seed: int) -> None:
    cavity = Cavity(organ_mm=(30.0, 60.0))
    hu, labels = lay_organ(HU, LABELS, 1.5, cavity, np.random.default_rng(seed))
    laid = (labels == 6) & (np.abs(hu - HU) > 5)
    assert np.count_nonzero(laid) > 100
    assert np.isin(LABELS[labels != LABELS], (4, 6)).all()
    assert np.array_equal(labels == 1, MUSCLE)
    assert np.array_equal(hu[~np.isin(LABELS, (1, 4, 6))], HU[~np.isin(LABELS, (1, 4, 6))])


def test_an_organ_as_dense_as_muscle_hides_the_border() -> None:
    """Between muscle and organ lies no darker line that would tell them apart."""
    cavity = Cavity(organ_mm=(60.0, 70.0), alike_chance=1.0)
    hu, labels = lay_organ(HU, LABELS, 1.5, cavity, np.random.default_rng(0))
    level_hu = np.median(HU[MUSCLE])
    new = (labels == 6) & (LABELS == 4)
    assert np.median(hu[new]) == pytest.approx(level_hu, abs=30)
    assert np.percentile(hu[new], 10) > level_hu - 60


def test_fluid_takes_the_place_of_fat_between_organs() -> None:
    hu, labels = flood(HU, LABELS, (5.0, 5.0), np.random.default_rng(0))
    fat = LABELS == 4
    assert fat.any()
    assert (labels[fat] == 6).all()
    assert np.median(hu[fat]) == pytest.approx(5.0, abs=3)
    assert np.array_equal(labels[~fat], LABELS[~fat])


def test_a_slice_without_cavity_is_left_alone() -> None:
    nothing = np.zeros_like(LABELS)
    always = Cavity(organ_chance=1.0, fluid_chance=1.0)
    hu, labels = change_cavity(HU, nothing, 1.0, always, np.random.default_rng(0))
    assert np.array_equal(labels, nothing)
    assert np.array_equal(hu, HU)


def test_chances_of_nothing_change_nothing() -> None:
    never = Cavity(organ_chance=0.0, fluid_chance=0.0)
    hu, labels = change_cavity(HU, LABELS, 1.0, never, np.random.default_rng(0))
    assert np.array_equal(hu, HU)
    assert np.array_equal(labels, LABELS)
