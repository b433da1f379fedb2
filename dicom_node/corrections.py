"""Recognise segmentations that readers corrected and sent back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.contexts import MODALITIES
from dicom_node.errors import UnknownSeriesError
from dicom_node.ledger import Ledger
from dicom_node.records import Reason, ReceivedInstance, SeriesRecord
from dicom_node.spool import Spool
from pipeline.errors import CorrectionError, PipelineError
from pipeline.objects.attributes import text
from pipeline.objects.part10 import read_files

OWN_RESULT: Final = "OWN_RESULT"
SOURCE_UNKNOWN: Final = "SOURCE_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Correction:
    """A reader's segmentation with the images that it was drawn on.

    Parameters
    ----------
    segmentation : Path
        Relative to the spool.
    source_series_uid : str
    paths : tuple of Path
        Images of the source series, relative to the spool.
    """

    segmentation: Path
    source_series_uid: str
    paths: tuple[Path, ...]


def is_segmentation(instances: Sequence[ReceivedInstance]) -> bool:
    """Whether a series is one of segmentations rather than of images."""
    return all(MODALITIES.get(instance.sop_class_uid) == "SEG" for instance in instances)


def correction_of(
    instances: Sequence[ReceivedInstance], ledger: Ledger, spool: Spool
) -> Correction | Reason:
    """Find the images that a segmentation corrects a measurement of.

    Parameters
    ----------
    instances : sequence of ReceivedInstance
        All of one series; the last one to come in counts.
    ledger : Ledger
    spool : Spool

    Returns
    -------
    Correction or Reason
        Why the segmentation is not measured: a PACS that forwards whole studies sends our own
        results back, and those of others.
    """
    last = instances[-1]
    if ledger.results.is_own(last.sop_instance_uid):
        return Reason(OWN_RESULT, "the segmentation is our own, sent back unchanged")
    try:
        ((segmentation,),) = read_files([spool.path(last.path)]).values()
    except PipelineError as error:
        return Reason(error.code, str(error))
    source = _source(segmentation, ledger)
    if source is None:
        return Reason(SOURCE_UNKNOWN, "the segmentation refers to no series that was measured here")
    uid = source.series_instance_uid
    images = ledger.own_instances(uid)
    fault = _fault(segmentation, source, spool.series_files(images))
    if fault:
        return Reason(CorrectionError.code, fault)
    return Correction(last.path, uid, tuple(image.path for image in images))


def _source(segmentation: Dataset, ledger: Ledger) -> SeriesRecord | None:
    for item in segmentation.get("ReferencedSeriesSequence") or ():
        uid = text(item, "SeriesInstanceUID")
        if ledger.results.of_series(uid):
            try:
                return ledger.series(uid)
            except UnknownSeriesError:
                continue
    return None


def _fault(segmentation: Dataset, source: SeriesRecord, images: Sequence[Path]) -> str:
    """Say what keeps a segmentation from belonging to the study of its images."""
    if text(segmentation, "StudyInstanceUID") != source.study_instance_uid:
        return "the segmentation lies in another study than the series that it refers to"
    if not images or not all(image.exists() for image in images):
        return "the images that the segmentation refers to are no longer kept here"
    header = dcmread(images[0], stop_before_pixels=True)
    # As text: a viewer may have written the same ID in another character set.
    if text(segmentation, "PatientID").strip() != text(header, "PatientID").strip():
        return "the segmentation names another patient than the series that it refers to"
    return ""
