"""Ask a peer to take responsibility for results, and read its reports, as a Service Class User.

The node never commits to anything as a provider: it is no archive.

References
----------
DICOM PS3.4 Annex J (Storage Commitment Service Class, Push Model).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.config import NodeSettings
from dicom_node.destinations import security_of
from dicom_node.errors import CommitmentRefusedError, PeerError
from dicom_node.records import CommitmentReport, ResultFile
from dicom_node.sender import Peer, open_association

logger = structlog.get_logger(__name__)

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
INVALID_ARGUMENT: Final = 0x0115

_REQUEST_COMMITMENT: Final = 1  # Action Type ID, PS3.4 J.3.2
_NO_REASON: Final = PROCESSING_FAILURE  # for peers that name none
_REPORT_WAIT_S: Final = 3.0
"""How long a report may take on the association of its request; later ones come on a new one."""
_POLL_S: Final = 0.1

# What describes the moment and not the request (PS3.7 annex C).
_PASSING: Final = frozenset({PROCESSING_FAILURE, 0x0213})


@dataclass(frozen=True, slots=True)
class Request:
    """A request for storage commitment.

    Parameters
    ----------
    transaction_uid : str
    results : tuple of ResultFile
    """

    transaction_uid: str
    results: tuple[ResultFile, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    """Whom to ask, and how.

    Parameters
    ----------
    peer : Peer
    calling_ae_title : str
    timeout_s : float
    """

    peer: Peer
    calling_ae_title: str
    timeout_s: float


OnReport = Callable[[CommitmentReport], int]
"""Records a report and returns the status to answer with."""

Ask = Callable[[Request, OnReport, Callable[[], bool]], None]
"""Makes one request; see ``ask_peer``."""


def ask_peer(
    provider: Provider,
    request: Request,
    on_report: OnReport,
    is_answered: Callable[[], bool] = lambda: False,
) -> None:
    """Send an N-ACTION and take a report that comes at once on the same association.

    Parameters
    ----------
    provider : Provider
    request : Request
    on_report : callable
    is_answered : callable, optional
        Says that the report came some other way meanwhile.

    Raises
    ------
    PeerError
        The peer cannot be reached or cannot take the request now.
    CommitmentRefusedError
        It does not support storage commitment or refuses this request.
    """
    peer = provider.peer
    begun, reported = threading.Event(), threading.Event()

    def handle(event: Event) -> tuple[int, None]:
        begun.set()
        return answer_report(event, on_report), None

    def notice(event: Event) -> None:
        # Only now may the association be released: the peer has, or will have, our answer.
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            reported.set()

    contexts = [build_context(StorageCommitmentPushModel)]
    handlers: list[EventHandlerType] = [
        (evt.EVT_N_EVENT_REPORT, handle),
        (evt.EVT_DIMSE_SENT, notice),
    ]
    with open_association(
        peer, contexts, provider.calling_ae_title, provider.timeout_s, handlers
    ) as association:
        if not association.accepted_contexts:
            raise CommitmentRefusedError(f"{peer.label} does not support storage commitment")
        _request(association, peer, request)
        # A report that came on this association is recorded before its answer is sent.
        _wait_for_report(
            association, lambda: reported.is_set() or (is_answered() and not begun.is_set())
        )


def ask_at(destination: str, settings: NodeSettings) -> Ask | None:
    """Return the way to ask a destination for commitment, ``None`` when it need not commit."""
    for candidate in settings.destinations:
        commitment = candidate.commitment
        if candidate.name != destination or commitment is None:
            continue
        host = commitment.host or candidate.host
        peer = Peer(
            commitment.ae_title or candidate.ae_title,
            host,
            commitment.port or candidate.port,
            security_of(candidate, settings, host),
        )
        provider = Provider(peer, settings.listener.ae_title, settings.delivery.timeout_s)
        return partial(ask_peer, provider)
    return None


def answer_report(event: Event, on_report: OnReport) -> int:
    """Read an N-EVENT-REPORT and return the status of its response (PS3.4 J.3.3)."""
    try:
        report = read_report(event.event_information)
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        logger.warning("commitment report not understood", error=type(error).__name__)
        return INVALID_ARGUMENT
    return on_report(report)


def read_report(information: Dataset) -> CommitmentReport:
    """Read the Event Information of a report; event type 1 has no failures, type 2 has some.

    Raises
    ------
    AttributeError, ValueError
        It is none.

    References
    ----------
    DICOM PS3.4 table J.3-2.
    """
    committed = [str(item.ReferencedSOPInstanceUID) for item in _items(information, "Referenced")]
    failed = {
        str(item.ReferencedSOPInstanceUID): int(getattr(item, "FailureReason", _NO_REASON))
        for item in _items(information, "Failed")
    }
    # An item that stands in both lists is not safe.
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID),
        committed=frozenset(committed) - failed.keys(),
        failed=failed,
    )


def _items(information: Dataset, which: str) -> Sequence[Dataset]:
    return getattr(information, f"{which}SOPSequence", None) or ()


def _request(association: Association, peer: Peer, request: Request) -> None:
    try:
        response, _ = association.send_n_action(
            _action_information(request),
            _REQUEST_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
    except RuntimeError:
        # pynetdicom's word for an association that ended between the check and the request.
        raise PeerError(f"{peer.label} ended the association") from None
    status = getattr(response, "Status", None)
    if status is None:
        raise PeerError(f"{peer.label} did not answer the request for commitment")
    if status in _PASSING:
        raise PeerError(f"{peer.label} answered the request for commitment with {status:04X}")
    if status != SUCCESS:
        raise CommitmentRefusedError(f"{peer.label} refused to commit with status {status:04X}")


def _action_information(request: Request) -> Dataset:
    information = Dataset()
    information.TransactionUID = UID(request.transaction_uid)
    items = []
    for result in request.results:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(result.sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(result.sop_instance_uid)
        items.append(item)
    information.ReferencedSOPSequence = ItemSequence(items)
    return information


def _wait_for_report(association: Association, has_come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _REPORT_WAIT_S
    while association.is_established and not has_come() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
