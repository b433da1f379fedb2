"""Answer the requests of peers: one handler for each DICOM event, none of which decides.

Decisions are made in ``admission``; success is answered when the instance is flushed to disk and
recorded, never before.
"""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from io import BytesIO
from typing import Final, cast

import structlog
from pynetdicom import evt
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.admission import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    Command,
    Header,
    Rejection,
    admit,
    admit_with_room,
    patient_key,
    search_keys,
)
from dicom_node.arrival import IncomingDataSet, new_memory
from dicom_node.audit import AuditTrail
from dicom_node.audit_digest import AuditDigest
from dicom_node.audit_events import AuditedPeer
from dicom_node.config import NodeSettings
from dicom_node.errors import LedgerError, SpoolError
from dicom_node.file_meta import file_meta
from dicom_node.group_commit import GroupCommit
from dicom_node.ingest.fragments import FragmentReader
from dicom_node.ingest.provider import watch_for_requests
from dicom_node.ingest.requests import StoreRequest
from dicom_node.ledger import Ledger
from dicom_node.ledger_arrivals import Arrival
from dicom_node.records import ReceivedInstance, StoredAs
from dicom_node.search_keys import SearchAttribute
from dicom_node.spool import Spool
from dicom_node.spool_paths import instance_path

logger = structlog.get_logger(__name__)

SUCCESS: Final = 0x0000
_MIB: Final = 2**20
_VERIFICATION: Final = "1.2.840.10008.1.1"
# A-ASSOCIATE-RJ of PS3.8 table 9-21: for now, by the presentation service, temporary congestion.
_REJECTED_TRANSIENT: Final = 2
_PRESENTATION_SERVICE: Final = 3
_TEMPORARY_CONGESTION: Final = 1

Clock = Callable[[], datetime]
"""Returns the time, in UTC."""


