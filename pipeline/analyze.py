"""The story of one series, from stored images to numbers and DICOM objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from pipeline.classify import LoadedClassifier, load_classifier, second_opinion
from pipeline.composition import measure
from pipeline.cutoffs import DEFAULT_PROFILE, CutoffProfile, find_profile
from pipeline.interval import interval_of
from pipeline.level.base import LevelFinder
from pipeline.level.given import GivenSlice
from pipeline.level.l3 import load_level_finder
from pipeline.objects.ct_series import read_subject, read_volume, series_remarks
from pipeline.objects.eligibility import FEWEST_SLICES, check_eligibility
from pipeline.objects.identity import PredecessorReport, ResultContext
from pipeline.objects.results import DEFAULT_OUTPUTS, RESULT_BUILDERS
from pipeline.objects.subject import subject_remarks
from pipeline.quality import check, check_agreement, check_certainty, require_plausible
from pipeline.sarcopenia import DENSITY_MEASURES, SIZE_MEASURES, assess, assess_attenuation
from pipeline.segment import segment
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Analysis, CTVolume, PriorMeasurement, Sex, Subject
from pipeline.weights import LoadedModel, choose_device, load_model


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What a process that measures keeps in memory; a classifier where the site has one."""

    segmenter: LoadedModel
    level_finder: LevelFinder
    classifier: LoadedClassifier | None = None


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What a site compares with.

    Parameters
    ----------
    size : CutoffProfile
        Of the area or the index of skeletal muscle.
    attenuation : CutoffProfile or None
    """

    size: CutoffProfile
    attenuation: CutoffProfile | None = None


def load_cutoffs(
    size: str = DEFAULT_PROFILE, attenuation: str | None = None, own: Path | None = None
) -> Cutoffs:
    """Find the profiles of a site.

    Parameters
    ----------
    size, attenuation : str, str or None
        Names of profiles.
    own : Path or None
        The site's own file of profiles.

    Raises
    ------
    CutoffProfileError
    """
    return Cutoffs(
        find_profile(size, SIZE_MEASURES, own),
        find_profile(attenuation, DENSITY_MEASURES, own) if attenuation else None,
    )


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """What is asked for beyond the images.

    Parameters
    ----------
    content_datetime : datetime
        Aware; becomes the content date and time of the results.
    software_version : str
    sex : Sex or None
        Stated by a person; stronger than the header.
    height_m : float or None
        Stated by a person; stronger than the header.
    slice_uid : str or None
        SOP Instance UID of the slice to measure instead of the one that would be found.
    cutoffs : Cutoffs
    outputs : tuple of str
        Names in ``RESULT_BUILDERS`` of the objects to build.
    prior : PriorMeasurement or None
    predecessor, predecessor_alone : PredecessorReport or None
        As in ``ResultContext``.
    """

    content_datetime: datetime
    software_version: str
    sex: Sex | None = None
    height_m: float | None = None
    slice_uid: str | None = None
    cutoffs: Cutoffs = field(default_factory=load_cutoffs)
    outputs: tuple[str, ...] = DEFAULT_OUTPUTS
    prior: PriorMeasurement | None = None
    predecessor: PredecessorReport | None = None
    predecessor_alone: PredecessorReport | None = None

    def stated(self, subject: Subject) -> Subject:
        """Return a subject with what a person stated in place of the header's."""
        return replace(
            subject,
            sex=self.sex or subject.sex,
            height_m=self.height_m or subject.height_m,
        )

    def context(self, datasets: Sequence[Dataset]) -> ResultContext:
        """Return what the result objects of a series need beyond the analysis."""
        return ResultContext(
            tuple(datasets),
            self.content_datetime,
            self.software_version,
            prior=self.prior,
            predecessor=self.predecessor,
            predecessor_alone=self.predecessor_alone,
        )


