"""What a real peer holds in the end that takes our report and not our segmentation."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.config import CompletionSettings, DeliverySettings, DestinationSettings
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox, store_at
from dicom_node.outcomes import Outcome, OutcomeKind, result_file
from dicom_node.profiles import needed, wanted
from dicom_node.records import SeriesEvent, SeriesRecord, SeriesState
from dicom_node.spool import Spool
from pipeline.objects.part10 import encoded
from pipeline.objects.results import RESULT_BUILDERS
from tests.dicom_node.factories import ManualClock, destination, instance, node_settings
from tests.peers import ScriptedPacs
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import context_of

pytestmark = pytest.mark.network

UID = "1.2.3"
PHANTOM = TorsoPhantom()
TAKEN = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage)


def measured(spool: Spool, names: Sequence[str]) -> Outcome:
    """Put result objects of a phantom into the spool."""
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    objects = {name: RESULT_BUILDERS[name](analysis, context) for name in names}
    contents = {f"{name}.dcm": encoded(one) for name, one in objects.items()}
    paths = spool.put_results(UID, 1, contents)
    results = tuple(result_file(one, paths[f"{name}.dcm"]) for name, one in objects.items())
    outcome = Outcome(OutcomeKind.MEASURED, results=results)
    spool.put_outcome(UID, 1, outcome.to_json())
    return outcome


def delivered(profile: DestinationSettings, folder: Path) -> SeriesRecord:
    """Deliver a measured series until nothing is under way any more."""
    settings = node_settings(folder).model_copy(update={"destinations": (profile,)})
    clock, spool = ManualClock(), Spool(folder)
    with closing(Ledger.open(f"sqlite:///{folder / 'ledger.sqlite'}")) as ledger:
        ledger.record_instance(instance(), CompletionSettings())
        for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
            ledger.advance(UID, event, clock.now)
        share = wanted(measured(spool, needed([profile])).results, profile)
        ledger.deliveries.queue(UID, 1, share, [profile.name], clock.now)
        outbox = Outbox(ledger, spool, DeliverySettings(), [profile])
        send = store_at(profile.name, settings)
        while ledger.deliveries.due(clock.forward(1)):
            outbox.deliver(UID, profile.name, send, clock.now)
        return ledger.series(UID)


def references(dataset: Dataset) -> Iterator[str]:
    """SOP Instance UIDs that an object refers to, beside those of CT images."""
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPSequence":
            for item in element.value:
                if "ReferencedSOPInstanceUID" not in item:
                    continue
                if item.ReferencedSOPClassUID != CTImageStorage:
                    yield str(item.ReferencedSOPInstanceUID)


@pytest.mark.parametrize(
    "way",
    [{"sop_classes": TAKEN}, {"refused": {SegmentationStorage}}],
    ids=["no context", "failure status"],
)
def test_it_holds_one_report_and_nothing_that_refers_to_what_it_refused(
    way: dict[str, Sequence[str]], tmp_path: Path
) -> None:
    with ScriptedPacs(**way) as pacs:
        record = delivered(destination(port=pacs.port), tmp_path)
    held = pacs.received
    assert sorted(one.Modality for one in held.values()) == ["OT", "SR"]
    assert [uid for one in held.values() for uid in references(one) if uid not in held] == []
    assert len(pacs.attempts) == len(set(pacs.attempts))
    assert record.state is SeriesState.PARTLY_DELIVERED
    assert record.reason is not None
    assert record.reason.code == "OBJECT_REFUSED"


def test_who_takes_the_segmentation_gets_the_report_that_refers_to_it(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        record = delivered(destination(port=pacs.port), tmp_path)
    held = pacs.received
    (report,) = [one for one in held.values() if one.Modality == "SR"]
    assert set(references(report)) == {uid for uid in held if held[uid].Modality == "SEG"}
    assert record.state is SeriesState.DELIVERED
    assert pacs.attempts[-1] == report.SOPInstanceUID
