"""Slices whose muscle is known to be low or not, from a case list.

A case is as in ``training.data``. Its class is its field ``low``, or else whether the labelled area
lies below the cut-off of its ``sex``. A case without labels names its slice::

    [[case]]
    name = "case_1"
    patient = "patient_1"
    images = "case_1/volume.npy"
    slice = 41            # counted from the most inferior one
    low = true
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from pipeline.classify import classifier_image
from pipeline.preprocess import PreprocessSpec, body_grid, native_to_plane, network_image, slab
from pipeline.types import CTVolume
from training.augment import Augmentation, change_hu
from training.data import LabelledSlice, read_images, read_labelled
from training.split import Person
from training.warp import draw_warp, warped_image

log = structlog.get_logger(__name__)
_MM2_PER_CM2 = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class ClassedSlice:
    """One slice with its class.

    Parameters
    ----------
    case, patient, sex : str
    volume : CTVolume
    slice_index : int
    low : bool
        Of the patient's muscle.
    """

    case: str
    patient: str
    sex: str
    volume: CTVolume
    slice_index: int
    low: bool


def read_classed(data_folder: Path, case_list: Path) -> list[ClassedSlice]:
    """Read every slice of a case list whose class is known.

    Parameters
    ----------
    data_folder, case_list : Path

    Raises
    ------
    ValueError
        If no case has one.
    """
    cases = tomllib.loads(case_list.read_text())["case"]
    labelled = [one for one in cases if "labels" in one]
    drawn: dict[str, list[LabelledSlice]] = {}
    if labelled:
        for one in read_labelled(data_folder, case_list, labelled):
            drawn.setdefault(one.case, []).append(one)
    slices: list[ClassedSlice] = []
    for case in cases:
        of_case = drawn.get(case["name"], [])
        low = _class_of(case, of_case)
        if low is None:
            log.warning("neither low nor sex with an area is known", case=case["name"])
            continue
        if of_case:
            places = [(one.volume, one.slice_index) for one in of_case]
        else:
            places = [(read_images(data_folder / case["images"]), int(case["slice"]))]
        slices += [
            ClassedSlice(case["name"], case["patient"], case.get("sex", ""), volume, index, low)
            for volume, index in places
        ]
    if not slices:
        raise ValueError(f"no case of {case_list.name} says whether its muscle is low")
    return slices


def _class_of(case: Mapping[str, Any], drawn: Sequence[LabelledSlice]) -> bool | None:
    if "low" in case:
        return bool(case["low"])
    area_cm2 = case.get("muscle_cm2") or _area_cm2(drawn)
    return Person(case["patient"], case.get("sex", ""), area_cm2).low


def _area_cm2(drawn: Sequence[LabelledSlice]) -> float:
    areas = [np.count_nonzero(s.muscle) * s.volume.pixel_area_mm2 / _MM2_PER_CM2 for s in drawn]
    return float(np.mean(areas)) if areas else 0.0


def classed_image(
    one: ClassedSlice,
    spec: PreprocessSpec,
    augmentation: Augmentation | None = None,
    generator: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """Turn a slice into network input.

    Without ``augmentation`` it is bit for bit what ``pipeline.classify`` sees.

    Parameters
    ----------
    one : ClassedSlice
    spec : PreprocessSpec
    augmentation : Augmentation or None
    generator : numpy.random.Generator or None
        Needed with ``augmentation``.

    Returns
    -------
    NDArray[np.float32], shape (1, side, side)
    """
    hu = slab(one.volume, one.slice_index, spec)
    if augmentation is None or generator is None:
        grid = body_grid(hu, native_to_plane(one.volume.affine), spec)
        image = network_image(hu, grid, spec)
    else:
        nothing = np.zeros(hu.shape, dtype=np.uint8)
        pixel_mm = one.volume.pixel_spacing_mm[0]
        hu, _ = change_hu(hu, nothing, pixel_mm, augmentation, generator)
        grid = body_grid(hu, native_to_plane(one.volume.affine), spec)
        warp = draw_warp(grid, augmentation, generator)
        image = warped_image(hu, warp.places(spec, hu.shape), spec)
    return classifier_image(image, spec)


def chances(slices: Sequence[ClassedSlice]) -> NDArray[np.float64]:
    """Chance of each slice to be drawn: patients weigh alike, however many slices they have."""
    counts: dict[str, int] = {}
    for one in slices:
        counts[one.patient] = counts.get(one.patient, 0) + 1
    weights = np.array([1 / counts[one.patient] for one in slices])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def class_weights(slices: Sequence[ClassedSlice]) -> tuple[float, float]:
    """Weight of patients that are not low and of those that are, so that both classes weigh alike.

    18 low against 61 in arXiv 2508.17275. The mean over patients is 1.

    Raises
    ------
    ValueError
        If a class has nobody.
    """
    low = {one.patient: one.low for one in slices}
    counts = [sum(1 for is_low in low.values() if is_low is wanted) for wanted in (False, True)]
    if not all(counts):
        raise ValueError(f"{counts[1]} patients with low muscle and {counts[0]} without")
    not_low, is_low = (len(low) / (2 * count) for count in counts)
    return not_low, is_low
