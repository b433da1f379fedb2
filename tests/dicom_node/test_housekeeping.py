import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.assembly import Assembly
from dicom_node.config import CompletionSettings, DeliverySettings
from dicom_node.housekeeping import Steward
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import DeliveryState, Reason, ResultFile, SeriesEvent, SeriesState
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from dicom_node.worklog import WorkLog
from tests.dicom_node.factories import ManualClock, RecordingDispatcher, destination, instance

UID = "1.2.3"
LEASE_S = 100.0
ATTEMPTS = 3
SEG = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm"))


@dataclass
class Bench:
    """A steward with one series; its files are unreadable, so that a worker gets it."""

    ledger: Ledger
    spool: Spool
    dispatcher: RecordingDispatcher
    steward: Steward
    clock: ManualClock

    def tick(self, seconds: float = 0.5) -> SeriesState:
        self.steward.tick(self.clock.forward(seconds))
        return self.ledger.series(UID).state

    def tell(self, *events: SeriesEvent) -> None:
        for event in events:
            self.ledger.advance(UID, event, self.clock.now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool = Spool(tmp_path / "spool")
    dispatcher = RecordingDispatcher()
    steward = Steward(
        Assembly(ledger, spool, dispatcher, LEASE_S, Router(ledger, spool)),
        WorkLog(ledger, [destination("pacs")], ATTEMPTS),
        Outbox(ledger, spool, DeliverySettings()),
    )
    clock = ManualClock()
    ledger.record_instance(instance(), CompletionSettings())
    yield Bench(ledger, spool, dispatcher, steward, clock)
    ledger.close()


def test_a_quiet_series_goes_to_a_worker(bench: Bench) -> None:
    assert bench.tick(59) is SeriesState.RECEIVING
    assert bench.tick(1) is SeriesState.QUEUED
    assert bench.dispatcher.analyses == [(UID, 1)]


def test_what_nobody_began_is_sent_again_for_ever(bench: Bench) -> None:
    bench.tick(60)
    for _ in range(ATTEMPTS * 2):
        assert bench.tick(LEASE_S) is SeriesState.QUEUED
    assert len(bench.dispatcher.analyses) == ATTEMPTS * 2 + 1
    assert bench.ledger.series(UID).attempt == 1


def test_what_kills_its_workers_is_quarantined(bench: Bench) -> None:
    bench.tick(60)
    for _ in range(ATTEMPTS - 1):
        bench.tell(SeriesEvent.WORK_STARTED)
        assert bench.tick(LEASE_S) is SeriesState.QUEUED
    bench.tell(SeriesEvent.WORK_STARTED)
    assert bench.tick(LEASE_S) is SeriesState.QUARANTINED
    reason = bench.ledger.series(UID).reason
    assert reason is not None
    assert reason.code == "WORKER_LOST"
    assert len(bench.dispatcher.analyses) == ATTEMPTS


def test_a_worker_that_shows_no_sign_of_life_is_dead_long_before_its_time_is_over(
    bench: Bench,
) -> None:
    bench.tick(60)
    bench.tell(SeriesEvent.WORK_STARTED)
    for age_s in range(0, 100, 10):
        bench.spool.beat(UID, 1)
        os.utime(bench.spool.path(Path("results", UID, "revision_1", "alive")), (age_s, age_s))
        assert bench.tick(2) is SeriesState.ANALYZING
    assert bench.tick(19) is SeriesState.ANALYZING
    assert bench.tick(1) is SeriesState.QUEUED
    assert bench.ledger.history(UID)[-2].event == "work_lost"
    assert bench.dispatcher.orders == [1, 2]


def test_an_outcome_without_news_is_recorded(bench: Bench) -> None:
    bench.tick(60)
    bench.tell(SeriesEvent.WORK_STARTED)
    bench.spool.put_outcome(UID, 1, Outcome(OutcomeKind.MEASURED, results=(SEG,)).to_json())
    assert bench.tick(1) is SeriesState.ANALYZING
    assert bench.tick(5) is SeriesState.ANALYZING
    assert bench.tick(5) is SeriesState.ANALYZED
    assert bench.dispatcher.deliveries == [(UID, "pacs")]


def test_an_outcome_that_came_late_is_no_lost_work(bench: Bench) -> None:
    bench.tick(60)
    reason = Reason("L3_UNCERTAIN", "cannot tell")
    bench.spool.put_outcome(UID, 1, Outcome(OutcomeKind.FAILED, reason=reason).to_json())
    assert bench.tick(LEASE_S * 2) is SeriesState.QUEUED
    assert bench.tick(20) is SeriesState.FAILED
    assert bench.ledger.series(UID).reason == reason
    assert bench.dispatcher.analyses == [(UID, 1)]


def test_after_a_restart_the_queue_is_sent_again(bench: Bench) -> None:
    bench.tick(60)
    bench.steward.resume(bench.clock.now)
    assert bench.tick() is SeriesState.QUEUED
    assert bench.dispatcher.analyses == [(UID, 1), (UID, 1)]


def test_a_delivery_is_asked_for_once_in_a_while(bench: Bench) -> None:
    bench.tick(60)
    bench.tell(SeriesEvent.MEASURED)
    bench.ledger.deliveries.queue(UID, 1, [SEG], ["pacs"], bench.clock.now)
    for _ in range(10):
        bench.tick(1)
    assert bench.dispatcher.deliveries == [(UID, "pacs")]
    bench.tick(60)
    assert bench.dispatcher.deliveries == [(UID, "pacs")] * 2
    bench.ledger.deliveries.claim(UID, "pacs", bench.clock.now, lease_s=300)
    bench.tick(100)
    assert len(bench.dispatcher.deliveries) == 2


def test_what_comes_due_while_a_task_stores_the_rest_is_asked_for_at_once(bench: Bench) -> None:
    bench.tick(60)
    bench.tell(SeriesEvent.MEASURED)
    bench.ledger.deliveries.queue(UID, 1, [SEG], ["pacs"], bench.clock.now)
    bench.tick(1)
    report = replace(SEG, sop_instance_uid="2.25.2", path=Path("sr.dcm"))
    bench.ledger.deliveries.queue(UID, 1, [report], ["pacs"], bench.clock.now)
    bench.tick(1)
    assert bench.dispatcher.deliveries == [(UID, "pacs")] * 2
    bench.tick(1)
    assert len(bench.dispatcher.deliveries) == 2


def test_a_series_whose_last_delivery_was_recorded_is_closed(bench: Bench) -> None:
    bench.tick(60)
    bench.tell(SeriesEvent.MEASURED)
    bench.ledger.deliveries.queue(UID, 1, [SEG], ["pacs"], bench.clock.now)
    bench.tell(SeriesEvent.DELIVERY_STARTED)
    (delivery,) = bench.ledger.deliveries.of(UID)
    bench.ledger.deliveries.record(
        delivery,
        DeliveryState.ACCEPTED,
        bench.clock.now,
        next_attempt_at=bench.clock.now,
        status=0,
        detail="",
    )
    assert bench.tick(20) is SeriesState.DELIVERED


def test_a_broker_that_is_away_is_complained_of_once(bench: Bench) -> None:
    bench.dispatcher.broken = True
    with capture_logs() as logs:
        for _ in range(200):
            bench.tick(1)
        assert bench.ledger.series(UID).state is SeriesState.COMPLETE
        bench.dispatcher.broken = False
        assert bench.tick(60) is SeriesState.QUEUED
    said = [entry["event"] for entry in logs if entry.get("duty") == "send series"]
    assert said == ["duty fails", "duty works again"]
    # Each attempt leaves two lines in the history, so it must not be made at every tick.
    assert len(bench.ledger.history(UID)) < 40


def test_one_duty_that_fails_does_not_stop_the_others(bench: Bench) -> None:
    bench.tick(60)
    bench.dispatcher.broken = True
    bench.spool.put_outcome(UID, 1, b"damaged")
    bench.ledger.record_instance(
        instance(2, series_instance_uid="1.9", received_at=bench.clock.now), CompletionSettings()
    )
    with capture_logs() as logs:
        bench.tick(30)
        bench.tick(30)
    assert {"record outcomes", "send series"} <= {entry.get("duty") for entry in logs}
    assert bench.ledger.series("1.9").state is SeriesState.COMPLETE
