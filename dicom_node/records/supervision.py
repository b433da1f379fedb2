"""What people have told the node, and what it tells them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Switch(StrEnum):
    """What a person has told the whole node to do."""

    ANALYSIS_PAUSED = "analysis_paused"
    """No further series is handed to a worker."""
    DELIVERY_PAUSED = "delivery_paused"
    """No further result is handed out for delivery."""
    DRAINING = "draining"
    """New associations are refused, what is under way is finished, then the listener stops."""


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """A switch that is on.

    Parameters
    ----------
    switch : Switch
    set_at : datetime
    set_by : str
        Account of the person.
    """

    switch: Switch
    set_at: datetime
    set_by: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at.

    Parameters
    ----------
    code : str
        Stable, like the codes of errors.
    subject : str
        What it is about: a Series Instance UID, the name of a destination.
    message : str
        One sentence.
    raised_at, last_at : datetime
        The first and the last time.
    occurrences : int
    cleared_at : datetime or None
        ``None`` while it stands.
    """

    code: str
    subject: str
    message: str
    raised_at: datetime
    last_at: datetime
    occurrences: int
    cleared_at: datetime | None
