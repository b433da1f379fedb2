"""Count associations by peer, so that none takes the places of the others."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from dicom_node.door import Caller, Permit

_MINUTE_S: Final = 60.0


class Running(Protocol):
    """An association: alive while it needs its place."""

    def is_alive(self) -> bool:
        """Say whether it still runs."""
        ...


@dataclass(slots=True)
class _Peer:
    running: list[Running] = field(default_factory=list)
    begun_at: deque[float] = field(default_factory=deque)


class AssociationLimits:
    """Who has how many associations; for one thread that admits, of one listener or several.

    Parameters
    ----------
    maximum : int
        Of all peers together.
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, maximum: int, clock: Callable[[], float]) -> None:
        self._maximum = maximum
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[tuple[str, str], _Peer] = {}

    def excess(self, caller: Caller, permit: Permit) -> str:
        """Say which limit one more association would exceed; empty when none."""
        with self._lock:
            self._forget()
            peer = self._peers.get(_key(caller), _Peer())
            if len(peer.begun_at) >= permit.associations_per_minute:
                return f"more than {permit.associations_per_minute} associations in a minute"
            if len(peer.running) >= permit.maximum_associations:
                return f"more than {permit.maximum_associations} associations at a time"
            if sum(len(known.running) for known in self._peers.values()) >= self._maximum:
                return f"all {self._maximum} places are taken"
        return ""

    def begin(self, caller: Caller, association: Running) -> None:
        """Count an association until it ends."""
        with self._lock:
            peer = self._peers.setdefault(_key(caller), _Peer())
            peer.running.append(association)
            peer.begun_at.append(self._clock())

    def _forget(self) -> None:
        since = self._clock() - _MINUTE_S
        for peer in self._peers.values():
            peer.running = [association for association in peer.running if association.is_alive()]
            while peer.begun_at and peer.begun_at[0] <= since:
                peer.begun_at.popleft()
        self._peers = {
            key: peer for key, peer in self._peers.items() if peer.running or peer.begun_at
        }


def _key(caller: Caller) -> tuple[str, str]:
    return caller.calling, caller.address
