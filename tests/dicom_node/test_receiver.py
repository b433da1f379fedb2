import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_node.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from dicom_node.ledger_queries import series_with_keys
from dicom_node.records import SeriesState
from dicom_node.search_keys import SearchAttribute, typed_keys
from tests.dicom_node.datasets import ct_header, encoded
from tests.dicom_node.factories import Node, listening_node, node_settings
from tests.peers import Scanner

Soon = Callable[[Callable[[], bool]], None]
pytestmark = pytest.mark.network

FEW = 4
SYNTAX = TRANSFER_SYNTAXES[0].uid
SOURCES = [{"ae_title": "CT1"}, {"ae_title": "CT2", "host": "192.0.2.1"}]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening_node(node_settings(tmp_path)) as node:
        yield node


@pytest.fixture
def images(demo_series: Path) -> list[Path]:
    return sorted(demo_series.glob("*.dcm"))[:FEW]


def associate(
    node: Node, *sop_classes: str, called: str = "PSOAS", calling: str = "CT1"
) -> Association:
    ae = AE(ae_title=calling)
    for sop_class in sop_classes or (CTImageStorage,):
        ae.add_requested_context(sop_class, SYNTAX)
    return ae.associate("127.0.0.1", node.port, ae_title=called)


def store(association: Association, data: bytes, sop_instance_uid: str = "1.2.3.1") -> int:
    """C-STORE of bytes as they are; a toolkit would refuse to encode what we need to send."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(CTImageStorage)
    request.AffectedSOPInstanceUID = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(data)
    context = association.accepted_contexts[0]
    with reactor_paused(association):
        association.dimse.send_msg(request, context.context_id)
        _, response = association.dimse.get_msg(block=True)
    assert isinstance(response, C_STORE), "no answer"
    assert response.Status is not None
    return response.Status


@contextmanager
def reactor_paused(association: Association) -> Iterator[None]:
    """Keep the sender's own thread from taking the answer, as ``send_c_store`` does."""
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    yield
    association._reactor_checkpoint.set()


def image(number: int = 1, **changes: object) -> tuple[bytes, str]:
    uid = f"1.2.3.{number}"
    return encoded(ct_header(SOPInstanceUID=uid, **changes)), uid


def test_echo_is_answered(node: Node) -> None:
    assert Scanner(node.port).echo() == 0x0000


def test_success_means_kept_byte_for_byte_and_recorded(node: Node) -> None:
    association = associate(node)
    for number in range(FEW):
        data, uid = image(number)
        assert store(association, data, uid) == 0x0000
        # The answer is here, so everything else must be too, with the association still open.
        newest = node.ledger.instances("1.2.3")[-1]
        assert newest.sop_instance_uid == uid
        assert node.spool.path(newest.path).read_bytes().endswith(data)
        assert newest.size_bytes == len(data)
    association.release()
    assert node.ledger.series("1.2.3").instance_count == FEW


def test_real_images_of_dcmtk_arrive_unchanged(
    node: Node, images: list[Path], tool: Callable[[str], str]
) -> None:
    command = [tool("storescu"), "-aec", "PSOAS", "-aet", "CT1", "127.0.0.1", str(node.port)]
    subprocess.run([*command, *map(str, images)], check=True, timeout=60)
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in map(dcmread, images)}
    (record,) = node.ledger.list_series()
    kept = node.ledger.instances(record.series_instance_uid)
    assert {instance.sop_instance_uid for instance in kept} == set(sent)
    for instance in kept:
        assert dcmread(node.spool.path(instance.path)) == sent[instance.sop_instance_uid]
        assert (instance.calling_ae_title, instance.sender_address) == ("CT1", "127.0.0.1")


def test_every_accepted_syntax_negotiates(node: Node) -> None:
    ae = AE(ae_title="CT1")
    for sop_class in STORAGE_SOP_CLASSES:
        for syntax in TRANSFER_SYNTAXES:
            ae.add_requested_context(sop_class, syntax.uid)
    association = ae.associate("127.0.0.1", node.port, ae_title="PSOAS")
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    }
    association.release()
    assert len(accepted) == len(STORAGE_SOP_CLASSES) * len(TRANSFER_SYNTAXES)


