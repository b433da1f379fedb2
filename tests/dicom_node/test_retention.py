import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings, DeliverySettings, RetentionSettings
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox
from dicom_node.records import DeliveryState, ResultFile, SeriesEvent, SeriesState, StoredAs
from dicom_node.recovery import Recovery
from dicom_node.retention import Releaser
from dicom_node.spool import FileIdentity, Spool
from dicom_node.spool_release import discard_instance
from tests.dicom_node.factories import ManualClock, destination, instance, node_settings

UID = "1.2.3"
DAY_S = 86400.0
IDENTITY = FileIdentity("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1", UID, "1.2.840.10008.1.2.1", "CT1")
SR = ResultFile("2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1", Path("sr.dcm"))
TO_RESULTS = (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED)


@dataclass
class Bench:
    """A series of one image that lies in the spool, with a result for a PACS that must commit."""

    ledger: Ledger
    spool: Spool
    releaser: Releaser
    clock: ManualClock

    def arrive(self, *, fresh: bool = False) -> StoredAs:
        stored = self.spool.put_instance(IDENTITY, b"pixels")
        if not fresh:
            os.utime(self.spool.path(stored.path), (0, 0))
        arrived = instance(path=stored.path, sha256=stored.sha256, received_at=self.clock.now)
        return self.ledger.record_instance(arrived, CompletionSettings())

    def drive(self, *events: SeriesEvent) -> None:
        for event in events:
            self.ledger.advance(UID, event, self.clock.now)

    def deliver(self, state: DeliveryState = DeliveryState.ACCEPTED) -> None:
        self.drive(*TO_RESULTS)
        self.ledger.deliveries.queue(UID, 1, [SR], ["pacs"], self.clock.now)
        (delivery,) = self.ledger.deliveries.of(UID)
        self.ledger.deliveries.record(
            delivery, state, self.clock.now, next_attempt_at=self.clock.now, status=0, detail=""
        )
        self.drive(SeriesEvent.ALL_DELIVERED)

    def after_days(self, days: float) -> list[Path]:
        """Images that are left when retention has looked."""
        self.releaser.release(self.clock.forward(days * DAY_S))
        return [path for path in self.spool.path(Path()).rglob("instances/*/*") if path.is_file()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool = Spool(tmp_path / "spool")
    outbox = Outbox(ledger, spool, DeliverySettings(), [destination("archive", commitment={})])
    settings = RetentionSettings(images_days=30, skipped_days=5, records_days=100)
    made = Bench(ledger, spool, Releaser(outbox, settings), ManualClock())
    made.arrive()
    yield made
    ledger.close()


def test_images_go_when_they_are_delivered_and_old_enough(bench: Bench) -> None:
    bench.deliver()
    assert len(bench.after_days(29)) == 1
    assert bench.after_days(1) == []
    assert bench.ledger.series(UID).released_at == bench.clock.now
    assert bench.ledger.instances(UID) == ()


@pytest.mark.parametrize(
    "steps",
    [
        (),
        TO_RESULTS[:1],
        TO_RESULTS,
        (*TO_RESULTS[:2], SeriesEvent.WORK_FAILED),
        (*TO_RESULTS[:2], SeriesEvent.ATTEMPTS_EXHAUSTED),
        (*TO_RESULTS, SeriesEvent.DELIVERY_STARTED, SeriesEvent.DELIVERY_ABANDONED),
    ],
)
def test_nothing_else_is_ever_deleted(bench: Bench, steps: tuple[SeriesEvent, ...]) -> None:
    bench.drive(*steps)
    assert len(bench.after_days(10_000)) == 1


def test_what_must_be_committed_is_kept_until_it_is(bench: Bench) -> None:
    bench.drive(*TO_RESULTS)
    bench.ledger.deliveries.queue(UID, 1, [SR], ["archive"], bench.clock.now)
    (delivery,) = bench.ledger.deliveries.of(UID)
    now = bench.clock.now
    bench.ledger.deliveries.record(
        delivery, DeliveryState.ACCEPTED, now, next_attempt_at=now, status=0, detail=""
    )
    bench.drive(SeriesEvent.ALL_DELIVERED)
    assert len(bench.after_days(1000)) == 1


def test_skipped_series_have_a_time_of_their_own(bench: Bench) -> None:
    bench.drive(SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.NOT_ELIGIBLE)
    assert len(bench.after_days(4)) == 1
    assert bench.after_days(1) == []


def test_images_that_are_sent_again_after_that_are_new(bench: Bench) -> None:
    bench.deliver()
    bench.after_days(30)
    assert bench.arrive() is StoredAs.NEW
    record = bench.ledger.series(UID)
    assert (record.state, record.revision) == (SeriesState.RECEIVING, 2)
    assert (record.instance_count, record.released_at) == (1, None)
    assert len(bench.after_days(1000)) == 1


@pytest.mark.parametrize("moment", ["before it is put aside", "while it is put aside", "recorded"])
def test_an_image_that_comes_again_while_it_is_deleted_is_kept(bench: Bench, moment: str) -> None:
    bench.deliver()
    record = bench.ledger.series(UID)
    (path,) = bench.ledger.retention.release(record, bench.clock.now)
    if moment == "before it is put aside":
        bench.arrive(fresh=True)

    def is_known(known: Path) -> bool:
        if moment == "while it is put aside":
            assert bench.spool.put_instance(IDENTITY, b"pixels").path == known
        if moment == "recorded":
            bench.arrive()
        return bench.ledger.retention.is_known(known)

    discard_instance(bench.spool, path, is_known)
    if moment != "before it is put aside":
        bench.arrive(fresh=True)
    (kept,) = bench.ledger.instances(UID)
    assert bench.spool.path(kept.path).read_bytes().endswith(b"pixels")
    assert list(bench.spool.path(Path()).rglob("*.gone")) == []


def test_a_release_that_a_crash_broke_off_is_finished_and_nothing_comes_back(
    bench: Bench, tmp_path: Path
) -> None:
    bench.deliver()
    released_at = bench.clock.forward(30 * DAY_S)
    (path,) = bench.ledger.retention.release(bench.ledger.series(UID), released_at)
    assert bench.spool.path(path).exists()
    assert bench.releaser.finish(bench.clock.forward(5)) == 1
    assert not bench.spool.path(path).exists()
    assert Recovery(node_settings(tmp_path), bench.ledger, bench.spool).run() == 0
    assert bench.releaser.finish(bench.clock.now) == 0


def test_an_image_that_a_crash_left_aside_comes_back_when_the_ledger_names_it(
    bench: Bench,
) -> None:
    bench.deliver()
    released_at = bench.clock.forward(30 * DAY_S)
    (path,) = bench.ledger.retention.release(bench.ledger.series(UID), released_at)
    bench.arrive()
    file = bench.spool.path(path)
    file.rename(file.with_name(f".{file.name}.gone"))
    assert bench.releaser.finish(bench.clock.now) == 0
    assert file.read_bytes().endswith(b"pixels")
    assert [one.path for one in bench.ledger.instances(UID)] == [path]


def test_a_late_image_of_a_released_series_is_no_leftover(bench: Bench) -> None:
    bench.deliver()
    bench.after_days(30)
    stored = bench.spool.put_instance(IDENTITY, b"pixels")  # a power cut took its record
    assert bench.releaser.finish(bench.clock.now) == 0
    assert bench.spool.path(stored.path).exists()


def test_what_a_crash_left_goes_with_the_records_at_the_latest(bench: Bench) -> None:
    bench.deliver()
    released_at = bench.clock.forward(30 * DAY_S)
    bench.ledger.retention.release(bench.ledger.series(UID), released_at)
    assert bench.after_days(100) == []
    assert bench.ledger.list_series() == ()


def test_images_that_just_came_in_are_not_let_go_whatever_the_settings_say(bench: Bench) -> None:
    bench.deliver()
    hasty = RetentionSettings(images_days=0, skipped_days=0, records_days=0)
    bench.releaser = replace(bench.releaser, settings=hasty)
    assert len(bench.after_days(0)) == 1
    assert len(bench.ledger.instances(UID)) == 1
    assert bench.after_days(1) == []


def test_records_go_last_and_leave_nothing(bench: Bench) -> None:
    bench.deliver()
    bench.spool.put_results(UID, 1, {"sr.dcm": b"sr"})
    bench.after_days(30)
    bench.after_days(99)
    assert bench.spool.result_files(UID) != []
    bench.after_days(1)
    assert bench.ledger.list_series() == ()
    assert bench.ledger.deliveries.of(UID) == ()
    assert bench.spool.result_files(UID) == []
    assert bench.ledger.record_instance(
        instance(received_at=bench.clock.now), CompletionSettings()
    ) is (StoredAs.NEW)


def test_a_series_that_changed_meanwhile_is_left_alone(bench: Bench) -> None:
    bench.deliver()
    record = bench.ledger.series(UID)
    late = instance(2, received_at=bench.clock.now + timedelta(days=40))
    bench.ledger.record_instance(late, CompletionSettings())
    assert bench.ledger.retention.release(record, bench.clock.now) == ()
    assert len(bench.ledger.instances(UID)) == 2
