from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.assembly import Assembly
from dicom_node.config import CompletionSettings
from dicom_node.errors import BrokerError
from dicom_node.ledger import Ledger
from dicom_node.model_store import ModelKind
from dicom_node.records import Reason, SeriesEvent, SeriesState
from dicom_node.rules.routing import Router, examine
from dicom_node.spool import FileIdentity, Spool
from tests.dicom_node.datasets import encoded
from tests.dicom_node.factories import ManualClock, RecordingDispatcher, instance

LEASE_S = 100.0


@dataclass
class Bench:
    """Everything that assembly works with, plus a way to receive the demo series."""

    ledger: Ledger
    spool: Spool
    dispatcher: RecordingDispatcher
    assembly: Assembly
    clock: ManualClock

    def receive(self, paths: list[Path], series_instance_uid: str = "1.2.3") -> None:
        for path in paths:
            dataset = dcmread(path)
            uid = str(dataset.SOPInstanceUID)
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            identity = FileIdentity(CTImageStorage, uid, series_instance_uid, syntax, "CT1")
            stored = self.spool.put_instance(identity, encoded(dataset, ExplicitVRLittleEndian))
            received = instance(
                sop_instance_uid=uid,
                series_instance_uid=series_instance_uid,
                path=stored.path,
                sha256=stored.sha256,
                received_at=self.clock.now,
            )
            self.ledger.record_instance(received, CompletionSettings())

    def pass_time(self, seconds: float) -> None:
        now = self.clock.forward(seconds)
        self.assembly.close_due_series(now)
        self.assembly.send_complete_series(now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool = Spool(tmp_path / "spool")
    dispatcher = RecordingDispatcher()
    assembly = Assembly(ledger, spool, dispatcher, LEASE_S, Router(ledger, spool))
    yield Bench(ledger, spool, dispatcher, assembly, ManualClock())
    ledger.close()


@pytest.fixture
def images(demo_series: Path) -> list[Path]:
    return sorted(demo_series.glob("*.dcm"))


def test_a_series_is_sent_once_it_has_been_quiet(bench: Bench, images: list[Path]) -> None:
    bench.receive(images)
    bench.pass_time(59)
    assert bench.ledger.series("1.2.3").state is SeriesState.RECEIVING
    bench.pass_time(1)
    bench.pass_time(1)
    assert bench.dispatcher.analyses == [("1.2.3", 1)]
    record = bench.ledger.series("1.2.3")
    assert (record.state, record.attempt) == (SeriesState.QUEUED, 1)


def test_the_worker_is_told_what_belongs_to_the_revision(bench: Bench, images: list[Path]) -> None:
    bench.receive(images)
    bench.pass_time(60)
    work = bench.spool.read_work("1.2.3", 1)
    assert work.queued_at == bench.ledger.series("1.2.3").queued_at
    assert {bench.spool.path(path).exists() for path in work.paths} == {True}
    assert len(work.paths) == len(images)


def test_a_series_that_is_not_for_us_is_skipped_with_the_reason(
    bench: Bench, images: list[Path]
) -> None:
    bench.receive(images[:3])
    bench.pass_time(60)
    record = bench.ledger.series("1.2.3")
    assert record.state is SeriesState.SKIPPED
    assert record.reason is not None
    assert record.reason.code == "TOO_FEW_SLICES"
    assert bench.dispatcher.analyses == []


def test_a_late_image_is_analysed_with_the_others(bench: Bench, images: list[Path]) -> None:
    bench.receive(images[:15])
    bench.pass_time(60)
    bench.receive(images[15:])
    bench.pass_time(60)
    assert bench.dispatcher.analyses == [("1.2.3", 1), ("1.2.3", 2)]
    assert len(bench.spool.read_work("1.2.3", 1).paths) == 15
    assert len(bench.spool.read_work("1.2.3", 2).paths) == 20


def test_what_the_broker_did_not_take_is_sent_later(bench: Bench, images: list[Path]) -> None:
    bench.receive(images)
    bench.dispatcher.broken = True
    with pytest.raises(BrokerError):
        bench.pass_time(60)
    record = bench.ledger.series("1.2.3")
    assert (record.state, record.attempt) == (SeriesState.COMPLETE, 0)
    bench.dispatcher.broken = False
    bench.pass_time(1)
    assert bench.dispatcher.analyses == [("1.2.3", 1)]


def test_a_retry_forgets_the_outcome_but_a_second_attempt_does_not(
    bench: Bench, images: list[Path]
) -> None:
    bench.receive(images)
    bench.pass_time(60)
    bench.ledger.advance("1.2.3", SeriesEvent.WORK_STARTED, bench.clock.now)
    bench.spool.put_outcome("1.2.3", 1, b"{}")
    bench.ledger.advance("1.2.3", SeriesEvent.WORK_LOST, bench.clock.now)
    bench.pass_time(1)
    assert bench.spool.read_outcome("1.2.3", 1) == b"{}"
    bench.ledger.advance("1.2.3", SeriesEvent.WORK_FAILED, bench.clock.now)
    bench.ledger.advance("1.2.3", SeriesEvent.RETRY_REQUESTED, bench.clock.now)
    bench.pass_time(1)
    assert bench.spool.read_outcome("1.2.3", 1) is None
    assert len(bench.dispatcher.analyses) == 3


def test_who_waits_behind_others_is_not_lost(bench: Bench) -> None:
    for number in range(3):
        uid = f"1.{number}"
        bench.ledger.record_instance(
            instance(number, series_instance_uid=uid), CompletionSettings()
        )
        bench.ledger.advance(uid, SeriesEvent.QUIET_PERIOD_OVER, bench.clock.now)
    now = bench.clock.forward(1)
    bench.assembly.send_complete_series(now)
    waits = sorted(
        (record.due_at - now).total_seconds()
        for record in bench.ledger.list_series([SeriesState.QUEUED])
        if record.due_at is not None
    )
    assert waits == [LEASE_S, 2 * LEASE_S, 3 * LEASE_S]


def test_what_cannot_be_read_is_left_to_a_worker(tmp_path: Path) -> None:
    assert examine([tmp_path / "absent.dcm"], "CT1") is None


def test_the_order_names_the_model_in_use_or_the_one_that_was_asked_for(
    bench: Bench, images: list[Path]
) -> None:
    folder = bench.spool.path(Path("models", "asked-1-0"))
    folder.mkdir(parents=True)
    (folder / "installed.json").write_text(
        '{"key": "asked-1-0", "kind": "segmenter", "name": "asked", "version": "1", '
        '"sha256": "0", "files": {}, "installed_at": "2026-01-01"}'
    )
    models = bench.ledger.models
    models.use(ModelKind.SEGMENTER, "used-1-0", "eve", bench.clock.now)
    models.use(ModelKind.CLASSIFIER, "opinion-1-0", "eve", bench.clock.now)
    models.use(ModelKind.LEVEL_FINDER, "finder-1-0", "eve", bench.clock.now)
    bench.receive(images)
    bench.pass_time(60)
    order = bench.spool.read_work("1.2.3", 1)
    assert (order.segmenter, order.level_finder) == ("used-1-0", "finder-1-0")
    assert order.classifier == "opinion-1-0"
    # What is at work keeps its order, whatever is put to use meanwhile.
    models.roll_back("eve", bench.clock.now)
    assert bench.spool.read_work("1.2.3", 1) == order
    record = bench.ledger.advance("1.2.3", SeriesEvent.WORK_FAILED, bench.clock.now)
    models.replay(record, "asked-1-0", bench.clock.now, Reason("BY_OPERATOR", "eve"))
    bench.pass_time(60)
    again = bench.spool.read_work("1.2.3", 1)
    assert (again.segmenter, again.level_finder) == ("asked-1-0", "")
    assert again.classifier == "opinion-1-0"
    assert again.queued_at > order.queued_at
    # An ordinary retry takes what is in use.
    bench.ledger.advance("1.2.3", SeriesEvent.WORK_FAILED, bench.clock.now)
    bench.ledger.advance("1.2.3", SeriesEvent.RETRY_REQUESTED, bench.clock.now)
    bench.pass_time(1)
    assert bench.spool.read_work("1.2.3", 1).segmenter == "used-1-0"
