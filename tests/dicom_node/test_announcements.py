"""Lists of images that peers announce, and what becomes of them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_node.announcements import (
    ANNOUNCING,
    INSTANCE_AVAILABILITY,
    INVALID_VALUE,
    PROCEDURE_STEP,
    AnnouncementDesk,
)
from dicom_node.assembly import Assembly
from dicom_node.completeness import ProofDesk, record_proof
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.demo.processes import free_port
from dicom_node.ledger import Ledger
from dicom_node.receiver import Receiver
from dicom_node.records import Announcement, SeriesState
from dicom_node.rules.book import RuleBook
from dicom_node.rules.routing import Router
from dicom_node.serve import listening
from dicom_node.spool import Spool
from tests.dicom_node.factories import (
    START,
    ManualClock,
    RecordingDispatcher,
    instance,
    node_settings,
)

UID = "1.2.3"
STEP = "1.2.840.99.1"


def uids(*numbers: int) -> frozenset[str]:
    return frozenset(f"{UID}.{number}" for number in numbers)


def items(*numbers: int) -> list[Dataset]:
    made = []
    for uid in sorted(uids(*numbers)):
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.ReferencedSOPInstanceUID = uid
        item.InstanceAvailability = "ONLINE"
        made.append(item)
    return made


def notification(*numbers: int) -> Dataset:
    """An Instance Availability Notification of one series."""
    series = Dataset()
    series.SeriesInstanceUID = UID
    series.ReferencedSOPSequence = items(*numbers)
    content = Dataset()
    content.StudyInstanceUID = "1.2"
    content.ReferencedPerformedProcedureStepSequence = []
    content.ReferencedSeriesSequence = [series]
    return content


def step(status: str, *numbers: int) -> Dataset:
    """News of a procedure step with one series."""
    series = Dataset()
    series.SeriesInstanceUID = UID
    series.ReferencedImageSequence = items(*numbers)
    content = Dataset()
    content.PerformedProcedureStepStatus = status
    content.PerformedSeriesSequence = [series]
    return content


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as opened:
        yield opened


def announce(ledger: Ledger, *numbers: int, kind: str = "MPPS") -> None:
    ledger.announcements.record([Announcement(UID, kind, "CT1", START, uids(*numbers))])


def receive(ledger: Ledger, *numbers: int) -> None:
    for number in numbers:
        ledger.record_instance(instance(number), CompletionSettings())


@contextmanager
def peer(folder: Path, ledger: Ledger, services: list[str]) -> Iterator[Association]:
    """A scanner that has called a listener and wants to announce something."""
    sources = [{"ae_title": "CT1", "services": services}]
    settings = node_settings(folder, sources=sources)
    clock = ManualClock()
    with closing(Spool.of(settings.storage)) as spool:
        receiver = Receiver(settings, ledger, spool, clock)
        desk = AnnouncementDesk(settings, ledger, clock)
        with listening(settings, receiver, desk) as port:
            ae = AE(ae_title="CT1")
            for sop_class in ANNOUNCING:
                ae.add_requested_context(sop_class)
            association = ae.associate("127.0.0.1", port, ae_title="PSOAS")
            yield association
            if association.is_established:
                association.release()


@pytest.mark.network
def test_a_notification_is_recorded_and_a_second_one_adds_to_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    with peer(tmp_path, ledger, ["store", "notify"]) as caller:
        for content in (notification(1, 2), notification(2, 3)):
            status, _ = caller.send_n_create(content, INSTANCE_AVAILABILITY, None)
            assert status.Status == 0x0000
    assert ledger.announcements.of(UID) == Announcement(UID, "IAN", "CT1", START, uids(1, 2, 3))


@pytest.mark.network
def test_a_procedure_step_tells_when_it_is_over(ledger: Ledger, tmp_path: Path) -> None:
    with peer(tmp_path, ledger, ["notify"]) as caller:
        status, _ = caller.send_n_create(step("IN PROGRESS", 1), PROCEDURE_STEP, STEP)
        assert status.Status == 0x0000
        assert ledger.announcements.of(UID) is None
        status, _ = caller.send_n_set(step("COMPLETED", 1, 2), PROCEDURE_STEP, STEP)
        assert status.Status == 0x0000
    assert ledger.announcements.of(UID) == Announcement(UID, "MPPS", "CT1", START, uids(1, 2))


@pytest.mark.network
def test_a_list_that_names_no_images_properly_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    forged = notification(1)
    forged.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = ""
    with peer(tmp_path, ledger, ["notify"]) as caller:
        for content in (forged, step("COMPLETED", 1)):
            status, _ = caller.send_n_create(content, INSTANCE_AVAILABILITY, None)
            assert status.Status == INVALID_VALUE
    assert ledger.announcements.of(UID) is None


@pytest.mark.network
def test_who_may_only_store_announces_nothing(ledger: Ledger, tmp_path: Path) -> None:
    with peer(tmp_path, ledger, ["store", "echo"]) as caller:
        assert caller.accepted_contexts == []


def assembly(ledger: Ledger, folder: Path) -> Assembly:
    spool = Spool(folder / "spool")
    router = Router(ledger, spool, RuleBook, lambda _record, _now: True)
    return Assembly(ledger, spool, RecordingDispatcher(), lease_s=60.0, router=router)


@pytest.mark.parametrize(
    ("announced", "arrived", "state"),
    [
        ((1, 2, 3), (1, 2, 3), SeriesState.COMPLETE),
        ((1, 2, 3), (1, 2), SeriesState.RECEIVING),
        # Another image instead of the announced one, and one more than was announced.
        ((1, 2, 3), (1, 2, 4), SeriesState.RECEIVING),
        ((1, 2, 3), (1, 2, 3, 4), SeriesState.RECEIVING),
    ],
)
def test_a_series_that_is_whole_as_announced_waits_no_longer(
    ledger: Ledger,
    tmp_path: Path,
    announced: tuple[int, ...],
    arrived: tuple[int, ...],
    state: SeriesState,
) -> None:
    receive(ledger, *arrived)
    assembly(ledger, tmp_path).close_due_series(START)
    assert ledger.series(UID).state is SeriesState.RECEIVING
    announce(ledger, *announced)
    assembly(ledger, tmp_path).close_due_series(START)
    assert ledger.series(UID).state is state


def proof_desk(ledger: Ledger, settings: NodeSettings) -> ProofDesk:
    return ProofDesk(ledger, settings, RecordingDispatcher().send_proof)


def sentence(ledger: Ledger) -> str:
    proof = ledger.proofs.of(UID, 1)
    assert proof is not None
    return proof.sentence


def test_the_record_says_that_all_that_was_announced_is_here(
    ledger: Ledger, tmp_path: Path
) -> None:
    receive(ledger, 1, 2, 3)
    announce(ledger, 1, 2, 3)
    assert proof_desk(ledger, node_settings(tmp_path)).is_settled(ledger.series(UID), START)
    assert sentence(ledger) == "3 of 3, announced by CT1 (MPPS)"
    assert ledger.alarms.standing() == ()


def test_announced_images_are_waited_for_but_not_for_ever(ledger: Ledger, tmp_path: Path) -> None:
    receive(ledger, 1, 2)
    announce(ledger, 1, 2, 3)
    desk, record = proof_desk(ledger, node_settings(tmp_path)), ledger.series(UID)
    assert not desk.is_settled(record, START)
    assert not desk.is_settled(record, START + timedelta(seconds=59))
    assert ledger.alarms.standing() == ()
    assert desk.is_settled(record, START + timedelta(seconds=60))
    assert sentence(ledger) == "2 of 3, announced by CT1 (MPPS), 1 missing"
    assert [alarm.code for alarm in ledger.alarms.standing()] == ["SERIES_INCOMPLETE"]
    assert desk.is_settled(record, START + timedelta(seconds=61))


def test_what_was_announced_counts_when_the_pacs_is_not_heard(
    ledger: Ledger, tmp_path: Path
) -> None:
    receive(ledger, 1, 2)
    announce(ledger, 1, 2)
    query = {"ae_title": "PACS-A", "host": "127.0.0.1", "port": free_port()}
    settings = node_settings(tmp_path, sources=[{"ae_title": "SCANNER", "query": query}])
    record_proof(UID, 1, ledger, settings, START)
    assert sentence(ledger) == "2 of 2, announced by CT1 (MPPS)"


def test_announcements_do_not_pile_up(ledger: Ledger) -> None:
    announce(ledger, 1)
    ledger.announcements.forget(START - timedelta(days=30))
    assert ledger.announcements.of(UID) is not None
    ledger.announcements.forget(START)
    assert ledger.announcements.of(UID) is None


def test_what_another_peer_says_later_is_said_by_it(ledger: Ledger) -> None:
    announce(ledger, 1)
    later = Announcement(UID, "IAN", "PACS-A", START + timedelta(seconds=5), uids(1, 2))
    ledger.announcements.record([later])
    assert ledger.announcements.of(UID) == later
