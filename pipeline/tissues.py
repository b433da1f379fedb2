"""The tissues that Psoas measures: name, label in a mask, compartment, range of HU."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Compartment(IntEnum):
    """What the segmenter tells apart; its output channels, in this order."""

    OTHER = 0
    MUSCLE = 1
    SUBCUTANEOUS = 2
    CAVITY = 3
    BONE = 4


@dataclass(frozen=True, slots=True)
class Tissue:
    """A tissue is what lies in its compartment and within its range of HU, limits included.

    Parameters
    ----------
    name : str
    label : int
        Value in ``TissueMask.labels``.
    compartment : Compartment
    lower_hu, upper_hu : int
    """

    name: str
    label: int
    compartment: Compartment
    lower_hu: int
    upper_hu: int


SKELETAL_MUSCLE: Final = "skeletal_muscle"

# Muscle and fat between muscles: Aubrey et al. 2014, Acta Physiol 210:489. Visceral fat: Mourtzakis
# et al. 2008, Appl Physiol Nutr Metab 33:997.
TISSUES: Final[tuple[Tissue, ...]] = (
    Tissue(SKELETAL_MUSCLE, 1, Compartment.MUSCLE, -29, 150),
    Tissue("intermuscular_fat", 2, Compartment.MUSCLE, -190, -30),
    Tissue("subcutaneous_fat", 3, Compartment.SUBCUTANEOUS, -190, -30),
    Tissue("visceral_fat", 4, Compartment.CAVITY, -150, -50),
)
