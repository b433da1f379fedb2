"""What a worker is told of one revision of a series, and how it is written down."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What a worker needs to know of one revision of a series.

    Parameters
    ----------
    paths : tuple of Path
        The instances that belong to the revision, relative to the spool.
    queued_at : datetime
        When the revision was first sent to a worker: the content time of its results.
    number : int
        Of the task that this order goes with; older tasks have nothing to do any more.
    segmenter, level_finder, classifier : str
        Keys of installed models; empty for those that the settings name.
    """

    paths: tuple[Path, ...]
    queued_at: datetime
    number: int
    segmenter: str = ""
    level_finder: str = ""
    classifier: str = ""

    def to_json(self) -> bytes:
        """Write it down."""
        content = {
            "paths": [path.as_posix() for path in self.paths],
            "queued_at": self.queued_at.isoformat(),
            "number": self.number,
            "segmenter": self.segmenter,
            "level_finder": self.level_finder,
            "classifier": self.classifier,
        }
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what ``to_json`` wrote; orders of earlier versions name no models.

        Raises
        ------
        ValueError, KeyError, TypeError
            When it was not written by ``to_json``.
        """
        content = json.loads(text)
        return cls(
            paths=tuple(Path(path) for path in content["paths"]),
            queued_at=datetime.fromisoformat(content["queued_at"]),
            number=int(content.get("number", 0)),
            segmenter=str(content.get("segmenter", "")),
            level_finder=str(content.get("level_finder", "")),
            classifier=str(content.get("classifier", "")),
        )
