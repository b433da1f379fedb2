"""Gives result objects their identity: patient and study of the source, derived UIDs, equipment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage, CTImageStorage

from pipeline.objects.attributes import DAMAGE, quiet, text
from pipeline.objects.frames import Frame, frames_of, sop_instance_uid
from pipeline.types import Analysis, PriorMeasurement, SliceSource

MANUFACTURER: Final = "Psoas"
MODEL_NAME: Final = "Psoas (research use only)"
RESEARCH_NOTICE: Final = "RESEARCH USE ONLY. Not for diagnosis. Computed without human review."

UTF_8: Final = "ISO_IR 192"

_IMPLEMENTATION_CLASS_UID: Final = UID("2.25.315129908727555734408614317889038126102")

# Patient, Clinical Trial, Patient Study and General Study (PS3.3 C.7.1.1, C.7.1.3, C.7.2). The
# first group must be present, if need be empty.
_TYPE_2: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_OPTIONAL: Final = (
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID"),
    *("OtherPatientIDsSequence", "PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    *("IssuerOfAccessionNumberSequence", "StudyDescription", "ProcedureCodeSequence"),
    "LongitudinalTemporalInformationModified",
)
# Of a clinical trial these may be empty, never absent (PS3.3 C.7.1.3).
_EMPTY_IN_A_TRIAL: Final = frozenset(
    {"ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"}
)


@dataclass(frozen=True, slots=True)
class PredecessorReport:
    """An earlier report of ours on the same series, which a new one replaces.

    Parameters
    ----------
    study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid : str
        As in its header.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = Comprehensive3DSRStorage


@dataclass(frozen=True, slots=True)
class ReaderSegment:
    """What a reader drew of one tissue on the measured slice.

    Parameters
    ----------
    tissue : str
    frame_number : int
        One-based, in the segmentation.
    tracking_uid, tracking_id : str
        Of the segment; empty where it has none.
    """

    tissue: str
    frame_number: int
    tracking_uid: str = ""
    tracking_id: str = ""


@dataclass(frozen=True, slots=True)
class ReaderSegmentation:
    """A segmentation of the measured series that a reader corrected.

    Parameters
    ----------
    series_instance_uid, sop_instance_uid, sop_class_uid : str
    segments : tuple of ReaderSegment
        Those on the measured slice.
    """

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    segments: tuple[ReaderSegment, ...]

    def segment_of(self, tissue: str) -> ReaderSegment | None:
        """Segment of a tissue, if the reader drew it."""
        return next((one for one in self.segments if one.tissue == tissue), None)


@dataclass(frozen=True, slots=True, eq=False)
class ResultContext:
    """What result objects need beyond the analysis.

    Parameters
    ----------
    sources : tuple of Dataset
        Objects of the measured series, at least those of the mask's slices; headers suffice.
    created_at : datetime
        Aware; a second run with the same value writes the same bytes.
    software_version : str
    uid_root_key : str
        Names the installation: two of them never give their results the same UIDs.
    prior : PriorMeasurement or None
        What the reports compare the result with.
    predecessor : PredecessorReport or None
        What the reports replace.
    predecessor_alone : PredecessorReport or None
        What the report without segmentation replaces, when that is another one: whoever gets only
        this kind does not hold the other.
    reader : ReaderSegmentation or None
        The mask that was measured, when it is not our own.
    """

    sources: tuple[Dataset, ...]
    created_at: datetime
    software_version: str
    uid_root_key: str = "psoas"
    prior: PriorMeasurement | None = None
    predecessor: PredecessorReport | None = None
    predecessor_alone: PredecessorReport | None = None
    reader: ReaderSegmentation | None = None

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must know its time zone")


def derived_uid(analysis: Analysis, context: ResultContext, kind: str) -> str:
    """Derive a UID under 2.25 (PS3.5 B.2) from all that determines the result.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext
    kind : str
        Tells the UIDs of one analysis apart.
    """
    level = analysis.volume.sources[analysis.composition.level.slice_index]
    parts = [
        context.uid_root_key,
        context.software_version,
        kind,
        analysis.volume.series_instance_uid,
        *sorted(f"{one.sop_instance_uid} {one.frame_number}" for one in analysis.volume.sources),
        *(f"{model.name} {model.version} {model.sha256}" for model in analysis.models),
        f"{level.sop_instance_uid} {level.frame_number}",
        repr(analysis.subject),
        repr(analysis.assessment),
        repr(analysis.attenuation_assessment),
        *([repr(analysis.second_opinion)] if analysis.second_opinion else []),
    ]
    return hashed_uid(parts)


def report_uid(analysis: Analysis, context: ResultContext, kind: str) -> str:
    """Derive a UID for an object that also states prior, predecessor and the reader's mask.

    A prior that becomes known later makes another report, never other bytes under the same UID.
    """
    return hashed_uid(
        [
            derived_uid(analysis, context, kind),
            repr(context.prior),
            repr(context.predecessor),
            repr(context.reader),
        ]
    )


