"""Edited rules count for the next series, on an association that stays open all the while."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import Queue

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage

from dicom_node.ledger import Ledger
from dicom_node.records import SeriesState
from dicom_node.serve import serve
from tests.dicom_node.factories import RecordingDispatcher, node_settings

pytestmark = pytest.mark.network

ALL = '[[rules]]\nname = "all"\n'
NONE = '[[rules]]\nname = "none"\naction = "skip"\nbecause = "not this week"\n'


def store(association: Association, source: Path) -> str:
    """Send a series of its own over an open association; return its UID."""
    study, series = generate_uid(), generate_uid()
    for path in sorted(source.glob("*.dcm")):
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        assert association.send_c_store(dataset).Status == 0x0000
    return str(series)


def test_rules_are_reloaded_without_dropping_an_association(
    tmp_path: Path, demo_series: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(ALL)
    completion = {"quiet_s": 0.5, "quiet_after_release_s": 0.1}
    settings = node_settings(tmp_path, rules={"file": rules}, completion=completion)
    stop, ports = threading.Event(), Queue[int]()
    dispatcher = RecordingDispatcher()
    node = threading.Thread(target=serve, args=(settings, dispatcher, stop, ports.put))
    node.start()
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    try:
        association = ae.associate("127.0.0.1", ports.get(timeout=20), ae_title="PSOAS")
        with closing(Ledger.open(settings.ledger_url)) as ledger:
            first = store(association, demo_series)
            soon(lambda: ledger.series(first).state is SeriesState.QUEUED)
            edited = tmp_path / "edited.toml"
            edited.write_text(NONE)
            edited.replace(rules)
            second = store(association, demo_series)
            soon(lambda: ledger.series(second).state is SeriesState.SKIPPED)
            reason = ledger.series(second).reason
            assert reason is not None
            assert "not this week" in reason.message
        assert association.is_established
        association.release()
    finally:
        stop.set()
        node.join()
    assert dispatcher.analyses == [(first, 1)]
