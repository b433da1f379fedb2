import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.level.numbering import find_chain, locate
from pipeline.networks.level import LEVEL_CLASSES

CENTRES = np.array([12.0, 29.0, 46.0, 62.0, 77.0])  # rows of 2 mm


def _strength(centres: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.arange(100)[:, None]
    peaks: NDArray[np.float64] = (np.exp(-0.5 * ((rows - centres) / 2) ** 2) * heights).max(axis=1)
    return peaks


def _view(lowest: float, sharpness: float = 4.0) -> NDArray[np.float64]:
    """What a network would say of CENTRES whose lowest vertebra has the number ``lowest``."""
    slope = np.polyfit(CENTRES, np.arange(lowest, lowest - 5, -1), 1)
    number = np.polyval(slope, np.arange(100.0))
    classes = np.arange(len(LEVEL_CLASSES))[:, None]
    place = np.clip(number - 7, 0, len(LEVEL_CLASSES) - 1)
    scores = np.exp(-sharpness * (classes - place) ** 2)
    probabilities: NDArray[np.float64] = scores / scores.sum(axis=0)
    return probabilities


CLEAR = _strength(CENTRES, np.full(5, 0.9))


def test_every_clear_body_is_part_of_the_chain() -> None:
    chain = find_chain(_strength(CENTRES, np.full(5, 0.9)))
    assert chain == pytest.approx(CENTRES, abs=0.5)


def test_faint_body_between_clear_ones_is_not_skipped() -> None:
    chain = find_chain(_strength(CENTRES, np.array([0.9, 0.9, 0.1, 0.9, 0.9])))
    assert len(chain) == 5
    assert chain[2] == pytest.approx(46, abs=4)


def test_second_peak_within_one_body_is_not_counted() -> None:
    strength = np.maximum(
        _strength(CENTRES, np.full(5, 0.9)), _strength(np.array([52.0]), np.array([0.6]))
    )
    assert find_chain(strength) == pytest.approx(CENTRES, abs=1.0)


def test_nothing_that_looks_like_a_vertebra_gives_no_chain() -> None:
    assert len(find_chain(np.full(100, 0.05))) == 0


@pytest.mark.parametrize("lowest", [15, 16, 17])
def test_vertebra_that_both_views_name_is_found_where_its_body_is(lowest: int) -> None:
    positions = locate(CLEAR, (_view(lowest), _view(lowest)))
    row, probability = positions.best_row(15, within_mm=10)
    assert row == pytest.approx(CENTRES[lowest - 15], abs=0.5)
    assert probability > 0.9


@pytest.mark.parametrize("lowest", [10, 12])
def test_vertebra_below_the_volume_is_not_covered(lowest: int) -> None:
    positions = locate(CLEAR, (_view(lowest), _view(lowest)))
    assert positions.covered(15) < 0.05
    assert positions.covered(lowest) > 0.9


def test_views_that_contradict_each_other_leave_the_place_open() -> None:
    positions = locate(CLEAR, (_view(16), _view(17)))
    assert positions.best_row(15, within_mm=10)[1] < 0.75


def test_views_that_know_nothing_leave_the_place_open() -> None:
    blank = np.full((len(LEVEL_CLASSES), 100), 1 / len(LEVEL_CLASSES))
    assert locate(CLEAR, (blank, blank)).best_row(15, within_mm=10)[1] < 0.4


def test_no_vertebra_is_in_two_places() -> None:
    positions = locate(CLEAR, (_view(16), _view(16.4)))
    assert (positions.probability.sum(axis=1) <= 1 + 1e-9).all()
    assert (positions.probability >= 0).all()
