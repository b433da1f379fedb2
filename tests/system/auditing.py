"""Hold what scanners were told against what the node and the PACS have."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome
from dicom_node.records import ReceivedInstance, SeriesState
from dicom_node.spool import Spool
from tests.system.sending import Sent

_EXPLAINED = (SeriesState.SKIPPED, SeriesState.QUARANTINED, SeriesState.FAILED)
ENDED = (*_EXPLAINED, SeriesState.DELIVERED, SeriesState.PARTLY_DELIVERED)


@dataclass(frozen=True)
class Finding:
    """One series, from the first acknowledged image to the PACS."""

    fault: str
    acknowledged: int
    recorded: int
    analysed: int
    explained: int
    results: int
    delivered: int
    twins: int
    sent_again: int
    reason: str

    @property
    def holds(self) -> bool:
        """Acknowledged = recorded = analysed or explained, every result there exactly once."""
        return (
            self.acknowledged == self.recorded == self.analysed + self.explained
            and self.results == self.delivered
            and self.twins == 0
        )


@dataclass(frozen=True)
class Pacs:
    """Everything that a PACS was sent, over all its lives."""

    stored: Mapping[str, Dataset]
    attempts: tuple[str, ...]

    def of_study(self, study_uid: str) -> set[str]:
        return {uid for uid, kept in self.stored.items() if kept.StudyInstanceUID == study_uid}


def audit(sent: Sent, ledger: Ledger, spool: Spool, pacs: Pacs) -> Finding:
    """Follow one series."""
    record = ledger.series(sent.uid)
    whole = {i.sop_instance_uid for i in ledger.instances(sent.uid) if _is_whole(i, spool)}
    outcomes = _outcomes(sent.uid, spool)
    last = outcomes.get(record.revision)
    analysed = set(last.measurement.get("images", [])) if last is not None else set()
    explained = record.state in _EXPLAINED and record.reason is not None
    expected = {result.sop_instance_uid for result in last.results} if last is not None else set()
    known = {result.sop_instance_uid for one in outcomes.values() for result in one.results}
    there = pacs.of_study(sent.study_uid)
    return Finding(
        fault=sent.fault,
        acknowledged=len(sent.acknowledged),
        recorded=len(sent.acknowledged & whole),
        analysed=0 if explained else len(sent.acknowledged & analysed),
        explained=len(sent.acknowledged) if explained else 0,
        results=0 if explained else max(len(expected), 1),
        delivered=0 if explained else len(expected & there),
        twins=len(there - known),
        sent_again=sum(pacs.attempts.count(uid) - 1 for uid in there),
        reason=f"{record.reason.code}: {record.reason.message}" if record.reason else "",
    )


def table(findings: Iterable[Finding]) -> str:
    """One line for each fault and one for all."""
    findings = list(findings)
    faults = dict.fromkeys(finding.fault for finding in findings)
    rows = [_row(fault, [f for f in findings if f.fault == fault]) for fault in faults]
    rows.append(_row("all", findings))
    return "\n".join([_HEAD, *rows])


_HEAD = (
    f"{'fault':<28}{'series':>7}{'acknowledged':>13}{'recorded':>9}{'analysed':>9}"
    f"{'explained':>10}{'results':>8}{'at PACS':>8}{'twins':>6}{'again':>6}  holds"
)


def _row(name: str, findings: list[Finding]) -> str:
    def total(attribute: str) -> int:
        return sum(getattr(finding, attribute) for finding in findings)

    holds = "yes" if all(finding.holds for finding in findings) else "NO"
    return (
        f"{name:<28}{len(findings):>7}{total('acknowledged'):>13}{total('recorded'):>9}"
        f"{total('analysed'):>9}{total('explained'):>10}{total('results'):>8}"
        f"{total('delivered'):>8}{total('twins'):>6}{total('sent_again'):>6}  {holds}"
    )


def _is_whole(instance: ReceivedInstance, spool: Spool) -> bool:
    try:
        content = spool.path(instance.path).read_bytes()
    except OSError:
        return False
    data_set = content[len(content) - instance.size_bytes :]
    return hashlib.sha256(data_set).hexdigest() == instance.sha256


def _outcomes(series_instance_uid: str, spool: Spool) -> dict[int, Outcome]:
    """Outcome of each revision that has one."""
    found = {}
    folder = spool.path(Path("results", series_instance_uid))
    for path in folder.glob("revision_*/outcome.json"):
        revision = int(path.parent.name.removeprefix("revision_"))
        found[revision] = Outcome.from_json(json.dumps(json.loads(path.read_bytes())).encode())
    return found
