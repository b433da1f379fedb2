"""Reads what an earlier report of ours says, to compare with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipeline.objects import codes
from pipeline.objects.attributes import DAMAGE, number, text
from pipeline.objects.identity import MANUFACTURER
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Interval, ModelIdentity

_FINDING: Final = Code("121071", "DCM", "Finding")
_MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
_ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")
_ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
_ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
_CORRECTED: Final = "CORRECTED_BY_READER"
_IMAGES: Final = frozenset(
    {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
)


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """A measurement as a report of ours states it.

    Parameters
    ----------
    study_instance_uid, series_instance_uid, sop_instance_uid : str
        Of the report.
    source_series_uid : str
        The measured images; empty when the report does not say.
    study_date : date
    created : str
        Content date and time, which sort as text.
    area_cm2 : float
        Skeletal muscle at L3.
    interval : Interval or None
    segmenter : ModelIdentity or None
    by_reader : bool
        Whether a reader had corrected the mask.
    replaces : frozenset of str
        SOP Instance UIDs of the reports that it names as predecessors.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    source_series_uid: str
    study_date: date
    created: str
    area_cm2: float
    interval: Interval | None
    segmenter: ModelIdentity | None
    by_reader: bool
    replaces: frozenset[str]


def read_report(report: Dataset) -> EarlierReport | None:
    """Read a report; ``None`` when it is not one of ours or states no area.

    Parameters
    ----------
    report : Dataset
        Any object.
    """
    if text(report, "SOPClassUID") != Comprehensive3DSRStorage:
        return None
    if text(report, "Manufacturer") != MANUFACTURER:
        return None
    try:
        return _read(report)
    except DAMAGE:
        return None


def day_of(dataset: Dataset) -> date | None:
    """Study Date (0008,0020) of an object, when it is one."""
    try:
        # Objects of before 1993 have dots in it (PS3.5 table 6.2-1).
        day = text(dataset, "StudyDate").replace(".", "")
        return datetime.strptime(day, "%Y%m%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        return None


def _read(report: Dataset) -> EarlierReport | None:
    group = next((one for one in _groups(report) if _is_about_muscle(one)), None)
    day = day_of(report)
    area_cm2 = None if group is None else _number(group, codes.AREA, codes.SQUARE_CENTIMETRE)
    if group is None or day is None or area_cm2 is None or area_cm2 <= 0:
        return None
    return EarlierReport(
        study_instance_uid=text(report, "StudyInstanceUID"),
        series_instance_uid=text(report, "SeriesInstanceUID"),
        sop_instance_uid=text(report, "SOPInstanceUID"),
        source_series_uid=_source_series(report),
        study_date=day,
        created=text(report, "ContentDate") + text(report, "ContentTime"),
        area_cm2=area_cm2,
        interval=_interval(group),
        segmenter=_segmenter(group),
        by_reader=any(f" {_CORRECTED}:" in said for said in _texts(group, codes.QUALITY_REMARK)),
        replaces=frozenset(_predecessors(report)),
    )


def _groups(report: Dataset) -> Iterator[Dataset]:
    for container in report.get("ContentSequence") or ():
        yield from _named(container, _MEASUREMENT_GROUP)


def _is_about_muscle(group: Dataset) -> bool:
    muscle = codes.TISSUE_CONCEPTS[SKELETAL_MUSCLE].code
    is_muscle = any(
        _is(item.get("ConceptCodeSequence"), muscle) for item in _named(group, _FINDING)
    )
    return is_muscle and any(True for _ in _named(group, codes.AREA))


def _named(container: Dataset, name: Code) -> Iterator[Dataset]:
    for item in container.get("ContentSequence") or ():
        if _is(item.get("ConceptNameCodeSequence"), name):
            yield item


def _is(sequence: Sequence[Dataset] | None, code: Code) -> bool:
    return any(
        (text(item, "CodeValue"), text(item, "CodingSchemeDesignator"))
        == (code.value, code.scheme_designator)
        for item in sequence or ()
    )


def _texts(group: Dataset, name: Code) -> Iterator[str]:
    for item in _named(group, name):
        yield text(item, "TextValue")


def _number(group: Dataset, name: Code, unit: Code) -> float | None:
    for item in _named(group, name):
        for value in item.get("MeasuredValueSequence") or ():
            if _is(value.get("MeasurementUnitsCodeSequence"), unit):
                return number(value, "NumericValue")
    return None


def _interval(group: Dataset) -> Interval | None:
    lower = _number(group, codes.AREA_LOWER_BOUND, codes.SQUARE_CENTIMETRE)
    upper = _number(group, codes.AREA_UPPER_BOUND, codes.SQUARE_CENTIMETRE)
    if lower is None or upper is None:
        return None
    percent = _number(group, codes.INTERVAL_COVERAGE, codes.PERCENT)
    return Interval(lower, upper, None if percent is None else percent / 100)


def _segmenter(group: Dataset) -> ModelIdentity | None:
    """Find the model whose name, version and checksum the report states."""
    name = next(_texts(group, _ALGORITHM_NAME), "")
    version = next(_texts(group, _ALGORITHM_VERSION), "")
    start = f"{name} {version} sha256 "
    for parameter in _texts(group, _ALGORITHM_PARAMETERS):
        if name and parameter.startswith(start):
            return ModelIdentity(name, version, parameter.removeprefix(start))
    return None


def _source_series(report: Dataset) -> str:
    """Find the series of the image that the measured region lies on, by the evidence."""
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for instance in series.get("ReferencedSOPSequence") or ():
                if text(instance, "ReferencedSOPClassUID") in _IMAGES:
                    return text(series, "SeriesInstanceUID")
    return ""


def _predecessors(report: Dataset) -> Iterator[str]:
    for study in report.get("PredecessorDocumentsSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for instance in series.get("ReferencedSOPSequence") or ():
                yield text(instance, "ReferencedSOPInstanceUID")
