from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.assembly import Assembly
from dicom_node.background import Background
from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.records import SeriesState
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from pipeline.objects.identity import ResultContext
from pipeline.objects.labelmap import build as build_labelmap
from pipeline.objects.seg import build as build_seg
from tests.dicom_node.factories import ManualClock, RecordingDispatcher, instance, result_entry
from tests.phantoms import TorsoPhantom, phantom_analysis

PHANTOM = TorsoPhantom(shape=(3, 32, 32), pixel_mm=12.0)
SOURCE = PHANTOM.series_instance_uid
Change = Callable[[Dataset], None]


@dataclass
class Bench:
    """A node that measured a series and now gets a segmentation of it."""

    ledger: Ledger
    spool: Spool
    assembly: Assembly
    clock: ManualClock

    def receive(self, dataset: Dataset) -> None:
        uid = str(dataset.SOPInstanceUID)
        path = Path("instances", f"{uid}.dcm")
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        self.spool.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.spool.path(path).write_bytes(buffer.getvalue())
        received = instance(
            sop_instance_uid=uid,
            sop_class_uid=str(dataset.SOPClassUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            study_instance_uid=str(dataset.StudyInstanceUID),
            path=path,
            sha256=uid[-60:],
            received_at=self.clock.now,
        )
        self.ledger.record_instance(received, CompletionSettings())

    def reason_for(self, segmentation: Dataset) -> str:
        """Receive a segmentation; code of the reason why it is skipped, empty when it is sent."""
        self.receive(segmentation)
        now = self.clock.forward(60)
        self.assembly.close_due_series(now)
        self.assembly.send_complete_series(now)
        record = self.ledger.series(str(segmentation.SeriesInstanceUID))
        if record.reason is None:
            assert record.state is SeriesState.QUEUED
            return ""
        assert record.state is SeriesState.SKIPPED
        return record.reason.code


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool = Spool(tmp_path / "spool")
    clock = ManualClock()
    made = Bench(
        ledger,
        spool,
        Assembly(ledger, spool, RecordingDispatcher(), 100.0, Router(ledger, spool)),
        clock,
    )
    for dataset in PHANTOM.datasets():
        made.receive(dataset)
    entry = result_entry(
        series_instance_uid=SOURCE,
        source_series_uid=SOURCE,
        study_instance_uid=PHANTOM.study_instance_uid,
    )
    ledger.results.record(entry, clock.now)
    yield made
    ledger.close()


@pytest.fixture(scope="module")
def made() -> Dataset:
    context = ResultContext(tuple(PHANTOM.datasets()), datetime(2026, 1, 2, tzinfo=UTC), "0.0")
    return build_seg(phantom_analysis(PHANTOM), context)


@pytest.fixture
def segmentation(made: Dataset) -> Dataset:
    """As a reader would send it: under UIDs that are not ours."""
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def test_correction_goes_to_a_worker_with_the_images_and_what_was_known(
    bench: Bench, segmentation: Dataset
) -> None:
    assert bench.reason_for(segmentation) == ""
    uid = str(segmentation.SeriesInstanceUID)
    assert len(bench.spool.read_work(uid, 1).paths) == 3
    content = bench.spool.read_background(uid, 1)
    assert content is not None
    background = Background.from_json(content)
    assert background.source_series_uid == SOURCE
    assert background.segmentation == Path("instances", f"{segmentation.SOPInstanceUID}.dcm")
    assert [entry.version for entry in background.earlier] == ["version 1"]


def test_label_map_of_a_viewer_is_a_correction_too(bench: Bench) -> None:
    context = ResultContext(tuple(PHANTOM.datasets()), datetime(2026, 1, 2, tzinfo=UTC), "0.0")
    assert bench.reason_for(build_labelmap(phantom_analysis(PHANTOM), context)) == ""


def test_own_result_that_comes_back_is_left_alone(bench: Bench, segmentation: Dataset) -> None:
    segmentation.SOPInstanceUID = "2.25.11"
    assert bench.reason_for(segmentation) == "OWN_RESULT"


def unrelated(segmentation: Dataset) -> None:
    segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.5"


def referring_to_nothing(segmentation: Dataset) -> None:
    del segmentation.ReferencedSeriesSequence


@pytest.mark.parametrize("change", [unrelated, referring_to_nothing])
def test_segmentation_of_what_was_never_measured_is_left_alone(
    change: Change, bench: Bench, segmentation: Dataset
) -> None:
    change(segmentation)
    assert bench.reason_for(segmentation) == "SOURCE_UNKNOWN"


def of_another_patient(segmentation: Dataset) -> None:
    segmentation.PatientID = "SOMEBODY ELSE"


def of_another_study(segmentation: Dataset) -> None:
    segmentation.StudyInstanceUID = "2.25.6"


@pytest.mark.parametrize("change", [of_another_patient, of_another_study])
def test_segmentation_that_belongs_elsewhere_is_not_measured(
    change: Change, bench: Bench, segmentation: Dataset
) -> None:
    change(segmentation)
    assert bench.reason_for(segmentation) == "CORRECTION_UNUSABLE"


def test_correction_of_images_that_are_gone_is_not_measured(
    bench: Bench, segmentation: Dataset
) -> None:
    for received in bench.ledger.instances(SOURCE):
        bench.spool.path(received.path).unlink()
    assert bench.reason_for(segmentation) == "CORRECTION_UNUSABLE"
