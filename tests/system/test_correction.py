"""A reader corrects a segmentation, sends it back, and gets a report on what was corrected."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from tests.reader import corrected, values_of
from tests.system.running_node import RunningNode

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]


def of_class(node: RunningNode, sop_class: str) -> list[Dataset]:
    return [one for one in node.pacs.received.values() if one.SOPClassUID == sop_class]


def without_the_right(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kept = mask.copy()
    kept[:, : mask.shape[1] // 3] = False
    return kept


def send(dcmsend: str, path: Path, node: RunningNode) -> None:
    port = str(node.settings.listener.port)
    command = [dcmsend, "-aet", "READER", "-aec", "PSOAS", "127.0.0.1", port, str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_correction_is_answered_with_a_report_that_names_its_predecessor(
    node: RunningNode, series: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    source_uid = node.send(series)
    node.wait_for(source_uid, SeriesState.DELIVERED)
    (ours,) = of_class(node, SegmentationStorage)
    (first,) = of_class(node, Comprehensive3DSRStorage)
    images = [dcmread(path) for path in sorted(series.glob("*.dcm"))]
    correction = corrected(ours, images, without_the_right)
    correction.save_as(tmp_path / "correction.dcm", enforce_file_format=True)

    send(tool("dcmsend"), tmp_path / "correction.dcm", node)
    node.wait_for(correction.SeriesInstanceUID, SeriesState.DELIVERED)

    assert len(of_class(node, SegmentationStorage)) == 1
    second = next(
        report
        for report in of_class(node, Comprehensive3DSRStorage)
        if report.SOPInstanceUID != first.SOPInstanceUID
    )
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert any("Corrected by a reader" in text for text in values_of(second, "TextValue"))
    assert correction.SOPInstanceUID in values_of(second, "ReferencedSOPInstanceUID")
    pixel_mm2 = float(np.prod([float(mm) for mm in images[0].PixelSpacing]))
    area_cm2 = int(correction.pixel_array.sum()) * pixel_mm2 / 100
    assert round(area_cm2, 2) in [float(value) for value in values_of(second, "NumericValue")]

    # A PACS that forwards whole studies sends our own results back.
    spool = Spool.of(node.settings.storage)
    seg = next(d for d in node.deliveries(source_uid) if d.result.path.name == "seg.dcm")
    send(tool("dcmsend"), spool.path(seg.result.path), node)
    node.wait_for(ours.SeriesInstanceUID, SeriesState.SKIPPED)
    reason = node.ledger.series(ours.SeriesInstanceUID).reason
    assert reason is not None
    assert reason.code == "OWN_RESULT"
