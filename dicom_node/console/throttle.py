"""Slow down whoever guesses passwords."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Final

_KEYS_AT_MOST: Final = 10_000


class Throttle:
    """Lets so many failures happen within a time; more are refused until it has passed.

    Parameters
    ----------
    clock : callable
        Returns the time in UTC.
    failures : int
    within_s : float
    """

    def __init__(self, clock: Callable[[], datetime], failures: int, within_s: float) -> None:
        self._clock = clock
        self._failures = failures
        self._within = timedelta(seconds=within_s)
        self._lock = threading.Lock()
        self._times: dict[Hashable, deque[datetime]] = {}

    def admits(self, key: Hashable) -> bool:
        """Say whether one more attempt may be made under a key."""
        with self._lock:
            return len(self._recent(key)) < self._failures

    def note(self, key: Hashable) -> None:
        """Note a failure under a key."""
        with self._lock:
            times = self._recent(key)
            times.append(self._clock())
            self._times[key] = times
            while len(self._times) > _KEYS_AT_MOST:
                self._times.pop(next(iter(self._times)))

    def _recent(self, key: Hashable) -> deque[datetime]:
        times = self._times.get(key, deque())
        since = self._clock() - self._within
        while times and times[0] <= since:
            times.popleft()
        if not times:
            self._times.pop(key, None)
        return times
