"""Ask somebody about a series once, and wait for the answer, though not for ever."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol


class Noted(Protocol):
    """What the ledger holds of a question: asked and waited for, or settled."""

    @property
    def settled(self) -> bool:
        """Nobody is waited for any more."""

    @property
    def due_at(self) -> datetime:
        """When an answer that did not come is not waited for any longer."""


def is_over(
    noted: Noted | None,
    now: datetime,
    patience_s: float,
    ask: Callable[[], None],
    note: Callable[[bool, datetime], None],
) -> bool:
    """Whether the wait for an answer is over; asks when nobody has, gives up when it is time.

    Parameters
    ----------
    noted : Noted or None
        ``None`` when nobody was asked.
    now : datetime
    patience_s : float
    ask : callable
        Sends the question; noted only when that worked, so that it is asked again otherwise.
    note : callable
        Writes down whether the question is settled, unanswered then, and when it is due.
    """
    if noted is None:
        ask()
        note(False, now + timedelta(seconds=patience_s))
        return False
    if not noted.settled and now >= noted.due_at:
        note(True, now)
        return True
    return noted.settled
