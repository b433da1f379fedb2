"""Measure one series of the spool; knows neither the ledger nor the network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.config import MeasurementSettings, WorkerSettings
from dicom_node.errors import DeviceMemoryError
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile
from dicom_node.spool import PICTURE, Spool
from pipeline.analyze import (
    AnalysisRequest,
    Cutoffs,
    Models,
    analyze_series,
    load_cutoffs,
    load_models,
)
from pipeline.objects.measurement import measurement_json
from pipeline.objects.overlay import overlay_png
from pipeline.objects.part10 import read_files


@dataclass(frozen=True, slots=True, eq=False)
class WorkerContext:
    """What one worker process keeps while it lives.

    Parameters
    ----------
    spool : Spool
    models : Models
    cutoffs : Cutoffs
    """

    spool: Spool
    models: Models
    cutoffs: Cutoffs


def make_context(
    spool: Spool, settings: WorkerSettings, measurement: MeasurementSettings
) -> WorkerContext:
    """Load models and cut-offs, once for the life of a process.

    Raises
    ------
    ModelError
        A model folder cannot be used.
    CutoffProfileError
        A cut-off profile cannot be used.
    """
    models = load_models(settings.segmenter, settings.level_finder, settings.device)
    cutoffs = load_cutoffs(
        measurement.cutoffs, measurement.attenuation_cutoffs, measurement.cutoff_file
    )
    return WorkerContext(spool, models, cutoffs)


def measure(series_instance_uid: str, revision: int, context: WorkerContext) -> Outcome:
    """Measure one revision of a series and leave its results in the spool.

    The same images, models and software give the same objects byte for byte, under the same
    UIDs: measuring twice makes no twins.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    context : WorkerContext

    Returns
    -------
    Outcome

    Raises
    ------
    PipelineError
        The series cannot be measured.
    SpoolError
        The images cannot be read or the results cannot be written.
    DeviceMemoryError
        The compute device ran out of memory.
    """
    spool = context.spool
    work = spool.read_work(series_instance_uid, revision)
    datasets = read_files([spool.path(path) for path in work.paths])[series_instance_uid]
    request = AnalysisRequest(
        content_datetime=work.queued_at, software_version=__version__, cutoffs=context.cutoffs
    )
    with _memory_errors_named(series_instance_uid):
        analysis, objects = analyze_series(datasets, context.models, request)
    contents = {f"{name}.dcm": _encoded(dataset) for name, dataset in objects.items()}
    contents[PICTURE] = overlay_png(analysis)
    paths = spool.put_results(series_instance_uid, revision, contents)
    results = tuple(
        _result_file(dataset, paths[f"{name}.dcm"]) for name, dataset in objects.items()
    )
    measurement: Mapping[str, object] = measurement_json(analysis, __version__)
    return Outcome(OutcomeKind.MEASURED, results=results, measurement=measurement)


@contextmanager
def _memory_errors_named(series_instance_uid: str) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise DeviceMemoryError(
            f"series {series_instance_uid} needs more memory than the device has"
        ) from error


def _encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _result_file(dataset: Dataset, path: Path) -> ResultFile:
    return ResultFile(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        path=path,
    )
