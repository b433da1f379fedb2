import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.config import CompletionSettings
from dicom_node.errors import (
    IllegalTransitionError,
    StaleRevisionError,
    UnknownSeriesError,
)
from dicom_node.ledger import Ledger
from dicom_node.records import (
    TRANSITIONS,
    Delivery,
    DeliveryState,
    Reason,
    ResultFile,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
    StoredAs,
)
from tests.dicom_node.factories import START, instance

UID = "1.2.3"
RULE = CompletionSettings(quiet_after_release_s=10, quiet_s=60, cap_s=900)
SEG = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm"))
SR = ResultFile("2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1", Path("sr.dcm"))
TO_WORK = (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT)
TO_RESULTS = (*TO_WORK, SeriesEvent.WORK_STARTED, SeriesEvent.MEASURED)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


def put(ledger: Ledger, number: int = 1, seconds: float = 0, **changes: object) -> StoredAs:
    return ledger.record_instance(instance(number, received_at=at(seconds), **changes), RULE)


def drive(ledger: Ledger, *events: SeriesEvent, seconds: float = 100) -> SeriesRecord:
    for event in events:
        ledger.advance(UID, event, at(seconds))
    return ledger.series(UID)


def test_a_first_image_opens_a_series(ledger: Ledger) -> None:
    assert put(ledger) is StoredAs.NEW
    record = ledger.series(UID)
    assert record.state is SeriesState.RECEIVING
    assert (record.revision, record.attempt, record.instance_count) == (1, 0, 1)
    assert record.source_ae_title == "SCANNER"
    assert ledger.instances(UID) == (instance(),)


def test_what_was_recorded_is_there_after_reopening(ledger: Ledger, tmp_path: Path) -> None:
    put(ledger)
    again = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert again.instances(UID) == (instance(),)
    assert again.series(UID) == ledger.series(UID)
    again.close()


def test_an_unknown_series_is_said_so(ledger: Ledger) -> None:
    with pytest.raises(UnknownSeriesError):
        ledger.series(UID)
    with pytest.raises(UnknownSeriesError):
        ledger.advance(UID, SeriesEvent.TASK_SENT, START)


def test_while_an_association_is_open_the_long_quiet_period_counts(ledger: Ledger) -> None:
    put(ledger)
    put(ledger, 2, seconds=30)
    assert ledger.due_series(at(89)) == ()
    assert [record.series_instance_uid for record in ledger.due_series(at(90))] == [UID]


def test_a_release_shortens_the_quiet_period(ledger: Ledger) -> None:
    put(ledger)
    ledger.record_release([UID], RULE, at(3))
    assert ledger.due_series(at(9)) == ()
    assert len(ledger.due_series(at(10))) == 1


def test_a_release_never_lengthens_it(ledger: Ledger) -> None:
    put(ledger)
    ledger.record_release([UID], CompletionSettings(quiet_after_release_s=500), at(1))
    assert len(ledger.due_series(at(60))) == 1


def test_an_image_after_the_release_makes_it_long_again(ledger: Ledger) -> None:
    put(ledger)
    ledger.record_release([UID], RULE, at(1))
    put(ledger, 2, seconds=5)
    assert ledger.due_series(at(64)) == ()


def test_a_series_that_never_falls_quiet_is_closed_by_the_cap(ledger: Ledger) -> None:
    for number in range(30):
        put(ledger, number, seconds=number * 30)
    assert len(ledger.due_series(at(900))) == 1


def test_the_cap_counts_from_the_first_image_of_the_revision(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_RESULTS)
    put(ledger, 2, seconds=5000)
    assert ledger.series(UID).due_at == at(5060)


def test_a_duplicate_changes_nothing(ledger: Ledger) -> None:
    put(ledger)
    before = drive(ledger, *TO_RESULTS)
    history = ledger.history(UID)
    assert put(ledger, seconds=500) is StoredAs.DUPLICATE
    assert ledger.series(UID) == before
    assert ledger.history(UID) == history


@pytest.mark.parametrize(
    "change",
    [
        {"sop_instance_uid": "1.2.3.1"},
        {"patient_key": "b" * 64},
        {"study_instance_uid": "1.9"},
    ],
)
def test_a_conflict_is_kept_and_quarantines_the_series(
    ledger: Ledger, change: dict[str, str]
) -> None:
    put(ledger)
    assert put(ledger, 2, **change) is StoredAs.CONFLICT
    record = ledger.series(UID)
    assert record.state is SeriesState.QUARANTINED
    assert record.reason is not None
    assert record.reason.code == "INSTANCE_CONFLICT"
    assert len(ledger.instances(UID)) == 2


