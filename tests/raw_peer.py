"""A peer that writes its PDUs by hand, to send what no toolkit would."""

import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

VERIFICATION = "1.2.840.10008.1.1"
P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 4, 5, 6, 7
COMMAND, LAST = 1, 2

Context = tuple[int, str, str]
"""ID, abstract syntax, transfer syntax."""
STORE_CT: Context = (1, CTImageStorage, ExplicitVRLittleEndian)


class RawPeer:
    """An association over a socket that tests may send anything on."""

    def __init__(self, port: int, contexts: Sequence[Context] = (STORE_CT,)) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(associate_request(contexts))
        kind, _ = self.receive()
        assert kind == 2, "the association was not accepted"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Send bytes, each part in a call of its own."""
        for part in parts:
            self.socket.sendall(part)

    def receive(self) -> tuple[int, bytes]:
        """Type and content of the next PDU; type 0 when the connection is closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exactly(length)

    def status(self) -> int:
        """Status of the C-STORE response that comes next."""
        kind, content = self.receive()
        assert kind == P_DATA, f"PDU of type {kind} instead of an answer"
        return status_of(content)

    def release(self) -> None:
        self.send(pdu(RELEASE_RQ, b"\0" * 4))
        assert self.receive()[0] == RELEASE_RP

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                break
            data += more
        return data


def associate_request(contexts: Sequence[Context]) -> bytes:
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract, transfer in contexts:
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        items += item(0x20, bytes([number, 0, 0, 0]) + syntaxes)
    items += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    titles = b"PSOAS".ljust(16) + b"CT1".ljust(16)
    return pdu(1, struct.pack(">HH", 1, 0) + titles + b"\0" * 32 + items)


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content


def fragment(context_id: int, control: int, content: bytes) -> bytes:
    return struct.pack(">IBB", len(content) + 2, context_id, control) + content


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def command_set(elements: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(element(number, value) for number, value in elements)
    return element(0, struct.pack("<I", len(body))) + body


def store_command(
    sop_instance_uid: str, sop_class_uid: str = CTImageStorage, message_id: int = 7
) -> bytes:
    number = struct.Struct("<H").pack
    return command_set(
        [
            (0x0002, sop_class_uid.encode()),
            (0x0100, number(1)),
            (0x0110, number(message_id)),
            (0x0700, number(0)),
            (0x0800, number(0)),
            (0x1000, sop_instance_uid.encode()),
        ]
    )


def echo_command() -> bytes:
    number = struct.Struct("<H").pack
    return command_set(
        [
            (2, VERIFICATION.encode()),
            (0x100, number(0x30)),
            (0x110, number(1)),
            (0x800, number(0x101)),
        ]
    )


def whole_store(data: bytes, sop_instance_uid: str, context_id: int = 1) -> bytes:
    """A C-STORE request as most senders make it: command and data in a PDU each."""
    command = fragment(context_id, COMMAND | LAST, store_command(sop_instance_uid))
    return pdu(P_DATA, command) + pdu(P_DATA, fragment(context_id, LAST, data))


def status_of(content: bytes) -> int:
    position = 6
    while position < len(content):
        _, number, length = struct.unpack_from("<HHI", content, position)
        if number == 0x0900:
            return int.from_bytes(content[position + 8 : position + 10], "little")
        position += 8 + length
    raise AssertionError("the response has no status")
