"""DICOM messages as bytes, for peers that do not keep the rules."""

import socket
import struct
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian

from tests.dicom_node.datasets import encoded

ACCEPT, REJECT, P_DATA, RELEASE_ANSWER, ABORT = 2, 3, 4, 6, 7
VERIFICATION = "1.2.840.10008.1.1"
RELEASE = struct.pack(">BxII", 5, 4, 0)
FRAGMENT_BYTES = 16378
ECHO_CONTEXT, STORE_CONTEXT, NEWS_CONTEXT = 1, 3, 99
NOTIFICATION = "1.2.840.10008.5.1.4.33"

_TIMEOUT_S = 30.0


def associate_request(calling: str, syntaxes: Sequence[str], called: str = "PSOAS") -> bytes:
    """A-ASSOCIATE-RQ for Verification, news, and for CT in one context per transfer syntax."""
    contexts = _context(ECHO_CONTEXT, VERIFICATION, ImplicitVRLittleEndian)
    contexts += _context(NEWS_CONTEXT, NOTIFICATION, ImplicitVRLittleEndian)
    for number, syntax in enumerate(syntaxes):
        contexts += _context(STORE_CONTEXT + 2 * number, CTImageStorage, syntax)
    user = _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user
    return struct.pack(">BxI", 1, len(body)) + body


def echo_request() -> bytes:
    """C-ECHO-RQ in one P-DATA-TF."""
    command = Dataset()
    command.AffectedSOPClassUID = VERIFICATION
    command.CommandField = 0x0030
    command.MessageID = 1
    command.CommandDataSetType = 0x0101
    return p_data(ECHO_CONTEXT, _command_set(command), is_command=True)


def news_request(data: bytes) -> bytes:
    """N-CREATE-RQ of an Instance Availability Notification with its attribute list."""
    command = Dataset()
    command.AffectedSOPClassUID = NOTIFICATION
    command.CommandField = 0x0140
    command.MessageID = 9
    command.CommandDataSetType = 0x0000
    command.AffectedSOPInstanceUID = "1.2.3.4"
    sent = p_data(NEWS_CONTEXT, _command_set(command), is_command=True)
    return sent + p_data(NEWS_CONTEXT, data)


def store_request(context: int, sop_instance_uid: str, data: bytes) -> bytes:
    """C-STORE-RQ with its data set in as many P-DATA-TF as it takes."""
    command = Dataset()
    command.AffectedSOPClassUID = CTImageStorage
    command.CommandField = 0x0001
    command.MessageID = 7
    command.Priority = 0
    command.CommandDataSetType = 0x0000
    command.AffectedSOPInstanceUID = sop_instance_uid
    sent = p_data(context, _command_set(command), is_command=True)
    pieces = [data[at : at + FRAGMENT_BYTES] for at in range(0, len(data), FRAGMENT_BYTES)] or [b""]
    for piece in pieces[:-1]:
        sent += p_data(context, piece, is_last=False)
    return sent + p_data(context, pieces[-1])


def p_data(
    context: int, content: bytes, *, is_command: bool = False, is_last: bool = True
) -> bytes:
    """P-DATA-TF with one fragment (PS3.8 9.3.5)."""
    fragment = struct.pack(">IBB", len(content) + 2, context, is_command | is_last << 1) + content
    return struct.pack(">BxI", P_DATA, len(fragment)) + fragment


def connect(port: int) -> socket.socket:
    """Open a connection that waits no longer than any node should."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def next_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU; type 0 when the connection has ended.

    A node that neither answers nor ends the connection raises ``TimeoutError``.
    """
    try:
        head = _exactly(connection, 6)
        kind, length = struct.unpack(">BxI", head)
        return kind, _exactly(connection, length)
    except (ConnectionError, EOFError):
        return 0, b""


def status_in(body: bytes) -> int:
    """Status (0000,0900) of a response in one P-DATA-TF."""
    at = body.index(struct.pack("<HHI", 0x0000, 0x0900, 2)) + 8
    return int.from_bytes(body[at : at + 2], "little")


def _exactly(connection: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        chunk = connection.recv(count - len(taken))
        if not chunk:
            raise EOFError
        taken += chunk
    return taken


def _command_set(command: Dataset) -> bytes:
    content = encoded(command, ImplicitVRLittleEndian)
    length = Dataset()
    length.CommandGroupLength = len(content)
    return encoded(length, ImplicitVRLittleEndian) + content


def _context(number: int, abstract: str, transfer: str) -> bytes:
    syntaxes = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
    return _item(0x20, struct.pack(">Bxxx", number) + syntaxes)


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content
