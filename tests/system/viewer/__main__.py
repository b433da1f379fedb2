"""Look at the results of the bundled CT in OHIF: ``python -m tests.system.viewer --out FOLDER``.

Measures the series with the shipped models, opens every result and every control, keeps the
screenshots in FOLDER, prints one line for each; exit status 1 when one is not as it must be.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from pipeline.analyze import AnalysisRequest, analyze_series, load_models
from pipeline.objects.part10 import read_files
from pipeline.types import PriorMeasurement
from tests.conftest import REPOSITORY, find_tool
from tests.system.viewer.ohif import SMALLEST_IOU, SMALLEST_LIKENESS, Sight
from tests.system.viewer.station import Station, reading_room


def _segmentation(station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    iou = station.iou(sight)
    yield f"overlay IoU {iou:.4f}", iou >= SMALLEST_IOU
    yield f"panel: {sight.panel}", "Skeletal muscle" in sight.panel
    yield f"slice: {sight.corner}", _on_level(station, sight)


def _report(station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    area = f"{station.analysis.composition.tissues[0].area_cm2:.2f} cm2"
    yield f"on the image: {sight.pane}", area in sight.pane
    yield f"slice: {sight.corner}", _on_level(station, sight)
    likeness = station.likeness(sight)
    yield f"control: it is not the key image, {likeness:.4f}", likeness < SMALLEST_LIKENESS


def _key_image(station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    likeness = station.likeness(sight)
    yield f"in the pane: {sight.pane}", "overlay (RESEARCH)" in sight.pane and sight.prompt == ""
    yield f"likeness to the stored picture {likeness:.4f}", likeness >= SMALLEST_LIKENESS


def _unplaced(station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    yield "control: it does not open", sight.prompt == "" and station.iou(sight) < SMALLEST_IOU


def _background(station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    iou = station.iou(sight)
    yield f"control: it has the wrong colours, IoU {iou:.4f}", iou < SMALLEST_IOU


def _single_group(_station: Station, sight: Sight) -> Iterator[tuple[str, bool]]:
    yield f"control: no number is shown: {sight.pane}", "cm2" not in sight.pane


_PRIOR_CM2: Final = 131.0

_CHECKS: dict[str, Callable[[Station, Sight], Iterator[tuple[str, bool]]]] = {
    "seg": _segmentation,
    "sr": _report,
    "sr_alone": _report,
    "key_image": _key_image,
    "unplaced_seg": _unplaced,
    "single_group_sr": _single_group,
    "background_labelmap": _background,
}


def _on_level(station: Station, sight: Sight) -> bool:
    """Whether the corner names the measured slice; the viewer counts from either end."""
    index, slices = station.analysis.composition.level.slice_index, station.analysis.volume.sources
    return f"({index + 1}/{len(slices)})" in sight.corner or (
        f"({len(slices) - index}/{len(slices)})" in sight.corner
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ct", type=Path, default=REPOSITORY / "dicom_node" / "demo" / "ct")
    parser.add_argument("--prior", action="store_true", help="compare with an earlier study")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (sources,) = read_files(options.ct).values()
    request = AnalysisRequest(datetime.now(UTC), "0.0")
    analysis, _ = analyze_series(sources, load_models(None, None), request)
    passed = True
    prior = PriorMeasurement(_PRIOR_CM2, date(1993, 4, 17)) if options.prior else None
    with reading_room(analysis, sources, options.out, find_tool, prior) as station:
        for name in (name for name in _CHECKS if name in station.results):
            sight = station.look_at(name)
            for finding, holds in (*_CHECKS[name](station, sight), ("no error", not sight.errors)):
                passed &= holds
                mark = "ok   " if holds else "WRONG"
                sys.stdout.write(f"{mark} {name}: {finding} {' '.join(sight.errors)}\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
