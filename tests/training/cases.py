"""Labelled phantoms, as training reads them from disk."""

import numpy as np

from pipeline.tissues import Compartment
from tests.phantoms import TorsoPhantom
from training.data import LabelledSlice

# Compartment to label: other, muscle, subcutaneous fat, other inside the cavity, bone.
_LABEL_OF_COMPARTMENT = np.array([0, 1, 3, 6, 5], dtype=np.uint8)


def labelled_phantoms() -> list[LabelledSlice]:
    """Two slices of one patient and one of another."""
    first = TorsoPhantom(shape=(2, 128, 128))
    second = TorsoPhantom(shape=(1, 128, 128), outer_mm=(150.0, 100.0))
    return [
        LabelledSlice("a", "first", first.volume(), 0, labels(first, 0), 0.9),
        LabelledSlice("a", "first", first.volume(), 1, labels(first, 1), 0.9),
        LabelledSlice("b", "second", second.volume(), 0, labels(second, 0), 0.7),
    ]


def labels(phantom: TorsoPhantom, index: int) -> np.ndarray:
    """Labels of one slice, shape (rows, columns)."""
    assert len(_LABEL_OF_COMPARTMENT) == len(Compartment)
    drawn: np.ndarray = _LABEL_OF_COMPARTMENT[phantom.compartments[index]]
    return drawn
