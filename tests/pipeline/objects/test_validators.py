"""Validators and readers that are not ours accept every object, and would notice a fault."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.errors import PixelDataError
from pipeline.objects import not_analysed
from pipeline.objects.identity import PredecessorReport, ResultContext
from pipeline.objects.results import RESULT_BUILDERS
from pipeline.objects.seg import segmented_tissues
from pipeline.types import Analysis, Interval, PriorMeasurement
from tests.pipeline.objects.odd_sources import ODD_SOURCES
from tests.pipeline.objects.validators import (
    Tool,
    dciodvfy_errors,
    dcmqi_masks,
    dcmqi_report,
    dsrdump_complaints,
    on_grid_of,
    pixelmed_errors,
    stored,
)

EVERY_SOURCE = pytest.mark.parametrize("source", ODD_SOURCES)
REPORTS = ("sr", "sr_alone", "text_sr", "not_analysed")
PRIOR = PriorMeasurement(150.0, date(2025, 3, 4), Interval(145.0, 155.0, 0.9))
PREDECESSOR = PredecessorReport("1.2.3", "1.2.3.4", "1.2.3.4.5")

Case = tuple[Analysis, ResultContext, Mapping[str, Path]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Every object of a source, with all that a report can state."""

    @cache
    def make(source: str) -> Case:
        folder = tmp_path_factory.mktemp("case")
        (folder / "source").mkdir()
        analysis, context = ODD_SOURCES[source](folder / "source")
        context = dataclasses.replace(context, prior=PRIOR, predecessor=PREDECESSOR)
        objects = {name: build(analysis, context) for name, build in RESULT_BUILDERS.items()}
        error = PixelDataError("the pixel data of image 1.2.3 cannot be decoded")
        objects["not_analysed"] = not_analysed.build(error, context.sources, context)
        paths = {name: stored(one, folder / f"{name}.dcm") for name, one in objects.items()}
        return analysis, context, paths

    return make


def broken(path: Path, change: Callable[[Dataset], None], folder: Path) -> Path:
    """Copy an object with a fault in it."""
    dataset = dcmread(path)
    change(dataset)
    return stored(dataset, folder / "broken.dcm")


def item_named(node: Dataset, code_value: str) -> Dataset:
    for item in node.get("ContentSequence", ()):
        if item.ConceptNameCodeSequence[0].get("CodeValue") == code_value:
            found: Dataset = item
            return found
        try:
            return item_named(item, code_value)
        except KeyError:
            continue
    raise KeyError(code_value)


@EVERY_SOURCE
def test_dciodvfy_finds_no_error(source: str, case: Callable[[str], Case], tool: Tool) -> None:
    _, _, paths = case(source)
    assert {name: dciodvfy_errors(tool, path) for name, path in paths.items()} == {
        name: [] for name in (*RESULT_BUILDERS, "not_analysed")
    }


