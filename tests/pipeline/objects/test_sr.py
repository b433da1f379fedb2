import dataclasses
from collections.abc import Iterator
from datetime import date

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from pipeline.objects import codes, seg, sr
from pipeline.objects.identity import PredecessorReport
from pipeline.types import (
    Analysis,
    Assessment,
    Cutoff,
    Interval,
    Measure,
    ModelIdentity,
    PriorMeasurement,
    SecondOpinion,
    Verdict,
)
from tests.phantoms import TorsoPhantom, enhanced_dataset, phantom_analysis
from tests.pipeline.objects.results import context_of

PHANTOM = TorsoPhantom((5, 64, 64), 6.0, height_m=1.7, noise_hu=10.0)


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(node: Dataset, code_value: str) -> list[Dataset]:
    return [item for item in items(node) if item.ConceptNameCodeSequence[0].CodeValue == code_value]


def groups(result: Dataset) -> list[Dataset]:
    return named(result, "125007")


def build(analysis: Analysis | None = None) -> Dataset:
    return sr.build(analysis or phantom_analysis(PHANTOM), context_of(PHANTOM))


def value_of(group: Dataset, code_value: str, derivation: str = "") -> float:
    for item in named(group, code_value):
        kinds = [one.ConceptCodeSequence[0].CodeValue for one in named(item, "121401")]
        if kinds == ([derivation] if derivation else []):
            return float(item.MeasuredValueSequence[0].NumericValue)
    raise KeyError(code_value)


def test_the_numbers_are_read_back_as_they_were() -> None:
    analysis = phantom_analysis(PHANTOM)
    group = groups(build(analysis))[0]
    muscle = analysis.composition.of("skeletal_muscle")
    assert muscle.mean_hu is not None
    assert value_of(group, "42798000") == pytest.approx(muscle.area_cm2, abs=0.006)
    assert value_of(group, "112031", "373098007") == pytest.approx(muscle.mean_hu, abs=0.006)
    assert value_of(group, "112031", "386136009") == pytest.approx(muscle.sd_hu, abs=0.006)
    index = analysis.composition.skeletal_muscle_index_cm2_m2
    assert value_of(group, "SMI") == pytest.approx(index, abs=0.006)
    assert value_of(group, "SMACUTOFF") == 92.2
    assert value_of(group, "SMACOVER") == 90.0
    assert value_of(group, "SMALOWER") == pytest.approx(muscle.area_cm2 * 0.95, abs=0.006)
    assert value_of(group, "SMAUPPER") == pytest.approx(muscle.area_cm2 * 1.05, abs=0.006)


def test_another_library_finds_the_measurements() -> None:
    report = highdicom.sr.Comprehensive3DSR.from_dataset(build())
    found = report.content.get_planar_roi_measurement_groups(
        finding_type=codes.TISSUE_CONCEPTS["skeletal_muscle"].code
    )
    assert len(found) == 2
    area = found[0].get_measurements(codes.AREA)[0]
    assert area.unit.value == "cm2"
    assert found[0].referenced_segmentation_frame.referenced_frame_numbers == [1]


def test_what_is_unknown_is_left_out() -> None:
    analysis = phantom_analysis(dataclasses.replace(PHANTOM, height_m=None))
    analysis = dataclasses.replace(
        analysis,
        interval=None,
        assessment=Assessment(Verdict.NOT_ASSESSED, None, "The sex is not known."),
    )
    group = groups(sr.build(analysis, context_of(dataclasses.replace(PHANTOM, height_m=None))))[0]
    for code in ("SMI", "SMACUTOFF", "SMACOVER", "SMALOWER", "SMAUPPER", "CITATION"):
        assert named(group, code) == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.BELOW_CUTOFF, "52101004"),
        (Verdict.ABOVE_CUTOFF, "272519000"),
        (Verdict.INDETERMINATE, "373068000"),
        (Verdict.NOT_ASSESSED, "NOTASSESSED"),
    ],
)
def test_the_verdict_is_coded_and_explained(verdict: Verdict, code: str) -> None:
    analysis = phantom_analysis(PHANTOM)
    assessment = dataclasses.replace(analysis.assessment, verdict=verdict, reason="For a reason.")
    result = build(dataclasses.replace(analysis, assessment=assessment))
    assert named(result, "LOWSMA")[0].ConceptCodeSequence[0].CodeValue == code
    assert named(result, "REASON")[0].TextValue == "For a reason."


