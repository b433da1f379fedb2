"""The second study of a patient is compared with the first, whoever remembers that one."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node.records import SeriesState
from pipeline.objects.earlier_report import EarlierReport, read_report
from pipeline.objects.identity import ResultContext
from pipeline.objects.sr import build as build_sr
from tests.orthanc import RunningOrthanc, running_orthanc
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.reader import values_of
from tests.system.running_node import SETTINGS, RunningNode, renewed_series, running_node

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]

LINE_PX = 24
PHANTOM = TorsoPhantom((3, 64, 64), 6.0)


def later_study(source: Path, folder: Path, day: str) -> Path:
    """Copy a series as if the patient had been scanned once more on another day."""
    renewed_series(source, folder)
    for path in folder.glob("*.dcm"):
        dataset = dcmread(path)
        dataset.StudyDate = day
        # The node is shared with tests that measure the same person.
        dataset.PatientID = "COMPARED"
        dataset.save_as(path)
    return folder


def understood(objects: list[Dataset], study_instance_uid: str) -> tuple[Dataset, EarlierReport]:
    (report,) = (
        one
        for one in objects
        if one.SOPClassUID == Comprehensive3DSRStorage
        and one.StudyInstanceUID == study_instance_uid
    )
    read = read_report(report)
    assert read is not None
    return report, read


def numbers(report: Dataset) -> dict[str, float]:
    """First number of a report under each code of a name: muscle stands before fat."""
    found: dict[str, float] = {}
    for item in report.get("ContentSequence", ()):
        found = numbers(item) | found
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0].NumericValue
            found.setdefault(item.ConceptNameCodeSequence[0].CodeValue, float(value))
    return found


def assert_compared(report: Dataset, before: EarlierReport) -> None:
    stated = numbers(report)
    assert stated["SMAPRIOR"] == pytest.approx(before.area_cm2, abs=0.006)
    change = 100 * (stated["42798000"] - before.area_cm2) / before.area_cm2
    assert stated["SMACHANGE"] == pytest.approx(change, abs=0.02)
    assert stated["SMACHANGEERROR"] > 0
    assert values_of(report, "Date") == [f"{before.study_date:%Y%m%d}"]
    (sentence,) = (said for said in values_of(report, "TextValue") if "Previous area" in said)
    assert f"{before.area_cm2:.1f} cm2 on {before.study_date:%Y-%m-%d}" in sentence
    assert "the measurement error of \N{PLUS-MINUS SIGN}" in sentence


def key_image(objects: list[Dataset], study_instance_uid: str) -> Dataset:
    return next(
        one
        for one in objects
        if one.SOPClassUID == SecondaryCaptureImageStorage
        and one.StudyInstanceUID == study_instance_uid
    )


def assert_drawn(second: Dataset, first: Dataset) -> None:
    """The page of the second study has two more lines beside the slice and one below."""
    one, other = first.pixel_array, second.pixel_array
    assert other.shape[0] == one.shape[0] + LINE_PX
    column = (slice(322, 396), slice(712, 1108))
    written = [int((picture[column] > 200).all(axis=-1).sum()) for picture in (one, other)]
    assert written[1] > written[0] + 500
    assert np.array_equal(one[:44], other[:44])


def test_what_the_node_measured_before_is_compared_with(
    node: RunningNode, demo_series: Path, tmp_path: Path
) -> None:
    first = later_study(demo_series, tmp_path / "first", "20240304")
    second = later_study(demo_series, tmp_path / "second", "20250304")
    for folder in (first, second):
        node.wait_for(node.send(folder), SeriesState.DELIVERED)
    received = list(node.pacs.received.values())
    studies = [str(dcmread(next(f.glob("*.dcm"))).StudyInstanceUID) for f in (first, second)]
    _, before = understood(received, studies[0])
    report, _ = understood(received, studies[1])
    assert before.study_date == date(2024, 3, 4)
    assert_compared(report, before)
    assert_drawn(key_image(received, studies[1]), key_image(received, studies[0]))


ASKING = (
    SETTINGS.replace('ae_title = "PACS"', 'ae_title = "ORTHANC"')
    + """\
[priors]
destination = "pacs"
"""
)


@pytest.fixture
def orthanc(tool: Callable[[str], str], tmp_path: Path) -> Iterator[RunningOrthanc]:
    with running_orthanc(tool("Orthanc"), tmp_path) as running:
        yield running


def stored_report(orthanc: RunningOrthanc, images: Path, day: str) -> EarlierReport:
    """Put the report on an earlier study of the patient of some images into the PACS."""
    patient = dcmread(next(images.glob("*.dcm")), stop_before_pixels=True)
    sources = PHANTOM.datasets()
    for source in sources:
        source.PatientID, source.PatientName = patient.PatientID, patient.PatientName
        source.PatientBirthDate, source.StudyDate = patient.PatientBirthDate, day
    context = ResultContext(tuple(sources), datetime(2024, 3, 5, tzinfo=UTC), "0.0")
    report = build_sr(phantom_analysis(PHANTOM), context)
    orthanc.store(report)
    read = read_report(report)
    assert read is not None
    return read


def test_a_node_that_knows_nothing_asks_the_pacs(
    orthanc: RunningOrthanc, series: Path, tmp_path: Path
) -> None:
    second = later_study(series, tmp_path / "second", "20250304")
    before = stored_report(orthanc, second, "20240304")
    text = ASKING.replace("{pacs_port}", str(orthanc.port))
    (tmp_path / "node").mkdir()
    with running_node(tmp_path / "node", settings_text=text) as node:
        uid = node.send(second)
        node.wait_for(uid, SeriesState.DELIVERED)
        shown = node.psoas("show", uid)
    assert "1 earlier report at ORTHANC" in shown.stdout
    study = str(dcmread(next(second.glob("*.dcm"))).StudyInstanceUID)
    report, _ = understood(orthanc.instances(), study)
    assert_compared(report, before)
    assert any("other weights" in said for said in values_of(report, "TextValue"))