def hashed_uid(parts: Sequence[str]) -> str:
    """Derive a UID under 2.25 from texts."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def device_uid(context: ResultContext) -> str:
    """Return the UID of this installation as an observer; the same for all its results."""
    return hashed_uid([context.uid_root_key, "device"])


def frame_of(context: ResultContext, source: SliceSource) -> Frame:
    """Find the stored image plane of a slice.

    Raises
    ------
    KeyError
        The context does not hold it.
    """
    for dataset in context.sources:
        if sop_instance_uid(dataset) == source.sop_instance_uid:
            return frames_of([dataset])[(source.frame_number or 1) - 1]
    raise KeyError(source.sop_instance_uid)


def level_frame(analysis: Analysis, context: ResultContext) -> Frame:
    """Find the stored image plane of the measured slice."""
    return frame_of(context, analysis.volume.sources[analysis.composition.level.slice_index])


def local_time(context: ResultContext, source: Dataset) -> datetime:
    """Return the time of creation in the time zone of the source, if it tells one.

    Timezone Offset From UTC applies to every time of an object (PS3.3 C.12.1), those copied from
    the source included.
    """
    offset = text(source, "TimezoneOffsetFromUTC")
    try:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        zone = timezone(timedelta(minutes=-minutes if offset.startswith("-") else minutes))
    except ValueError:
        return context.created_at
    return context.created_at.astimezone(zone)


def software_versions(analysis: Analysis, context: ResultContext) -> list[str]:
    """Name the software and each model with the beginning of its checksum."""
    opinion = analysis.second_opinion
    used = analysis.models if opinion is None else (*analysis.models, opinion.model)
    models = [f"{one.name} {one.version} {one.sha256[:12]}" for one in used]
    return [context.software_version, *(model[:64] for model in models)]


def stamp(result: Dataset, analysis: Analysis, context: ResultContext) -> None:
    """Replace what a library wrote about patient, study, equipment and time.

    Patient and study are those of the measured slice, as text in UTF-8; an attribute that must be
    there and is not in the source is left empty, none is invented.
    """
    source = level_frame(analysis, context).dataset
    stamp_as(result, source, software_versions(analysis, context), context)


def stamp_as(
    result: Dataset, source: Dataset, versions: Sequence[str], context: ResultContext
) -> None:
    """Do what ``stamp`` does, without an analysis.

    Parameters
    ----------
    result : Dataset
        With file meta information.
    source : Dataset
        Whose patient and study it belongs to.
    versions : sequence of str
        Software and models, at most 64 characters each.
    context : ResultContext
    """
    result.SpecificCharacterSet = UTF_8
    _copy(source, result, _TYPE_2, keep_empty=True)
    _copy(source, result, _OPTIONAL, keep_empty=False)
    created = local_time(context, source)
    for keyword in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{keyword}Date", created.strftime("%Y%m%d"))
        setattr(result, f"{keyword}Time", created.strftime("%H%M%S"))
    result.TimezoneOffsetFromUTC = created.strftime("%z")[:5]
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = MODEL_NAME
    result.DeviceSerialNumber = context.uid_root_key[:64]
    result.SoftwareVersions = list(versions)
    result.file_meta.ImplementationClassUID = _IMPLEMENTATION_CLASS_UID
    result.file_meta.ImplementationVersionName = f"PSOAS_{context.software_version}"[:16]


def describe_image(analysis: Analysis, frame: Frame) -> Dataset:
    """Describe an image plane to highdicom as a single image, without the values that it refuses.

    Patient and study are empty: ``stamp`` fills them in from the source.
    """
    image = Dataset()
    for keyword in _TYPE_2:
        setattr(image, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(image, keyword, text(frame.dataset, keyword))
    image.Modality = "CT"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = sop_instance_uid(frame.dataset)
    image.PositionReferenceIndicator = text(frame.dataset, "PositionReferenceIndicator")
    image.Rows, image.Columns = analysis.volume.hu.shape[1:]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        image[keyword] = frame.header[keyword]
    image.SliceThickness = slice_thickness_mm(analysis)
    return image


def slice_thickness_mm(analysis: Analysis) -> float:
    """Return the thickness of the slices, their distance where the header does not tell."""
    thickness_mm = analysis.volume.acquisition.slice_thickness_mm
    return thickness_mm or round(analysis.volume.slice_spacing_mm, 4)


def _copy(source: Dataset, result: Dataset, keywords: Sequence[str], *, keep_empty: bool) -> None:
    for keyword in keywords:
        element = _element(source, keyword)
        if element is not None:
            result[keyword] = element
        elif keep_empty or (keyword in _EMPTY_IN_A_TRIAL and keyword in source):
            setattr(result, keyword, None)
        elif keyword in result:
            del result[keyword]


def _element(source: Dataset, keyword: str) -> DataElement | None:
    vr = dictionary_VR(keyword)
    tag = tag_for_keyword(keyword)
    if tag is None or keyword not in source:
        return None
    try:
        with quiet():
            value = source[keyword].value
            if vr == "SQ":
                return DataElement(tag, vr, value) if value else None
            if value is None or value == "":
                return None
            return DataElement(tag, vr, _as_text(source, str(value)))
    except DAMAGE:
        return None


def _as_text(source: Dataset, value: str) -> str:
    if text(source, "SpecificCharacterSet"):
        return value
    # Without a character set only ASCII is allowed, but UTF-8 is what is often there.
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
