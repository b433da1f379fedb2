"""Read PDUs off a connection without believing their lengths."""

import contextlib
import struct
import time
from typing import TYPE_CHECKING, Final

from pynetdicom.transport import AssociationSocket
from typing_extensions import override

if TYPE_CHECKING:
    import socket

    from pynetdicom.association import Association

_HEAD_BYTES: Final = 6
_P_DATA: Final = 0x04
_PDV_HEAD: Final = struct.Struct(">IBB")  # length, context, control header (PS3.8 9.3.5.1, E.2)
_LAST: Final = 2
_CHUNK: Final = 2**16


class GuardedSocket(AssociationSocket):
    """A connection whose A-ASSOCIATE-RQ was read already.

    pynetdicom reads the six bytes of a head, then as many as the head announces; both pass here.
    A violation looks like a lost connection to it.

    Parameters
    ----------
    association : Association
    connection : socket.socket
        Blocking, with timeouts of the system.
    request : bytes
        The PDU that was read.
    limits : SocketLimits
    """

    def __init__(
        self,
        association: "Association",
        connection: "socket.socket",
        request: bytes,
        limits: "SocketLimits",
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._ahead = bytearray(request)
        self._limits = limits
        self._kind: int | None = None
        self._message_bytes = 0

    @property
    @override
    def ready(self) -> bool:
        return bool(self._ahead) or super().ready

    @override
    def recv(self, nr_bytes: int) -> bytearray:
        is_head, kind = self._kind is None, self._kind
        if self._ahead:
            taken, self._ahead = self._ahead[:nr_bytes], self._ahead[nr_bytes:]
        else:
            if nr_bytes > self._limits.pdu_bytes:
                raise OSError(f"a PDU of {nr_bytes} bytes is longer than was agreed")
            taken = self._read(nr_bytes)
        if is_head:
            self._kind = taken[0] if len(taken) == _HEAD_BYTES else None
            return taken
        self._kind = None
        if kind == _P_DATA:
            self._weigh(taken)
        return taken

    @override
    def _shutdown_socket(self) -> None:
        connection = self.socket
        super()._shutdown_socket()
        # pynetdicom leaves a connection that the peer has reset to the garbage collector.
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _read(self, count: int) -> bytearray:
        if self.socket is None:
            return bytearray()
        give_up_at = time.monotonic() + self._limits.pdu_s
        taken = bytearray()
        while len(taken) < count:
            chunk = self.socket.recv(min(count - len(taken), _CHUNK))
            if not chunk:
                break
            taken += chunk
            if len(taken) < count and time.monotonic() > give_up_at:
                raise TimeoutError("a PDU took too long")
        return taken

    def _weigh(self, body: bytearray) -> None:
        """Add up the fragments of a message, which pynetdicom keeps in memory."""
        position = 0
        while position + _PDV_HEAD.size <= len(body):
            length, _, control = _PDV_HEAD.unpack_from(body, position)
            self._message_bytes += length
            if self._message_bytes > self._limits.message_bytes:
                raise OSError("a message is longer than listener.largest_instance_mib")
            if control & _LAST:
                self._message_bytes = 0
            position += 4 + length


class SocketLimits:
    """What a peer may send.

    Parameters
    ----------
    pdu_bytes : int
        After the head of the PDU.
    pdu_s : float
        How long one PDU may take.
    message_bytes : int
        Of a command or a data set, all fragments together.
    """

    __slots__ = ("message_bytes", "pdu_bytes", "pdu_s")

    def __init__(self, pdu_bytes: int, pdu_s: float, message_bytes: int) -> None:
        self.pdu_bytes = pdu_bytes
        self.pdu_s = pdu_s
        self.message_bytes = message_bytes
