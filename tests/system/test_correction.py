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
from tests.reader import corrected, corrected_by_dcmqi, values_of
from tests.system.running_node import RunningNode

Tool = Callable[[str], str]

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]


def of_class(node: RunningNode, sop_class: str) -> list[Dataset]:
    return [one for one in node.pacs.received.values() if one.SOPClassUID == sop_class]


def without_the_right(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kept = mask.copy()
    kept[:, : mask.shape[1] // 3] = False
    return kept


def send(tool: Tool, sender: str, path: Path, node: RunningNode) -> None:
    # The short list of classes that storescu proposes by itself lacks segmentations.
    options = ["-R"] if sender == "storescu" else []
    port = str(node.settings.listener.port)
    titles = ["-aet", "READER", "-aec", "PSOAS"]
    # pynetdicom has programs of the same names; DCMTK's stand beside dcmdump.
    program = Path(tool("dcmdump")).parent / sender
    command = [str(program), *options, *titles, "127.0.0.1", port, str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def by_highdicom(_tool: Tool, ours: Dataset, series: Path, folder: Path) -> Path:
    images = [dcmread(path) for path in sorted(series.glob("*.dcm"))]
    correction = corrected(ours, images, without_the_right)
    correction.save_as(folder / "correction.dcm", enforce_file_format=True)
    return folder / "correction.dcm"


def by_dcmqi(tool: Tool, ours: Dataset, series: Path, folder: Path) -> Path:
    ours.save_as(folder / "ours.dcm", enforce_file_format=True)
    return corrected_by_dcmqi(
        tool, folder / "ours.dcm", series, without_the_right, folder / "dcmqi"
    )


@pytest.mark.parametrize(("write", "sender"), [(by_highdicom, "dcmsend"), (by_dcmqi, "storescu")])
def test_correction_is_answered_with_a_report_that_names_its_predecessor(
    write: Callable[[Tool, Dataset, Path, Path], Path],
    sender: str,
    node: RunningNode,
    series: Path,
    tmp_path: Path,
    tool: Tool,
) -> None:
    source_uid = node.send(series)
    node.wait_for(source_uid, SeriesState.DELIVERED)
    (ours,) = of_class(node, SegmentationStorage)
    (first,) = of_class(node, Comprehensive3DSRStorage)
    path = write(tool, ours, series, tmp_path)
    correction = dcmread(path)

    send(tool, sender, path, node)
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
    spacing_mm = dcmread(next(series.glob("*.dcm"))).PixelSpacing
    pixels = correction.pixel_array.reshape(-1, correction.Rows, correction.Columns)[0].sum()
    area_cm2 = int(pixels) * float(np.prod([float(mm) for mm in spacing_mm])) / 100
    assert round(area_cm2, 2) in [float(value) for value in values_of(second, "NumericValue")]

    # A PACS that forwards whole studies sends our own results back.
    spool = Spool.of(node.settings.storage)
    seg = next(d for d in node.deliveries(source_uid) if d.result.path.name == "seg.dcm")
    send(tool, sender, spool.path(seg.result.path), node)
    node.wait_for(ours.SeriesInstanceUID, SeriesState.SKIPPED)
    reason = node.ledger.series(ours.SeriesInstanceUID).reason
    assert reason is not None
    assert reason.code == "OWN_RESULT"
