"""Recognise a plain C-STORE request, and pack its answer."""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.uids import is_uid

_LONGEST_COMMAND: Final = 1024
"""Real ones have 150 to 250 bytes; longer commands are pynetdicom's."""
_HEADS: Final = 12
"""Of a PDU (type, reserved, length) and of its first fragment (length, context, control)."""
_P_DATA: Final = 4
_WHOLE_COMMAND: Final = 3  # PS3.8 E.2: a command, its last fragment

# Elements of group 0000, PS3.7 table 9.3-1.
_GROUP_LENGTH: Final = 0x0000
_SOP_CLASS: Final = 0x0002
_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_RESPONDED_TO: Final = 0x0120
_PRIORITY: Final = 0x0700
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_SOP_INSTANCE: Final = 0x1000
_KNOWN: Final = frozenset(
    {_GROUP_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _SOP_INSTANCE}
    | {0x1030, 0x1031}  # Move Originator: AE title, Message ID
)
_STORE_REQUEST: Final = 0x0001
_STORE_RESPONSE: Final = 0x8001
_NO_DATA_SET: Final = 0x0101


@dataclass(frozen=True, slots=True)
class StorageContext:
    """An accepted presentation context in which a peer may store."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """One C-STORE request whose data set follows.

    Parameters
    ----------
    context_id : int
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
    message_id : int
    rest_of_pdu : int
        Bytes that follow the command in its own PDU.
    """

    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    message_id: int
    rest_of_pdu: int


class RequestReader:
    """Looks for plain C-STORE requests at the start of what a peer sent.

    Parameters
    ----------
    contexts : mapping of int to StorageContext
        By presentation context ID.
    """

    def __init__(self, contexts: Mapping[int, StorageContext]) -> None:
        self._contexts = contexts
        self._bytes = memoryview(bytearray(_HEADS + _LONGEST_COMMAND))

    def take(self, connection: socket.socket) -> StoreRequest | None:
        """Take a request off the connection; ``None`` leaves everything where it is.

        Waits for the rest of a command that has begun.
        """
        there = connection.recv_into(self._bytes, 0, socket.MSG_PEEK)
        # The PDUs that end an association are shorter than the heads of one with data.
        if there and self._bytes[0] == _P_DATA and there < _HEADS:
            there = self._look(connection, _HEADS)
        if there < _HEADS:
            return None
        kind, pdu, fragment, context_id, control = struct.unpack_from(">BxIIBB", self._bytes)
        end = _HEADS - 2 + fragment
        if kind != _P_DATA or control & 3 != _WHOLE_COMMAND:
            return None
        if not _HEADS <= end <= len(self._bytes) or fragment + 4 > pdu:
            return None
        if there < end and self._look(connection, end) < end:
            return None
        request = self._understand(self._bytes[_HEADS:end], context_id, pdu - fragment - 4)
        if request is not None:
            connection.recv_into(self._bytes, end)
        return request

    def _look(self, connection: socket.socket, count: int) -> int:
        flags = socket.MSG_PEEK | socket.MSG_WAITALL
        return connection.recv_into(self._bytes, count, flags)

    def _understand(self, command: memoryview, context_id: int, rest: int) -> StoreRequest | None:
        context = self._contexts.get(context_id)
        values = _elements(command)
        if context is None or values is None:
            return None
        sop_class_uid, sop_instance_uid = _uid(values, _SOP_CLASS), _uid(values, _SOP_INSTANCE)
        message_id = _number(values, _MESSAGE_ID)
        is_plain = (
            _number(values, _FIELD) == _STORE_REQUEST
            and _number(values, _PRIORITY) is not None
            and _number(values, _DATA_SET_TYPE) not in {None, _NO_DATA_SET}
            and sop_class_uid == context.sop_class_uid
            and is_uid(sop_instance_uid)
        )
        if not is_plain or message_id is None:
            return None
        return StoreRequest(
            context_id,
            sop_class_uid,
            sop_instance_uid,
            context.transfer_syntax_uid,
            message_id,
            rest,
        )


def store_response(request: StoreRequest, status: int) -> bytes:
    """Pack a C-STORE response as one P-DATA-TF PDU (PS3.7 9.3.1.2, PS3.8 9.3.5)."""
    body = b"".join(
        (
            _packed_uid(_SOP_CLASS, request.sop_class_uid),
            _packed_number(_FIELD, _STORE_RESPONSE),
            _packed_number(_RESPONDED_TO, request.message_id),
            _packed_number(_DATA_SET_TYPE, _NO_DATA_SET),
            _packed_number(_STATUS, status),
            _packed_uid(_SOP_INSTANCE, request.sop_instance_uid),
        )
    )
    command = struct.pack("<HHII", 0, _GROUP_LENGTH, 4, len(body)) + body
    fragment = len(command) + 2
    heads = struct.pack(
        ">BBIIBB", _P_DATA, 0, fragment + 4, fragment, request.context_id, _WHOLE_COMMAND
    )
    return heads + command


def _elements(command: memoryview) -> dict[int, bytes] | None:
    """Values of a command set by element number; ``None`` unless all of them are known."""
    values: dict[int, bytes] = {}
    position, end = 0, len(command)
    while position + 8 <= end:
        group, number, length = struct.unpack_from("<HHI", command, position)
        start = position + 8
        position = start + length
        if group != 0 or number not in _KNOWN or number in values:
            return None
        values[number] = bytes(command[start:position])
    return values if position == end else None


def _number(values: Mapping[int, bytes], number: int) -> int | None:
    value = values.get(number, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def _uid(values: Mapping[int, bytes], number: int) -> str:
    return values.get(number, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _packed_number(number: int, value: int) -> bytes:
    return struct.pack("<HHIH", 0, number, 2, value)


def _packed_uid(number: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value
