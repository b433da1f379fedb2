"""Receive the fragments of one data set, each straight to where it belongs."""

import socket
import struct
from typing import Final

from dicom_node.arrival import IncomingDataSet

_HEADS: Final = 12
_FRAGMENT_HEAD: Final = 6
_ENDING: Final = 10
"""Bytes of the PDUs that end an association, A-RELEASE-RQ and A-ABORT."""
_P_DATA: Final = 4


class PeerGoneError(Exception):
    """The peer closed the connection within a data set."""


class PeerSilentError(Exception):
    """The peer sent nothing for the whole network timeout."""


class MisplacedPduError(Exception):
    """Another PDU stands where the data set has to go on; ``start`` are its first bytes."""

    def __init__(self, start: bytes) -> None:
        super().__init__("a PDU stands where a data set has to go on")
        self.start = start


class BrokenPduError(Exception):
    """Lengths that do not fit or are too large, or a fragment of another message."""


class FragmentReader:
    """Reads data sets off one connection.

    Parameters
    ----------
    connection : socket.socket
        Blocking, with a receive timeout of the system.
    largest_bytes : int
        Longer data sets are not received to their end.
    """

    def __init__(self, connection: socket.socket, largest_bytes: int) -> None:
        self._connection = connection
        self._largest_bytes = largest_bytes
        self._heads = memoryview(bytearray(_HEADS))
        self._ahead = 0

    def read(self, context_id: int, rest_of_pdu: int, target: IncomingDataSet) -> None:
        """Receive one data set to its last fragment.

        Parameters
        ----------
        context_id : int
            Of its presentation context.
        rest_of_pdu : int
            Bytes left of the PDU that brought the command.
        target : IncomingDataSet

        Raises
        ------
        PeerGoneError, PeerSilentError, MisplacedPduError, BrokenPduError
        """
        rest, is_last = rest_of_pdu, False
        try:
            while not is_last:
                length, is_last, rest = self._next_fragment(context_id, rest)
                self._receive(length, target, run_ahead=rest == 0 and not is_last)
        except BlockingIOError:
            raise PeerSilentError from None
        except OSError:
            raise PeerGoneError from None
        if rest:
            raise BrokenPduError("another message follows within the PDU")

    def _next_fragment(self, context_id: int, rest: int) -> tuple[int, bool, int]:
        """Length of the next fragment, whether it is the last one, what its PDU has after it."""
        if rest == 0:
            self._fill_heads(self._ahead, _ENDING)
            if self._heads[0] != _P_DATA:
                raise MisplacedPduError(bytes(self._heads[:_ENDING]))
            self._fill_heads(max(self._ahead, _ENDING), _HEADS)
            (rest,) = struct.unpack_from(">I", self._heads, 2)
        else:
            self._fill_heads(_HEADS - _FRAGMENT_HEAD, _HEADS)
        self._ahead = 0
        fragment, context, control = struct.unpack_from(">IBB", self._heads, 6)
        if context != context_id or control & 1 or not 2 <= fragment <= rest - 4:
            raise BrokenPduError("a fragment does not belong to its data set or PDU")
        return fragment - 2, bool(control & 2), rest - 4 - fragment

    def _fill_heads(self, start: int, end: int) -> None:
        while start < end:
            start += self._counted(self._connection.recv_into(self._heads[start:end]))

    def _receive(self, length: int, target: IncomingDataSet, *, run_ahead: bool) -> None:
        if target.size_bytes + length > self._largest_bytes:
            raise BrokenPduError("the data set is longer than listener.largest_instance_mib")
        while length:
            room = target.room()[:length]
            if run_ahead and len(room) == length:
                # One call for the end of this PDU and the heads of the next one.
                count = self._connection.recvmsg_into((room, self._heads))[0]
            else:
                count = self._connection.recv_into(room)
            # Senders that wait for a full segment to be acknowledged would wait 40 ms.
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            taken = min(self._counted(count), length)
            target.add(taken)
            self._ahead = count - taken
            length -= taken

    def _counted(self, count: int) -> int:
        if count == 0:
            raise PeerGoneError
        return count
