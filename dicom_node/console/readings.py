"""Every measurement of a series: reported, by a reader, by shadow models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.ledger import Ledger
from dicom_node.ledger_shadows import ShadowRun
from dicom_node.records import ResultEntry
from dicom_node.shadow_report import NOT_MEASURED


@dataclass(frozen=True, slots=True)
class ShownReading:
    """One measurement of a series, as a row of a table.

    Parameters
    ----------
    kind : str
        ``reported``, ``reader`` or ``shadow``.
    revision : int
    model : str
        Name and version; the key of a shadow model.
    area_cm2 : float or None
    verdict : str
    because : str
        The reason for the verdict, or for there being no measurement.
    """

    kind: str
    revision: int
    model: str
    area_cm2: float | None
    verdict: str
    because: str


def readings(series_instance_uid: str, ledger: Ledger) -> tuple[ShownReading, ...]:
    """Collect every measurement of a series, the first one first, shadows last."""
    reported = [_of_entry(entry) for entry in ledger.results.of_series(series_instance_uid)]
    silent = [_of_run(run) for run in ledger.shadows.of_series(series_instance_uid)]
    return (*reported, *silent)


def _of_entry(entry: ResultEntry) -> ShownReading:
    kind = "reader" if entry.by_reader else "reported"
    model = entry.measurement.get("model", {})
    named = f"{model.get('name', '')} {model.get('version', '')}".strip()
    return _shown(kind, entry.revision, named, entry.measurement)


def _of_run(run: ShadowRun) -> ShownReading:
    if run.measurement:
        return _shown("shadow", run.revision, run.model, run.measurement)
    if run.reason is None:
        return ShownReading("shadow", run.revision, run.model, None, run.state.value, "")
    return ShownReading("shadow", run.revision, run.model, None, NOT_MEASURED, run.reason.message)


def _shown(kind: str, revision: int, model: str, measurement: Mapping[str, Any]) -> ShownReading:
    assessment = measurement.get("assessment", {})
    return ShownReading(
        kind,
        revision,
        model,
        measurement.get("skeletal_muscle_area_cm2"),
        str(assessment.get("verdict", "")),
        str(assessment.get("reason", "")),
    )
