from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import (
    DeliveryState,
    Reason,
    ResultFile,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
)
from dicom_node.refusals import teller
from dicom_node.spool import Spool
from dicom_node.worklog import Work, WorkLog
from tests.dicom_node.factories import START, ManualClock, destination, instance
from tests.phantoms import TorsoPhantom
from tests.reader import values_of

UID = "1.2.3"
SEG = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm"))
MEASURED = Outcome(OutcomeKind.MEASURED, results=(SEG,))
LOST = Reason("WORKER_LOST", "killed")


@dataclass
class Bench:
    ledger: Ledger
    clock: ManualClock
    log: WorkLog

    def series(self) -> SeriesRecord:
        return self.ledger.series(UID)

    def send(self) -> None:
        self.ledger.advance(UID, SeriesEvent.TASK_SENT, self.clock.forward(1))

    def work(self, revision: int, order: int | None) -> Work:
        """The present task, unless another one is named."""
        return Work(UID, revision, self.series().order_number if order is None else order)

    def start(self, revision: int = 1, order: int | None = None) -> None:
        now = self.clock.forward(1)
        self.log.started(self.work(revision, order), now, now + timedelta(seconds=60))

    def end(self, outcome: Outcome = MEASURED, revision: int = 1) -> None:
        self.log.ended(UID, revision, outcome, self.clock.forward(1))

    def lose(self, revision: int = 1, order: int | None = None) -> None:
        self.log.lost(self.work(revision, order), LOST, self.clock.forward(1))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A series that was sent to a worker."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.record_instance(instance(), CompletionSettings())
    ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
    made = Bench(
        ledger,
        ManualClock(),
        WorkLog(ledger, [destination("pacs"), destination("archive")], attempts=2),
    )
    made.send()
    yield made
    ledger.close()


def test_start_gives_the_work_a_time_to_be_done(bench: Bench) -> None:
    bench.start()
    assert bench.series().state is SeriesState.ANALYZING
    assert bench.series().due_at == bench.clock.now + timedelta(seconds=60)


def test_results_are_queued_for_every_destination(bench: Bench) -> None:
    bench.start()
    bench.end()
    assert bench.series().state is SeriesState.ANALYZED
    deliveries = bench.ledger.deliveries.of(UID)
    assert {(d.result, d.destination) for d in deliveries} == {(SEG, "pacs"), (SEG, "archive")}


def test_outcome_may_overtake_the_news_of_the_start(bench: Bench) -> None:
    bench.end()
    bench.start()
    assert bench.series().state is SeriesState.ANALYZED


def test_repeated_outcome_changes_nothing(bench: Bench) -> None:
    bench.end()
    history = bench.ledger.history(UID)
    bench.end()
    assert bench.ledger.history(UID) == history


def test_outcome_of_older_images_changes_nothing(bench: Bench) -> None:
    bench.start()
    bench.ledger.record_instance(
        instance(2, received_at=bench.clock.forward(1)), CompletionSettings()
    )
    bench.ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, bench.clock.forward(1))
    bench.send()
    bench.end(revision=1)
    assert bench.series().state is SeriesState.QUEUED
    assert bench.ledger.deliveries.of(UID) == ()


def test_without_destinations_a_measured_series_is_done(bench: Bench) -> None:
    WorkLog(bench.ledger, [], attempts=2).ended(UID, 1, MEASURED, bench.clock.now)
    assert bench.series().state is SeriesState.DELIVERED


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OutcomeKind.SKIPPED, SeriesState.SKIPPED),
        (OutcomeKind.FAILED, SeriesState.FAILED),
        (OutcomeKind.QUARANTINED, SeriesState.QUARANTINED),
    ],
)
def test_failure_keeps_its_reason(bench: Bench, kind: OutcomeKind, state: SeriesState) -> None:
    reason = Reason("L3_UNCERTAIN", "L2 or L3")
    bench.end(Outcome(kind, reason))
    assert (bench.series().state, bench.series().reason) == (state, reason)


