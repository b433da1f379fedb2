"""Preprocessing validation: areas of reference masks against areas that a site states.

The first experiment that arXiv 2508.17275 leaves open. Two areas are compared: that of the mask on
the stored pixels, which tests spacing, orientation and HU, and that of the mask after a way through
the network's grid and back, which tests resampling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.preprocess import PreprocessSpec, compartment_fractions, prepare, to_native
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES, Compartment
from pipeline.types import CTVolume
from training.external.cases import Stated, UnusableCaseError, read_reference, reference_mask
from training.intake.found import FoundCase

TOLERANCE_PERCENT: Final = 1.0
_MM2_PER_CM2: Final = 100.0


@dataclass(frozen=True, slots=True)
class AreaCheck:
    """Areas of one case.

    Parameters
    ----------
    name : str
    stated_cm2, mask_cm2, grid_cm2 : float
        Stated, of the mask, of the mask after the way through the network's grid.
    """

    name: str
    stated_cm2: float
    mask_cm2: float
    grid_cm2: float

    @property
    def mask_percent(self) -> float:
        """Signed difference of the mask's area from the stated one."""
        return 100 * (self.mask_cm2 / self.stated_cm2 - 1)

    @property
    def grid_percent(self) -> float:
        """Signed difference of the area after the way through the grid."""
        return 100 * (self.grid_cm2 / self.stated_cm2 - 1)

    @property
    def holds(self) -> bool:
        """Whether both lie within the tolerance."""
        return max(abs(self.mask_percent), abs(self.grid_percent)) <= TOLERANCE_PERCENT


def check_areas(
    cases: Sequence[FoundCase], stated: Mapping[str, Stated], spec: PreprocessSpec
) -> tuple[list[AreaCheck], list[str]]:
    """Compare the area of every case that states one.

    Parameters
    ----------
    cases : sequence of FoundCase
    stated : Mapping
        By name of a case; with the height of L3 where several slices are drawn.
    spec : PreprocessSpec

    Returns
    -------
    tuple
        Checks, and sentences about cases that could not be checked.
    """
    checks: list[AreaCheck] = []
    left_out: list[str] = []
    for found in cases:
        try:
            volume, drawn, said, name = read_reference(found, stated)
        except UnusableCaseError as error:
            left_out.append(f"{found.patient}: {error}")
            continue
        if said.area_cm2 is None:
            left_out.append(f"{name}: no area is stated")
            continue
        index = _slice(volume, sorted(drawn.slices), said)
        mask = reference_mask(volume, drawn, index)
        areas = [
            float(np.count_nonzero(one)) * volume.pixel_area_mm2 / _MM2_PER_CM2
            for one in (mask, through_grid(volume, index, mask, spec))
        ]
        checks.append(AreaCheck(name, said.area_cm2, *areas))
    return checks, left_out


def through_grid(
    volume: CTVolume, index: int, mask: NDArray[np.bool_], spec: PreprocessSpec
) -> NDArray[np.bool_]:
    """Bring a mask onto the network's grid and back, and apply the range of HU again.

    This is what a network that answers perfectly would give. Where the way back gives a half, more
    than half of the cell is muscle.
    """
    network_input = prepare(volume, index, spec)
    compartments = np.where(mask, Compartment.MUSCLE, Compartment.OTHER).astype(np.uint8)
    fractions = compartment_fractions(compartments, network_input.grid, spec)
    rows, columns = mask.shape
    muscle = to_native(fractions, network_input.grid, (rows, columns))[Compartment.MUSCLE]
    tissue = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)
    hu = volume.hu[index]
    within = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
    back: NDArray[np.bool_] = (muscle >= 0.5) & within
    return back


def area_lines(checks: Sequence[AreaCheck]) -> list[str]:
    """Return the checks as a table in Markdown, the largest difference first."""
    worst = sorted(checks, key=lambda c: -max(abs(c.mask_percent), abs(c.grid_percent)))
    lines = [
        "| case | stated, cm2 | mask | through the grid | within 1 % |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {c.name} | {c.stated_cm2:.2f} | {c.mask_cm2:.2f} ({c.mask_percent:+.2f} %) "
        f"| {c.grid_cm2:.2f} ({c.grid_percent:+.2f} %) | {'yes' if c.holds else 'no'} |"
        for c in worst
    ]
    held = sum(1 for check in checks if check.holds)
    return [*lines, "", f"{held} of {len(checks)} within {TOLERANCE_PERCENT:g} %."]


def _slice(volume: CTVolume, indices: Sequence[int], said: Stated) -> int:
    z_mm = said.z_mm
    if z_mm is None:
        return indices[len(indices) // 2]
    return min(indices, key=lambda index: abs(volume.slice_z_mm(index) - z_mm))
