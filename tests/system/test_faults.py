"""The short form of ``python -m tests.system.faults``; the audit is shown to notice a loss."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile, SeriesEvent
from dicom_node.spool import FileIdentity, Spool
from tests.dicom_node.factories import START, instance
from tests.system.auditing import Pacs, audit, table
from tests.system.faults import (
    DISK_FAULTS,
    FAULTS,
    bench_in,
    broken_round,
    images_at_the_hand_over,
    poison,
    run,
    two_sources_at_once,
)
from tests.system.sending import Sent
from tests.system.stub_worker import HANG

SHORT = ("listener killed", "working process killed", "PACS aborts")
UID, STUDY = "1.2.3", "1.2"
SR = ResultFile("2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1", Path("sr.dcm"))


@pytest.mark.network
@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(900)
# pynetdicom leaves the socket of a refused connection to the garbage collector, and scanners try
# again while the listener starts.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_acknowledged_image_is_accounted_for(tmp_path: Path) -> None:
    with bench_in(tmp_path, seed=1, mount=True) as bench:
        plays = [broken_round(name, FAULTS[name]) for name in SHORT]
        plays += [images_at_the_hand_over, two_sources_at_once, poison(HANG)]
        if bench.mounted:
            plays += [broken_round(name, act) for name, act in DISK_FAULTS.items()][:1]
        findings = run(bench, plays, lambda _text: None)
    assert len(findings) == len(plays)
    assert all(finding.holds for finding in findings), table(findings)


@pytest.mark.parametrize(
    ("loss", "noticed"),
    [
        ("nothing", False),
        ("file", True),
        ("image not analysed", True),
        ("result not at the PACS", True),
        ("twin", True),
    ],
)
def test_the_audit_notices_what_is_lost(tmp_path: Path, loss: str, noticed: bool) -> None:
    spool = Spool(tmp_path / "spool")
    identity = FileIdentity("1.2", "1.2.3.1", UID, "1.2.840.10008.1.2.1", "CT1")
    stored = spool.put_instance(identity, b"pixels")
    images = [] if loss == "image not analysed" else ["1.2.3.1"]
    outcome = Outcome(OutcomeKind.MEASURED, results=(SR,), measurement={"images": images})
    spool.put_outcome(UID, 1, outcome.to_json())
    kept = Dataset()
    kept.StudyInstanceUID = STUDY
    there = {} if loss == "result not at the PACS" else {SR.sop_instance_uid: kept}
    if loss == "twin":
        there["2.25.99"] = kept
    if loss == "file":
        spool.path(stored.path).write_bytes(b"pixelz")
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        size = stored.size_bytes
        arrived = instance(path=stored.path, sha256=stored.sha256, size_bytes=size)
        ledger.record_instance(replace(arrived), CompletionSettings())
        for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
            ledger.advance(UID, event, START)
        sent = Sent(UID, STUDY, "none", acknowledged={"1.2.3.1"})
        finding = audit(sent, ledger, spool, Pacs(there, tuple(there)))
    assert finding.holds is not noticed
    assert ("NO" in table([finding])) is noticed
