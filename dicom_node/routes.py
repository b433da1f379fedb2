"""Where a series goes: what the rules decided, as the ledger keeps it."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class Priority(StrEnum):
    """Class of a series in the queue."""

    STAT = "stat"
    ROUTINE = "routine"
    BACKGROUND = "background"


class Choice(StrEnum):
    """Which series of a study are analysed."""

    EVERY = "every"
    BEST = "best"
    """A candidate: the best one is chosen when the study is complete."""
    CHOSEN = "chosen"
    """The candidate that was chosen."""


@dataclass(frozen=True, slots=True)
class Route:
    """What the rules decided about one revision of a series.

    Parameters
    ----------
    rule : str
        Name of the rule that fired.
    priority : Priority
    destinations : tuple of str or None
        Names of the destinations that get the results; ``None`` for all of them.
    choice : Choice
    rank : tuple of float
        Compared with other candidates of the study; the smallest is the best.
    summary : str
        What the rank was made of, in words.
    """

    rule: str
    priority: Priority = Priority.ROUTINE
    destinations: tuple[str, ...] | None = None
    choice: Choice = Choice.EVERY
    rank: tuple[float, ...] = ()
    summary: str = ""

    def to_json(self) -> str:
        """Return the route as it lies in the ledger."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: str) -> "Route":
        """Read what ``to_json`` wrote."""
        data = json.loads(content)
        names = data["destinations"]
        return cls(
            rule=data["rule"],
            priority=Priority(data["priority"]),
            destinations=None if names is None else tuple(names),
            choice=Choice(data["choice"]),
            rank=tuple(data["rank"]),
            summary=data["summary"],
        )
