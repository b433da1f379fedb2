from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless

from pipeline.analyze import AnalysisRequest
from pipeline.correct import CorrectedResult, measure_correction
from pipeline.errors import CorrectionError
from pipeline.objects.identity import PredecessorReport, ResultContext
from pipeline.objects.labelmap import build as build_labelmap
from pipeline.objects.seg import build as build_seg
from pipeline.preprocess import PreprocessSpec
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Analysis
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.test_sr import groups, named
from tests.reader import corrected, corrected_by_dcmqi, values_of

PHANTOM = TorsoPhantom(shape=(5, 128, 128))
LEVEL = 2
PREDECESSOR = PredecessorReport(PHANTOM.study_instance_uid, "2.25.10", "2.25.11")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """A phantom with our segmentation of it."""

    analysis: Analysis
    images: list[Dataset]
    segmentation: Dataset

    def measure(
        self, segmentation: Dataset, level: int = LEVEL
    ) -> tuple[Analysis, dict[str, Dataset]]:
        before = CorrectedResult(
            PHANTOM.sop_instance_uid(level), self.analysis.models, PreprocessSpec()
        )
        request = AnalysisRequest(NOW, "0.0", predecessor=PREDECESSOR)
        analysis, objects = measure_correction(segmentation, self.images, before, request)
        return analysis, dict(objects)


@pytest.fixture(scope="module")
def case() -> Case:
    analysis = phantom_analysis(PHANTOM, LEVEL)
    images = PHANTOM.datasets()
    return Case(analysis, images, build_seg(analysis, ResultContext(tuple(images), NOW, "0.0")))


