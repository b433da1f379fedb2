"""Measure one series of the spool; knows neither the ledger nor the network."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.background import Background, prior_among
from dicom_node.config import NodeSettings
from dicom_node.errors import DeviceMemoryError, SettingsError
from dicom_node.lineage import (
    corrected_by,
    prior_of,
    version_of,
)
from dicom_node.model_shelf import ModelShelf
from dicom_node.outcomes import Outcome, OutcomeKind, failure, result_file
from dicom_node.predecessors import predecessor_of_notice, predecessors_of
from dicom_node.profiles import NOT_ANALYSED, needed
from dicom_node.records import ResultEntry, ResultFile, ResultObject
from dicom_node.spool import Spool
from dicom_node.spool_paths import PICTURE
from dicom_node.work_order import WorkOrder
from pipeline.analyze import (
    AnalysisRequest,
    Cutoffs,
    Models,
    analyze_series,
    load_cutoffs,
    load_models,
)
from pipeline.correct import measure_correction
from pipeline.errors import PipelineError
from pipeline.objects import not_analysed
from pipeline.objects.earlier_report import day_of
from pipeline.objects.identity import ResultContext
from pipeline.objects.measurement import measurement_json
from pipeline.objects.overlay import overlay_png
from pipeline.objects.part10 import encoded, read_files, read_series, readable_files
from pipeline.objects.results import RESULT_BUILDERS
from pipeline.types import Analysis


@dataclass(frozen=True, slots=True, eq=False)
class WorkerContext:
    """What one worker process keeps while it lives.

    Parameters
    ----------
    spool : Spool
    models : Models
    cutoffs : Cutoffs
    outputs : tuple of str
        The objects to make.
    shelf : ModelShelf or None
        Loads what a work order names; without it every order gets ``models``.
    """

    spool: Spool
    models: Models
    cutoffs: Cutoffs
    outputs: tuple[str, ...]
    shelf: ModelShelf | None = None

    def with_models_of(self, work: WorkOrder) -> "WorkerContext":
        """Return the context with the models that an order names.

        Raises
        ------
        ModelError
            They cannot be loaded.
        """
        keys = work.segmenter, work.level_finder, work.classifier
        if self.shelf is None or not any(keys):
            return self
        return replace(self, models=self.shelf.models(*keys))


def make_context(settings: NodeSettings) -> WorkerContext:
    """Load models and cut-offs, once for the life of a process.

    Without destinations the usual objects are made, which stay in the spool.

    Raises
    ------
    SettingsError
        A destination asks for an object that nobody can make.
    ModelError
        A model folder cannot be used.
    CutoffProfileError
        A cut-off profile cannot be used.
    """
    outputs = needed(settings.destinations)
    unknown = sorted(set(outputs) - {*RESULT_BUILDERS, NOT_ANALYSED})
    if unknown:
        known = ", ".join([*RESULT_BUILDERS, NOT_ANALYSED])
        raise SettingsError(f"destinations: no object is called {unknown[0]}; there are {known}")
    worker, measurement = settings.worker, settings.measurement
    models = load_models(worker.segmenter, worker.level_finder, worker.device, worker.classifier)
    cutoffs = load_cutoffs(
        measurement.cutoffs, measurement.attenuation_cutoffs, measurement.cutoff_file
    )
    spool = Spool.of(settings.storage)
    return WorkerContext(spool, models, cutoffs, outputs, ModelShelf(spool, models))


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
        The series cannot be measured, and no destination asks for a report on that.
    SpoolError
        The images cannot be read or the results cannot be written.
    DeviceMemoryError
        The compute device ran out of memory.
    """
    spool = context.spool
    work = spool.read_work(series_instance_uid, revision)
    context = context.with_models_of(work)
    content = spool.read_background(series_instance_uid, revision)
    background = (
        Background(series_instance_uid) if content is None else Background.from_json(content)
    )
    place = _Place(spool, series_instance_uid, revision)
    try:
        with _memory_errors_named(series_instance_uid):
            return _measure(work, background, place, context)
    except PipelineError as error:
        outcome = failure(error)
        # Of a series that breaks off somewhere, what can be read says whose it is.
        datasets = readable_files(spool.path(path) for path in work.paths)
        if outcome is None or not datasets or not _is_reported(error, context):
            raise
        known = ResultContext(tuple(datasets), work.queued_at, __version__)
        version = version_of(context.models, context.cutoffs, None)
        origin = series_instance_uid, revision, version
        known = replace(known, predecessor=predecessor_of_notice(background, origin))
        report = not_analysed.build(error, datasets, known)
        return replace(outcome, results=place.keep({NOT_ANALYSED: report}, version))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the results of one revision of a series go."""

    spool: Spool
    series_instance_uid: str
    revision: int

    def keep(self, objects: Mapping[str, Dataset], version: str) -> tuple[ResultFile, ...]:
        """Put objects into the spool, beside those of other versions."""
        contents = {f"{name}.dcm": encoded(dataset) for name, dataset in objects.items()}
        paths = self.spool.put_results(self.series_instance_uid, self.revision, contents, version)
        return tuple(
            result_file(dataset, paths[f"{name}.dcm"]) for name, dataset in objects.items()
        )


def _measure(
    work: WorkOrder, background: Background, place: _Place, context: WorkerContext
) -> Outcome:
    paths = [context.spool.path(path) for path in work.paths]
    datasets = read_series(paths, background.source_series_uid)
    day = day_of(datasets[0])
    prior = prior_among(background.priors, day)
    version = version_of(context.models, context.cutoffs, prior)
    origin = place.series_instance_uid, place.revision, version
    before = predecessors_of(background, origin)
    request = AnalysisRequest(
        content_datetime=work.queued_at,
        software_version=__version__,
        prior=prior_of(prior),
        predecessor=before.report,
        predecessor_alone=before.alone,
        cutoffs=context.cutoffs,
        outputs=tuple(name for name in context.outputs if name in RESULT_BUILDERS),
    )
    analysis, objects = _measured(datasets, background, context, request)
    measurement: Mapping[str, object] = measurement_json(analysis, __version__)
    picture = overlay_png(analysis, request.prior)
    context.spool.put_results(place.series_instance_uid, place.revision, {PICTURE: picture})
    results = place.keep(objects, version)
    entry = ResultEntry(
        *origin,
        source_series_uid=background.source_series_uid,
        study_instance_uid=str(datasets[0].StudyInstanceUID),
        study_date=day,
        by_reader=background.segmentation is not None,
        measurement=measurement,
        objects=tuple(_result_object(name, dataset) for name, dataset in objects.items()),
    )
    return Outcome(OutcomeKind.MEASURED, results=results, measurement=measurement, entry=entry)


def measure_silently(
    series_instance_uid: str, revision: int, model: str, context: WorkerContext
) -> Outcome:
    """Measure one revision of a series by another model, for the record alone.

    No object is made, so nothing can be delivered.

    Raises
    ------
    PipelineError, SpoolError, DeviceMemoryError
        As ``measure``.
    """
    work = context.spool.read_work(series_instance_uid, revision, shadow=model)
    context = context.with_models_of(work)
    paths = [context.spool.path(path) for path in work.paths]
    datasets = read_series(paths, series_instance_uid)
    request = AnalysisRequest(work.queued_at, __version__, cutoffs=context.cutoffs, outputs=())
    with _memory_errors_named(series_instance_uid):
        analysis, _ = analyze_series(datasets, context.models, request)
    return Outcome(OutcomeKind.MEASURED, measurement=measurement_json(analysis, __version__))


def _measured(
    datasets: Sequence[Dataset],
    background: Background,
    context: WorkerContext,
    request: AnalysisRequest,
) -> tuple[Analysis, Mapping[str, Dataset]]:
    if background.segmentation is None:
        return analyze_series(datasets, context.models, request)
    path = context.spool.path(background.segmentation)
    ((segmentation,),) = read_files([path]).values()
    corrected = corrected_by(background, context.models)
    return measure_correction(segmentation, datasets, corrected, request)


def _is_reported(error: PipelineError, context: WorkerContext) -> bool:
    return NOT_ANALYSED in context.outputs and not_analysed.is_worth_telling(error)


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


def _result_object(name: str, dataset: Dataset) -> ResultObject:
    return ResultObject(
        name=name,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
    )
