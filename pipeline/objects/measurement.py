"""Writes an analysis, or the reason why there is none, as plain JSON values."""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.errors import PipelineError
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import (
    Analysis,
    Assessment,
    ModelIdentity,
    SecondOpinion,
    TissueMeasurement,
)

_DECIMALS: Final = 4


def measurement_json(analysis: Analysis, software_version: str) -> dict[str, Any]:
    """Return what ``measurement.json`` holds for a measured series.

    Areas are in cm2, attenuation in HU, heights in mm; ``None`` where something is unknown.
    """
    composition = analysis.composition
    muscle = composition.of(SKELETAL_MUSCLE)
    return {
        "status": "measured",
        "series_instance_uid": analysis.volume.series_instance_uid,
        "level": _level(analysis),
        "skeletal_muscle_area_cm2": _rounded(muscle.area_cm2),
        "interval_cm2": _interval(analysis),
        "mean_attenuation_hu": _rounded(muscle.mean_hu),
        "sd_attenuation_hu": _rounded(muscle.sd_hu),
        "skeletal_muscle_index_cm2_m2": _rounded(composition.skeletal_muscle_index_cm2_m2),
        "tissues": {one.tissue: _tissue(one) for one in composition.tissues},
        "assessment": _assessment(analysis.assessment),
        "attenuation_assessment": analysis.attenuation_assessment
        and _assessment(analysis.attenuation_assessment),
        "second_opinion": analysis.second_opinion and _opinion(analysis.second_opinion),
        "quality": [
            {"code": flag.code, "severity": flag.severity.value, "message": flag.message}
            for flag in analysis.quality
        ],
        "model": _model(analysis.models[0]),
        "level_models": [_model(model) for model in analysis.models[1:]],
        "software_version": software_version,
        "research_use_only": True,
    }


def not_measured_json(
    error: PipelineError, series_instance_uid: str | None, software_version: str
) -> dict[str, Any]:
    """Return what ``measurement.json`` holds for a series that cannot be measured."""
    return {
        "status": "not_measured",
        "series_instance_uid": series_instance_uid,
        "code": error.code,
        "reason": str(error),
        "software_version": software_version,
        "research_use_only": True,
    }


def _level(analysis: Analysis) -> Mapping[str, Any]:
    level = analysis.composition.level
    source = analysis.volume.sources[level.slice_index]
    return {
        "name": level.name,
        "sop_instance_uid": source.sop_instance_uid,
        "frame_number": source.frame_number,
        "slice_index_from_inferior": level.slice_index,
        "z_mm": _rounded(analysis.volume.slice_z_mm(level.slice_index)),
        "confidence": _rounded(level.confidence),
        "extent": None if level.extent is None else list(level.extent),
        "evidence": list(level.evidence),
    }


def _assessment(assessment: Assessment) -> Mapping[str, Any]:
    cutoff = assessment.cutoff
    return {
        "verdict": assessment.verdict.value,
        "reason": assessment.reason,
        "measure": cutoff and cutoff.measure.value,
        "cutoff": cutoff and cutoff.value,
        "profile": cutoff and cutoff.profile,
        "citation": cutoff and cutoff.citation,
        "population": cutoff and cutoff.population,
    }


def _opinion(opinion: SecondOpinion) -> Mapping[str, Any]:
    return {
        "probability_of_low": _rounded(opinion.probability),
        "threshold": opinion.threshold,
        "low": opinion.is_low,
        "model": _model(opinion.model),
    }


def _interval(analysis: Analysis) -> Mapping[str, float | None] | None:
    interval = analysis.interval
    if interval is None:
        return None
    return {
        "lower": _rounded(interval.lower_cm2),
        "upper": _rounded(interval.upper_cm2),
        "coverage": interval.coverage,
        "acquisition_half_width": _rounded(interval.acquisition_cm2),
    }


def _tissue(measurement: TissueMeasurement) -> Mapping[str, float | None]:
    return {
        "area_cm2": _rounded(measurement.area_cm2),
        "mean_attenuation_hu": _rounded(measurement.mean_hu),
        "sd_attenuation_hu": _rounded(measurement.sd_hu),
    }


def _model(model: ModelIdentity) -> Mapping[str, str]:
    return {"name": model.name, "version": model.version, "sha256": model.sha256}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DECIMALS)