def test_lost_work_is_done_again_until_the_attempts_are_used_up(bench: Bench) -> None:
    bench.start()
    bench.lose()
    assert bench.series().state is SeriesState.COMPLETE
    bench.send()
    bench.start()
    bench.lose()
    record = bench.series()
    assert record.state is SeriesState.QUARANTINED
    assert record.reason == Reason(
        "WORKER_LOST", "2 attempts came to nothing, the last one: killed"
    )


def test_work_that_nobody_began_is_sent_again_for_ever(bench: Bench) -> None:
    for _ in range(5):
        bench.lose()
        assert bench.series().state is SeriesState.COMPLETE
        bench.send()


def test_loss_that_is_reported_late_changes_nothing(bench: Bench) -> None:
    bench.end()
    bench.lose()
    assert bench.series().state is SeriesState.ANALYZED
    assert {d.state for d in bench.ledger.deliveries.of(UID)} == {DeliveryState.QUEUED}


def test_news_of_an_older_task_says_nothing_about_the_present_one(bench: Bench) -> None:
    bench.start()
    bench.lose()
    bench.send()
    bench.start(order=1)
    assert bench.series().state is SeriesState.QUEUED
    bench.start()
    bench.lose(order=1)
    assert bench.series().state is SeriesState.ANALYZING
    assert bench.series().attempt == 2
    # What any of them found out counts: the same images give the same results.
    bench.end()
    assert bench.series().state is SeriesState.ANALYZED


def test_result_of_an_unknown_kind_fails_the_series_and_nothing_is_sent(bench: Bench) -> None:
    odd = ResultFile("2.25.2", "1.2", "1.2.840.10008.1.2.1", Path("seggs.dcm"))
    bench.start()
    bench.end(Outcome(OutcomeKind.MEASURED, results=(SEG, odd)))
    record = bench.series()
    assert record.state is SeriesState.FAILED
    assert record.reason is not None
    assert record.reason.code == "RESULT_UNKNOWN"
    assert bench.ledger.deliveries.of(UID) == ()


@pytest.mark.parametrize("asking", [True, False])
def test_series_that_no_worker_survives_is_told_to_who_asks_for_it(
    bench: Bench, tmp_path: Path, asking: bool
) -> None:
    spool = Spool(tmp_path / "spool")
    (image,) = TorsoPhantom((1, 16, 16), 24.0).datasets()
    path = spool.path(bench.ledger.instances(UID)[0].path)
    path.parent.mkdir(parents=True)
    image.save_as(path, enforce_file_format=True)
    objects = ["sr", "not_analysed"] if asking else ["sr"]
    log = replace(
        bench.log,
        destinations=[destination(objects=objects)],
        attempts=2,
        tell=teller(bench.ledger, spool),
    )
    told = replace(bench, log=log)
    told.start()
    told.lose()
    assert told.series().state is SeriesState.COMPLETE
    assert told.ledger.deliveries.of(UID) == ()
    told.send()
    told.start()
    told.lose()
    assert told.series().state is SeriesState.QUARANTINED
    deliveries = told.ledger.deliveries.of(UID)
    assert len(deliveries) == asking
    for delivery in deliveries:
        report = dcmread(spool.path(delivery.result.path))
        assert report.PatientID == image.PatientID
        assert image.SOPInstanceUID in values_of(report, "ReferencedSOPInstanceUID")
        (said,) = (one for one in values_of(report, "TextValue") if "Not analysed" in one)
        assert "2 attempts came to nothing, the last one: killed" in said


def test_series_without_a_readable_image_is_quarantined_without_a_word(
    bench: Bench, tmp_path: Path
) -> None:
    tell = teller(bench.ledger, Spool(tmp_path / "spool"))
    log = replace(
        bench.log, destinations=[destination(objects=["not_analysed"])], attempts=1, tell=tell
    )
    told = replace(bench, log=log)
    told.start()
    told.lose()
    assert told.series().state is SeriesState.QUARANTINED
    assert told.ledger.deliveries.of(UID) == ()