def test_other_storage_classes_are_left_out_of_a_mixed_association(node: Node) -> None:
    association = associate(node, CTImageStorage, MRImageStorage, Verification)
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    association.release()
    assert accepted == {CTImageStorage, Verification}


@pytest.mark.parametrize(
    ("called", "calling", "diagnostic"),
    [("OTHER", "CT1", 7), ("PSOAS", "STRANGER", 3), ("PSOAS", "CT2", 3)],
)
def test_strangers_are_rejected_with_the_reason(
    tmp_path: Path, called: str, calling: str, diagnostic: int
) -> None:
    with listening_node(node_settings(tmp_path, sources=SOURCES)) as node:
        association = associate(node, called=called, calling=calling)
        assert association.is_rejected
        rejection = association.acceptor.primitive
        assert rejection is not None
        assert (rejection.result, rejection.result_source) == (1, 1)
        assert rejection.diagnostic == diagnostic
        assert Scanner(node.port, ae_title="CT1").echo() == 0x0000


def test_more_associations_than_allowed_are_turned_away_for_now(tmp_path: Path) -> None:
    settings = node_settings(tmp_path, listener={"maximum_associations": 1})
    with listening_node(settings) as node:
        first = associate(node)
        second = associate(node)
        assert second.is_rejected
        rejection = second.acceptor.primitive
        assert rejection is not None
        assert rejection.result == 2
        first.release()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no data set at all", 0xC000),
        (encoded(ct_header())[:-3], 0xC000),
        (encoded(ct_header(SeriesInstanceUID=None)), 0xC000),
        (encoded(ct_header(SOPInstanceUID="1.2.3.9")), 0xA900),
        (encoded(ct_header(Modality="MR")), 0xA900),
        (b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000, 0xC000),
    ],
)
def test_bad_data_gets_a_status_and_the_association_goes_on(
    node: Node, data: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    association = associate(node)
    assert store(association, data) == status
    assert store(association, *image(2)) == 0x0000
    association.release()
    assert node.ledger.series("1.2.3").instance_count == 1
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


def test_a_full_disk_is_out_of_resources_and_echo_still_works(tmp_path: Path) -> None:
    settings = node_settings(tmp_path, storage={"free_space_watermark_mib": 2**40})
    with listening_node(settings) as node:
        association = associate(node)
        assert store(association, *image()) == 0xA700
        association.release()
        assert node.ledger.list_series() == ()
        assert Scanner(node.port).echo() == 0x0000


def test_what_cannot_be_written_is_not_acknowledged(node: Node) -> None:
    folder = node.spool.path(Path("instances"))
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    association = associate(node)
    assert store(association, *image()) == 0xA700
    folder.unlink()
    assert store(association, *image()) == 0x0000
    association.release()


def test_an_image_is_flushed_then_named_then_recorded_then_acknowledged(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, list[str], int]] = []
    flush, rename = os.fdatasync, Path.replace

    def note(what: str) -> None:
        names = [path.name for path in node.spool.path(Path("instances")).rglob("*.dcm")]
        recorded = node.ledger.list_series()
        steps.append((what, [name.partition("_")[0] for name in names], len(recorded)))

    def noted_flush(descriptor: int) -> None:
        is_whole = os.fstat(descriptor).st_size > len(image()[0])
        note("flush" if is_whole else "flush of a part")
        flush(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        note("rename")
        return renamed

    association = associate(node)
    monkeypatch.setattr(os, "fdatasync", noted_flush)
    monkeypatch.setattr(Path, "replace", noted_rename)
    assert store(association, *image()) == 0x0000
    note("success")
    association.release()
    assert steps == [("flush", [], 0), ("rename", ["1.2.3.1"], 0), ("success", ["1.2.3.1"], 1)]


def test_what_the_disk_does_not_flush_is_not_acknowledged(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    association = associate(node)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", broken)
        assert store(association, *image()) == 0xA700
    assert node.ledger.list_series() == ()
    assert list(node.spool.path(Path("instances")).rglob("*.dcm")) == []
    assert store(association, *image()) == 0x0000
    association.release()


def test_what_cannot_be_recorded_is_not_acknowledged(node: Node) -> None:
    association = associate(node)
    with node.ledger._database._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE instance RENAME TO elsewhere")
    assert store(association, *image()) == 0xA700
    with node.ledger._database._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO instance")
    assert store(association, *image()) == 0x0000
    association.release()


def test_duplicates_and_conflicts_are_acknowledged(node: Node) -> None:
    association = associate(node)
    assert store(association, *image()) == 0x0000
    assert store(association, *image()) == 0x0000
    assert len(node.ledger.instances("1.2.3")) == 1
    node.clock.forward(1)
    assert store(association, *image(PatientID="OTHER")) == 0x0000
    association.release()
    assert node.ledger.series("1.2.3").state is SeriesState.QUARANTINED
    first, second = node.ledger.instances("1.2.3")
    assert first.patient_key != second.patient_key
    assert dcmread(node.spool.path(first.path)).PatientID == "PHANTOM"
    assert dcmread(node.spool.path(second.path)).PatientID == "OTHER"


def due_after_s(node: Node) -> float:
    record = node.ledger.series("1.2.3")
    assert record.due_at is not None
    return (record.due_at - record.last_received_at).total_seconds()


def test_a_release_shortens_the_quiet_period(node: Node, soon: Soon) -> None:
    association = associate(node)
    store(association, *image())
    assert due_after_s(node) == 60
    association.release()
    soon(lambda: due_after_s(node) == 10)


def test_an_abort_does_not(node: Node, soon: Soon) -> None:
    association = associate(node)
    store(association, *image())
    association.abort()
    # A second association that is released proves that the first one's end was noticed.
    other = associate(node)
    store(other, *image(2, SeriesInstanceUID="1.2.4"))
    other.release()
    soon(lambda: node.ledger.series("1.2.4").due_at != node.ledger.series("1.2.3").due_at)
    assert due_after_s(node) == 60


def test_a_series_that_two_associations_send_waits_for_both(node: Node, soon: Soon) -> None:
    with ExitStack() as stack:
        first, second = associate(node), associate(node)
        stack.callback(second.abort)
        store(first, *image(1))
        store(second, *image(2))
        store(first, *image(3, SeriesInstanceUID="1.2.4"))
        first.release()
        soon(lambda: node.ledger.series("1.2.4").due_at != node.ledger.series("1.2.3").due_at)
        assert due_after_s(node) == 60
        second.release()
        soon(lambda: due_after_s(node) == 10)


def accepted_associations() -> list[Association]:
    threads = [t for t in threading.enumerate() if isinstance(t, Association)]
    return [thread for thread in threads if thread.is_acceptor]


def test_an_association_that_broke_off_is_not_waited_for(node: Node, soon: Soon) -> None:
    first, second = associate(node), associate(node)
    store(first, *image(1))
    store(second, *image(2))
    first.abort()
    soon(lambda: len(accepted_associations()) == 1)
    assert due_after_s(node) == 60
    second.release()
    soon(lambda: due_after_s(node) == 10)


def test_answers_are_not_held_back(node: Node) -> None:
    association = associate(node)
    (accepted,) = [thread for thread in accepted_associations() if thread.is_established]
    assert accepted.dul.socket is not None
    connection = accepted.dul.socket.socket
    assert connection is not None
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    association.release()


def test_a_series_is_found_by_accession_number_and_patient_id(node: Node) -> None:
    association = associate(node)
    assert store(association, *image(AccessionNumber="A4711", PatientID="P 12")) == 0x0000
    association.release()
    secret = node.spool.patient_secret()
    for attribute, typed in (
        (SearchAttribute.ACCESSION_NUMBER, "A4711"),
        (SearchAttribute.PATIENT_ID, " P 12"),
    ):
        keys = typed_keys(attribute, typed, secret)
        (found,) = node.ledger.read(partial(series_with_keys, keys=keys))
        assert found.series_instance_uid == "1.2.3"
    wrong = typed_keys(SearchAttribute.PATIENT_ID, "A4711", secret)
    assert node.ledger.read(partial(series_with_keys, keys=wrong)) == ()
