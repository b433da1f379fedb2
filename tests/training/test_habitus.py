import numpy as np
import pytest
from numpy.typing import NDArray

from tests.phantoms import TorsoPhantom
from tests.training.cases import labels as labels_of
from training.habitus import Habitus, change_habitus, infiltrate, stretch_fat_layer, waste

PHANTOM = TorsoPhantom(shape=(1, 256, 256))
HU = PHANTOM.volume().hu[0].astype(np.float32)
LABELS = labels_of(PHANTOM, 0)
MUSCLE = LABELS == 1
FAT = LABELS == 3


def _width(mask: NDArray[np.bool_]) -> int:
    """Pixels of ``mask`` on the middle row, left of the middle."""
    return int(np.count_nonzero(mask[128, :128]))


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_fat_layer_gets_as_thick_as_asked_and_nothing_else_moves(factor: float) -> None:
    hu, labels = stretch_fat_layer(HU, LABELS, factor)
    assert _width(labels == 3) == pytest.approx(factor * _width(FAT), abs=3)
    assert np.count_nonzero((labels == 1) != MUSCLE) < 0.02 * np.count_nonzero(MUSCLE)
    assert np.median(hu[labels == 3]) == pytest.approx(np.median(HU[FAT]), abs=5)


def test_wasted_muscle_becomes_the_fat_beside_it() -> None:
    hu, labels = waste(HU, LABELS, 6.0, np.random.default_rng(0))
    lost = MUSCLE & (labels != 1)
    assert 0 < np.count_nonzero(lost) < 0.5 * np.count_nonzero(MUSCLE)
    assert set(labels[lost].tolist()) <= {3, 4}
    assert np.median(hu[lost]) < -30
    assert not ((labels == 1) & ~MUSCLE).any()


def test_infiltrated_muscle_is_less_dense_and_stays_muscle() -> None:
    hu = infiltrate(HU, LABELS, 45.0, np.random.default_rng(3))
    assert hu[MUSCLE].mean() < HU[MUSCLE].mean() - 2
    assert hu[LABELS == 0].mean() == pytest.approx(HU[LABELS == 0].mean(), abs=0.5)


def test_body_without_muscle_or_fat_is_left_alone() -> None:
    nothing = np.zeros_like(LABELS)
    habitus = Habitus(layer_chance=1.0, wasting_chance=1.0, infiltration_chance=1.0)
    hu, labels = change_habitus(HU, nothing, 1.0, habitus, np.random.default_rng(0))
    assert np.array_equal(labels, nothing)
    assert np.allclose(hu, HU, atol=1e-3)
