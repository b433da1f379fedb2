"""Tell a worker's request what came before: version, prior, what a reader corrected."""

import hashlib
from collections.abc import Mapping
from typing import Any

from dicom_node import __version__
from dicom_node.background import Background
from dicom_node.records import ResultEntry
from pipeline.analyze import Cutoffs, Models
from pipeline.correct import CorrectedResult
from pipeline.types import Interval, ModelIdentity, PriorMeasurement


def version_of(models: Models, cutoffs: Cutoffs, prior: ResultEntry | None) -> str:
    """Digest of all but the images that determines what is reported."""
    identities = [models.segmenter.identity, *models.level_finder.models]
    if models.classifier is not None:
        identities.append(models.classifier.identity)
    parts = [
        __version__,
        *(f"{one.name} {one.version} {one.sha256}" for one in identities),
        repr(cutoffs),
        repr(prior and prior.origin),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def prior_of(entry: ResultEntry | None) -> PriorMeasurement | None:
    """Describe the measurement that a new one is compared with."""
    if entry is None or entry.study_date is None:
        return None
    measurement = entry.measurement
    return PriorMeasurement(
        area_cm2=measurement["skeletal_muscle_area_cm2"],
        study_date=entry.study_date,
        interval=_interval(measurement.get("interval_cm2")),
        # A report in a PACS need not say which weights made it.
        segmenter=_identity(measurement["model"]) if measurement["model"] else None,
    )


def corrected_by(background: Background, models: Models) -> CorrectedResult:
    """Describe the latest measurement of the same images that is not a reader's."""
    ours = [entry for entry in background.earlier if not entry.by_reader][-1]
    named = [ours.measurement["model"], *ours.measurement["level_models"]]
    return CorrectedResult(
        level_sop_instance_uid=ours.measurement["level"]["sop_instance_uid"],
        models=tuple(_identity(model) for model in named),
        spec=models.segmenter.spec,
    )


def _identity(model: Mapping[str, str]) -> ModelIdentity:
    return ModelIdentity(model["name"], model["version"], model["sha256"])


def _interval(stored: Mapping[str, Any] | None) -> Interval | None:
    return (
        None if stored is None else Interval(stored["lower"], stored["upper"], stored["coverage"])
    )
