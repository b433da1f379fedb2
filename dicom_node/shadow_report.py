"""Compare what a model measured silently with what was reported of the same images.

References
----------
Bland JM, Altman DG. Lancet 1986;327:307-310: mean difference and limits of agreement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Final

from dicom_node.ledger import Ledger
from dicom_node.ledger_shadows import ShadowRun, ShadowState
from dicom_node.model_store import keys_of
from dicom_node.records import ResultEntry

NOT_MEASURED: Final = "not measured"
_LIMITS: Final = 1.96
"""Standard deviations within which 95 % of the differences lie, if they are normal."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one model says of a series.

    Parameters
    ----------
    model : str
        Name and version.
    area_cm2 : float or None
        Skeletal muscle area; ``None`` when it could not be measured.
    verdict : str
    because : str
        The reason for the verdict, or for there being no measurement.
    slice_uid : str
        SOP Instance UID of the measured slice; empty without one.
    """

    model: str
    area_cm2: float | None
    verdict: str
    because: str
    slice_uid: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One series as two models see it.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    active, shadow : Reading
        What was reported, and what was measured silently.
    """

    series_instance_uid: str
    revision: int
    active: Reading
    shadow: Reading

    @property
    def difference_cm2(self) -> float | None:
        """Shadow minus active; ``None`` when one of them has no area."""
        if self.active.area_cm2 is None or self.shadow.area_cm2 is None:
            return None
        return self.shadow.area_cm2 - self.active.area_cm2

    @property
    def is_changed(self) -> bool:
        """Whether the verdicts differ."""
        return self.active.verdict != self.shadow.verdict


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean and limits of the differences.

    Parameters
    ----------
    count : int
        Series that both have measured.
    bias_cm2 : float
        Mean of shadow minus active.
    sd_cm2 : float
        Standard deviation of the differences; 0 for a single one.
    bias_error_cm2 : float
        Standard error of the mean difference.
    """

    count: int
    bias_cm2: float
    sd_cm2: float
    bias_error_cm2: float

    @property
    def limits_cm2(self) -> tuple[float, float]:
        """Limits of agreement: 95 % of the differences lie between them, if they are normal."""
        return (
            self.bias_cm2 - _LIMITS * self.sd_cm2,
            self.bias_cm2 + _LIMITS * self.sd_cm2,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a shadow model measured, beside what was reported.

    Parameters
    ----------
    model : str
        Key of the shadow model.
    pairs : tuple of Pair
        The first one first.
    waiting : int
        Silent measurements that have not ended.
    unpaired : int
        Silent measurements without a reported one of the same images to compare with.
    """

    model: str
    pairs: tuple[Pair, ...]
    waiting: int
    unpaired: int

    @property
    def measured(self) -> tuple[Pair, ...]:
        """Pairs with two areas."""
        return tuple(pair for pair in self.pairs if pair.difference_cm2 is not None)

    @property
    def changed(self) -> tuple[Pair, ...]:
        """Pairs whose verdicts differ."""
        return tuple(pair for pair in self.pairs if pair.is_changed)

    @property
    def agreement(self) -> Agreement | None:
        """Mean and limits of the differences; ``None`` without any."""
        differences = [d for pair in self.pairs if (d := pair.difference_cm2) is not None]
        if not differences:
            return None
        count = len(differences)
        spread = stdev(differences) if count > 1 else 0.0
        return Agreement(count, fmean(differences), spread, spread / sqrt(count))


def compare(model: str, ledger: Ledger, since: datetime | None = None) -> Comparison:
    """Put what a model measured silently beside what was reported.

    Parameters
    ----------
    model : str
        Key of the shadow model.
    ledger : Ledger
    since : datetime, optional
        Only what was asked for from then on.
    """
    runs = ledger.shadows.of_model(model, since)
    ended = [run for run in runs if run.state in {ShadowState.MEASURED, ShadowState.NOT_MEASURED}]
    pairs = [pair for run in ended if (pair := _pair(run, ledger)) is not None]
    return Comparison(model, tuple(pairs), len(runs) - len(ended), len(ended) - len(pairs))


def _pair(run: ShadowRun, ledger: Ledger) -> Pair | None:
    active = _reported(run, ledger)
    if active is None:
        return None
    return Pair(run.series_instance_uid, run.revision, active, _silent(run))


def _silent(run: ShadowRun) -> Reading:
    if run.measurement:
        return reading_of(run.measurement)
    reason = run.reason.message if run.reason is not None else ""
    return Reading(run.model, None, NOT_MEASURED, reason)


def _reported(run: ShadowRun, ledger: Ledger) -> Reading | None:
    entries = ledger.results.of_series(run.series_instance_uid)
    others = [entry for entry in entries if _is_comparable(entry, run)]
    if others:
        return reading_of(others[-1].measurement)
    outcome = ledger.findings.of(run.series_instance_uid)
    if outcome is None or outcome.kind == "measured":
        return None
    return Reading("", None, NOT_MEASURED, outcome.code or "")


def _is_comparable(entry: ResultEntry, run: ShadowRun) -> bool:
    """Whether an entry is of the same images, by other weights and not by a reader."""
    same_images = (entry.series_instance_uid, entry.revision) == run.key[:2]
    return same_images and not entry.by_reader and run.model not in keys_of(entry.measurement)


def reading_of(measurement: Mapping[str, Any]) -> Reading:
    """Summarise a measurement as ``measurement.json`` holds it."""
    model, assessment = measurement["model"], measurement["assessment"]
    return Reading(
        model=f"{model['name']} {model['version']}",
        area_cm2=float(measurement["skeletal_muscle_area_cm2"]),
        verdict=str(assessment["verdict"]),
        because=str(assessment["reason"]),
        slice_uid=str(measurement["level"]["sop_instance_uid"]),
    )


def other_slices(pairs: Sequence[Pair]) -> int:
    """How many pairs were measured on different slices."""
    return sum(
        pair.active.slice_uid != pair.shadow.slice_uid
        for pair in pairs
        if pair.difference_cm2 is not None
    )
