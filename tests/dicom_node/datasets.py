"""Encoded CT headers without pixels, as a peer would send them."""

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set without file meta information."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def ct_header(**changes: object) -> Dataset:
    """The attributes that decide about admission; ``None`` leaves one out."""
    values: dict[str, object] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": "1.2.3.1",
        "Modality": "CT",
        "PatientName": "Phantom^Torso",
        "PatientID": "PHANTOM",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
    }
    dataset = Dataset()
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset
