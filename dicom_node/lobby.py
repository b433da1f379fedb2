"""Hold connections until they have asked for an association, at the cost of a few bytes each.

One thread serves all of them without waiting for any. Nothing is believed: what is no
A-ASSOCIATE-RQ ends the connection at its first six bytes, before anything of the announced length
is reserved. Silence ends it too, and whoever opens more connections than one address may have
loses the oldest.

References
----------
DICOM PS3.8 sections 9.1.5 (ARTIM timer) and 9.3 (structure of the PDUs).
"""

import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

logger = structlog.get_logger(__name__)

MAXIMUM_REQUEST_BYTES: Final = 2**18
"""Of an A-ASSOCIATE-RQ; 128 presentation contexts with every transfer syntax take 160 000."""

_HEAD_BYTES: Final = 6
_SHORTEST_REQUEST: Final = 68  # the fixed fields of PS3.8 table 9-11
_ASSOCIATE_RQ: Final = 0x01
_UNEXPECTED_PDU: Final = b"\x07\0\0\0\0\4\0\0\2\2"  # A-ABORT by the provider, PS3.8 table 9-26
_INVALID_PDU: Final = b"\x07\0\0\0\0\4\0\0\2\6"
_MOST_VISITORS: Final = 256
_FAREWELL_S: Final = 1.0
"""How long a peer may take to read that it is refused; closing at once could lose the answer."""
_LONGEST_WAIT_S: Final = 1.0

Receive = Callable[[socket.socket, str, bytes], bytes]
"""Takes a connection with its A-ASSOCIATE-RQ over, or returns the PDU that refuses it."""


@dataclass(frozen=True, slots=True)
class LobbyRules:
    """How patient the lobby is.

    Parameters
    ----------
    connections_per_address : int
    timeout_s : float
        From the connection to the end of the request, TLS included.
    dismissed : callable
        Told address and reason when a visitor that did nothing useful is sent away.
    secure : callable, optional
        Returns the context of TLS for the next connection; absent for connections in the clear.
    """

    connections_per_address: int
    timeout_s: float
    dismissed: Callable[[str, str], None]
    secure: Callable[[], ssl.SSLContext] | None = None


@dataclass(slots=True, eq=False)
class _Visitor:
    connection: socket.socket
    address: str
    ends_at: float
    is_secure: bool
    received: bytearray = field(default_factory=bytearray)
    needed: int = _HEAD_BYTES
    is_leaving: bool = False


