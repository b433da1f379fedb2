"""What an external validation says of many cases, with intervals over patients.

Intervals are percentiles of a bootstrap that draws patients, not slices, since the slices of one
person resemble each other. The criteria are those that the project set itself before it measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.classify.scores import exact_interval
from training.external.cases import Compared

FEWEST_PATIENTS: Final = 10
"""Fewer say nothing about the next one."""

_DRAWS: Final = 1000
_NEAR_MM: Final = 10.0

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; NaN when nothing could be measured."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AreaError:
    """Agreement of the area with the reference.

    Parameters
    ----------
    cases, patients : int
    median_percent, p95_percent : Estimate
        Of the absolute error.
    bias_percent, bias_cm2 : Estimate
        Mean signed error.
    limits_cm2, limits_percent : tuple of Estimate
        Bland and Altman's 95 % limits of agreement.
    within_3, within_7 : int
        Cases within 3 and 7 %.
    """

    cases: int
    patients: int
    median_percent: Estimate
    p95_percent: Estimate
    bias_percent: Estimate
    bias_cm2: Estimate
    limits_cm2: tuple[Estimate, Estimate]
    limits_percent: tuple[Estimate, Estimate]
    within_3: int
    within_7: int


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of what the software has to reach.

    Parameters
    ----------
    name, wanted, found : str
    met : bool or None
        ``None`` when there was nothing to judge by.
    """

    name: str
    wanted: str
    found: str
    met: bool | None


def area_error(rows: Sequence[Compared], automatic: bool) -> AreaError | None:
    """Summarise errors of the area; ``None`` without any.

    Parameters
    ----------
    rows : sequence of Compared
    automatic : bool
        Of the slice that was found, not of the one that was drawn.
    """
    used = [
        (row.patient, measured, row.reference_cm2)
        for row in rows
        if (measured := row.automatic_cm2 if automatic else row.given_cm2) is not None
        and row.reference_cm2 > 0
    ]
    if not used:
        return None
    patients = [patient for patient, _, _ in used]
    values = np.array([(measured - reference, reference) for _, measured, reference in used])
    errors_cm2, percents = values[:, 0], 100 * values[:, 0] / values[:, 1]

    def of(numbers: Numbers, statistic: Callable[[Numbers], float]) -> Estimate:
        return estimate(numbers, patients, statistic)

    return AreaError(
        cases=len(used),
        patients=len(set(patients)),
        median_percent=of(np.abs(percents), _median),
        p95_percent=of(np.abs(percents), _p95),
        bias_percent=of(percents, _mean),
        bias_cm2=of(errors_cm2, _mean),
        limits_cm2=(of(errors_cm2, _lower_limit), of(errors_cm2, _upper_limit)),
        limits_percent=(of(percents, _lower_limit), of(percents, _upper_limit)),
        within_3=int((np.abs(percents) <= 3).sum()),
        within_7=int((np.abs(percents) <= 7).sum()),
    )


def mean_dice(rows: Sequence[Compared]) -> Estimate | None:
    """Mean overlap on the drawn slices; ``None`` without any."""
    used = [(row.patient, row.dice) for row in rows if row.dice is not None]
    if not used:
        return None
    return estimate(np.array([d for _, d in used]), [patient for patient, _ in used], _mean)


def estimate(
    numbers: Numbers, patients: Sequence[str], statistic: Callable[[Numbers], float]
) -> Estimate:
    """Compute a statistic with the 2.5th and 97.5th percentile of a bootstrap over patients."""
    names = sorted(set(patients))
    places = {name: np.flatnonzero(np.array(patients) == name) for name in names}
    generator = np.random.default_rng(1)
    drawn = [
        statistic(numbers[np.concatenate([places[names[i]] for i in draw])])
        for draw in generator.integers(len(names), size=(_DRAWS, len(names)))
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(statistic(numbers), float(low), float(high))


def verdict_table(rows: Sequence[Compared], verdicts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count cases by the verdict of the reference and that of the node.

    Returns
    -------
    dict
        Verdict of the reference to counts by verdict; what was refused counts as "not measured".
    """
    columns = [*verdicts, "not measured"]
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = table.setdefault(row.reference_verdict, dict.fromkeys(columns, 0))
        counts[row.verdict if row.verdict in verdicts else "not measured"] += 1
    return dict(sorted(table.items()))


def criteria(rows: Sequence[Compared]) -> list[Criterion]:
    """Judge what was measured by what the project set itself; few patients are not judged."""
    automatic = area_error(rows, automatic=True)
    found = [
        _dice_criterion(mean_dice(rows)),
        *(_area_criteria(automatic) if automatic else []),
        _level_criterion(rows),
        _interval_criterion(rows),
    ]
    if len({row.patient for row in rows}) < FEWEST_PATIENTS:
        return [replace(one, met=None) for one in found]
    return found


def _dice_criterion(dice: Estimate | None) -> Criterion:
    found = "nothing measured" if dice is None else f"{dice.value:.3f}"
    met = None if dice is None else dice.value >= 0.975
    return Criterion("Dice on the drawn slice, mean", "at least 0.975", found, met)


def _area_criteria(error: AreaError) -> list[Criterion]:
    median, p95, bias = error.median_percent, error.p95_percent, error.bias_percent
    low, high = (limit.value for limit in error.limits_cm2)
    return [
        Criterion(
            "area, median absolute error", "at most 2.5 %", f"{median.value:.1f} %",
            median.value <= 2.5,
        ),
        Criterion(
            "area, 95th percentile of the absolute error", "at most 6 %", f"{p95.value:.1f} %",
            p95.value <= 6,
        ),
        Criterion("area, bias", "within 1 %", f"{bias.value:+.1f} %", abs(bias.value) <= 1),
        Criterion(
            "area, limits of agreement", "within 8 cm²", f"{low:+.1f} to {high:+.1f} cm²",
            max(-low, high) <= 8,
        ),
    ]  # fmt: skip


def _level_criterion(rows: Sequence[Compared]) -> Criterion:
    errors = [row.level_error_mm for row in rows if row.level_error_mm is not None]
    near = sum(1 for error in errors if abs(error) <= _NEAR_MM)
    name, wanted = "L3 within 10 mm of the drawn slice", "at least 95 %"
    if not errors:
        return Criterion(name, wanted, "no case has one drawn slice and a found one", None)
    low, high = exact_interval(near, len(errors))
    found = f"{near} of {len(errors)} ({100 * low:.0f} to {100 * high:.0f} %)"
    return Criterion(name, wanted, found, near >= 0.95 * len(errors))


def _interval_criterion(rows: Sequence[Compared]) -> Criterion:
    used = [(row.reference_cm2, row.interval_cm2) for row in rows if row.interval_cm2 is not None]
    holding = sum(1 for area, (low, high) in used if low <= area <= high)
    name, wanted = "intervals that hold the reference", "88 to 95 %"
    if not used:
        return Criterion(name, wanted, "nothing measured", None)
    found = f"{holding} of {len(used)} ({100 * holding / len(used):.0f} %)"
    return Criterion(name, wanted, found, 0.88 <= holding / len(used) <= 0.95)


def _mean(numbers: Numbers) -> float:
    return float(numbers.mean())


def _median(numbers: Numbers) -> float:
    return float(np.median(numbers))


def _p95(numbers: Numbers) -> float:
    return float(np.percentile(numbers, 95))


def _lower_limit(numbers: Numbers) -> float:
    return float(numbers.mean() - _spread(numbers))


def _upper_limit(numbers: Numbers) -> float:
    return float(numbers.mean() + _spread(numbers))


def _spread(numbers: Numbers) -> float:
    return 1.96 * float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
