"""What holds for every object, whatever its kind."""

import dataclasses
from collections.abc import Callable, Mapping

import pytest
from pydicom.dataset import Dataset

from pipeline.errors import LevelUncertainError
from pipeline.objects import not_analysed, seg, sr
from pipeline.objects.results import RESULT_BUILDERS
from pipeline.types import ModelIdentity
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import context_of
from tests.pipeline.objects.test_sr import groups, named

PHANTOM = TorsoPhantom((3, 24, 24), 16.0, height_m=1.7)


def every_object(weights: str = "ab" * 32, version: str = "9.9") -> Mapping[str, Dataset]:
    analysis = phantom_analysis(PHANTOM)
    models = (ModelIdentity("segmenter", "1.0", weights), *analysis.models[1:])
    analysis = dataclasses.replace(analysis, models=models)
    context = dataclasses.replace(context_of(PHANTOM), software_version=version)
    objects = {name: build(analysis, context) for name, build in RESULT_BUILDERS.items()}
    error = LevelUncertainError("two vertebrae look alike")
    return objects | {"not_analysed": not_analysed.build(error, context.sources, context)}


def test_each_is_a_series_of_its_own_that_says_research() -> None:
    objects = every_object().values()
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert len({str(one[keyword].value) for one in objects}) == len(objects)
    for one in objects:
        assert "RESEARCH" in one.SeriesDescription
        assert len(one.SeriesDescription) <= 64
        assert one.StudyInstanceUID == PHANTOM.study_instance_uid


@pytest.mark.parametrize("change", [{"weights": "ee" * 32}, {"version": "10"}])
def test_another_model_or_software_makes_other_objects(change: Mapping[str, str]) -> None:
    one, same, other = every_object(), every_object(), every_object(**change)
    for name in RESULT_BUILDERS:
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert one[name][keyword].value == same[name][keyword].value
            assert one[name][keyword].value != other[name][keyword].value, name


@pytest.mark.parametrize("name", ["sr", "sr_alone", "text_sr", "not_analysed"])
def test_reports_are_complete_preliminary_unverified_and_by_a_device(name: str) -> None:
    report = every_object()[name]
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    observers = [item.ConceptCodeSequence[0].CodeValue for item in named(report, "121005")]
    assert observers == ["121007"]


def faults_of_segmentation(result: Dataset) -> list[str]:
    """Say what a viewer would stumble over."""
    faults = []
    if "ReferencedSeriesSequence" not in result:
        faults.append("no referenced series")
    if any("DerivationImageSequence" not in g for g in result.PerFrameFunctionalGroupsSequence):
        faults.append("no derivation image")
    numbers = [segment.SegmentNumber for segment in result.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        faults.append("segment numbers with gaps")
    if any("RecommendedDisplayCIELabValue" not in segment for segment in result.SegmentSequence):
        faults.append("no colour")
    return faults


def _without_references(result: Dataset) -> None:
    del result.ReferencedSeriesSequence


def _without_derivation(result: Dataset) -> None:
    del result.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence


def _with_a_gap(result: Dataset) -> None:
    result.SegmentSequence[-1].SegmentNumber = 9


def _without_colour(result: Dataset) -> None:
    del result.SegmentSequence[0].RecommendedDisplayCIELabValue


@pytest.mark.parametrize("name", ["seg", "labelmap"])
def test_segmentations_have_what_viewers_need(name: str) -> None:
    assert faults_of_segmentation(every_object()[name]) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_without_references, "no referenced series"),
        (_without_derivation, "no derivation image"),
        (_with_a_gap, "segment numbers with gaps"),
        (_without_colour, "no colour"),
    ],
)
def test_a_segmentation_that_lacks_it_is_noticed(
    damage: Callable[[Dataset], None], fault: str
) -> None:
    result = every_object()["seg"]
    damage(result)
    assert faults_of_segmentation(result) == [fault]


def tracked_alike(segmentation: Dataset, report: Dataset) -> bool:
    """Say whether both groups of muscle and its segment share one tracking UID."""
    uids = {str(named(group, "112040")[0].UID) for group in groups(report)[:2]}
    return uids == {str(segmentation.SegmentSequence[0].TrackingUID)}


def test_a_group_that_is_tracked_by_itself_is_noticed() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    segmentation, report = seg.build(analysis, context), sr.build(analysis, context)
    assert tracked_alike(segmentation, report)
    named(groups(report)[1], "112040")[0].UID = "1.2.3"
    assert not tracked_alike(segmentation, report)
