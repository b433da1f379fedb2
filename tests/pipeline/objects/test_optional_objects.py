"""What old systems and other tastes get: contours, a page of text, a PDF, a label map."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage, RTStructureSetStorage

from pipeline.errors import (
    CorrectionError,
    LevelNotCoveredError,
    LevelUncertainError,
    LocalizerError,
    ModelError,
    PixelDataError,
    TooFewSlicesError,
)
from pipeline.objects import labelmap, not_analysed, pdf, rtstruct, seg, text_sr
from pipeline.objects.identity import PredecessorReport
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import context_of
from tests.pipeline.objects.test_sr import named

PHANTOM = TorsoPhantom((5, 64, 64), 6.0, height_m=1.7, noise_hu=60.0)
ON_THE_SIDE = TorsoPhantom((5, 64, 64), 6.0, orientation=(0, 1, 0, -1, 0, 0), noise_hu=60.0)


def area_cm2(contours: Dataset) -> float:
    """Area between contours, by the formula of Gauss, in the plane of the slices."""
    total = 0.0
    for contour in contours.ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        x, y = points[:, 0], points[:, 1]
        total += float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)
    return abs(total) / 100


@pytest.mark.parametrize("phantom", [PHANTOM, ON_THE_SIDE])
def test_contours_hold_exactly_the_area_of_the_mask(phantom: TorsoPhantom) -> None:
    analysis = phantom_analysis(phantom)
    result = rtstruct.build(analysis, context_of(phantom))
    assert result.SOPClassUID == RTStructureSetStorage
    names = [item.ROIName for item in result.StructureSetROISequence]
    assert names[0] == "Skeletal muscle"
    assert len(result.ROIContourSequence[0].ContourSequence) > 3  # noise makes holes
    measured = [one.area_cm2 for one in analysis.composition.tissues if one.area_cm2 > 0]
    areas = [area_cm2(contours) for contours in result.ROIContourSequence]
    assert areas == pytest.approx(measured, rel=1e-6)


def test_contours_lie_on_the_measured_slice_and_are_not_approved() -> None:
    result = rtstruct.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    for contour in result.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        assert image.ReferencedSOPInstanceUID == PHANTOM.sop_instance_uid(2)
        heights = np.array(contour.ContourData, dtype=float)[2::3]
        assert heights == pytest.approx(PHANTOM.affine[2, 3] + 2 * PHANTOM.slice_mm)
    assert result.ApprovalStatus == "UNAPPROVED"


def test_the_pdf_is_one_page_that_others_can_open(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    result = pdf.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    assert result.SOPClassUID == EncapsulatedPDFStorage
    document = result.EncapsulatedDocument[: result.EncapsulatedDocumentLength]
    path = tmp_path / "page.pdf"
    path.write_bytes(document)
    said = subprocess.run(
        [tool("pdfinfo"), str(path)], check=True, capture_output=True, text=True
    ).stdout
    assert "Pages:           1" in said
    assert "research use only" in said


def test_the_text_says_what_the_numbers_say() -> None:
    analysis = phantom_analysis(PHANTOM)
    result = text_sr.build(analysis, context_of(PHANTOM))
    assert result.SOPClassUID == BasicTextSRStorage
    text = " ".join(item.TextValue for item in named(result, "121071"))
    muscle = analysis.composition.of("skeletal_muscle")
    assert f"{muscle.area_cm2:.2f} cm2" in text
    assert f"mean {muscle.mean_hu:.2f} HU" in text
    for words in ("90% interval", analysis.assessment.reason, "A citation", "CONTRAST", "ab" * 32):
        assert words in text
    assert "RESEARCH USE ONLY" in text
    assert named(result, "LOWSMA")[0].ConceptCodeSequence[0].CodeMeaning == "Absent"


def test_the_label_map_holds_every_tissue_and_no_background_segment() -> None:
    analysis = phantom_analysis(PHANTOM)
    result = labelmap.build(analysis, context_of(PHANTOM))
    tissues = seg.segmented_tissues(analysis)
    assert [item.SegmentNumber for item in result.SegmentSequence] == list(
        range(1, len(tissues) + 1)
    )
    assert result.PixelPaddingValue == 0
    read = highdicom.seg.Segmentation.from_dataset(result)
    pixels: NDArray[np.uint8] = read.pixel_array.squeeze()
    for number, tissue in enumerate(tissues, start=1):
        assert np.array_equal(pixels == number, analysis.mask.labels[0] == tissue.label)


def test_a_series_that_was_not_measured_is_told_why() -> None:
    error = LevelNotCoveredError("the volume ends at L1")
    context = context_of(PHANTOM)
    result = not_analysed.build(error, context.sources, context)
    assert result.SOPClassUID == BasicTextSRStorage
    assert named(result, "REASON")[0].TextValue == "Not analysed, because: the volume ends at L1"
    assert named(result, "REFUSAL")[0].ConceptCodeSequence[0].CodeValue == "L3_NOT_COVERED"
    assert named(result, "LOWSMA")[0].ConceptCodeSequence[0].CodeValue == "NOTASSESSED"
    assert "RESEARCH USE ONLY" in named(result, "INTENDED")[0].TextValue
    flags = (result.CompletionFlag, result.PreliminaryFlag, result.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    assert result.PatientID == "PHANTOM"


def test_a_series_that_was_not_measured_again_is_told_after_what_was_said_before() -> None:
    context = context_of(PHANTOM)
    again = replace(context, predecessor=PredecessorReport("1.2", "1.2.3", "1.2.3.4"))
    error = LevelNotCoveredError("12 slices end above L3")
    first, second = (not_analysed.build(error, one.sources, one) for one in (context, again))
    assert "PredecessorDocumentsSequence" not in first
    (study,) = second.PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == "1.2.3.4"
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_a_code_too_long_for_its_attribute_uses_the_long_one() -> None:
    context = context_of(PHANTOM)
    result = not_analysed.build(PixelDataError("odd"), context.sources, context)
    item = named(result, "REFUSAL")[0].ConceptCodeSequence[0]
    assert item.LongCodeValue == "PIXEL_DATA_UNREADABLE"
    assert "CodeValue" not in item


def test_reasons_make_different_reports_and_one_reason_the_same() -> None:
    context = context_of(PHANTOM)
    uids = [
        not_analysed.build(LevelUncertainError(said), context.sources, context).SOPInstanceUID
        for said in ("one", "other", "one")
    ]
    assert uids[0] == uids[2] != uids[1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LevelNotCoveredError("x"), True),
        (LevelUncertainError("x"), True),
        (PixelDataError("x"), True),
        (CorrectionError("x"), True),
        (ModelError("x"), False),
        (LocalizerError("x"), False),
        (TooFewSlicesError("x"), False),
    ],
)
def test_only_a_series_that_somebody_may_wait_for_is_reported(
    error: LevelNotCoveredError, told: bool
) -> None:
    assert not_analysed.is_worth_telling(error) is told
