import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
)

from dicom_node.admission import (
    CANNOT_UNDERSTAND,
    MISMATCH,
    OUT_OF_RESOURCES,
    Command,
    Header,
    Rejection,
    admit,
    admit_with_room,
    patient_key,
)
from tests.dicom_node.datasets import ct_header, encoded

COMMAND = Command(CTImageStorage, "1.2.3.1", ExplicitVRLittleEndian)
SECRET = b"s" * 32


def taken(**changes: object) -> Header | Rejection:
    return admit(memoryview(encoded(ct_header(**changes))), COMMAND)


def status(answer: Header | Rejection) -> int:
    assert isinstance(answer, Rejection)
    return answer.status


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian]
)
def test_a_ct_image_is_taken_in_any_encoding(syntax: str) -> None:
    command = Command(CTImageStorage, "1.2.3.1", syntax)
    header = admit(memoryview(encoded(ct_header(), syntax)), command)
    assert isinstance(header, Header)
    assert (header.study_instance_uid, header.series_instance_uid) == ("1.2", "1.2.3")


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_an_instance_without_identity_is_not_understood(keyword: str) -> None:
    assert status(taken(**{keyword: None})) == CANNOT_UNDERSTAND
    assert status(taken(**{keyword: ""})) == CANNOT_UNDERSTAND


def test_a_uid_that_is_a_path_is_not_understood() -> None:
    data = encoded(ct_header()).replace(b"1.2.3\0", b"../../")
    assert status(admit(memoryview(data), COMMAND)) == CANNOT_UNDERSTAND


def test_command_and_data_set_must_agree() -> None:
    assert status(taken(SOPInstanceUID="1.2.3.2")) == MISMATCH
    assert status(taken(SOPClassUID=EnhancedCTImageStorage)) == MISMATCH


def test_what_is_no_ct_is_a_mismatch() -> None:
    assert status(taken(Modality="MR")) == MISMATCH
    command = Command(MRImageStorage, "1.2.3.1", ExplicitVRLittleEndian)
    data = memoryview(encoded(ct_header(SOPClassUID=MRImageStorage)))
    assert status(admit(data, command)) == MISMATCH


def test_segmentation_is_taken_as_one() -> None:
    command = Command(SegmentationStorage, "1.2.3.1", ExplicitVRLittleEndian)
    header = ct_header(SOPClassUID=SegmentationStorage, Modality="SEG")
    assert isinstance(admit(memoryview(encoded(header)), command), Header)
    header.Modality = "CT"
    assert status(admit(memoryview(encoded(header)), command)) == MISMATCH


def test_data_that_breaks_off_in_the_pixels_is_not_understood() -> None:
    dataset = ct_header()
    dataset.add_new(0x7FE00010, "OW", b"\0" * 512)
    data = encoded(dataset)
    assert isinstance(admit(memoryview(data), COMMAND), Header)
    assert status(admit(memoryview(data[:-1]), COMMAND)) == CANNOT_UNDERSTAND


@given(
    data=st.binary(max_size=200),
    cut=st.integers(0, 200),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian]),
    where=st.integers(0, 200),
)
def test_no_header_makes_admission_raise(data: bytes, cut: int, syntax: str, where: int) -> None:
    good = encoded(ct_header(), syntax)
    broken = good[:where] + data + good[cut:]
    answer = admit(memoryview(broken), Command(CTImageStorage, "1.2.3.1", syntax))
    assert isinstance(answer, Header | Rejection)


def test_nothing_that_is_shown_names_the_patient() -> None:
    header = taken()
    assert "Phantom" not in repr(header)
    assert "PHANTOM" not in repr(taken(SeriesInstanceUID=None))


def test_room_is_asked_for_below_the_watermark_only() -> None:
    assert admit_with_room(1024, 1024) is None
    rejection = admit_with_room(1023, 1024)
    assert rejection is not None
    assert rejection.status == OUT_OF_RESOURCES


def test_the_digest_tells_patients_apart() -> None:
    def key(secret: bytes = SECRET, **changes: object) -> str:
        header = taken(**changes)
        assert isinstance(header, Header)
        return patient_key(header, secret)

    assert key() == key(PatientID="PHANTOM ")
    others = {
        key(PatientID="OTHER"),
        key(PatientName="Other^Torso"),
        key(IssuerOfPatientID="X"),
        key(PatientName="Phantom^TorsoP", PatientID="HANTOM"),
        key(b"t" * 32),
    }
    assert len(others) == 5
    assert key() not in others
