from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.assembly import Assembly
from dicom_node.background import Background, Notice
from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.notices import notices_of
from dicom_node.outcomes import result_file
from dicom_node.predecessors import Predecessors, predecessor_of_notice, predecessors_of
from dicom_node.records import DeliveryState, Reason, ResultObject, SeriesEvent, SeriesState
from dicom_node.refusals import teller
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from pipeline.errors import LevelNotCoveredError
from pipeline.objects import not_analysed
from pipeline.objects.identity import PredecessorReport, ResultContext
from pipeline.objects.part10 import encoded
from tests.dicom_node.factories import START, RecordingDispatcher, instance, result_entry
from tests.phantoms import TorsoPhantom

UID = "1.2.3"
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
PHANTOM = TorsoPhantom(shape=(3, 32, 32), pixel_mm=12.0)
LONGER = TorsoPhantom(shape=(12, 32, 32), pixel_mm=12.0)
MEASURED = replace(result_entry(1), revision=2)
REPORT = PredecessorReport("1.2", "2.25.2", "2.25.12", SR)


def notice(revision: int) -> Notice:
    return Notice(revision, "1.2", f"1.2.{revision}", f"1.3.{revision}", TEXT_SR)


def told(revision: int) -> PredecessorReport:
    return PredecessorReport("1.2", f"1.2.{revision}", f"1.3.{revision}", TEXT_SR)


def test_a_measurement_replaces_what_said_that_there_was_none() -> None:
    background = Background(UID, notices=(notice(1), notice(2)))
    assert predecessors_of(background, (UID, 3, "v")) == Predecessors(told(2))
    # Weights that can measure what others could not find the notice at the same revision.
    assert predecessors_of(background, (UID, 1, "v")) == Predecessors(told(1))


@pytest.mark.parametrize(("revision", "expected"), [(1, REPORT), (2, REPORT), (3, told(3))])
def test_what_came_last_is_replaced(revision: int, expected: PredecessorReport) -> None:
    background = Background(UID, earlier=(MEASURED,), notices=(notice(revision),))
    assert predecessors_of(background, (UID, 4, "v")).report == expected
    assert predecessor_of_notice(background, (UID, 4, "v")) == expected


def test_a_correction_comes_after_what_it_corrects() -> None:
    corrected = replace(MEASURED, by_reader=True, series_instance_uid="9.9", revision=1)
    background = Background(UID, earlier=(MEASURED, corrected), notices=(notice(7),))
    assert predecessors_of(background, (UID, 8, "v")).report == REPORT


def test_a_notice_never_replaces_itself_nor_a_later_one() -> None:
    background = Background(UID, notices=(notice(1), notice(2)))
    assert predecessor_of_notice(background, (UID, 1, "v")) is None
    assert predecessor_of_notice(background, (UID, 2, "v")) == told(1)


def test_each_kind_of_report_replaces_its_own_kind() -> None:
    alone = ResultObject("sr_alone", SR, "2.25.13", "2.25.3")
    both = replace(MEASURED, objects=(*MEASURED.objects, alone))
    expected = PredecessorReport("1.2", "2.25.3", "2.25.13", SR)
    found = predecessors_of(Background(UID, earlier=(both,)), (UID, 3, "v"))
    assert found == Predecessors(REPORT, expected)
    only = replace(MEASURED, objects=(alone,))
    found = predecessors_of(Background(UID, earlier=(only,)), (UID, 3, "v"))
    assert found == Predecessors(expected, expected)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        yield ledger


def receive(ledger: Ledger, spool: Spool, number: int) -> None:
    """Receive an image of a series that can be read."""
    path = Path("instances", f"{number}.dcm")
    spool.path(path).parent.mkdir(exist_ok=True)
    spool.path(path).write_bytes(encoded(LONGER.datasets()[number - 1]))
    ledger.record_instance(instance(number, path=path, sha256=f"{number}"), CompletionSettings())


def tell(ledger: Ledger, spool: Spool, state: DeliveryState) -> str:
    """Report a series as not analysed to a PACS that answers so; UID of the report."""
    context = ResultContext(tuple(PHANTOM.datasets()), datetime(2026, 1, 2, tzinfo=UTC), "0.0")
    report = not_analysed.build(LevelNotCoveredError("L3 lies above"), context.sources, context)
    paths = spool.put_results(UID, 1, {"not_analysed.dcm": encoded(report)}, "v")
    receive(ledger, spool, 1)
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.NOT_MEASURABLE):
        ledger.advance(UID, event, START)
    ledger.deliveries.queue(
        UID, 1, [result_file(report, paths["not_analysed.dcm"])], ["pacs"], START
    )
    (delivery,) = ledger.deliveries.of(UID)
    if state is not DeliveryState.QUEUED:
        ledger.deliveries.record(
            delivery, state, START, next_attempt_at=START, status=0, detail="answered"
        )
    return str(report.SOPInstanceUID)


def test_only_a_report_that_somebody_has_is_a_predecessor(ledger: Ledger, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    uid = tell(ledger, spool, DeliveryState.QUEUED)
    assert notices_of(UID, ledger, spool) == ()
    (delivery,) = ledger.deliveries.of(UID)
    ledger.deliveries.record(
        delivery, DeliveryState.ACCEPTED, START, next_attempt_at=START, status=0, detail=""
    )
    (found,) = notices_of(UID, ledger, spool)
    report = dcmread(spool.path(delivery.result.path))
    assert (found.revision, found.sop_instance_uid, found.sop_class_uid) == (1, uid, TEXT_SR)
    assert found.series_instance_uid == report.SeriesInstanceUID
    assert found.study_instance_uid == PHANTOM.study_instance_uid


def test_a_series_that_no_worker_survives_replaces_what_was_said_before(
    ledger: Ledger, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    uid = tell(ledger, spool, DeliveryState.ACCEPTED)
    receive(ledger, spool, 2)
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT):
        ledger.advance(UID, event, START)
    record = ledger.series(UID)
    assert record.revision == 2
    (result,) = teller(ledger, spool)(record, Reason("WORKER_LOST", "three workers died"))
    (study,) = dcmread(spool.path(result.path)).PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == uid


def test_the_worker_is_told_that_the_series_was_reported_as_not_analysed(
    ledger: Ledger, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    uid = tell(ledger, spool, DeliveryState.ACCEPTED)
    for number in range(2, 13):
        receive(ledger, spool, number)
    now = START + timedelta(days=1)
    assembly = Assembly(ledger, spool, RecordingDispatcher(), 100.0, Router(ledger, spool))
    assembly.close_due_series(now)
    assembly.send_complete_series(now)
    record = ledger.series(UID)
    assert record.state is SeriesState.QUEUED, record.reason
    content = spool.read_background(UID, record.revision)
    assert content is not None
    assert [one.sop_instance_uid for one in Background.from_json(content).notices] == [uid]