def test_a_uid_of_another_series_is_a_conflict_of_the_newcomer(ledger: Ledger) -> None:
    put(ledger)
    assert put(ledger, 2, sop_instance_uid="1.2.3.1", series_instance_uid="1.7") is (
        StoredAs.CONFLICT
    )
    assert ledger.series("1.7").state is SeriesState.QUARANTINED
    assert ledger.series(UID).state is SeriesState.RECEIVING


def test_after_a_person_looked_the_first_of_conflicting_images_are_analysed(
    ledger: Ledger,
) -> None:
    put(ledger)
    put(ledger, 2, seconds=1)
    put(ledger, 9, seconds=2, sop_instance_uid="1.2.3.1")
    put(ledger, 3, seconds=3, patient_key="b" * 64)
    put(ledger, 4, seconds=4, study_instance_uid="1.9")
    assert [one.sha256[-1] for one in ledger.own_instances(UID)] == ["1", "2"]
    assert len(ledger.instances(UID)) == 5
    (alarm,) = ledger.alarms.standing()
    assert (alarm.code, alarm.subject) == ("SERIES_QUARANTINED", UID)
    drive(ledger, SeriesEvent.RETRY_REQUESTED)
    assert ledger.alarms.standing() == ()


def test_orders_are_numbered_and_no_number_comes_again(ledger: Ledger) -> None:
    put(ledger)
    numbers = [drive(ledger, *TO_WORK).order_number]
    numbers.append(drive(ledger, SeriesEvent.WORK_LOST, SeriesEvent.TASK_SENT).order_number)
    put(ledger, 2, seconds=200)
    numbers.append(drive(ledger, *TO_WORK).order_number)
    assert numbers == [1, 2, 3]


def test_what_is_quarantined_waits_for_a_person(ledger: Ledger) -> None:
    put(ledger)
    put(ledger, 2, patient_key="b" * 64)
    reason = ledger.series(UID).reason
    put(ledger, 3, seconds=1)
    record = ledger.series(UID)
    assert (record.state, record.reason, record.due_at) == (SeriesState.QUARANTINED, reason, None)
    assert (record.revision, record.instance_count) == (1, 3)
    assert drive(ledger, SeriesEvent.RETRY_REQUESTED).state is SeriesState.COMPLETE


@pytest.mark.parametrize("steps", [TO_WORK[:1], TO_WORK, TO_RESULTS])
def test_a_late_image_starts_a_new_revision(ledger: Ledger, steps: tuple[SeriesEvent, ...]) -> None:
    put(ledger)
    drive(ledger, *steps)
    put(ledger, 2, seconds=200)
    record = ledger.series(UID)
    assert (record.state, record.revision) == (SeriesState.RECEIVING, 2)
    assert (record.attempt, record.queued_at, record.due_at) == (0, None, at(260))
    put(ledger, 3, seconds=201)
    assert ledger.series(UID).revision == 2


def test_the_outcome_of_an_older_revision_is_stale(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_WORK)
    put(ledger, 2, seconds=200)
    drive(ledger, *TO_WORK, seconds=300)
    with pytest.raises(StaleRevisionError):
        ledger.advance(UID, SeriesEvent.MEASURED, at(301), revision=1)
    with pytest.raises(StaleRevisionError):
        ledger.deliveries.queue(UID, 1, [SEG], ["pacs"], at(301))
    assert ledger.advance(UID, SeriesEvent.MEASURED, at(301), revision=2).revision == 2


def test_a_conflict_during_work_makes_the_work_stale(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_WORK)
    put(ledger, 2, seconds=200, patient_key="b" * 64)
    assert ledger.series(UID).revision == 2
    put(ledger, 3, seconds=201)
    assert ledger.series(UID).revision == 2


def test_an_image_after_a_quarantine_makes_earlier_work_stale(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_WORK, SeriesEvent.ATTEMPTS_EXHAUSTED)
    put(ledger, 2, seconds=200)
    put(ledger, 3, seconds=201)
    record = ledger.series(UID)
    assert (record.state, record.revision) == (SeriesState.QUARANTINED, 2)


