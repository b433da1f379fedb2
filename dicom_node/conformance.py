"""Write the DICOM Conformance Statement from the tables that the code itself works with.

It covers what PS3.2 Annex N asks for; the numbers of its sections are our own.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydicom.uid import UID

from dicom_node import __version__
from dicom_node.admission import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES
from dicom_node.ae import MAXIMUM_PDU_BYTES
from dicom_node.announcements import ANNOUNCING, INVALID_VALUE, PROCESSING_FAILURE, SUCCESS
from dicom_node.audit_events import UserAction
from dicom_node.audit_messages import (
    APPLICATION_ACTIVITY,
    APPLICATION_START,
    APPLICATION_STOP,
    INSTANCES_TRANSFERRED,
    NODE_AUTHENTICATION,
    SECURITY_ALERT,
    Code,
)
from dicom_node.config import ListenerSettings, Service, SourceSettings
from dicom_node.contexts import (
    RESULT_SOP_CLASSES,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from dicom_node.door import service_of
from dicom_node.lobby import MAXIMUM_REQUEST_BYTES
from dicom_node.outbox import Verdict, verdict_on
from dicom_node.sender import Answer
from dicom_node.tls import tls_1_2_suites
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_QUERIES: Final = (_FIND, _MOVE, _GET)
_UNCOMPRESSED: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_SCU_STATUSES: Final = (
    (0x0000, "success"),
    (0x0107, "attribute list error"),
    (0x0110, "processing failure"),
    (0x0111, "duplicate SOP instance"),
    (0x0116, "attribute value out of range"),
    (0x0117, "invalid SOP instance"),
    (0x0122, "SOP class not supported"),
    (0x0124, "not authorized"),
    (0x0210, "duplicate invocation"),
    (0x0213, "resource limitation"),
    (0xA700, "out of resources"),
    (0xA900, "data set does not match SOP class"),
    (0xB000, "coercion of data elements"),
    (0xB006, "elements discarded"),
    (0xB007, "data set does not match SOP class (warning)"),
    (0xC000, "cannot understand"),
)
_REACTIONS: Final = {
    Verdict.ACCEPTED: "delivered",
    Verdict.RETRY: "tried again with growing pauses, then given up with an alarm",
}
_OTHER_REACTION: Final = "refused for good: recorded with its reason, not repeated"


def statement(result_names: Iterable[str]) -> str:
    """Write the whole statement as Markdown.

    Parameters
    ----------
    result_names : iterable of str
        Names of the objects that this version can make.
    """
    parts = (
        _overview(result_names),
        _application_entity(),
        _verification_and_storage_scp(),
        _storage_scu(),
        _commitment(),
        _security(),
        _audit(),
        _characters(),
        _queries(),
        _announcements(),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _overview(result_names: Iterable[str]) -> Iterator[str]:
    yield "# DICOM Conformance Statement of Psoas"
    yield ""
    yield from _prose(
        "Made by `psoas conformance` from the tables of the code; do not edit. It covers the "
        "content of DICOM "
        f"PS3.2 Annex N for version {__version__}. Psoas is research software, not for "
        "diagnosis."
    )
    yield ""
    yield "## 1 Overview"
    yield ""
    yield from _prose(
        "Psoas receives CT images, measures skeletal muscle at the third lumbar vertebra and "
        "stores the results at "
        "other systems. It is no archive."
    )
    yield ""
    receives = [(UID(uid).name, uid, "no", "yes") for uid in (VERIFICATION, *STORAGE_SOP_CLASSES)]
    receives[0] = (UID(VERIFICATION).name, VERIFICATION, "yes", "yes")
    sends = [
        (UID(RESULT_SOP_CLASSES[name]).name, RESULT_SOP_CLASSES[name], "yes", "no")
        for name in sorted(result_names)
    ]
    commitment = (UID(_COMMITMENT).name, _COMMITMENT, "yes", "no")
    queries = [(UID(uid).name, uid, "yes", "no") for uid in _QUERIES]
    announced = [(UID(uid).name, uid, "no", "yes") for uid in ANNOUNCING]
    rows = (*receives, *dict.fromkeys(sends), commitment, *queries, *announced)
    yield from _table(("SOP Class", "UID", "SCU", "SCP"), rows)
    yield from _prose(
        "Not supported: Query/Retrieve, Worklist and Print as SCP, media, Deflated transfer "
        "syntaxes."
    )


def _application_entity() -> Iterator[str]:
    listener, source = ListenerSettings(), SourceSettings(ae_title="ANY")
    yield ""
    yield "## 2 Application entity"
    yield ""
    yield from _prose(
        "One AE accepts and opens associations; defaults in parentheses can be changed."
    )
    yield ""
    yield from _table(
        ("Parameter", "Value"),
        (
            ("Application Context Name", "1.2.840.10008.3.1.1.1"),
            ("Implementation Class UID", str(IMPLEMENTATION_CLASS_UID)),
            ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
            ("AE title", f"configurable ({listener.ae_title})"),
            ("TCP port", f"configurable ({listener.port}), with TLS (2762)"),
            ("Maximum PDU length received", str(MAXIMUM_PDU_BYTES)),
            ("Longest A-ASSOCIATE-RQ accepted", f"{MAXIMUM_REQUEST_BYTES} bytes"),
            ("Asynchronous operations", "not negotiated: one at a time"),
            ("User identity, extended negotiation", "ignored"),
            ("Associations accepted at a time", f"configurable ({listener.maximum_associations})"),
            (
                "Of one peer and address",
                f"configurable ({source.maximum_associations} at a time, "
                f"{source.associations_per_minute} in a minute)",
            ),
            ("Time for the A-ASSOCIATE-RQ", f"configurable ({listener.association_timeout_s:g} s)"),
            ("Silence within an association", f"configurable ({listener.network_timeout_s:g} s)"),
            ("Length of an association", f"configurable ({listener.association_lifetime_s:g} s)"),
            ("Longest message", f"configurable ({listener.largest_instance_mib} MiB)"),
        ),
    )
    yield from _prose(
        "Associations opened: for each destination one for the results and one for the report on "
        "them; one to verify a destination."
    )
    yield ""
    yield "### 2.1 Who may associate"
    yield ""
    yield from _prose(
        "Called and calling AE title and the peer's address must fit the settings; without "
        "any peer named, only this "
        "host may call. Each peer is allowed services; contexts of the others are rejected "
        "(abstract syntax not "
        "supported)."
    )
    yield ""
    rows = [(UID(uid).name, service_of(uid).value) for uid in (VERIFICATION, *STORAGE_SOP_CLASSES)]
    yield from _table(("SOP Class", "Service"), rows)
    yield from _prose(
        f"Everything else that may be accepted is of service `{Service.NOTIFY.value}`."
    )
    yield ""
    yield from _table(
        ("A-ASSOCIATE-RJ", "Result, source, reason (PS3.8 table 9-21)"),
        (
            ("called AE title not ours", "1, 1, 7"),
            ("calling AE title not allowed, or not from this address", "1, 1, 3"),
            ("limit of the peer or of the node reached", "2, 3, 2"),
        ),
    )


def _verification_and_storage_scp() -> Iterator[str]:
    yield ""
    yield "## 3 Verification and Storage as SCP"
    yield ""
    yield from _prose(
        "Storage level 2 (full), no coercion: the data set is kept byte for byte, private "
        "elements included. Images "
        "with an SOP Instance UID that is known under other bytes are kept too, and the "
        "series waits for a person."
    )
    yield ""
    yield from _prose(
        "Transfer syntaxes of each Storage SOP Class (Verification: Implicit VR Little Endian):"
    )
    yield ""
    rows = [(UID(s.uid).name, s.uid, s.reason) for s in TRANSFER_SYNTAXES]
    yield from _table(("Transfer syntax", "UID", "Why"), rows)
    yield from _table(
        ("C-STORE status", "When"),
        (
            ("0000", "the image is flushed to disk and recorded"),
            (
                f"{OUT_OF_RESOURCES:04X}",
                "too little room on disk, or ledger or spool cannot be written",
            ),
            (
                f"{MISMATCH:04X}",
                "UIDs of command and data set differ, or the object is no CT image",
            ),
            (
                f"{CANNOT_UNDERSTAND:04X}",
                "no data set in its transfer syntax: broken off, nested too deeply, lengths "
                "that do not fit, a UID missing or malformed",
            ),
        ),
    )
    yield from _prose(
        "No meaning is attached to the order of images or to the release of an association "
        "(PS3.4 B.4)."
    )


def _storage_scu() -> Iterator[str]:
    yield ""
    yield "## 4 Verification and Storage as SCU"
    yield ""
    syntaxes = " or ".join(UID(uid).name for uid in _UNCOMPRESSED)
    yield from _prose(
        f"Results are proposed in {syntaxes}, each in a context of its own. What the peer answers:"
    )
    yield ""
    rows = [(f"{status:04X}", text, _reaction(status)) for status, text in _SCU_STATUSES]
    yield from _table(("Status", "Meaning", "Reaction"), rows)
    yield from _prose(
        "A rejected context and any other status: refused for good. No answer, an abort or a "
        "rejected association: "
        "tried again."
    )


def _reaction(status: int) -> str:
    verdict = verdict_on(Answer("1.2.3", status, None, ""))
    return _REACTIONS.get(verdict, _OTHER_REACTION)


def _commitment() -> Iterator[str]:
    yield ""
    yield "## 5 Storage Commitment"
    yield ""
    yield from _prose(
        "As SCU (Push Model): Psoas asks destinations with `commitment` in the settings to commit "
        "to its results, and takes the N-EVENT-REPORT on the same association or on one that the "
        "peer opens, with the peer in the role of the SCP. Without a report in time, or with "
        "failures in it, the results are stored and asked about again."
    )
    yield ""
    yield from _prose(
        "As SCP: never. Psoas is no archive; the context is rejected when a peer proposes it for "
        "that. A modality must not delete images because Psoas has taken them."
    )


def _security() -> Iterator[str]:
    yield ""
    yield "## 6 Security"
    yield ""
    yield from _prose(
        "Secure Transport Connection by BCP 195 (PS3.15 B.12), as acceptor on a port of its "
        "own and as opener. Both "
        "sides show certificates. TLS 1.3, and TLS 1.2 with:"
    )
    yield ""
    yield from _table(("Cipher suite (OpenSSL)",), [(name,) for name in tls_1_2_suites()])
    yield from _prose(
        "Certificates and keys are PEM files that are read again when they change; the port "
        "in the clear can be "
        "closed."
    )


def _audit() -> Iterator[str]:
    yield ""
    yield "## 7 Audit trail"
    yield ""
    yield from _prose(
        "Messages by PS3.15 A.5, in RFC 5424 to files or by TLS (RFC 5425). The patient "
        "object holds a keyed digest in "
        "place of the Patient ID, and no name: this differs from the standard on purpose."
    )
    yield ""
    fixed = [
        (_said(APPLICATION_ACTIVITY), _said(APPLICATION_START), "E", "the node starts"),
        (_said(APPLICATION_ACTIVITY), _said(APPLICATION_STOP), "E", "the node stops"),
        (_said(INSTANCES_TRANSFERRED), "", "C", "images received, by sender, study and patient"),
        (_said(INSTANCES_TRANSFERRED), "", "R", "results sent, by destination and study"),
        (
            _said(SECURITY_ALERT),
            _said(NODE_AUTHENTICATION),
            "E",
            "association or connection refused",
        ),
    ]
    people = []
    for action in UserAction:
        event, kind, code = action.value
        what = action.name.lower().replace("_", " ")
        people.append((_said(event), _said(kind) if kind else "", code, f"a person: {what}"))
    yield from _table(("EventID", "EventTypeCode", "Action", "When"), [*fixed, *people])


def _said(code: Code) -> str:
    return f"{code.value} {code.meaning}"


def _characters() -> Iterator[str]:
    yield ""
    yield "## 8 Character sets"
    yield ""
    yield from _prose(
        "Values are kept as they come, in any character set. Results repeat the patient's "
        "attributes as text in ISO_IR 192 (UTF-8), whatever the Specific Character Set of their "
        "source."
    )


def _queries() -> Iterator[str]:
    yield ""
    yield "## 9 Query/Retrieve as SCU"
    yield ""
    yield from _prose(
        "Study Root model, where the settings say so. `query` of a source asks whether a series is "
        "complete (C-FIND or QIDO-RS) and has missing images sent to us by C-MOVE, or gets them by "
        "C-GET with Psoas in the role of the SCP of the Storage classes of section 3; "
        "`[priors]` looks for earlier reports of ours on a patient, and gets them with Psoas in "
        "the role of the SCP of Comprehensive 3D SR "
        "Storage (PS3.7 D.3.3.4). Over DICOMweb the same is asked by QIDO-RS and WADO-RS."
    )
    yield ""
    patient = "Patient ID (matched), Study Date, Study Instance UID"
    series = "Study and Series Instance UID, Modality (SR), Series Description"
    yield from _table(
        ("Operation", "Level", "Keys"),
        (
            ("C-FIND", "SERIES, IMAGE", "UIDs, Number of Series Related Instances"),
            ("C-MOVE", "IMAGE", "UIDs"),
            ("C-GET", "IMAGE", "UIDs"),
            ("C-FIND", "STUDY", patient),
            ("C-FIND", "SERIES", series),
            ("C-GET", "SERIES", "UIDs"),
        ),
    )


def _announcements() -> Iterator[str]:
    yield ""
    yield "## 10 Instance Availability Notification and Modality Performed Procedure Step as SCP"
    yield ""
    yield from _prose(
        "For peers with service `notify`. The lists of images in an N-CREATE of Instance "
        "Availability Notification, and in the N-CREATE or N-SET that completes a procedure step, "
        "are compared with what has arrived: a series whose images are all here waits no longer, "
        "and the record says what is missing of another one. Procedure steps are not kept: an "
        "N-SET is answered with success whether Psoas knows its step or not, and nothing can be "
        "retrieved (N-GET)."
    )
    yield ""
    yield from _table(
        ("Status", "When"),
        (
            (f"{SUCCESS:04X}", "recorded, or nothing in it is for Psoas"),
            (f"{INVALID_VALUE:04X}", "a UID is missing or malformed, or the list is too long"),
            (f"{PROCESSING_FAILURE:04X}", "the ledger cannot be written"),
        ),
    )


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 115, break_long_words=False, break_on_hyphens=False)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(row)} |"
    yield ""
