import dataclasses
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from pipeline.objects import seg
from pipeline.types import Analysis, TissueMask
from tests.phantoms import TorsoPhantom, enhanced_dataset, phantom_analysis
from tests.pipeline.objects.results import context_of, saved

PHANTOM = TorsoPhantom((5, 32, 32), 12.0, height_m=1.7)


def with_labels(labels: NDArray[np.uint8], first: int) -> Analysis:
    return dataclasses.replace(phantom_analysis(PHANTOM), mask=TissueMask(labels, first))


def test_the_mask_is_read_back_as_it_was() -> None:
    analysis = phantom_analysis(PHANTOM)
    result = highdicom.seg.Segmentation.from_dataset(seg.build(analysis, context_of(PHANTOM)))
    assert [segment.SegmentLabel for segment in result.SegmentSequence] == [
        *("Skeletal muscle", "Subcutaneous fat", "Visceral fat")
    ]
    # The phantom has no fat between muscles: a tissue without pixels is no segment.
    for frame, label in zip(result.pixel_array, (1, 3, 4), strict=True):
        assert np.array_equal(frame == 1, analysis.mask.labels[0] == label)
    position = result.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    source = PHANTOM.datasets()[2]
    assert position.ImagePositionPatient == source.ImagePositionPatient


@settings(max_examples=15, deadline=None)
@given(
    labels=hnp.arrays(np.uint8, (3, 32, 32), elements=st.integers(0, 4)),
    first=st.integers(0, 2),
)
def test_every_mask_is_read_back_slice_by_slice(labels: NDArray[np.uint8], first: int) -> None:
    labels[1, 3, 4] = 1  # at least one pixel of muscle
    analysis = with_labels(labels, first)
    result = highdicom.seg.Segmentation.from_dataset(seg.build(analysis, context_of(PHANTOM)))
    present = [label for label in range(1, 5) if (labels == label).any()]
    assert result.number_of_segments == len(present)
    for segment, label in enumerate(present, start=1):
        filled = [index for index in range(3) if (labels[index] == label).any()]
        uids = [PHANTOM.sop_instance_uid(first + index) for index in filled]
        pixels = result.get_pixels_by_source_instance(uids, segment_numbers=[segment])[..., 0]
        assert np.array_equal(pixels == 1, labels[filled] == label)
    assert result.NumberOfFrames == sum(
        bool((labels[index] == label).any()) for index in range(3) for label in present
    )


def test_only_the_measured_slice_is_referred_to() -> None:
    result = seg.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    (series,) = result.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == PHANTOM.series_instance_uid
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [
        PHANTOM.sop_instance_uid(2)
    ]
    (derivation,) = result.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    assert derivation.SourceImageSequence[0].ReferencedSOPInstanceUID == PHANTOM.sop_instance_uid(2)


def test_the_segment_says_what_it_is_and_who_drew_it() -> None:
    result = seg.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    segment = result.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "127954009"
    assert segment.AnatomicRegionSequence[0].CodeValue == "36470004"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("segmenter", "1.0")
    assert "ab" * 32 in algorithm.AlgorithmParameters
    segments = result.SegmentSequence
    assert [segment.SegmentNumber for segment in segments] == [1, 2, 3]
    for keyword in ("RecommendedDisplayCIELabValue", "TrackingUID", "SegmentLabel"):
        assert len({str(segment[keyword].value) for segment in segments}) == len(segments)


def test_the_object_is_a_plain_binary_segmentation_for_research(tmp_path: Path) -> None:
    result = saved(seg.build(phantom_analysis(PHANTOM), context_of(PHANTOM)), tmp_path)
    assert result.SOPClassUID == SegmentationStorage
    assert result.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert result.SegmentationType == "BINARY"
    assert "RESEARCH" in result.SeriesDescription
    assert result.SeriesNumber == 901
    measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == PHANTOM.slice_mm


def test_an_empty_mask_is_never_encoded() -> None:
    analysis = with_labels(np.zeros((1, 32, 32), dtype=np.uint8), 2)
    with pytest.raises(ValueError, match="empty"):
        seg.build(analysis, context_of(PHANTOM))


def test_frames_of_a_multi_frame_source_are_named() -> None:
    enhanced = enhanced_dataset(PHANTOM)
    analysis = phantom_analysis(PHANTOM)
    sources = tuple(
        dataclasses.replace(one, sop_instance_uid=enhanced.SOPInstanceUID, frame_number=5 - index)
        for index, one in enumerate(analysis.volume.sources)
    )
    analysis = dataclasses.replace(
        analysis, volume=dataclasses.replace(analysis.volume, sources=sources)
    )
    result = seg.build(analysis, context_of(PHANTOM, [enhanced]))
    source = derivation_source(result)
    assert source.ReferencedSOPClassUID == enhanced.SOPClassUID
    assert source.ReferencedFrameNumber == 3
    (instance,) = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert instance.ReferencedSOPClassUID == enhanced.SOPClassUID


def derivation_source(result: Dataset) -> Dataset:
    group = result.PerFrameFunctionalGroupsSequence[0]
    source: Dataset = group.DerivationImageSequence[0].SourceImageSequence[0]
    return source
