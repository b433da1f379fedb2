"""Remember who is logged in: on the server, under a random name that the browser keeps."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from dicom_node.console.users import Role

_AT_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """One person in one browser.

    Parameters
    ----------
    user : str
    role : Role
    stamp : str or None
        Of the password; ``None`` for a person that an identity provider vouches for.
    csrf : str
        Secret that the pages of this session send with each action.
    began_at, seen_at : datetime
    """

    user: str
    role: Role
    stamp: str | None
    csrf: str
    began_at: datetime
    seen_at: datetime


class Sessions:
    """Sessions of one console; they end with its process.

    Parameters
    ----------
    clock : callable
        Returns the time in UTC.
    idle_s : float
        A session that is not used ends after so long.
    longest_s : float
        Any session ends after so long.
    """

    def __init__(self, clock: Callable[[], datetime], idle_s: float, longest_s: float) -> None:
        self._clock = clock
        self._idle = timedelta(seconds=idle_s)
        self._longest = timedelta(seconds=longest_s)
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def begin(self, user: str, role: Role, stamp: str | None) -> str:
        """Begin a session; return its name, which nobody can guess."""
        name, now = secrets.token_urlsafe(32), self._clock()
        session = Session(user, role, stamp, secrets.token_urlsafe(32), now, now)
        with self._lock:
            self._sessions = {
                key: kept for key, kept in self._sessions.items() if not self._is_over(kept, now)
            }
            if len(self._sessions) >= _AT_MOST:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[name] = session
        return name

    def find(self, name: str) -> Session | None:
        """Return a session that goes on, and note that it is in use."""
        now = self._clock()
        with self._lock:
            session = self._sessions.get(name)
            if session is None or self._is_over(session, now):
                self._sessions.pop(name, None)
                return None
            self._sessions[name] = replace(session, seen_at=now)
            return session

    def end(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(name, None)

    def _is_over(self, session: Session, now: datetime) -> bool:
        return now - session.seen_at > self._idle or now - session.began_at > self._longest