class Receiver:
    """The handlers of one listening application entity.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    spool : Spool
    clock : Clock
    is_draining : callable, optional
        Says whether new images are to be sent somewhere else, or later.
    """

    def __init__(
        self,
        settings: NodeSettings,
        ledger: Ledger,
        spool: Spool,
        clock: Clock,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._is_draining = is_draining
        self._patient_secret = spool.patient_secret()
        self._commits = GroupCommit(spool, ledger)
        self._open = _OpenAssociations()
        self.audit = AuditDigest(AuditTrail.of(settings))

    def handlers(self) -> list[EventHandlerType]:
        """Return what pynetdicom is to call."""
        return [
            (evt.EVT_CONN_OPEN, self.on_connection_open),
            (evt.EVT_REQUESTED, self.on_requested),
            (evt.EVT_C_ECHO, on_c_echo),
            (evt.EVT_C_STORE, self.on_c_store),
            (evt.EVT_RELEASED, self.on_released),
        ]

    def on_requested(self, event: Event) -> None:
        """Turn peers away while the node is draining (PS3.8 9.3.4); those that only ask may in."""
        request = cast("A_ASSOCIATE", event.assoc.requestor.primitive)
        if self._is_draining() and not _only_verifies(request):
            self._turn_away(event.assoc)

    def on_connection_open(self, event: Event) -> None:
        """Set up a connection before its association begins."""
        association = event.assoc
        transport = association.dul.socket
        if transport is None or transport.socket is None:
            return
        listener = self._settings.listener
        prepare_connection(transport.socket, listener.network_timeout_s)
        watch_for_requests(association, self.on_request, listener.largest_instance_mib * _MIB)

    def _turn_away(self, association: Association) -> None:
        """Ask a peer to come again later: one that keeps its images loses none."""
        logger.info("association turned away: draining", calling=association.requestor.ae_title)
        association.acse.send_reject(
            _REJECTED_TRANSIENT, _PRESENTATION_SERVICE, _TEMPORARY_CONGESTION
        )
        association.kill()

    def on_c_store(self, event: Event) -> int:
        """Answer a C-STORE request that pynetdicom read, with a status of PS3.4 B.2.3."""
        request = cast("C_STORE", event.request)
        if not isinstance(request.DataSet, BytesIO):
            return CANNOT_UNDERSTAND
        command = Command(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        incoming = self._incoming(command, event.assoc, new_memory())
        with request.DataSet.getbuffer() as data, closing(incoming):
            incoming.add_all(data)
            return self.take(command, event.assoc, incoming)

    def on_request(
        self,
        association: Association,
        request: StoreRequest,
        fragments: FragmentReader,
        memory: memoryview,
    ) -> int:
        """Answer a C-STORE request of the fast path, whose data set is still to be received."""
        command = Command(
            request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid
        )
        with closing(self._incoming(command, association, memory)) as incoming:
            fragments.read(request.context_id, request.rest_of_pdu, incoming)
            return self.take(command, association, incoming)

    def take(self, command: Command, association: Association, incoming: IncomingDataSet) -> int:
        """Keep and record an instance, or refuse it.

        Parameters
        ----------
        command : Command
        association : Association
        incoming : IncomingDataSet
            All of the data set.

        Returns
        -------
        int
            Status of PS3.4 B.2.3; success means on disk and recorded.
        """
        answer = self._take(command, association, incoming)
        if isinstance(answer, StoredAs):
            return SUCCESS
        logger.warning(
            "instance refused",
            status=f"{answer.status:04X}",
            reason=answer.reason,
            calling=sender_of(association).ae_title,
            address=sender_of(association).address,
            sop_instance=command.sop_instance_uid,
        )
        return answer.status

    def on_released(self, event: Event) -> None:
        """Let the quiet period of what a peer sent be short: it said that it is done."""
        finished = self._open.close(event.assoc)
        if not finished:
            return
        completion = self._settings.completion_for(sender_of(event.assoc).ae_title)
        try:
            self._ledger.record_release(finished, completion, self._clock())
        except LedgerError as error:
            # The series only waits longer.
            logger.warning("release not recorded", code=error.code, error=str(error))

    def _incoming(
        self, command: Command, association: Association, memory: memoryview
    ) -> IncomingDataSet:
        head = file_meta(
            command.sop_class_uid,
            command.sop_instance_uid,
            command.transfer_syntax_uid,
            sender_of(association).ae_title,
        )
        return IncomingDataSet(self._spool, head, memory)

    def _take(
        self, command: Command, association: Association, incoming: IncomingDataSet
    ) -> StoredAs | Rejection:
        storage = self._settings.storage
        try:
            rejection = admit_with_room(self._spool.free_mib(), storage.free_space_watermark_mib)
            answer = rejection or admit(incoming.whole(), command)
            if isinstance(answer, Rejection):
                return answer
            return self._keep(answer, command.transfer_syntax_uid, association, incoming)
        except (SpoolError, LedgerError) as error:
            return Rejection(OUT_OF_RESOURCES, f"{error.code}: {error}")

    def _keep(
        self,
        header: Header,
        transfer_syntax_uid: str,
        association: Association,
        incoming: IncomingDataSet,
    ) -> StoredAs:
        sender, received_at = sender_of(association), self._clock()
        calling, address = sender.ae_title, sender.address
        part, sha256 = incoming.store(received_at, address)
        series_instance_uid = header.series_instance_uid
        keys = search_keys(header, self._patient_secret)
        instance = ReceivedInstance(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            series_instance_uid=series_instance_uid,
            study_instance_uid=header.study_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            calling_ae_title=calling,
            sender_address=address,
            path=instance_path(series_instance_uid, header.sop_instance_uid, sha256),
            sha256=sha256,
            size_bytes=incoming.size_bytes,
            patient_key=patient_key(header, self._patient_secret),
            received_at=received_at,
            accession_key=keys[SearchAttribute.ACCESSION_NUMBER],
            patient_id_key=keys[SearchAttribute.PATIENT_ID],
        )
        # Before the ledger: a release that comes next must find the series here.
        self._open.add(association, series_instance_uid)
        arrival = Arrival(instance, self._settings.completion_for(calling))
        stored_as = self._commits.commit(part, arrival)
        self.audit.received(
            AuditedPeer(calling, instance.sender_address),
            (instance.study_instance_uid, instance.patient_key),
            instance.sop_class_uid,
            instance.received_at,
        )
        if stored_as is StoredAs.CONFLICT:
            logger.warning("conflict: series quarantined", series=series_instance_uid)
        return stored_as


class _OpenAssociations:
    """Which series each open association has sent images of.

    One that ends without a release is found out by its thread: the events of an abort and of a
    closed connection come from another thread, at times before the release that led to them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[Association, set[str]] = {}

    def add(self, association: Association, series_instance_uid: str) -> None:
        with self._lock:
            self._series.setdefault(association, set()).add(series_instance_uid)

    def close(self, association: Association) -> set[str]:
        """Forget an association; return its series that no open one shares."""
        with self._lock:
            finished = self._series.pop(association, set())
            self._series = {a: series for a, series in self._series.items() if a.is_alive()}
            return finished.difference(*self._series.values())


def prepare_connection(connection: socket.socket, network_timeout_s: float) -> None:
    """Send answers at once, and wait for no peer for ever.

    Nagle's algorithm would hold each answer back for 40 ms. The system keeps the timeout: one of
    Python's would cost a call before each read.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seconds, fraction = divmod(network_timeout_s, 1)
    timeout = struct.pack("ll", int(seconds), int(fraction * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)


def sender_of(association: Association) -> ServiceUser:
    """Who stores at us: the caller, or the one whom we called when we get by C-GET."""
    return association.acceptor if association.is_requestor else association.requestor


def on_c_echo(_event: Event) -> int:
    """Answer a C-ECHO request (PS3.4 A.4)."""
    return SUCCESS


def _only_verifies(request: A_ASSOCIATE) -> bool:
    contexts = request.presentation_context_definition_list
    return all(str(context.abstract_syntax) == _VERIFICATION for context in contexts)