def test_attempts_and_the_queueing_time_are_kept(ledger: Ledger) -> None:
    put(ledger)
    assert drive(ledger, *TO_WORK, seconds=10).attempt == 1
    drive(ledger, SeriesEvent.WORK_STARTED, SeriesEvent.WORK_LOST, seconds=20)
    record = drive(ledger, SeriesEvent.TASK_SENT, seconds=30)
    assert (record.attempt, record.queued_at) == (2, at(10))


def test_a_task_that_no_worker_began_is_no_attempt(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_WORK)
    for _ in range(5):
        assert drive(ledger, SeriesEvent.WORK_LOST, SeriesEvent.TASK_SENT).attempt == 1


def test_a_retry_counts_anew(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, *TO_WORK, SeriesEvent.ATTEMPTS_EXHAUSTED)
    assert drive(ledger, SeriesEvent.RETRY_REQUESTED).attempt == 0


def test_work_is_lost_when_its_time_is_over(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, SeriesEvent.QUIET_PERIOD_OVER)
    ledger.advance(UID, SeriesEvent.TASK_SENT, at(100), due_at=at(200))
    assert ledger.lost_work(at(199)) == ()
    ledger.advance(UID, SeriesEvent.WORK_STARTED, at(150))
    assert len(ledger.lost_work(at(200))) == 1
    ledger.advance(UID, SeriesEvent.WORK_STARTED, at(150), due_at=at(300))
    assert ledger.lost_work(at(299)) == ()


def test_a_reason_stays_as_long_as_the_state(ledger: Ledger) -> None:
    put(ledger)
    drive(ledger, SeriesEvent.QUIET_PERIOD_OVER)
    reason = Reason("LOCALIZER", "the images are localizers")
    ledger.advance(UID, SeriesEvent.NOT_ELIGIBLE, at(1), reason=reason)
    assert ledger.series(UID).reason == reason
    assert drive(ledger, SeriesEvent.RETRY_REQUESTED).reason is None
    assert reason in [entry.reason for entry in ledger.history(UID)]


def test_history_tells_every_change_but_not_every_image(ledger: Ledger) -> None:
    for number in range(5):
        put(ledger, number)
    drive(ledger, *TO_WORK)
    assert [entry.event for entry in ledger.history(UID)] == [
        "instance_stored",
        "quiet_period_over",
        "task_sent",
    ]


def test_waiting_series_come_oldest_first_and_lists_newest_first(ledger: Ledger) -> None:
    for number, seconds in ((1, 20), (2, 10), (3, 30)):
        put(ledger, number, seconds=seconds, series_instance_uid=f"1.{number}")
        ledger.advance(f"1.{number}", SeriesEvent.QUIET_PERIOD_OVER, at(100))
    put(ledger, 4, seconds=40, series_instance_uid="1.4")
    assert [r.series_instance_uid for r in ledger.complete_series()] == ["1.2", "1.1", "1.3"]
    assert [r.series_instance_uid for r in ledger.list_series(limit=2)] == ["1.4", "1.3"]
    receiving = ledger.list_series([SeriesState.RECEIVING])
    assert [r.series_instance_uid for r in receiving] == ["1.4"]
    assert ledger.counts() == {SeriesState.RECEIVING: 1, SeriesState.COMPLETE: 3}


def queued(ledger: Ledger) -> tuple[Delivery, ...]:
    put(ledger)
    drive(ledger, *TO_RESULTS)
    ledger.deliveries.queue(UID, 1, [SEG, SR], ["one", "two"], at(100))
    return ledger.deliveries.of(UID)


def answer(ledger: Ledger, delivery: Delivery, state: DeliveryState, due: float = 0) -> None:
    ledger.deliveries.record(
        delivery, state, at(101), next_attempt_at=at(due), status=0, detail="said so"
    )


def test_every_result_goes_to_every_destination_once(ledger: Ledger) -> None:
    deliveries = queued(ledger)
    assert len(deliveries) == 4
    ledger.deliveries.queue(UID, 1, [SEG, SR], ["one", "two"], at(500))
    assert ledger.deliveries.of(UID) == deliveries


def test_a_claimed_delivery_is_due_again_after_the_lease(ledger: Ledger) -> None:
    queued(ledger)
    claimed = ledger.deliveries.claim(UID, "one", at(100), lease_s=60)
    assert [delivery.result for delivery in claimed] == [SEG, SR]
    assert ledger.deliveries.claim(UID, "one", at(159), lease_s=60) == ()
    assert len(ledger.deliveries.claim(UID, "one", at(160), lease_s=60)) == 2
    assert {delivery.destination for delivery in ledger.deliveries.due(at(160))} == {"two"}