@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        ("seg", "SegmentSequence"),
        ("labelmap", "SegmentSequence"),
        ("sr", "CompletionFlag"),
        ("text_sr", "CompletionFlag"),
        ("not_analysed", "CompletionFlag"),
        ("key_image", "ConversionType"),
        ("pdf", "MIMETypeOfEncapsulatedDocument"),
        ("rtstruct", "StructureSetLabel"),
    ],
)
def test_dciodvfy_notices_what_is_missing(
    name: str, keyword: str, case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    _, _, paths = case("plain")

    def remove(dataset: Dataset) -> None:
        del dataset[keyword]

    assert dciodvfy_errors(tool, broken(paths[name], remove, tmp_path))


@EVERY_SOURCE
def test_dsrdump_reads_every_report(source: str, case: Callable[[str], Case], tool: Tool) -> None:
    _, _, paths = case(source)
    assert {name: dsrdump_complaints(tool, paths[name]) for name in REPORTS} == {
        name: [] for name in REPORTS
    }


def test_dsrdump_notices_a_reference_to_frame_and_segment(
    case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    _, _, paths = case("plain")

    def add_segment(dataset: Dataset) -> None:
        reference = item_named(dataset, "121214").ReferencedSOPSequence[0]
        reference.ReferencedSegmentNumber = 1

    complaints = dsrdump_complaints(tool, broken(paths["sr"], add_segment, tmp_path))
    assert any("Both Referenced Frame Number" in line for line in complaints)


@EVERY_SOURCE
def test_dcmqi_reads_the_mask_voxel_by_voxel(
    source: str, case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    analysis, _, paths = case(source)
    index = analysis.composition.level.slice_index
    masks = dcmqi_masks(tool, paths["seg"], tmp_path / "masks")
    tissues = segmented_tissues(analysis)
    assert len(masks) == len(tissues)
    for mask, tissue in zip(masks, tissues, strict=True):
        found = on_grid_of(analysis.volume, mask, index)
        assert np.array_equal(found, analysis.mask.slice_labels(index) == tissue.label)


def test_a_pixel_that_differs_is_noticed_by_dcmqi(
    case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    analysis, _, paths = case("plain")
    index = analysis.composition.level.slice_index

    def flip(dataset: Dataset) -> None:
        pixels = bytearray(dataset.PixelData)
        pixels[100] ^= 1
        dataset.PixelData = bytes(pixels)

    masks = dcmqi_masks(tool, broken(paths["seg"], flip, tmp_path), tmp_path / "masks")
    found = on_grid_of(analysis.volume, masks[0], index)
    assert int((found != (analysis.mask.slice_labels(index) == 1)).sum()) == 1


@EVERY_SOURCE
def test_dcmqi_reads_our_numbers_to_the_last_digit(
    source: str, case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    analysis, _, paths = case(source)
    report = dcmqi_report(tool, paths["sr"], tmp_path / "report.json")
    group = report["Measurements"][0]
    assert values_in(group) == {
        key: str(round(value, 2)) for key, value in numbers(analysis).items()
    }
    assert group["Finding"]["CodeValue"] == "127954009"
    assert group["FindingSite"]["CodeValue"] == "36470004"
    algorithm = group["measurementAlgorithmIdentification"]
    assert (algorithm["AlgorithmName"], algorithm["AlgorithmVersion"]) == ("segmenter", "1.0")
    assert report["observerContext"]["ObserverType"] == "DEVICE"
    fats = [
        one
        for one in report["Measurements"]
        if one["Finding"]["CodeValue"] != "127954009" and one["measurementItems"]
    ]
    assert [values_in(one) for one in fats] == [
        {key: str(round(value, 2)) for key, value in sizes(analysis, tissue.name).items()}
        for tissue in segmented_tissues(analysis)[1:]
    ]
    assert len(fats) == 2


Key = tuple[str, str | None, str]


def values_in(group: Mapping[str, Any]) -> dict[Key, str]:
    """Code, derivation and unit to the value, as dcmqi read them."""
    return {
        (
            item["quantity"]["CodeValue"],
            item.get("derivationModifier", {}).get("CodeValue"),
            item["units"]["CodeValue"],
        ): item["value"]
        for item in group["measurementItems"]
    }


def sizes(analysis: Analysis, tissue: str) -> dict[Key, float]:
    """What is stated of every tissue."""
    size = analysis.composition.of(tissue)
    assert size.mean_hu is not None
    assert size.sd_hu is not None
    return {
        ("42798000", None, "cm2"): size.area_cm2,
        ("112031", "373098007", "[hnsf'U]"): size.mean_hu,
        ("112031", "386136009", "[hnsf'U]"): size.sd_hu,
    }


def numbers(analysis: Analysis) -> dict[Key, float]:
    """What a report must hold: code, derivation and unit to the number."""
    muscle = analysis.composition.of("skeletal_muscle")
    index, interval = analysis.composition.skeletal_muscle_index_cm2_m2, analysis.interval
    assert index is not None
    assert interval is not None
    half_widths = (interval.upper_cm2 - interval.lower_cm2) / 2, 5.0
    return {
        **sizes(analysis, "skeletal_muscle"),
        ("SMI", None, "cm2/m2"): index,
        ("SMALOWER", None, "cm2"): interval.lower_cm2,
        ("SMAUPPER", None, "cm2"): interval.upper_cm2,
        ("SMACOVER", None, "%"): 90.0,
        ("SMACUTOFF", None, "cm2"): 92.2,
        ("SMAPRIOR", None, "cm2"): 150.0,
        ("SMACHANGE", None, "%"): 100 * (muscle.area_cm2 - 150.0) / 150.0,
        ("SMACHANGEERROR", None, "%"): 100 * float(np.hypot(*half_widths)) / 150.0,
    }


def test_another_number_is_noticed_by_dcmqi(
    case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    _, _, paths = case("plain")

    def change(dataset: Dataset) -> None:
        item_named(dataset, "42798000").MeasuredValueSequence[0].NumericValue = "1.25"

    path = broken(paths["sr"], change, tmp_path)
    report = dcmqi_report(tool, path, tmp_path / "report.json")
    assert report["Measurements"][0]["measurementItems"][0]["value"] == "1.25"


@pytest.mark.slow
def test_pixelmed_finds_no_error_in_the_template(case: Callable[[str], Case], tool: Tool) -> None:
    _, _, paths = case("umlauts")
    assert pixelmed_errors(tool, paths["sr"]) == []


# In a report with groups of TID 1501 and of TID 1410 it asks the former for what the latter need;
# of a report with either alone it does not.
MIXED_GROUPS = ("[Row 5] SCOORD (111030", "[Row 7] IMAGE (121214")


@pytest.mark.slow
def test_pixelmed_minds_only_that_a_report_without_segmentation_mixes_groups(
    case: Callable[[str], Case], tool: Tool
) -> None:
    _, _, paths = case("umlauts")
    errors = pixelmed_errors(tool, paths["sr_alone"])
    assert len(errors) == len(MIXED_GROUPS)
    for error, row in zip(errors, MIXED_GROUPS, strict=True):
        assert row in error
        assert "within 1.10.1:" in error
        assert error.endswith("Missing conditional content item")


@pytest.mark.slow
def test_pixelmed_notices_a_procedure_that_the_template_does_not_know(
    case: Callable[[str], Case], tool: Tool, tmp_path: Path
) -> None:
    _, _, paths = case("plain")

    def change(dataset: Dataset) -> None:
        code = item_named(dataset, "121058").ConceptCodeSequence[0]
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Something"

    assert pixelmed_errors(tool, broken(paths["sr"], change, tmp_path))
