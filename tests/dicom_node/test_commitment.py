"""Results count as delivered when the PACS has taken responsibility for them, where it must."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.commitment import Request, ask_at, read_report
from dicom_node.commitment_reports import ReportDesk
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.custody import Custody
from dicom_node.demo.processes import Parts, free_port
from dicom_node.errors import CommitmentRefusedError, PeerError
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox, store_at
from dicom_node.receiver import Receiver
from dicom_node.records import DeliveryState, ResultFile, SeriesEvent, SeriesState
from dicom_node.serve import listening
from dicom_node.spool import Spool
from tests.committing_pacs import CommittingPacs, Way
from tests.dicom_node.factories import START, ManualClock, instance, node_settings
from tests.phantoms import TorsoPhantom

pytestmark = pytest.mark.network

UID = "1.2.3"
Soon = Callable[[Callable[[], bool]], None]


@dataclass
class Desk:
    """A node whose series is measured and whose result the destination has accepted."""

    settings: NodeSettings
    ledger: Ledger
    outbox: Outbox
    port: int

    def seek(self) -> None:
        ask = ask_at("pacs", self.settings)
        assert ask is not None
        Custody(self.outbox).seek(UID, "pacs", ask, START)

    def state(self) -> DeliveryState:
        return self.ledger.deliveries.of(UID)[0].state


@contextmanager
def accepted_result(
    folder: Path, pacs_port: int, port: int = 0, *, ae_title: str = "PACS"
) -> Iterator[Desk]:
    destination = {
        "name": "pacs",
        "ae_title": ae_title,
        "host": "127.0.0.1",
        "port": pacs_port,
        "commitment": {},
    }
    settings = node_settings(
        folder,
        listener={"port": port},
        sources=[{"ae_title": "CT1"}],
        destinations=[destination],
        delivery={"timeout_s": 5.0},
    )
    spool, clock = Spool.of(settings.storage), ManualClock()
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        ledger.record_instance(instance(), CompletionSettings())
        for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
            ledger.advance(UID, event, clock.now)
        ledger.deliveries.queue(UID, 1, [put_result(spool)], ["pacs"], clock.now)
        ledger.advance(UID, SeriesEvent.DELIVERY_STARTED, clock.now)
        outbox = Outbox(ledger, spool, settings.delivery, settings.destinations)
        receiver = Receiver(settings, ledger, spool, clock)
        with listening(settings, receiver, ReportDesk(settings, Custody(outbox), clock)) as used:
            yield Desk(settings, ledger, outbox, used)


def put_result(spool: Spool) -> ResultFile:
    phantom = TorsoPhantom(shape=(1, 16, 16))
    dataset = phantom.datasets()[0]
    phantom.write_series(spool.path(Path("results", UID)))
    return ResultFile(
        dataset.SOPInstanceUID,
        dataset.SOPClassUID,
        dataset.file_meta.TransferSyntaxUID,
        Path("results", UID, "0000.dcm"),
    )


def accept(desk: Desk) -> None:
    (delivery,) = desk.ledger.deliveries.of(UID)
    desk.ledger.deliveries.record(
        delivery, DeliveryState.ACCEPTED, START, next_attempt_at=START, status=0, detail=""
    )


@pytest.mark.parametrize("way", [Way.SAME_ASSOCIATION, Way.NEW_ASSOCIATION, Way.WITHOUT_ROLES])
def test_a_report_ends_the_series_whichever_way_it_comes(
    way: Way, tmp_path: Path, soon: Soon
) -> None:
    with CommittingPacs(way) as pacs, accepted_result(tmp_path, pacs.port) as desk:
        pacs.report_to_port = desk.port
        accept(desk)
        desk.outbox.settle(UID, START)
        assert desk.ledger.series(UID).state is SeriesState.DELIVERING
        desk.seek()
        soon(lambda: desk.state() is DeliveryState.COMMITTED)
        soon(lambda: pacs.answers == [0x0000])
        assert desk.ledger.series(UID).state is SeriesState.DELIVERED
        (item,) = pacs.asked[0].ReferencedSOPSequence
        sent = desk.ledger.deliveries.of(UID)[0].result
        assert item.ReferencedSOPInstanceUID == sent.sop_instance_uid
        assert item.ReferencedSOPClassUID == sent.sop_class_uid


def test_a_result_that_is_not_committed_is_queued_again(tmp_path: Path, soon: Soon) -> None:
    with CommittingPacs(Way.NEW_ASSOCIATION) as pacs, accepted_result(tmp_path, pacs.port) as desk:
        pacs.report_to_port = desk.port
        pacs.fails[desk.ledger.deliveries.of(UID)[0].result.sop_instance_uid] = 0x0112
        accept(desk)
        desk.seek()
        soon(lambda: desk.state() is DeliveryState.QUEUED)
        assert "0112" in desk.ledger.deliveries.of(UID)[0].detail
        assert desk.ledger.series(UID).state is SeriesState.DELIVERING


@pytest.mark.parametrize(
    ("status", "error"), [(0x0122, CommitmentRefusedError), (0x0110, PeerError)]
)
def test_a_refusal_for_ever_is_told_from_one_of_the_moment(
    status: int, error: type[Exception], tmp_path: Path
) -> None:
    with (
        CommittingPacs(Way.NEVER, status=status) as pacs,
        accepted_result(tmp_path, pacs.port) as desk,
    ):
        ask = ask_at("pacs", desk.settings)
        assert ask is not None
        result = desk.ledger.deliveries.of(UID)[0].result
        with pytest.raises(error):
            ask(Request("1.2.3.4", (result,)), lambda _report: 0, lambda: True)


def call(desk: Desk, calling: str, **roles: bool) -> Association:
    ae = AE(ae_title=calling)
    ae.add_requested_context(StorageCommitmentPushModel)
    ae.add_requested_context(CTImageStorage)
    negotiation = [build_role(StorageCommitmentPushModel, **roles)] if roles else []
    return ae.associate("127.0.0.1", desk.port, ae_title="PSOAS", ext_neg=negotiation)


def accepted(association: Association) -> set[str]:
    assert association.is_established
    classes = {str(context.abstract_syntax) for context in association.accepted_contexts}
    association.release()
    return classes


def test_each_caller_is_offered_what_it_may_have(tmp_path: Path) -> None:
    with accepted_result(tmp_path, 11112) as desk:
        # A scanner that finds no commitment keeps its images: we are no archive.
        assert accepted(call(desk, "CT1")) == {CTImageStorage}
        assert accepted(call(desk, "CT1", scu_role=True)) == {CTImageStorage}
        assert accepted(call(desk, "PACS", scp_role=True)) == {StorageCommitmentPushModel}
        assert call(desk, "STRANGER", scp_role=True).is_rejected


def test_we_commit_to_nothing(tmp_path: Path) -> None:
    with accepted_result(tmp_path, 11112) as desk:
        association = call(desk, "PACS")
        request = Dataset()
        request.TransactionUID = "1.2.3.9"
        response, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        assert getattr(response, "Status", None) != 0x0000


def test_a_report_that_nobody_asked_for_is_answered_so(tmp_path: Path) -> None:
    with (
        CommittingPacs(Way.NEW_ASSOCIATION) as pacs,
        accepted_result(tmp_path, pacs.port) as desk,
    ):
        association = call(desk, "PACS", scp_role=True)
        information = Dataset()
        information.TransactionUID = "1.2.3.9"
        without_transaction = Dataset()
        without_transaction.RetrieveAETitle = "PACS"
        pacs.send_report(association, information)
        pacs.send_report(association, without_transaction)
        association.release()
        assert pacs.answers == [0x0115, 0x0115]


def test_what_stands_in_both_lists_is_not_safe() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    information = Dataset()
    information.TransactionUID = "1.9"
    information.ReferencedSOPSequence = [item]
    information.FailedSOPSequence = [item]
    report = read_report(information)
    assert report.committed == frozenset()
    assert dict(report.failed) == {"1.2": 0x0110}


@pytest.mark.slow
def test_orthanc_commits_to_what_it_has_and_to_nothing_else(
    tmp_path: Path, tool: Callable[[str], str], soon: Soon
) -> None:
    program, listener = tool("Orthanc"), free_port()
    configuration = {
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpServerEnabled": False,
        "DicomPort": free_port(),
        "DicomAet": "ORTHANC",
        "DicomModalities": {"psoas": ["PSOAS", "127.0.0.1", listener]},
    }
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(configuration))
    port = int(str(configuration["DicomPort"]))
    with Parts(tmp_path, threading.Event()) as parts:
        parts.start("orthanc", [program, str(file)], {"TCP_NODELAY": "1"})
        parts.wait_until(lambda: answers(port), "Orthanc answers", 60)
        folder = tmp_path / "node"
        with accepted_result(folder, port, listener, ae_title="ORTHANC") as desk:
            # Nothing was stored: Orthanc cannot commit, so the result has to go out again.
            accept(desk)
            desk.seek()
            soon(lambda: desk.state() is DeliveryState.QUEUED)
            desk.outbox.deliver(UID, "pacs", store_at("pacs", desk.settings), START)
            assert desk.state() is DeliveryState.ACCEPTED
            desk.seek()
            soon(lambda: desk.state() is DeliveryState.COMMITTED)
            assert desk.ledger.series(UID).state is SeriesState.DELIVERED


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