def test_segment_and_both_groups_share_one_tracking_uid() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    muscle, *fats = seg.build(analysis, context).SegmentSequence
    uids = [named(group, "112040")[0].UID for group in groups(sr.build(analysis, context))]
    assert uids == [one.TrackingUID for one in (muscle, *fats) for _ in range(2)]


def test_the_report_refers_to_the_segmentation_by_frame_alone() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    result = sr.build(analysis, context)
    reference = named(result, "121214")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == seg.build(analysis, context).SOPInstanceUID
    assert reference.ReferencedFrameNumber == 1
    assert "ReferencedSegmentNumber" not in reference


def test_evidence_holds_the_slice_and_the_segmentation() -> None:
    result = build()
    (study,) = result.CurrentRequestedProcedureEvidenceSequence
    instances = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    segmentation = seg.build(phantom_analysis(PHANTOM), context_of(PHANTOM))
    assert instances == {PHANTOM.sop_instance_uid(2), segmentation.SOPInstanceUID}


def test_the_outline_lies_round_the_vertebra() -> None:
    (outline,) = named(groups(build())[1], "111030")
    points = np.array(outline.GraphicData).reshape(-1, 2)
    assert outline.GraphicType == "POLYLINE"
    assert np.array_equal(points[0], points[-1])
    middle = (PHANTOM.affine @ [2, 31.5, 31.5, 1])[1] + PHANTOM.vertebra_y_mm
    column, row = points[:-1].mean(axis=0) - 0.5
    place = PHANTOM.affine @ [2, row, column, 1]
    assert place[:2] == pytest.approx([0.0, middle], abs=8.0)