class Lobby:
    """The thread between ``accept`` and an association.

    Parameters
    ----------
    rules : LobbyRules
    receive : Receive
    """

    def __init__(self, rules: LobbyRules, receive: Receive) -> None:
        self._rules = rules
        self._receive = receive
        self._newcomers: deque[tuple[socket.socket, str]] = deque()
        self._visitors: dict[_Visitor, None] = {}  # in the order of their arrival
        self._selector = selectors.DefaultSelector()
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)

    def open(self) -> None:
        """Begin to serve."""
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._thread.start()

    def enter(self, connection: socket.socket, address: str) -> None:
        """Take a connection that was accepted; for any thread."""
        self._newcomers.append((connection, address))
        self._ring()

    def close(self) -> None:
        """Send everybody away."""
        self._stopping.set()
        self._ring()
        self._thread.join()
        for visitor in list(self._visitors):
            self._dismiss(visitor)
        while self._newcomers:
            self._newcomers.popleft()[0].close()
        self._selector.close()
        self._alarm.close()
        self._bell.close()

    def _ring(self) -> None:
        try:
            self._bell.send(b"!")
        except OSError:
            return  # full: it rings already

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(self._wait_s()):
                if isinstance(key.data, _Visitor):
                    self._attend(key.data)
                else:
                    self._alarm.recv(4096)
            while self._newcomers:
                self._welcome(*self._newcomers.popleft())
            self._dismiss_late()

    def _wait_s(self) -> float:
        ends = min((visitor.ends_at for visitor in self._visitors), default=float("inf"))
        return min(max(ends - time.monotonic(), 0.0), _LONGEST_WAIT_S)

    def _welcome(self, connection: socket.socket, address: str) -> None:
        self._make_room(address)
        secure = self._rules.secure
        try:
            connection.setblocking(False)
            if secure is not None:
                connection = secure().wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            ends_at = time.monotonic() + self._rules.timeout_s
            visitor = _Visitor(connection, address, ends_at, is_secure=secure is None)
            self._selector.register(connection, selectors.EVENT_READ, visitor)
        except (OSError, ValueError):
            connection.close()
            return
        self._visitors[visitor] = None
        self._attend(visitor)

    def _make_room(self, address: str) -> None:
        same = [visitor for visitor in self._visitors if visitor.address == address]
        if len(same) >= self._rules.connections_per_address:
            # The oldest one: a scanner that means business asks at once.
            self._dismiss(same[0], "too many connections without an association request")
        if len(self._visitors) >= _MOST_VISITORS:
            self._dismiss(next(iter(self._visitors)), "too many connections from everywhere")

    def _dismiss_late(self) -> None:
        now = time.monotonic()
        for visitor in [visitor for visitor in self._visitors if visitor.ends_at <= now]:
            self._dismiss(visitor, "no association request in time")

    def _attend(self, visitor: _Visitor) -> None:
        """Go on with a visitor as far as is possible without waiting."""
        try:
            self._shake_hands(visitor)
            while visitor in self._visitors:
                self._read(visitor)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._selector.modify(visitor.connection, selectors.EVENT_READ, visitor)
        except ssl.SSLWantWriteError:
            self._selector.modify(visitor.connection, selectors.EVENT_WRITE, visitor)
        except ssl.SSLError as error:
            self._dismiss(visitor, f"TLS failed: {error.reason or 'the peer went away'}")
        except OSError:
            self._dismiss(visitor)

    def _shake_hands(self, visitor: _Visitor) -> None:
        if not visitor.is_secure and isinstance(visitor.connection, ssl.SSLSocket):
            visitor.connection.do_handshake()
            visitor.is_secure = True

    def _read(self, visitor: _Visitor) -> None:
        missing = visitor.needed - len(visitor.received)
        chunk = visitor.connection.recv(missing)
        if not chunk:
            self._dismiss(visitor)
        elif not visitor.is_leaving:
            visitor.received += chunk
            if len(chunk) == missing:
                self._weigh(visitor)

    def _weigh(self, visitor: _Visitor) -> None:
        """Look at what is whole: first the head of the PDU, then all of it."""
        if visitor.needed > _HEAD_BYTES:
            self._hand_over(visitor)
            return
        kind, length = struct.unpack(">BxI", visitor.received)
        if kind != _ASSOCIATE_RQ:
            self._refuse(visitor, _UNEXPECTED_PDU)
            self._rules.dismissed(visitor.address, "the first PDU is no A-ASSOCIATE-RQ")
        elif not _SHORTEST_REQUEST <= length <= MAXIMUM_REQUEST_BYTES:
            self._refuse(visitor, _INVALID_PDU)
            self._rules.dismissed(visitor.address, f"an A-ASSOCIATE-RQ cannot have {length} bytes")
        else:
            visitor.needed += length

    def _hand_over(self, visitor: _Visitor) -> None:
        self._leave(visitor)
        visitor.connection.setblocking(True)
        try:
            refusal = self._receive(visitor.connection, visitor.address, bytes(visitor.received))
        except Exception as error:  # noqa: BLE001 - one caller must not close the door to all
            logger.warning("association not begun", error=type(error).__name__)
            visitor.connection.close()
            return
        if refusal:
            visitor.connection.setblocking(False)
            self._selector.register(visitor.connection, selectors.EVENT_READ, visitor)
            self._visitors[visitor] = None
            self._refuse(visitor, refusal)

    def _refuse(self, visitor: _Visitor, answer: bytes) -> None:
        """Answer, then wait a moment for the peer to close."""
        visitor.is_leaving = True
        visitor.ends_at = time.monotonic() + _FAREWELL_S
        visitor.needed = len(visitor.received) + 4096
        visitor.connection.send(answer)

    def _dismiss(self, visitor: _Visitor, reason: str = "") -> None:
        self._leave(visitor)
        visitor.connection.close()
        if reason and not visitor.is_leaving:
            self._rules.dismissed(visitor.address, reason)

    def _leave(self, visitor: _Visitor) -> None:
        del self._visitors[visitor]
        self._selector.unregister(visitor.connection)
