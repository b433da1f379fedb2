"""Measure a folder of CT images without any network: ``python -m pipeline FOLDER --out DIR``."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset

from pipeline.analyze import AnalysisRequest, Models, analyze_series, load_cutoffs, load_models
from pipeline.cutoffs import DEFAULT_PROFILE
from pipeline.errors import PipelineError
from pipeline.objects.choice import preferred_order
from pipeline.objects.measurement import measurement_json, not_measured_json
from pipeline.objects.overlay import overlay_png
from pipeline.objects.part10 import read_files
from pipeline.objects.results import DEFAULT_OUTPUTS
from pipeline.types import Sex

MEASURED: Final = 0
MISUSE: Final = 2
NOT_MEASURED: Final = 3

_OUTPUTS: Final = (
    "measurement.json",
    "overlay.png",
    *(f"{name}.dcm" for name in DEFAULT_OUTPUTS),
)


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """What to measure and where to write it.

    Parameters
    ----------
    folder, out : Path
    sex : Sex or None
    height_m : float or None
    slice_uid : str or None
        As in ``AnalysisRequest``.
    device : str
    cutoffs, attenuation_cutoffs, cutoff_file : str, str or None, Path or None
        As in ``pipeline.analyze.load_cutoffs``.
    """

    folder: Path
    out: Path
    sex: Sex | None = None
    height_m: float | None = None
    slice_uid: str | None = None
    device: str = "auto"
    cutoffs: str = DEFAULT_PROFILE
    attenuation_cutoffs: str | None = None
    cutoff_file: Path | None = None


def analyze_folder(request: FolderRequest) -> dict[str, Any]:
    """Measure the best series of a folder that can be measured; write the results.

    The series are tried in the order of ``preferred_order``. When none can be measured, only
    ``measurement.json`` is written, with the reason that applies to the first of them.

    Parameters
    ----------
    request : FolderRequest
        Its ``folder`` must exist.

    Returns
    -------
    dict
        The content of ``measurement.json``; its ``status`` is "measured" or "not_measured".

    Raises
    ------
    OSError
        The results cannot be written.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    # Results of an earlier run must not lie beside those of this one.
    for name in _OUTPUTS:
        (request.out / name).unlink(missing_ok=True)
    try:
        series = preferred_order(read_files(request.folder))
        models = load_models(None, None, request.device)
    except PipelineError as error:
        return _write_json(request.out, not_measured_json(error, None, _software_version()))
    refusals: list[dict[str, Any]] = []
    for series_uid, datasets in series:
        try:
            return _measure(datasets, models, request)
        except PipelineError as error:
            refusals.append(not_measured_json(error, series_uid, _software_version()))
    return _write_json(request.out, refusals[0])


def _measure(datasets: Sequence[Dataset], models: Models, request: FolderRequest) -> dict[str, Any]:
    analysis, objects = analyze_series(
        datasets,
        models,
        AnalysisRequest(
            content_datetime=datetime.now(UTC),
            software_version=_software_version(),
            sex=request.sex,
            height_m=request.height_m,
            slice_uid=request.slice_uid,
            cutoffs=load_cutoffs(request.cutoffs, request.attenuation_cutoffs, request.cutoff_file),
        ),
    )
    for name, dataset in objects.items():
        dataset.save_as(request.out / f"{name}.dcm", enforce_file_format=True)
    (request.out / "overlay.png").write_bytes(overlay_png(analysis))
    return _write_json(request.out, measurement_json(analysis, _software_version()))


def _write_json(out: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (out / "measurement.json").write_text(text + "\n", encoding="utf-8")
    return dict(content)


def _software_version() -> str:
    return version("psoas")


def exit_status(measurement: Mapping[str, Any]) -> int:
    """Exit status that belongs to a ``measurement.json``."""
    return MEASURED if measurement["status"] == "measured" else NOT_MEASURED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 2 on misuse, 3 when nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sex", type=Sex, choices=list(Sex))
    parser.add_argument("--height-m", type=float)
    parser.add_argument("--slice-uid")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cutoffs", default=DEFAULT_PROFILE, help="profile of area or index")
    parser.add_argument("--attenuation-cutoffs", help="profile of the mean attenuation")
    parser.add_argument("--cutoff-file", type=Path, help="a site's own profiles (TOML)")
    request = FolderRequest(**vars(parser.parse_args(arguments)))
    if not request.folder.exists():
        parser.error(f"{request.folder} does not exist")
    try:
        measurement = analyze_folder(request)
    except OSError as error:
        parser.error(f"{request.out} cannot be written: {error.strerror}")
    sys.stdout.write(json.dumps(measurement, indent=2, ensure_ascii=False) + "\n")
    return exit_status(measurement)


if __name__ == "__main__":
    raise SystemExit(main())