def test_the_report_is_preliminary_unverified_and_for_research() -> None:
    result = build()
    assert result.SOPClassUID == Comprehensive3DSRStorage
    flags = (result.CompletionFlag, result.PreliminaryFlag, result.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    assert "RESEARCH" in result.SeriesDescription
    assert "RESEARCH USE ONLY" in named(result, "INTENDED")[0].TextValue
    observers = [item.ConceptCodeSequence[0].CodeValue for item in named(result, "121005")]
    assert observers == ["121007"]


def test_remarks_on_quality_are_told() -> None:
    assert "CONTRAST" in named(build(), "QUALITY")[0].TextValue


def test_the_models_are_named_with_their_checksums() -> None:
    parameters = [item.TextValue for item in named(groups(build())[0], "111002")]
    assert parameters == [
        f"segmenter 1.0 sha256 {'ab' * 32}",
        f"level finder 1.1 sha256 {'cd' * 32}",
    ]


def test_frames_of_a_multi_frame_source_are_named() -> None:
    enhanced = enhanced_dataset(PHANTOM)
    analysis = phantom_analysis(PHANTOM)
    sources = tuple(
        dataclasses.replace(one, sop_instance_uid=enhanced.SOPInstanceUID, frame_number=5 - index)
        for index, one in enumerate(analysis.volume.sources)
    )
    volume = dataclasses.replace(analysis.volume, sources=sources)
    result = sr.build(dataclasses.replace(analysis, volume=volume), context_of(PHANTOM, [enhanced]))
    source = named(result, "121233")[0].ReferencedSOPSequence[0]
    assert source.ReferencedSOPClassUID == enhanced.SOPClassUID
    assert source.ReferencedFrameNumber == 3


def test_the_observer_is_the_installation_whatever_it_measured() -> None:
    other = dataclasses.replace(PHANTOM, seed=2)
    uids = {
        named(result, "121012")[0].UID
        for result in (build(), sr.build(phantom_analysis(other), context_of(other)))
    }
    assert len(uids) == 1


def test_an_earlier_measurement_is_stated_with_its_date_and_the_change() -> None:
    analysis = phantom_analysis(PHANTOM)
    area_cm2 = analysis.composition.of("skeletal_muscle").area_cm2
    prior = PriorMeasurement(area_cm2 / 0.9, date(2025, 3, 4), Interval(100, 110, 0.9))
    context = dataclasses.replace(context_of(PHANTOM), prior=prior)
    group = groups(sr.build(analysis, context))[0]
    assert value_of(group, "SMAPRIOR") == pytest.approx(area_cm2 / 0.9, abs=0.006)
    assert value_of(group, "SMACHANGE") == -10.0
    assert value_of(group, "SMACHANGEERROR") > 0
    assert named(group, "SMAPRIORDATE")[0].Date == prior.study_date
    assert "2025-03-04" in named(group, "COMPARISON")[0].TextValue


def test_without_an_earlier_measurement_nothing_is_compared() -> None:
    for code in ("SMAPRIOR", "SMACHANGE", "SMACHANGEERROR", "SMAPRIORDATE", "COMPARISON"):
        assert named(build(), code) == []


def test_a_new_report_names_its_predecessor() -> None:
    predecessor = PredecessorReport("1.2.3", "1.2.3.4", "1.2.3.4.5")
    context = dataclasses.replace(context_of(PHANTOM), predecessor=predecessor)
    (study,) = sr.build(phantom_analysis(PHANTOM), context).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == "1.2.3"
    assert series.SeriesInstanceUID == "1.2.3.4"
    assert instance.ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert instance.ReferencedSOPClassUID == Comprehensive3DSRStorage
    assert "PredecessorDocumentsSequence" not in build()


def test_a_report_without_segmentation_names_a_predecessor_of_its_kind() -> None:
    before = PredecessorReport("1.2", "1.2.3", "1.2.3.4")
    alone = PredecessorReport("1.2", "1.2.5", "1.2.5.6")
    context = dataclasses.replace(context_of(PHANTOM), predecessor=before)
    both = dataclasses.replace(context, predecessor_alone=alone)
    analysis = phantom_analysis(PHANTOM)

    def named_in(report: Dataset) -> str:
        (study,) = report.PredecessorDocumentsSequence
        return str(
            study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        )

    assert named_in(sr.build(analysis, both)) == "1.2.3.4"
    assert named_in(sr.build_alone(analysis, both)) == "1.2.5.6"
    assert named_in(sr.build_alone(analysis, context)) == "1.2.3.4"


def test_another_prior_or_predecessor_makes_another_report_on_the_same_segmentation() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    contexts = [
        context,
        dataclasses.replace(context, prior=PriorMeasurement(90.0, date(2025, 3, 4))),
        dataclasses.replace(context, predecessor=PredecessorReport("1.2", "1.2.3", "1.2.3.4")),
    ]
    reports = [sr.build(analysis, one) for one in contexts]
    assert len({report.SOPInstanceUID for report in reports}) == 3
    assert len({report.SeriesInstanceUID for report in reports}) == 3
    assert len({seg.build(analysis, one).SOPInstanceUID for one in contexts}) == 1


def test_verdicts_on_index_and_density_have_names_and_cut_offs_of_their_own() -> None:
    index = Cutoff(Measure.INDEX, 38.5, "one", "First source", "some people")
    density = Cutoff(Measure.ATTENUATION, 33.0, "two", "Second source", "other people")
    analysis = dataclasses.replace(
        phantom_analysis(PHANTOM),
        assessment=Assessment(Verdict.BELOW_CUTOFF, index, "The index is low."),
        attenuation_assessment=Assessment(Verdict.ABOVE_CUTOFF, density, "It is dense."),
    )
    group = groups(build(analysis))[0]
    assert named(group, "LOWSMA") == []
    assert named(group, "LOWSMI")[0].ConceptCodeSequence[0].CodeMeaning == "Present"
    assert named(group, "LOWSMD")[0].ConceptCodeSequence[0].CodeMeaning == "Absent"
    assert value_of(group, "SMICUTOFF") == 38.5
    assert value_of(group, "SMDCUTOFF") == 33.0
    said = [item.TextValue for item in named(group, "CITATION")]
    assert said == [
        "First source. Derived from: some people",
        "Second source. Derived from: other people",
    ]


def test_second_opinion_is_reported_with_the_classifier_that_gave_it() -> None:
    analysis = phantom_analysis(PHANTOM)
    model = ModelIdentity("densenet", "3", "ef" * 32)
    advised = dataclasses.replace(analysis, second_opinion=SecondOpinion(0.123456, 0.4, model))
    plain, result = build(analysis), build(advised)
    (item,) = named(groups(result)[0], "SMALOWPROB")
    assert float(item.MeasuredValueSequence[0].NumericValue) == 12.35
    assert item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    said = [one.TextValue for one in items(item) if "TextValue" in one]
    assert said == ["densenet", "3", f"densenet 3 sha256 {'ef' * 32}", "low from 40 %"]
    assert f"densenet 3 {'ef' * 6}" in list(result.SoftwareVersions)
    assert named(plain, "SMALOWPROB") == []
    assert result.SOPInstanceUID != plain.SOPInstanceUID


def test_every_tissue_with_pixels_is_measured_on_its_own_segment() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    segments = seg.build(analysis, context).SegmentSequence
    found = groups(sr.build(analysis, context))
    assert len(segments) == 3
    for number, (group, segment) in enumerate(zip(found[::2], segments, strict=True), 1):
        finding, kind = (
            named(group, "121071")[0].ConceptCodeSequence[0],
            segment.SegmentedPropertyTypeCodeSequence[0],
        )
        assert (finding.CodeValue, finding.CodingSchemeDesignator) == (
            kind.CodeValue,
            kind.CodingSchemeDesignator,
        )
        reference = named(group, "121214")[0].ReferencedSOPSequence[0]
        assert reference.ReferencedFrameNumber == number
        name = next(
            n for n, one in codes.TISSUE_CONCEPTS.items() if one.code.value == kind.CodeValue
        )
        size = analysis.composition.of(name)
        assert value_of(group, "42798000") == pytest.approx(size.area_cm2, abs=0.006)
        assert value_of(group, "112031", "373098007") == pytest.approx(size.mean_hu, abs=0.006)


def test_every_group_has_an_outline_or_ohif_shows_nothing() -> None:
    found = groups(build())
    outlined = [[item.ValueType for item in group.ContentSequence] for group in found]
    assert ["SCOORD" in kinds for kinds in outlined] == [False, True] * 3
    (region,) = [item for item in found[3].ContentSequence if item.ValueType == "SCOORD"]
    points = np.array(region.GraphicData).reshape(-1, 2)
    labels = phantom_analysis(PHANTOM).mask.slice_labels(2)
    rows, columns = np.nonzero(labels == 3)
    assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    (image,) = region.ContentSequence
    assert image.ReferencedSOPSequence[0].ReferencedSOPClassUID.name == "Segmentation Storage"


def test_a_tissue_without_pixels_is_not_reported() -> None:
    analysis = phantom_analysis(PHANTOM)
    labels = analysis.mask.labels.copy()
    labels[labels == 3] = 0
    without = dataclasses.replace(analysis, mask=dataclasses.replace(analysis.mask, labels=labels))
    findings = [named(group, "121071")[0] for group in groups(build(without))]
    values = [finding.ConceptCodeSequence[0].CodeValue for finding in findings]
    assert values == ["127954009"] * 2 + ["VAT"] * 2


def test_what_is_asked_first_stands_first() -> None:
    """OHIF shows the first five numbers on the image."""
    analysis = phantom_analysis(PHANTOM)
    context = dataclasses.replace(
        context_of(PHANTOM), prior=PriorMeasurement(100.0, date(2025, 3, 4))
    )
    group = groups(sr.build(analysis, context))[0]
    names = [
        item.ConceptNameCodeSequence[0].CodeValue
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]
    assert names[:5] == ["42798000", "SMACHANGE", "SMI", "112031", "SMALOWER"]


def references(node: Dataset) -> set[str]:
    """SOP Instance UIDs that a report refers to, in its content and in its evidence."""
    found = {
        str(reference.ReferencedSOPInstanceUID)
        for item in items(node)
        for reference in item.get("ReferencedSOPSequence", ())
    }
    for study in node.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            found |= {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence}
    return found


def test_a_report_without_segmentation_says_the_same_and_refers_to_the_image_only() -> None:
    analysis, context = phantom_analysis(PHANTOM), context_of(PHANTOM)
    report, alone = sr.build(analysis, context), sr.build_alone(analysis, context)
    image = PHANTOM.sop_instance_uid(analysis.composition.level.slice_index)
    segmentation = str(seg.build(analysis, context).SOPInstanceUID)
    assert references(report) == {image, segmentation}
    assert references(alone) == {image}

    def said(document: Dataset) -> list[tuple[str, str]]:
        return [
            (
                item.ConceptNameCodeSequence[0].CodeValue,
                str(
                    item.MeasuredValueSequence[0].NumericValue
                    if item.ValueType == "NUM"
                    else item.get("TextValue") or item.ConceptCodeSequence[0].CodeValue
                ),
            )
            for item in items(document)
            if item.ValueType in {"NUM", "TEXT", "CODE"}
        ]

    # Of muscle alone: what is said of fat needs the segmentation to refer to.
    assert [one for group in groups(alone) for one in said(group)] == [
        one for group in groups(report)[:2] for one in said(group)
    ]
    assert len(groups(alone)) == 2
    assert alone.SOPInstanceUID != report.SOPInstanceUID