def test_a_failed_attempt_is_counted_and_waits(ledger: Ledger) -> None:
    delivery = queued(ledger)[0]
    answer(ledger, delivery, DeliveryState.QUEUED, due=400)
    tried = ledger.deliveries.of(UID)[0]
    assert (tried.attempts, tried.detail, tried.status) == (1, "said so", 0)
    assert tried not in ledger.deliveries.due(at(399))
    assert tried in ledger.deliveries.due(at(400))
    assert ledger.history(UID)[-1].event == "delivery_queued"


def test_late_images_supersede_what_is_queued_but_not_what_arrived(ledger: Ledger) -> None:
    first, second, *_ = queued(ledger)
    answer(ledger, first, DeliveryState.ACCEPTED)
    put(ledger, 2, seconds=200)
    states = {d.result.sop_instance_uid + d.destination: d.state for d in ledger.deliveries.of(UID)}
    assert states[first.result.sop_instance_uid + first.destination] is DeliveryState.ACCEPTED
    assert list(states.values()).count(DeliveryState.SUPERSEDED) == 3
    assert ledger.deliveries.due(at(1000)) == ()
    answer(ledger, second, DeliveryState.QUEUED)
    assert ledger.deliveries.due(at(1000)) == ()
    answer(ledger, second, DeliveryState.ACCEPTED)
    assert [d.state for d in ledger.deliveries.of(UID)].count(DeliveryState.ACCEPTED) == 2


def test_a_late_failure_does_not_undo_an_acceptance(ledger: Ledger) -> None:
    delivery = queued(ledger)[0]
    answer(ledger, delivery, DeliveryState.ACCEPTED)
    answer(ledger, delivery, DeliveryState.DEAD)
    assert ledger.deliveries.of(UID)[0].state is DeliveryState.ACCEPTED


def test_after_a_retry_what_was_dead_is_tried_again(ledger: Ledger) -> None:
    dead, accepted, *_ = queued(ledger)
    answer(ledger, dead, DeliveryState.DEAD)
    answer(ledger, accepted, DeliveryState.ACCEPTED)
    ledger.deliveries.queue(UID, 1, [SEG, SR], ["one", "two"], at(600))
    again = ledger.deliveries.of(UID)
    states = {(d.result, d.destination): (d.state, d.attempts) for d in again}
    assert states[dead.result, dead.destination] == (DeliveryState.QUEUED, 0)
    assert states[accepted.result, accepted.destination] == (DeliveryState.ACCEPTED, 1)


def test_many_writers_lose_nothing(ledger: Ledger, tmp_path: Path) -> None:
    # The second ledger stands for another process: nothing but the database keeps them apart.
    other = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def sender(first: int) -> None:
        for number in range(first, first + 20):
            put(other if first % 40 else ledger, number)

    threads = [threading.Thread(target=sender, args=(start,)) for start in range(0, 160, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert ledger.series(UID).instance_count == 160
    assert len(ledger.instances(UID)) == 160


AGAIN = (SeriesEvent.INSTANCE_STORED, SeriesEvent.CONFLICT_FOUND, SeriesEvent.RETRY_REQUESTED)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(events=st.lists(st.sampled_from(list(SeriesEvent)), max_size=12), number=st.uuids())
def test_any_sequence_of_events_keeps_to_the_table(
    ledger: Ledger, events: list[SeriesEvent], number: object
) -> None:
    uid = f"1.{int(str(number).replace('-', ''), 16)}"[:64]
    first = replace(instance(sop_instance_uid=f"{uid}"[:64]), series_instance_uid=uid)
    if ledger.record_instance(first, RULE) is StoredAs.DUPLICATE:
        return
    for event in events:
        before = ledger.series(uid)
        expected = TRANSITIONS.get((before.state, event))
        if expected is None:
            with pytest.raises(IllegalTransitionError):
                ledger.advance(uid, event, START)
            assert ledger.series(uid) == before
            continue
        after = ledger.advance(uid, event, START)
        assert after.state is expected
        assert after.revision >= before.revision
        assert after.attempt >= 0
        if before.state is SeriesState.DELIVERED:
            assert after.state is SeriesState.DELIVERED or event in AGAIN
