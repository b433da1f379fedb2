r"""Listen for associations behind a door: pynetdicom sees those only that were let in.

::

    accept --> lobby --> door, limits --> pynetdicom's association, with threads of its own
                  \          \
                   dismissed   A-ASSOCIATE-RJ

A connection costs a thread from the moment on at which its AE titles are known and allowed.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.transport import AssociationServer, RequestHandler
from typing_extensions import override

from dicom_node.ae import MAXIMUM_PDU_BYTES
from dicom_node.association_limits import AssociationLimits
from dicom_node.audit_digest import AuditDigest
from dicom_node.audit_events import AuditedPeer
from dicom_node.config import ListenerSettings
from dicom_node.door import Caller, Door, Permit, Refusal
from dicom_node.guarded_socket import GuardedSocket, SocketLimits
from dicom_node.lobby import Lobby, LobbyRules

logger = structlog.get_logger(__name__)

_MIB: Final = 2**20
_PDU_TOLERANCE: Final = 2
"""Some peers count the heads of a PDU differently; twice the agreed length is believed."""
_PERMANENT, _TRANSIENT = 1, 2  # results of A-ASSOCIATE-RJ, PS3.8 table 9-21
_SERVICE_USER, _PRESENTATION = 1, 3
_LOCAL_LIMIT_EXCEEDED: Final = 2
_ABORT_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Guard:
    """Who decides at the door of a listener, and whom it tells.

    Parameters
    ----------
    listener : ListenerSettings
    door : Door
    limits : AssociationLimits
        Shared by all listeners of a node.
    audit : AuditDigest
    clock : callable
        Returns the time, in UTC.
    """

    listener: ListenerSettings
    door: Door
    limits: AssociationLimits
    audit: AuditDigest
    clock: Callable[[], datetime]

    def decide(self, caller: Caller) -> Permit | bytes:
        """Let a caller in, or return the A-ASSOCIATE-RJ that it gets."""
        answer = self.door.admit(caller)
        if isinstance(answer, Refusal):
            self._tell(caller, answer.reason)
            return _rejection(_PERMANENT, _SERVICE_USER, answer.diagnostic)
        excess = self.limits.excess(caller, answer)
        if excess:
            self._tell(caller, excess)
            return _rejection(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT_EXCEEDED)
        return answer

    def dismissed(self, address: str, reason: str) -> None:
        """Tell of a connection that was ended before its AE titles were known."""
        self._tell(Caller("", "", address), reason)

    def _tell(self, caller: Caller, reason: str) -> None:
        peer = AuditedPeer(caller.calling, caller.address)
        if self.audit.refused(peer, reason, self.clock()):
            logger.warning(
                "association refused",
                reason=reason,
                calling=caller.calling,
                called=caller.called,
                address=caller.address,
            )


class GuardedServer(AssociationServer):
    """pynetdicom's server with a lobby before it.

    Parameters
    ----------
    ae : AE
    address : tuple of (str, int)
    guard : Guard
    handlers : sequence
        What pynetdicom is to call.
    rules : LobbyRules
    """

    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        guard: Guard,
        handlers: Sequence[EventHandlerType],
        rules: LobbyRules,
    ) -> None:
        super().__init__(
            ae, address, ae.ae_title, ae.supported_contexts, evt_handlers=list(handlers)
        )
        self._guard = guard
        self._stays = _Stays(guard.listener.association_lifetime_s)
        self._rules = rules
        self._lobby = Lobby(rules, self._receive)
        self._thread = threading.Thread(target=self.serve_forever, name="accept", daemon=True)

    @property
    def port(self) -> int:
        """TCP port that it listens on."""
        return int(self.server_address[1])

    def open(self) -> None:
        """Begin to accept connections."""
        self._lobby.open()
        self._thread.start()

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        address = str(client_address[0])
        if self._guard.door.knows(address):
            self._lobby.enter(request, address)
            return
        request.close()
        self._guard.dismissed(address, "nobody may call from this address")

    @override
    def service_actions(self) -> None:
        super().service_actions()
        if self._rules.secure is not None:
            self._rules.secure()  # reads renewed files again, warns of expiry
        self._stays.end_old_ones()

    @override
    def shutdown(self) -> None:
        """Stop accepting; associations go on."""
        # Not pynetdicom's own: it looks for itself in the list of ``AE.start_server``.
        super(AssociationServer, self).shutdown()
        self.server_close()
        self._thread.join()
        self._lobby.close()

    def _receive(self, connection: socket.socket, address: str, request: bytes) -> bytes:
        caller = Caller(_title(request[10:26]), _title(request[26:42]), address)
        answer = self._guard.decide(caller)
        if isinstance(answer, bytes):
            return answer
        _set_timeouts(connection, self._guard.listener.network_timeout_s)
        guest = _Guest(connection, request, answer, self._socket_limits())
        association = _GuestHandler(guest, connection.getpeername(), self).association
        self._guard.limits.begin(caller, association)
        self._stays.begin(association, connection)
        return b""

    def _socket_limits(self) -> SocketLimits:
        listener = self._guard.listener
        return SocketLimits(
            MAXIMUM_PDU_BYTES * _PDU_TOLERANCE,
            listener.network_timeout_s,
            listener.largest_instance_mib * _MIB,
        )


@dataclass(frozen=True, slots=True)
class _Guest:
    connection: socket.socket
    request: bytes
    permit: Permit
    limits: SocketLimits


class _GuestHandler(RequestHandler):
    """Starts the association of a guest."""

    association: Association

    def __init__(self, guest: _Guest, address: tuple[str, int], server: GuardedServer) -> None:
        self._guest = guest
        super().__init__(guest.connection, address, server)

    @override
    def _create_association(self) -> Association:
        association = super()._create_association()
        # The first socket has announced the connection already, the second one does so again.
        association.dul.event_queue.get_nowait()
        association.dul.socket = GuardedSocket(
            association, self._guest.connection, self._guest.request, self._guest.limits
        )
        association.acceptor.supported_contexts = [
            copy(context)
            for context in association.acceptor.supported_contexts
            if self._guest.permit.covers(str(context.abstract_syntax))
        ]
        self.association = association
        return association


class _Stays:
    """Ends associations that last longer than they may."""

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self._stays: list[tuple[float, Association, socket.socket]] = []

    def begin(self, association: Association, connection: socket.socket) -> None:
        with self._lock:
            ends_at = time.monotonic() + self._lifetime_s
            self._stays.append((ends_at, association, connection))

    def end_old_ones(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._stays = [stay for stay in self._stays if stay[1].is_alive()]
            over = [stay for stay in self._stays if stay[0] <= now]
        for ends_at, association, connection in over:
            association.abort(block=False)
            if now - ends_at > _ABORT_PATIENCE_S:
                _cut(connection)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended meanwhile


def _title(field: bytes) -> str:
    return field.decode("ascii", "replace").strip(" \0")


def _rejection(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ of PS3.8 table 9-21."""
    return struct.pack(">BxIxBBB", 0x03, 4, result, source, reason)


def _set_timeouts(connection: socket.socket, timeout_s: float) -> None:
    """Let the system end a read or a write that takes too long.

    A timeout of Python's would make the socket one that does not block, which costs a call each.
    """
    seconds, fraction = divmod(timeout_s, 1.0)
    timeout = struct.pack("ll", int(seconds), int(fraction * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
