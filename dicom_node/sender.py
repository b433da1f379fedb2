"""Store files at a peer over one association, as a Service Class User.

References
----------
DICOM PS3.4 Annex A (Verification) and Annex B (Storage); PS3.8 9.3.2 (presentation contexts).
"""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.answers import keep_answers
from dicom_node.errors import PeerError

_MAXIMUM_CONTEXTS = 128
_NO_RESPONSE = "no answer before the association ended"


@dataclass(frozen=True, slots=True)
class Security:
    """What a secure connection takes.

    Parameters
    ----------
    context : SSLContext
    name : str
        That the certificate of the peer must show.
    """

    context: ssl.SSLContext
    name: str


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity that we call.

    Parameters
    ----------
    ae_title : str
        Called AE title.
    host : str
    port : int
    security : Security or None
        ``None`` for a connection in the clear.
    """

    ae_title: str
    host: str
    port: int
    security: Security | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.ae_title} at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A DICOM file on its way out.

    Parameters
    ----------
    sop_instance_uid, sop_class_uid, transfer_syntax_uid : str
    path : Path
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path


class Problem(StrEnum):
    """Why a file got no status."""

    NO_ANSWER = "no_answer"
    CONTEXT_REJECTED = "context_rejected"
    HTTP_REFUSED = "http_refused"
    FILE_UNREADABLE = "file_unreadable"
    UNKNOWN_DESTINATION = "unknown_destination"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one file.

    Parameters
    ----------
    sop_instance_uid : str
    status : int or None
        Of PS3.4 B.2.3, over DICOMweb too; ``None`` when there was none.
    problem : Problem or None
        Why there was none.
    detail : str
        The same as a sentence fragment, Error Comment (0000,0902) of the peer included.
    """

    sop_instance_uid: str
    status: int | None
    problem: Problem | None
    detail: str


def echo(peer: Peer, *, calling_ae_title: str, timeout_s: float) -> None:
    """Verify that a peer answers C-ECHO.

    Raises
    ------
    PeerError
        One sentence: no connection, association rejected, or another status than success.
    """
    contexts = [build_context(Verification)]
    with open_association(peer, contexts, calling_ae_title, timeout_s) as association:
        if not association.accepted_contexts:
            raise PeerError(f"{peer.label} does not support Verification")
        status = getattr(association.send_c_echo(), "Status", None)
    if status != 0:
        raise PeerError(f"{peer.label} answered C-ECHO with {_in_words(status)}")


def store(
    peer: Peer, files: Sequence[OutgoingFile], *, calling_ae_title: str, timeout_s: float
) -> tuple[Answer, ...]:
    """Store files over one association; see ``store_each``."""
    return tuple(store_each(peer, files, calling_ae_title=calling_ae_title, timeout_s=timeout_s))


def store_each(
    peer: Peer, files: Sequence[OutgoingFile], *, calling_ae_title: str, timeout_s: float
) -> Iterator[Answer]:
    """Store files over one association, each in its own transfer syntax.

    An uncompressed file is encoded anew in Implicit VR Little Endian, DICOM's default, when that
    is all the peer accepts (PS3.5 10.1).

    Parameters
    ----------
    peer : Peer
    files : sequence of OutgoingFile
    calling_ae_title : str
    timeout_s : float
        For the connection, the negotiation and each answer.

    Yields
    ------
    Answer
        One for each file, in order, as they come in.

    Raises
    ------
    PeerError
        There was no association at all.
    """
    contexts = _contexts_for(files)
    with open_association(peer, contexts, calling_ae_title, timeout_s) as association:
        for file in files:
            yield _store_one(association, file)


def _contexts_for(files: Sequence[OutgoingFile]) -> list[PresentationContext]:
    # One context for each pair: the acceptor picks one syntax of a context, and it may be
    # another than the one that the file is in.
    pairs = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
    pairs += [
        (sop_class, str(ImplicitVRLittleEndian))
        for sop_class, syntax in pairs
        if UID(syntax).is_little_endian and not UID(syntax).is_compressed
    ]
    unique = list(dict.fromkeys(pairs))[:_MAXIMUM_CONTEXTS]
    return [build_context(sop_class, syntax) for sop_class, syntax in unique]


