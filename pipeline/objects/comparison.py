"""Compares a measurement with an earlier one of the same patient."""

import math
from dataclasses import dataclass

from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Analysis, Interval, PriorMeasurement


@dataclass(frozen=True, slots=True)
class Change:
    """How far a skeletal muscle area is from an earlier one.

    Parameters
    ----------
    prior : PriorMeasurement
    percent : float
        Of the earlier area; negative when muscle was lost.
    error_percent : float or None
        A change this large in either direction may come from measuring alone; ``None`` when the
        present measurement has no interval.
    coverage : float or None
        Share of unchanged patients, 0 to 1, whose measured change is no larger; ``None`` when the
        intervals are of a customary width.
    same_model : bool or None
        Whether the same weights made both; ``None`` when that is not known.
    """

    prior: PriorMeasurement
    percent: float
    error_percent: float | None
    coverage: float | None
    same_model: bool | None


def change_since(analysis: Analysis, prior: PriorMeasurement) -> Change:
    """Compare with an earlier measurement.

    The errors of both are taken as independent: half widths of their intervals add as squares.
    An earlier measurement without an interval is believed to be as good as the present one.

    Parameters
    ----------
    analysis : Analysis
    prior : PriorMeasurement

    Returns
    -------
    Change
    """
    area_cm2 = analysis.composition.of(SKELETAL_MUSCLE).area_cm2
    interval = analysis.interval
    error_percent = None
    if interval is not None:
        half_widths_cm2 = _half_width_cm2(interval), _half_width_cm2(prior.interval or interval)
        error_percent = 100 * math.hypot(*half_widths_cm2) / prior.area_cm2
    return Change(
        prior=prior,
        percent=100 * (area_cm2 - prior.area_cm2) / prior.area_cm2,
        error_percent=error_percent,
        coverage=None if interval is None else interval.coverage,
        same_model=None if prior.segmenter is None else prior.segmenter == analysis.models[0],
    )


def change_text(change: Change) -> str:
    """Say it in two or three sentences."""
    prior = change.prior
    sentences = [f"Previous area {prior.area_cm2:.1f} cm2 on {prior.study_date:%Y-%m-%d}."]
    if change.error_percent is None:
        sentences.append(f"Change {change.percent:+.1f} %; its measurement error is not known.")
    else:
        kind = "not calibrated" if change.coverage is None else f"{change.coverage:.0%}"
        beyond = abs(change.percent) > change.error_percent
        sentences.append(
            f"Change {change.percent:+.1f} %, "
            f"{'beyond' if beyond else 'within'} the measurement error of "
            f"\N{PLUS-MINUS SIGN}{change.error_percent:.1f} % ({kind})."
        )
    if change.same_model is False:
        sentences.append("The previous area was measured with other weights.")
    return " ".join(sentences)


def _half_width_cm2(interval: Interval) -> float:
    return (interval.upper_cm2 - interval.lower_cm2) / 2