def load_models(
    segmenter: Path | None,
    level_finder: Path | None,
    device: str = "auto",
    classifier: Path | None = None,
) -> Models:
    """Load the models of a process.

    Parameters
    ----------
    segmenter, level_finder : Path or None
        Model folders; the shipped ones when ``None``.
    device : str
        As for ``pipeline.weights.choose_device``.
    classifier : Path or None
        Model folder; no second opinions when ``None``.

    Raises
    ------
    ModelError
    """
    chosen = choose_device(device)
    return Models(
        load_model(segmenter, chosen),
        load_level_finder(level_finder, chosen),
        load_classifier(classifier, chosen) if classifier else None,
    )


def analyze_series(
    datasets: Sequence[Dataset], models: Models, request: AnalysisRequest
) -> tuple[Analysis, Mapping[str, Dataset]]:
    """Measure one series.

    Parameters
    ----------
    datasets : sequence of Dataset
        All objects of one series, in any order.
    models : Models
    request : AnalysisRequest

    Returns
    -------
    Analysis
    Mapping of str to Dataset
        Result objects by name of the builder.

    Raises
    ------
    PipelineError
        The series cannot be measured; its ``code`` says why.
    """
    chosen_by_hand = request.slice_uid is not None
    check_eligibility(datasets, fewest_slices=1 if chosen_by_hand else FEWEST_SLICES)
    volume = read_volume(datasets)
    subject = request.stated(read_subject(datasets))
    analysis = measure_volume(volume, subject, models, request)
    analysis = _with_second_opinion(analysis, models.classifier)
    remarks = (*subject_remarks(datasets), *series_remarks(datasets, volume))
    analysis = replace(analysis, quality=(*analysis.quality, *remarks))
    context = request.context(datasets)
    return analysis, {name: RESULT_BUILDERS[name](analysis, context) for name in request.outputs}


def measure_volume(
    volume: CTVolume, subject: Subject, models: Models, request: AnalysisRequest
) -> Analysis:
    """Measure a volume, without the objects that a DICOM series gives.

    Parameters
    ----------
    volume : CTVolume
    subject : Subject
    models : Models
    request : AnalysisRequest

    Raises
    ------
    PipelineError
        The volume cannot be measured; its ``code`` says why.
    """
    finder = GivenSlice(request.slice_uid) if request.slice_uid else models.level_finder
    level = finder.find(volume)
    segmentation = segment(models.segmenter, volume, level)
    composition = measure(
        segmentation.mask,
        segmentation.measured_hu,
        level,
        volume.pixel_area_mm2,
        subject.height_m,
    )
    require_plausible(composition)
    area_cm2 = composition.of(SKELETAL_MUSCLE).area_cm2
    interval = interval_of(
        area_cm2,
        (segmentation.ensemble_spread_cm2, segmentation.level_spread_cm2),
        models.segmenter.calibration,
        volume.acquisition,
    )
    cutoffs = request.cutoffs
    return Analysis(
        volume=volume,
        subject=subject,
        mask=segmentation.mask,
        composition=composition,
        interval=interval,
        assessment=assess(composition, subject, interval, cutoffs.size),
        quality=(
            *check(volume, segmentation.mask, composition, subject, segmentation.measured_hu),
            *check_certainty(
                area_cm2, segmentation.ensemble_spread_cm2, segmentation.nearby_cm2, interval
            ),
        ),
        models=(models.segmenter.identity, *finder.models),
        attenuation_assessment=(
            assess_attenuation(composition, subject, volume.acquisition, cutoffs.attenuation)
            if cutoffs.attenuation
            else None
        ),
    )


def _with_second_opinion(analysis: Analysis, classifier: LoadedClassifier | None) -> Analysis:
    if classifier is None:
        return analysis
    index = analysis.composition.level.slice_index
    opinion = second_opinion(classifier, analysis.volume, index)
    flags = check_agreement(analysis.assessment, opinion)
    return replace(analysis, second_opinion=opinion, quality=(*analysis.quality, *flags))
