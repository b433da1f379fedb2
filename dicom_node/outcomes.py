"""What a worker found out about one revision of a series, as it lies in the spool."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.background import entry_from_json, entry_to_json
from dicom_node.dispositions import Disposition, disposition_of
from dicom_node.errors import SpoolError
from dicom_node.records import Reason, ResultEntry, ResultFile


class OutcomeKind(StrEnum):
    """How the work on a series ended."""

    MEASURED = "measured"
    SKIPPED = "skipped"
    FAILED = "failed"
    QUARANTINED = "quarantined"


_KINDS: Final = {
    Disposition.SKIP: OutcomeKind.SKIPPED,
    Disposition.QUARANTINE: OutcomeKind.QUARANTINED,
    Disposition.FAIL: OutcomeKind.FAILED,
}

UNFORESEEN: Final = "UNFORESEEN_ERROR"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the work on one revision of a series.

    Parameters
    ----------
    kind : OutcomeKind
    reason : Reason or None
        Why there is no measurement.
    results : tuple of ResultFile
        Objects in the spool that destinations get.
    measurement : mapping
        The measurement as ``measurement.json`` holds it; empty without one.
    entry : ResultEntry or None
        What the ledger remembers of the measurement.
    """

    kind: OutcomeKind
    reason: Reason | None = None
    results: tuple[ResultFile, ...] = ()
    measurement: Mapping[str, Any] = field(default_factory=dict)
    entry: ResultEntry | None = None

    def to_json(self) -> bytes:
        """Return the outcome as it lies in the spool."""
        reason = self.reason and {"code": self.reason.code, "message": self.reason.message}
        results = [
            {
                "sop_instance_uid": result.sop_instance_uid,
                "sop_class_uid": result.sop_class_uid,
                "transfer_syntax_uid": result.transfer_syntax_uid,
                "path": result.path.as_posix(),
            }
            for result in self.results
        ]
        return json.dumps(
            {
                "kind": self.kind.value,
                "reason": reason,
                "results": results,
                "measurement": dict(self.measurement),
                "entry": self.entry and entry_to_json(self.entry),
            },
            indent=2,
        ).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Outcome":
        """Read what ``to_json`` wrote.

        Raises
        ------
        SpoolError
            The file is damaged.
        """
        try:
            data = json.loads(content)
            reason = data["reason"] and Reason(data["reason"]["code"], data["reason"]["message"])
            results = tuple(
                ResultFile(
                    sop_instance_uid=result["sop_instance_uid"],
                    sop_class_uid=result["sop_class_uid"],
                    transfer_syntax_uid=result["transfer_syntax_uid"],
                    path=Path(result["path"]),
                )
                for result in data["results"]
            )
            # Outcomes of older versions have none.
            entry = data.get("entry") and entry_from_json(data["entry"])
            return cls(OutcomeKind(data["kind"]), reason, results, data["measurement"], entry)
        except (ValueError, KeyError, TypeError) as error:
            raise SpoolError(f"an outcome in the spool is damaged: {error!r}") from None


def result_file(dataset: Dataset, path: Path) -> ResultFile:
    """Describe a result object that lies in the spool."""
    return ResultFile(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        path=path,
    )


def failure(error: Exception) -> Outcome | None:
    """Turn an error into the outcome that it means; ``None`` when the work is to be done again."""
    disposition = disposition_of(error)
    if disposition is Disposition.RETRY:
        return None
    return Outcome(_KINDS[disposition], reason=reason_of(error))


def reason_of(error: Exception) -> Reason:
    """Say why work ended; an error that nobody foresaw is named, its text may hold anything."""
    code = getattr(error, "code", None)
    if code is None:
        message = f"an unforeseen {type(error).__name__}; the worker's log has the place"
        return Reason(UNFORESEEN, message)
    return Reason(code, str(error))
