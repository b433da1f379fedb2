"""What the readers of foreign layouts hand on."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import CTVolume
from training import labels

# First match wins: "intermuscular fat" is no muscle.
NAME_PATTERNS: Final = (
    (r"inter.?muscular|imat|muscle.?fat", labels.INTERMUSCULAR_FAT),
    (r"subcutan|\bsat\b", labels.SUBCUTANEOUS_FAT),
    (r"visceral|torso.?fat|\bvat\b", labels.VISCERAL_FAT),
    (r"muscle|\bsm[am]?\b|\bskm\b", labels.MUSCLE),
    (r"\bbones?\b|vertebra", labels.BONE),
)
"""Names of segments and regions, in any case, and the labels that they stand for."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Labels on the grid of a volume.

    Parameters
    ----------
    slices : Mapping
        Slice of the volume to labels, shape (rows, columns); ``labels.BACKGROUND`` where nobody
        drew.
    whole : bool
        Every compartment was drawn; otherwise the rest is derived.
    faults : tuple of str
        What contradicts the images, such as another geometry.
    """

    slices: Mapping[int, NDArray[np.uint8]]
    whole: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FoundCase:
    """One series somewhere, with its labels when it has some.

    Parameters
    ----------
    patient : str
        A pseudonym, the same for all series of a person.
    sex : str
        ``"M"``, ``"F"`` or empty.
    files : tuple of Path
        Everything that is read; their state is the fingerprint.
    read_volume : callable
    read_labels : callable or None
        Takes the volume; ``None`` without labels.
    """

    patient: str
    sex: str
    files: tuple[Path, ...]
    read_volume: Callable[[], CTVolume]
    read_labels: Callable[[CTVolume], Drawn] | None


def label_of_name(name: str, names: Mapping[str, int]) -> int | None:
    """Tell which label a segment or region stands for, ``None`` for one of no interest.

    Parameters
    ----------
    name : str
    names : Mapping
        Names that the user gave, in any case; they come before the patterns.
    """
    for wanted, label in names.items():
        if wanted.casefold() == name.casefold():
            return label
    if names:
        return None
    for pattern, label in NAME_PATTERNS:
        if re.search(pattern, name.replace("_", " "), re.IGNORECASE):
            return label
    return None