@contextmanager
def open_association(
    peer: Peer,
    contexts: list[PresentationContext],
    calling_ae_title: str,
    timeout_s: float,
    handlers: Sequence[EventHandlerType] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """Associate with a peer; released at the end.

    Parameters
    ----------
    peer : Peer
    contexts : list of PresentationContext
    calling_ae_title : str
    timeout_s : float
        For the connection, the negotiation and each answer.
    handlers : sequence, optional
        For requests that the peer makes on this association.
    roles : sequence, optional
        Of ours, where it is not that of the user (PS3.7 D.3.3.4).

    Yields
    ------
    Association
        Established, or with every context rejected.

    Raises
    ------
    PeerError
        One sentence: no connection, or the association was rejected.
    """
    ae = AE(ae_title=calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = timeout_s
    ae.network_timeout = timeout_s
    connected = threading.Event()
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.ae_title,
            tls_args=(peer.security.context, peer.security.name) if peer.security else None,
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_connection, [connected]), *handlers],
            ext_neg=list(roles),
        )
    except OSError as error:
        raise PeerError(f"{peer.label} cannot be reached: {error.strerror or error}") from None
    if not connected.is_set() and peer.security is not None:
        raise PeerError(
            f"{peer.label} cannot be reached by TLS: no connection, or a certificate is not trusted"
        )
    if not connected.is_set():
        raise PeerError(f"{peer.label} cannot be reached: nothing accepts the connection")
    if not association.is_established and not association.rejected_contexts:
        raise PeerError(_why_no_association(association, peer))
    keep_answers(association)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _on_connection(event: Event, connected: threading.Event) -> None:
    connected.set()
    # Nagle's algorithm and delayed acknowledgements cost some 40 ms for each C-STORE.
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_no_association(association: Association, peer: Peer) -> str:
    response = association.acceptor.primitive
    if association.is_rejected and response is not None:
        return f"{peer.label} rejected the association: {response.reason_str}"
    return f"{peer.label} accepted the connection but answered no association request"


def _store_one(association: Association, file: OutgoingFile) -> Answer:
    if not _accepted(association, file):
        syntax = UID(file.transfer_syntax_uid).name
        detail = f"{UID(file.sop_class_uid).name} in {syntax} is not accepted"
        return Answer(file.sop_instance_uid, None, Problem.CONTEXT_REJECTED, detail)
    if not association.is_established:
        return Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, _NO_RESPONSE)
    try:
        dataset = dcmread(file.path)
        response = association.send_c_store(dataset)
    except (OSError, InvalidDicomError, AttributeError, ValueError) as error:
        detail = f"{file.path.name} cannot be sent: {error}"
        return Answer(file.sop_instance_uid, None, Problem.FILE_UNREADABLE, detail)
    except RuntimeError:
        # pynetdicom's word for an association that ended between the check and the request.
        return Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, _NO_RESPONSE)
    status = getattr(response, "Status", None)
    if status is None:
        return Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, _NO_RESPONSE)
    comment = str(getattr(response, "ErrorComment", "")).strip()
    detail = f"{_in_words(status)}: {comment}" if comment else _in_words(status)
    return Answer(file.sop_instance_uid, int(status), None, detail)


def _accepted(association: Association, file: OutgoingFile) -> bool:
    own = UID(file.transfer_syntax_uid)
    usable = {own} if own.is_compressed else {own, ImplicitVRLittleEndian}
    return any(
        context.abstract_syntax == file.sop_class_uid and context.transfer_syntax[0] in usable
        for context in association.accepted_contexts
    )


def _in_words(status: int | None) -> str:
    return "no status" if status is None else f"status {status:04X}"
