"""Write what happened as audit messages of the standard: XML, one event and one patient each.

Patients appear under the digest that the ledger knows them by; names and numbers never leave the
images.

References
----------
DICOM PS3.15 section A.5 (audit trail message format profile); PS3.16 CID 400 to 405 (codes).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from ipaddress import ip_address
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring


@dataclass(frozen=True, slots=True)
class Code:
    """A concept of coding scheme DCM."""

    value: str
    meaning: str


APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", "Audit Log Used")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
EXPORT: Final = Code("110106", "Export")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "User Authentication")

APPLICATION_START: Final = Code("110120", "Application Start")
APPLICATION_STOP: Final = Code("110121", "Application Stop")
LOGIN: Final = Code("110122", "Login")
LOGOUT: Final = Code("110123", "Logout")
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
SOFTWARE_CONFIGURATION: Final = Code("110131", "Software Configuration")

APPLICATION: Final = Code("110150", "Application")
APPLICATION_LAUNCHER: Final = Code("110151", "Application Launcher")
DESTINATION_ROLE: Final = Code("110152", "Destination Role ID")
SOURCE_ROLE: Final = Code("110153", "Source Role ID")

_STUDY_INSTANCE_UID: Final = Code("110180", "Study Instance UID")
_PATIENT_NUMBER: Final = ("2", "RFC-3881", "Patient Number")
_MACHINE_NAME: Final = "1"  # NetworkAccessPointTypeCode
_IP_ADDRESS: Final = "2"
_APPLICATION_SERVER: Final = "4"  # AuditSourceTypeCode


class Outcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody who took part in an event: a person, a process or a peer.

    Parameters
    ----------
    user_id : str
        Account of a person; process or host of an application.
    role : Code or None
    is_requestor : bool
        Whether it began the event.
    ae_title, address, name : str
        Empty when unknown.
    """

    user_id: str
    role: Code | None = None
    is_requestor: bool = False
    ae_title: str = ""
    address: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """A study that an event is about.

    Parameters
    ----------
    study_instance_uid : str
    sop_classes : mapping of str to int
        How many instances of which SOP Class.
    """

    study_instance_uid: str
    sop_classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One event.

    Parameters
    ----------
    event : Code
        Of CID 400.
    action : str
        C, R, U, D or E: create, read, update, delete, execute.
    at : datetime
    participants : tuple of Participant
    types : tuple of Code
        Of CID 401.
    outcome : Outcome
    studies : tuple of Study
    patient : str
        Digest of the patient; empty when the event is about none.
    description : str
        One sentence without values of the patient.
    """

    event: Code
    action: str
    at: datetime
    participants: tuple[Participant, ...]
    types: tuple[Code, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    studies: tuple[Study, ...] = ()
    patient: str = ""
    description: str = ""

    def to_xml(self, source_id: str) -> bytes:
        """Encode as UTF-8 without a line break.

        Parameters
        ----------
        source_id : str
            AuditSourceID: the name of this node at the repository.
        """
        root = Element("AuditMessage")
        self._add_event(root)
        for participant in self.participants:
            _add_participant(root, participant)
        source = SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source_id))
        SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
        for study in self.studies:
            _add_study(root, study)
        if self.patient:
            _add_patient(root, self.patient)
        encoded: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
        return encoded

    def _add_event(self, root: Element) -> None:
        event = SubElement(
            root,
            "EventIdentification",
            EventActionCode=self.action,
            EventDateTime=self.at.isoformat(timespec="milliseconds"),
            EventOutcomeIndicator=str(int(self.outcome)),
        )
        _add_code(event, "EventID", self.event)
        for code in self.types:
            _add_code(event, "EventTypeCode", code)
        if self.description:
            SubElement(event, "EventOutcomeDescription").text = _clean(self.description)


def _add_participant(root: Element, participant: Participant) -> None:
    attributes = {
        "UserID": participant.user_id,
        "AlternativeUserID": f"AETITLES={participant.ae_title}" if participant.ae_title else "",
        "UserName": participant.name,
        "UserIsRequestor": "true" if participant.is_requestor else "false",
        "NetworkAccessPointID": participant.address,
        "NetworkAccessPointTypeCode": _kind_of(participant.address),
    }
    said = {name: _clean(value) for name, value in attributes.items() if value}
    element = SubElement(root, "ActiveParticipant", {"UserID": "unknown"} | said)
    if participant.role is not None:
        _add_code(element, "RoleIDCode", participant.role)


def _kind_of(access_point: str) -> str:
    if not access_point:
        return ""
    try:
        ip_address(access_point)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS


def _add_study(root: Element, study: Study) -> None:
    element = _object(root, study.study_instance_uid, object_type="2", role="3")
    _add_code(element, "ParticipantObjectIDTypeCode", _STUDY_INSTANCE_UID)
    SubElement(element, "ParticipantObjectName")
    if study.sop_classes:
        description = SubElement(element, "ParticipantObjectDescription")
        for uid, count in sorted(study.sop_classes.items()):
            SubElement(description, "SOPClass", UID=_clean(uid), NumberOfInstances=str(count))


def _add_patient(root: Element, digest: str) -> None:
    element = _object(root, digest, object_type="1", role="1")
    code, scheme, meaning = _PATIENT_NUMBER
    attributes = {"csd-code": code, "codeSystemName": scheme, "originalText": meaning}
    SubElement(element, "ParticipantObjectIDTypeCode", attributes)
    SubElement(element, "ParticipantObjectName")


def _object(root: Element, identifier: str, *, object_type: str, role: str) -> Element:
    return SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(identifier),
        ParticipantObjectTypeCode=object_type,
        ParticipantObjectTypeCodeRole=role,
    )


def _add_code(parent: Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": "DCM", "originalText": code.meaning}
    SubElement(parent, name, attributes)


def _clean(text: str) -> str:
    # A peer chooses its AE title; control characters would break XML and lines alike.
    return "".join(letter if letter.isprintable() else "?" for letter in text)
