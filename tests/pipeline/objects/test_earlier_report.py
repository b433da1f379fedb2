import dataclasses
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from pipeline.objects import sr, text_sr
from pipeline.objects.attributes import quiet
from pipeline.objects.earlier_report import day_of, read_report
from pipeline.objects.identity import PredecessorReport
from pipeline.types import QualityFlag, Severity
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.odd_sources import ODD_SOURCES
from tests.pipeline.objects.results import context_of
from tests.pipeline.objects.test_sr import groups, named

PHANTOM = TorsoPhantom((3, 32, 32), 12.0)
ANALYSIS = phantom_analysis(PHANTOM)
CONTEXT = context_of(PHANTOM)


def test_a_report_says_what_was_measured() -> None:
    report = sr.build(ANALYSIS, CONTEXT)
    read = read_report(report)
    assert read is not None
    interval = ANALYSIS.interval
    assert interval is not None
    assert read.interval is not None
    assert read.area_cm2 == round(ANALYSIS.composition.tissues[0].area_cm2, 2)
    assert read.interval.lower_cm2 == round(interval.lower_cm2, 2)
    assert read.interval.upper_cm2 == round(interval.upper_cm2, 2)
    assert read.interval.coverage == interval.coverage
    assert read.segmenter == ANALYSIS.models[0]
    assert read.study_date.strftime("%Y%m%d") == CONTEXT.sources[0].StudyDate
    assert read.source_series_uid == PHANTOM.series_instance_uid
    assert read.study_instance_uid == PHANTOM.study_instance_uid
    assert (read.sop_instance_uid, read.series_instance_uid) == (
        report.SOPInstanceUID,
        report.SeriesInstanceUID,
    )
    assert read.created == "20260304050607"
    assert not read.by_reader
    assert read.replaces == frozenset()


def test_images_with_many_frames_are_found_too(tmp_path: Path) -> None:
    analysis, context = ODD_SOURCES["enhanced"](tmp_path)
    read = read_report(sr.build(analysis, context))
    assert read is not None
    assert read.source_series_uid == analysis.volume.series_instance_uid


def test_correction_and_predecessor_are_noticed() -> None:
    remark = QualityFlag("CORRECTED_BY_READER", Severity.INFO, "Corrected by a reader.")
    corrected = dataclasses.replace(ANALYSIS, quality=(*ANALYSIS.quality, remark))
    context = dataclasses.replace(CONTEXT, predecessor=PredecessorReport("1.2", "1.3", "1.4"))
    read = read_report(sr.build(corrected, context))
    assert read is not None
    assert read.by_reader
    assert read.replaces == {"1.4"}


def test_an_interval_of_customary_width_claims_no_coverage() -> None:
    assert ANALYSIS.interval is not None
    customary = dataclasses.replace(ANALYSIS.interval, coverage=None)
    read = read_report(sr.build(dataclasses.replace(ANALYSIS, interval=customary), CONTEXT))
    assert read is not None
    assert read.interval is not None
    assert read.interval.coverage is None
    without = read_report(sr.build(dataclasses.replace(ANALYSIS, interval=None), CONTEXT))
    assert without is not None
    assert without.interval is None


def _of_somebody_else(report: Dataset) -> None:
    report.Manufacturer = "Another"


def _of_no_day(report: Dataset) -> None:
    report.StudyDate = ""


def _about_another_tissue(report: Dataset) -> None:
    for group in groups(report):
        named(group, "121071")[0].ConceptCodeSequence[0].CodeValue = "10200004"


def _in_another_unit(report: Dataset) -> None:
    value = named(report, "42798000")[0].MeasuredValueSequence[0]
    value.MeasurementUnitsCodeSequence[0].CodeValue = "mm2"


def _of_nothing(report: Dataset) -> None:
    named(report, "42798000")[0].MeasuredValueSequence[0].NumericValue = "0"


def _without_a_value(report: Dataset) -> None:
    named(report, "42798000")[0].MeasuredValueSequence = []


def _without_content(report: Dataset) -> None:
    del report.ContentSequence


@pytest.mark.parametrize(
    "change",
    [
        _of_somebody_else,
        _of_no_day,
        _about_another_tissue,
        _in_another_unit,
        _of_nothing,
        _without_a_value,
        _without_content,
    ],
)
def test_what_states_no_area_of_ours_is_left_alone(change: Callable[[Dataset], None]) -> None:
    report = sr.build(ANALYSIS, CONTEXT)
    assert read_report(report) is not None
    change(report)
    assert read_report(report) is None


def test_other_objects_are_no_report() -> None:
    assert read_report(text_sr.build(ANALYSIS, CONTEXT)) is None
    assert read_report(Dataset()) is None


@pytest.mark.parametrize(
    ("value", "day"),
    [("20250304", date(2025, 3, 4)), ("2025.03.04", date(2025, 3, 4)), ("", None), ("9", None)],
)
def test_the_day_of_a_study_is_a_day_or_nothing(value: str, day: date | None) -> None:
    header = Dataset()
    with quiet():
        header.StudyDate = value
    assert day_of(header) == day
