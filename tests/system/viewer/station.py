"""A reading room: a real Orthanc that holds one study, and the published OHIF viewer before it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser
from pydicom import Dataset

from pipeline.objects.codes import TISSUE_CONCEPTS
from pipeline.objects.identity import ResultContext
from pipeline.objects.labelmap import LABELMAP
from pipeline.objects.results import DEFAULT_OUTPUTS, RESULT_BUILDERS
from pipeline.objects.seg import encode
from pipeline.objects.sr import build as build_sr
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import Analysis, PriorMeasurement
from tests.orthanc import running_orthanc
from tests.system.viewer.build import cache_folder, viewer_build
from tests.system.viewer.ohif import Sight, browser, likeness, look, overlay_iou
from tests.system.viewer.server import serving_viewer

_MUSCLE = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)


@dataclass(frozen=True)
class Station:
    """A viewer that shows one study with its results.

    Parameters
    ----------
    browser : Browser
    url : str
    out : Path
        Screenshots go here.
    analysis : Analysis
    results : mapping of str to Dataset
        By name, the controls included.
    """

    browser: Browser
    url: str
    out: Path
    analysis: Analysis
    results: Mapping[str, Dataset]

    def look_at(self, name: str) -> Sight:
        """Open one result."""
        return look(self.browser, self.url, self.results[name], self.out)

    def iou(self, sight: Sight) -> float:
        """How well the overlay of muscle on the screen covers the mask."""
        level = self.analysis.composition.level.slice_index
        mask = self.analysis.mask.slice_labels(level) == _MUSCLE.label
        return overlay_iou(sight.picture, mask, TISSUE_CONCEPTS[SKELETAL_MUSCLE].colour)

    def likeness(self, sight: Sight) -> float:
        """How much the viewport looks like the stored key image."""
        return likeness(sight.picture, self.results["key_image"].pixel_array)


@contextmanager
def reading_room(
    analysis: Analysis,
    sources: Sequence[Dataset],
    out: Path,
    tool: Callable[[str], str],
    prior: PriorMeasurement | None = None,
) -> Iterator[Station]:
    """Store a study with its results and controls, then open the viewer.

    Parameters
    ----------
    analysis : Analysis
    sources : sequence of Dataset
        The whole measured series.
    out : Path
    tool : callable
        Path of a program by its name.
    prior : PriorMeasurement, optional
        What the results are compared with.
    """
    context = ResultContext(tuple(sources), datetime(2026, 1, 2, tzinfo=UTC), "0.0", prior=prior)
    shown = (*DEFAULT_OUTPUTS, "sr_alone")
    results = {name: RESULT_BUILDERS[name](analysis, context) for name in shown}
    results |= {
        "unplaced_seg": unplaced_segmentation(RESULT_BUILDERS["seg"](analysis, context)),
        "single_group_sr": single_group_report(build_sr(analysis, context)),
        # Control: as the library makes it, with a segment for what is no tissue.
        "background_labelmap": _renamed(encode(analysis, context, LABELMAP), 993),
    }
    build = viewer_build(tool("npm"), cache_folder())
    with (
        running_orthanc(tool("Orthanc"), out) as orthanc,
        serving_viewer(build, orthanc.http_port) as url,
        browser(tool("chromium")) as running,
    ):
        for dataset in (*sources, *results.values()):
            orthanc.store(dataset)
        yield Station(running, url, out, analysis, results)


def unplaced_segmentation(segmentation: Dataset) -> Dataset:
    """Control: a segmentation that names no series, which the viewer cannot open."""
    del segmentation.ReferencedSeriesSequence
    return _renamed(segmentation, 991)


def single_group_report(report: Dataset) -> Dataset:
    """Control: a report without the outline on the image, which the viewer shows as nothing."""
    measurements = next(
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    measurements.ContentSequence = measurements.ContentSequence[:1]
    return _renamed(report, 992)


def _renamed(dataset: Dataset, series_number: int) -> Dataset:
    dataset.SeriesNumber = series_number
    dataset.SeriesInstanceUID += ".1"
    dataset.SOPInstanceUID += ".1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset
