"""Threshold sensitivity: how many patients change class when the area is off by a few per cent.

The third experiment that arXiv 2508.17275 leaves open, whose areas were off by 3 % on average and
by 7.14 % at worst.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.types import Sex
from training.classify.scores import percent
from training.split import cutoff_cm2

ERRORS_PERCENT: Final = (3.0, 7.0)


@dataclass(frozen=True, slots=True)
class Shift:
    """What an error of the area does to a group of patients.

    Parameters
    ----------
    group : str
    error_percent : float
    patients : int
    to_low, to_not_low : int
        Patients who would change class if the area were that much too small, and too large.
    wrong : float
        Expected number of patients in the wrong class if errors are normal with that SD.
    """

    group: str
    error_percent: float
    patients: int
    to_low: int
    to_not_low: int
    wrong: float


def shifts(
    areas_cm2: Mapping[str, float],
    sexes: Mapping[str, str],
    errors_percent: Sequence[float] = ERRORS_PERCENT,
) -> list[Shift]:
    """Count patients who change class, for all and for each sex.

    Parameters
    ----------
    areas_cm2, sexes : Mapping
        Of patients; those without a sex have no cut-off and are left out.
    errors_percent : sequence of float
    """
    known = {p: Sex(sexes[p]) for p in areas_cm2 if sexes.get(p)}
    groups = {"all": list(known), **{s.value: [p for p in known if known[p] is s] for s in Sex}}
    found = []
    for group, patients in groups.items():
        if not patients:
            continue
        pairs = [(areas_cm2[p], cutoff_cm2(known[p])) for p in patients]
        for error in errors_percent:
            share = error / 100
            found.append(
                Shift(
                    group, error, len(patients),
                    sum(1 for area, cut in pairs if area >= cut > area * (1 - share)),
                    sum(1 for area, cut in pairs if area < cut <= area * (1 + share)),
                    sum(_wrong(area, cut, share) for area, cut in pairs),
                )
            )  # fmt: skip
    return found


def shift_lines(found: Sequence[Shift]) -> list[str]:
    """Return the counts as a table in Markdown, with exact 95 % intervals of the shares."""
    lines = [
        "| patients | error of the area | become low | become not low | change class "
        "| wrong if errors are normal with that SD |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {s.group} ({s.patients}) | ±{s.error_percent:g} % | {s.to_low} | {s.to_not_low} "
        f"| {percent(s.to_low + s.to_not_low, s.patients)} | {s.wrong:.1f} |"
        for s in found
    ]
    return lines


def _wrong(area_cm2: float, cutoff: float, deviation: float) -> float:
    """Chance that a normal error of the area puts it on the other side of the cut-off."""
    distance = abs(cutoff / area_cm2 - 1) / deviation
    return 0.5 * math.erfc(distance / math.sqrt(2))
