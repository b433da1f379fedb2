"""Serve plain C-STORE requests of an association; leave everything else to pynetdicom."""

import select
import socket
import ssl
from collections.abc import Callable
from typing import Final

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from typing_extensions import override

from dicom_node.arrival import new_memory
from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.ingest.fragments import (
    BrokenPduError,
    FragmentReader,
    MisplacedPduError,
    PeerGoneError,
    PeerSilentError,
)
from dicom_node.ingest.requests import (
    RequestReader,
    StorageContext,
    StoreRequest,
    store_response,
)

_ESTABLISHED: Final = "Sta6"  # PS3.8 table 9-5
_INVALID_PDU: Final = "Evt19"  # PS3.8 table 9-10: answered with an abort
_CONNECTION_CLOSED: Final = "Evt17"
_GLANCE_MS: Final = 50
"""How often a wait for the next request looks whether pynetdicom has something to send."""
_LONGEST_PAUSE: Final = 20
"""Glances without a request after which pynetdicom watches the association again."""
_LEAST_PDU_BYTES: Final = 512
"""A peer that takes less gets its answers in pieces, from pynetdicom."""

Take = Callable[[Association, StoreRequest, FragmentReader, memoryview], int]
"""Receives the data set of a request into the memory; returns the status to answer."""


class StoreProvider(DULServiceProvider):
    """pynetdicom's provider of the upper layer, with a fast path for C-STORE.

    Parameters
    ----------
    association : Association
    take : Take
    largest_bytes : int
        Of a data set.
    """

    def __init__(self, association: Association, take: Take, largest_bytes: int) -> None:
        super().__init__(association)
        self._take = take
        self._largest_bytes = largest_bytes
        self._requests: RequestReader | None = None
        self._memory = memoryview(b"")

    @override
    def _is_transport_event(self) -> bool:
        connection = self._connection()
        if connection is None or not self.socket or not self.socket.ready:
            return super()._is_transport_event()
        if self._requests is None:
            self._requests = RequestReader(_storage_contexts(self.assoc))
        try:
            request = self._requests.take(connection)
        except OSError:
            request = None
        if request is None:
            return super()._is_transport_event()
        self._serve(request, self._requests, connection)
        return True

    def _connection(self) -> socket.socket | None:
        """Socket of the peer while the fast path may read from it."""
        connection = self.socket.socket if self.socket else None
        is_between_messages = (
            self.state_machine.current_state == _ESTABLISHED
            and self.assoc.is_established
            and self.event_queue.empty()
            and self.assoc.dimse.message is None
            and self.assoc.dimse.msg_queue.empty()
        )
        if not is_between_messages or isinstance(connection, ssl.SSLSocket):
            return None
        return connection

    def _serve(
        self, request: StoreRequest | None, requests: RequestReader, connection: socket.socket
    ) -> None:
        fragments = FragmentReader(connection, self._largest_bytes)
        if not self._memory:
            self._memory = new_memory()
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        # The association's own thread would look at its queues a thousand times a second.
        checkpoint = self.assoc._reactor_checkpoint  # noqa: SLF001 - there is no public switch
        checkpoint.clear()
        try:
            while request is not None:
                status = self._take(self.assoc, request, fragments, self._memory)
                connection.sendall(store_response(request, status))
                request = requests.take(connection) if self._goes_on(waiting) else None
        except MisplacedPduError as error:
            self._hand_on(error.start)
        except (BrokenPduError, PeerSilentError):
            self.event_queue.put(_INVALID_PDU)
        except (PeerGoneError, OSError):
            self.event_queue.put(_CONNECTION_CLOSED)
        finally:
            self._idle_timer.restart()
            checkpoint.set()

    def _goes_on(self, waiting: select.poll) -> bool:
        """Wait for the peer; ``False`` when something else is to be done first."""
        for _ in range(_LONGEST_PAUSE):
            if not self.to_provider_queue.empty() or self._kill_thread:
                return False
            if waiting.poll(_GLANCE_MS):
                return True
        return False

    def _hand_on(self, start: bytes) -> None:
        """Let pynetdicom see a PDU that ends the association within a data set."""
        if start[0] not in _ENDINGS:
            self.event_queue.put(_INVALID_PDU)
            return
        pdu, event = self._decode_pdu(bytearray(start))
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)


_ENDINGS: Final = frozenset({5, 7})  # A-RELEASE-RQ, A-ABORT


def watch_for_requests(association: Association, take: Take, largest_bytes: int) -> None:
    """Give an association that nobody has started yet the fast path.

    Parameters
    ----------
    association : Association
    take : Take
    largest_bytes : int
        Of a data set; a longer one ends the association.
    """
    plain = association.dul
    provider = StoreProvider(association, take, largest_bytes)
    provider.socket = plain.socket
    provider.event_queue = plain.event_queue
    association.dul = provider
    # Setting them sets the timers of the provider.
    association.acse_timeout = association.acse_timeout
    association.network_timeout = association.network_timeout


def _storage_contexts(association: Association) -> dict[int, StorageContext]:
    largest = association.requestor.maximum_length
    if largest and largest < _LEAST_PDU_BYTES:
        return {}
    return {
        context.context_id: StorageContext(
            str(context.abstract_syntax), str(context.transfer_syntax[0])
        )
        for context in association.accepted_contexts
        if context.context_id is not None
        and context.as_scp
        and context.abstract_syntax in STORAGE_SOP_CLASSES
    }
