"""Decide which instances are taken: pure functions of what a peer sends."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from dicom_node.contexts import MODALITIES
from dicom_node.elements import MalformedDataSetError, walk
from dicom_node.search_keys import SearchAttribute, search_key
from dicom_node.uids import is_uid

# Failure codes of PS3.4 table B.2-1.
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

_MODALITY: Final = 0x00080060
_ACCESSION_NUMBER: Final = 0x00080050
_PATIENT: Final = (0x00100010, 0x00100020, 0x00100021)  # name, ID, issuer of the ID
_UIDS: Final = {
    0x00080016: "SOP Class UID (0008,0016)",
    0x00080018: "SOP Instance UID (0008,0018)",
    0x0020000D: "Study Instance UID (0020,000D)",
    0x0020000E: "Series Instance UID (0020,000E)",
}
_WANTED: Final = frozenset({_MODALITY, _ACCESSION_NUMBER, *_PATIENT, *_UIDS})
_LONGEST_VALUE: Final = 1024


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an instance is not taken.

    Parameters
    ----------
    status : int
        C-STORE status of PS3.4 B.2.3.
    reason : str
        One sentence without values of the patient.
    """

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Command:
    """What the C-STORE request says of its data set.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : str
        Affected SOP Class and Instance UID.
    transfer_syntax_uid : str
        Of the presentation context.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Header:
    """What the node knows of an instance that it takes.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid : str
    patient : tuple of bytes
        Name, ID and issuer of the ID as encoded; for digests alone.
    accession_number : bytes
        As encoded; for a digest alone.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient: tuple[bytes, ...] = field(repr=False)
    accession_number: bytes = field(default=b"", repr=False)


def admit(data: memoryview, command: Command) -> Header | Rejection:
    """Say whether an instance is taken.

    Parameters
    ----------
    data : memoryview
        The encoded data set.
    command : Command

    Returns
    -------
    Header or Rejection
        For any bytes whatsoever, one of them.
    """
    try:
        values = _wanted_values(data, command.transfer_syntax_uid)
    except MalformedDataSetError as error:
        return Rejection(CANNOT_UNDERSTAND, str(error))
    uids = {tag: _uid(values.get(tag, b"")) for tag in _UIDS}
    for tag, name in _UIDS.items():
        if not is_uid(uids[tag]):
            what = "is not a UID" if uids[tag] else "is missing"
            return Rejection(CANNOT_UNDERSTAND, f"{name} {what}")
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid = uids.values()
    patient = tuple(values.get(tag, b"") for tag in _PATIENT)
    header = Header(
        sop_class_uid,
        sop_instance_uid,
        study_instance_uid,
        series_instance_uid,
        patient,
        values.get(_ACCESSION_NUMBER, b""),
    )
    return _mismatch(header, values.get(_MODALITY, b""), command) or header


def admit_with_room(free_mib: int, watermark_mib: int) -> Rejection | None:
    """Say whether there is room for one more instance."""
    if free_mib >= watermark_mib:
        return None
    reason = f"{free_mib} MiB are free, less than storage.free_space_watermark_mib {watermark_mib}"
    return Rejection(OUT_OF_RESOURCES, reason)


def patient_key(header: Header, secret: bytes) -> str:
    """Digest of the patient's name, ID and issuer that nobody can compute without ``secret``.

    Returns
    -------
    str
        64 hexadecimal digits, equal for equal patients.
    """
    digest = hashlib.blake2b(key=secret, digest_size=32)
    for value in header.patient:
        stripped = value.strip(b" \0")
        digest.update(len(stripped).to_bytes(4, "big") + stripped)
    return digest.hexdigest()


def search_keys(header: Header, secret: bytes) -> dict[SearchAttribute, str | None]:
    """Digests by which the series of an instance can be found.

    Returns
    -------
    dict of SearchAttribute to str or None
        ``None`` where the attribute is empty.
    """
    values = {
        SearchAttribute.ACCESSION_NUMBER: header.accession_number,
        SearchAttribute.PATIENT_ID: header.patient[1],
    }
    return {attribute: search_key(attribute, value, secret) for attribute, value in values.items()}


def _wanted_values(data: memoryview, transfer_syntax_uid: str) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    # To the very end: data that breaks off in the pixels must not be acknowledged.
    for element in walk(data, transfer_syntax_uid, _WANTED):
        if element.end - element.start <= _LONGEST_VALUE:
            values.setdefault(element.tag, bytes(data[element.start : element.end]))
    return values


def _uid(value: bytes) -> str:
    return value.rstrip(b" \0").decode("ascii", "replace")


def _mismatch(header: Header, modality: bytes, command: Command) -> Rejection | None:
    if header.sop_class_uid != command.sop_class_uid:
        return Rejection(MISMATCH, "the SOP Class UIDs of command and data set differ")
    if header.sop_instance_uid != command.sop_instance_uid:
        return Rejection(MISMATCH, "the SOP Instance UIDs of command and data set differ")
    expected = MODALITIES.get(header.sop_class_uid)
    if expected is None:
        return Rejection(MISMATCH, "the SOP Class UID is not one of CT images or segmentations")
    if modality.strip(b" \0") not in {expected.encode(), b""}:
        return Rejection(MISMATCH, f"Modality (0008,0060) is not {expected}")
    return None
