"""Begins the result objects that highdicom has no class for."""

from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline.objects.attributes import text
from pipeline.objects.frames import Frame, sop_class_uid, sop_instance_uid
from pipeline.types import Analysis


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """The series that one kind of result makes: one object each.

    Parameters
    ----------
    modality : str
    number : int
    description : str
        At most 64 characters; says RESEARCH.
    """

    modality: str
    number: int
    description: str


def begin(
    sop_class_uid: str, series: ResultSeries, series_uid: str, sop_uid: str, source: Dataset
) -> Dataset:
    """Return an object in the study of ``source``; ``stamp`` adds patient, equipment and time."""
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    result.file_meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    result.SOPClassUID = sop_class_uid
    result.SOPInstanceUID = sop_uid
    result.StudyInstanceUID = text(source, "StudyInstanceUID")
    result.SeriesInstanceUID = series_uid
    result.Modality = series.modality
    result.SeriesNumber = series.number
    result.SeriesDescription = series.description
    result.InstanceNumber = 1
    return result


def image_reference(frame: Frame) -> Dataset:
    """Return the item that refers to an image plane (PS3.3 table 10-3)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid(frame.dataset)
    item.ReferencedSOPInstanceUID = sop_instance_uid(frame.dataset)
    if frame.index is not None:
        item.ReferencedFrameNumber = frame.index + 1
    return item


def lossy_history(result: Dataset, source: Dataset) -> None:
    """Say whether the pixels ever were compressed with loss (PS3.3 C.7.6.1.1.5)."""
    result.LossyImageCompression = "00"
    if text(source, "LossyImageCompression") != "01":
        return
    for keyword in (
        *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    ):
        if keyword in source:
            result[keyword] = source[keyword]


def one_sentence(analysis: Analysis) -> str:
    """Say for a list of files what an object shows."""
    return f"Skeletal muscle on the slice of {analysis.composition.level.name} (AI, research use)"