def left_half(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kept = mask.copy()
    kept[:, mask.shape[1] // 2 :] = False
    return kept


def test_area_is_that_of_the_readers_mask(case: Case) -> None:
    analysis, _ = case.measure(corrected(case.segmentation, case.images, left_half))
    pixels = int(left_half(PHANTOM.muscle_mask()[LEVEL]).sum())
    area_cm2 = analysis.composition.of(SKELETAL_MUSCLE).area_cm2
    assert area_cm2 == pytest.approx(pixels * PHANTOM.pixel_mm**2 / 100)  # type: ignore[operator]
    assert analysis.composition.level.slice_index == LEVEL
    assert analysis.interval is None


def test_what_is_no_muscle_by_its_hu_is_not_counted(case: Case) -> None:
    def everything(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.ones_like(mask)

    analysis, _ = case.measure(corrected(case.segmentation, case.images, everything))
    before = case.analysis.composition.of(SKELETAL_MUSCLE)
    assert analysis.composition.of(SKELETAL_MUSCLE) == before
    (remark,) = [flag for flag in analysis.quality if flag.code == "CORRECTED_BY_READER"]
    assert "outside the HU range of muscle" in remark.message


def test_other_tissues_of_the_reader_are_measured_too(case: Case) -> None:
    unchanged: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] = np.copy
    three = corrected(case.segmentation, case.images, unchanged, segments=3)
    analysis, _ = case.measure(three)
    assert analysis.composition.tissues == case.analysis.composition.tissues


def test_report_says_who_corrected_what(case: Case) -> None:
    segmentation = corrected(case.segmentation, case.images, left_half)
    _, objects = case.measure(segmentation)
    assert "seg" not in objects
    report = objects["sr"]
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == PREDECESSOR.sop_instance_uid
    assert any("Corrected by a reader" in text for text in values_of(report, "TextValue"))
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert evidence == {segmentation.SOPInstanceUID, PHANTOM.sop_instance_uid(LEVEL)}
    tracking_uid = segmentation.SegmentSequence[0].TrackingUID
    assert tracking_uid == case.segmentation.SegmentSequence[0].TrackingUID
    assert tracking_uid in str(report)
    assert case.segmentation.SOPInstanceUID not in str(report)


def test_segmentation_written_by_dcmqi_is_measured(
    case: Case, tool: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    PHANTOM.write_series(tmp_path / "images")
    case.segmentation.save_as(tmp_path / "ours.dcm", enforce_file_format=True)
    path = corrected_by_dcmqi(
        tool, tmp_path / "ours.dcm", tmp_path / "images", left_half, tmp_path / "dcmqi"
    )
    analysis, objects = case.measure(dcmread(path))
    by_highdicom, _ = case.measure(corrected(case.segmentation, case.images, left_half, segments=3))
    assert analysis.composition.tissues == by_highdicom.composition.tissues
    # Every number refers to the frame and the tracking UID of the reader's own segment.
    segments = dcmread(path).SegmentSequence
    for group in groups(objects["sr"]):
        reference = [item.ReferencedSOPSequence[0] for item in named(group, "121214")]
        assert all(
            one.ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID for one in reference
        )
        (uid,) = (item.UID for item in named(group, "112040"))
        assert uid in {segment.TrackingUID for segment in segments}


@pytest.mark.parametrize("compressed", [False, True])
def test_label_map_is_measured_as_a_binary_segmentation_is(case: Case, compressed: bool) -> None:
    """OHIF 3.13 stores label maps in RLE; it drops the tracking UIDs."""
    context = ResultContext(tuple(case.images), NOW, "0.0")
    labelmap = build_labelmap(case.analysis, context)
    pixels = labelmap.pixel_array.copy()
    pixels[..., pixels.shape[-1] // 2 :] *= pixels[..., pixels.shape[-1] // 2 :] != 1
    labelmap.PixelData = pixels.tobytes()
    labelmap.SOPInstanceUID = "2.25.77"
    for segment in labelmap.SegmentSequence:
        del segment.TrackingUID
        del segment.TrackingID
        segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
    if compressed:
        labelmap.compress(RLELossless, generate_instance_uid=False)
    analysis, objects = case.measure(labelmap)
    expected, _ = case.measure(corrected(case.segmentation, case.images, left_half, segments=3))
    assert analysis.composition.tissues == expected.composition.tissues
    for group in groups(objects["sr"])[::2]:
        (reference,) = (item.ReferencedSOPSequence[0] for item in named(group, "121214"))
        assert reference.ReferencedSOPClassUID == labelmap.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == "2.25.77"
        assert len(named(group, "112040")) == 1


def test_what_ohif_stored_of_our_segmentation_is_measured() -> None:
    """The file is what OHIF 3.13.2 wrote when told to store our segmentation of this phantom.

    A label map in RLE whose segments have lost their codes and tracking UIDs.
    """
    phantom = TorsoPhantom(shape=(7, 256, 256), pixel_mm=1.5, height_m=1.62, noise_hu=10.0)
    ours = phantom_analysis(phantom)
    segmentation = dcmread(Path(__file__).parent / "ohif_3_13_2_export.dcm")
    assert segmentation.SegmentationType == "LABELMAP"
    assert segmentation.SegmentSequence[0].SegmentAlgorithmName == "OHIF Brush"
    assert "TrackingUID" not in segmentation.SegmentSequence[0]
    before = CorrectedResult(phantom.sop_instance_uid(3), ours.models, PreprocessSpec())
    request = AnalysisRequest(NOW, "0.0", predecessor=PREDECESSOR)
    analysis, objects = measure_correction(segmentation, phantom.datasets(), before, request)
    assert analysis.composition.tissues == ours.composition.tissues
    assert any("Corrected by a reader" in text for text in values_of(objects["sr"], "TextValue"))
    assert segmentation.SOPInstanceUID in values_of(objects["sr"], "ReferencedSOPInstanceUID")


def test_fractional_segmentation_is_refused(case: Case) -> None:
    segmentation = corrected(case.segmentation, case.images, left_half)
    segmentation.SegmentationType = "FRACTIONAL"
    with pytest.raises(CorrectionError, match="neither binary nor a label map"):
        case.measure(segmentation)


def test_two_corrections_make_two_reports(case: Case) -> None:
    reports = [
        case.measure(corrected(case.segmentation, case.images, left_half))[1]["sr"]
        for _ in range(2)
    ]
    assert len({report.SOPInstanceUID for report in reports}) == 2


def test_segment_that_lost_its_code_is_known_by_its_label(case: Case) -> None:
    segmentation = corrected(case.segmentation, case.images, left_half)
    code = segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = "85756007", "SCT"
    analysis, _ = case.measure(segmentation)
    assert analysis.composition.of(SKELETAL_MUSCLE).area_cm2 > 0
    segmentation.SegmentSequence[0].SegmentLabel = "Liver"
    with pytest.raises(CorrectionError, match="skeletal muscle"):
        case.measure(segmentation)


def test_slice_that_the_reader_chose_is_measured(case: Case) -> None:
    other = phantom_analysis(PHANTOM, LEVEL + 1)
    segmentation = build_seg(other, ResultContext(tuple(case.images), NOW, "0.0"))
    analysis, _ = case.measure(corrected(segmentation, case.images, left_half))
    assert analysis.composition.level.slice_index == LEVEL + 1


def test_segmentation_beside_the_pixels_is_refused(case: Case) -> None:
    segmentation = corrected(case.segmentation, case.images, left_half)
    group = segmentation.PerFrameFunctionalGroupsSequence[0]
    group.PlanePositionSequence[0].ImagePositionPatient[0] += 1.5
    with pytest.raises(CorrectionError, match="does not lie on the pixels"):
        case.measure(segmentation)


def test_segmentation_of_another_matrix_is_refused(case: Case) -> None:
    other = TorsoPhantom(shape=(5, 64, 64), pixel_mm=6.0)
    analysis, images = phantom_analysis(other, LEVEL), other.datasets()
    segmentation = build_seg(analysis, ResultContext(tuple(images), NOW, "0.0"))
    with pytest.raises(CorrectionError, match="64 x 64"):
        case.measure(corrected(segmentation, images, left_half))
