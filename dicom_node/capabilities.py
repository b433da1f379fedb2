"""Ask a PACS what it accepts: negotiate an association and send nothing (PS3.8 7.1.1)."""

from typing import Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_node.acceptance import Capability
from dicom_node.contexts import RESULT_SOP_CLASSES
from dicom_node.sender import Peer, open_association

_SERVICES: Final = {
    "storage commitment": str(StorageCommitmentPushModel),
    "query": str(StudyRootQueryRetrieveInformationModelFind),
    "retrieval by C-GET": str(StudyRootQueryRetrieveInformationModelGet),
}
_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def ask(peer: Peer, *, calling_ae_title: str, timeout_s: float) -> tuple[Capability, ...]:
    """Propose every result object and service, each in a context of its own.

    Raises
    ------
    PeerError
        There was no association at all.
    """
    offers = [
        (name, sop_class, syntax)
        for name, sop_class in ({**RESULT_SOP_CLASSES, **_SERVICES}).items()
        for syntax in _SYNTAXES
    ]
    # Two kinds of object may be of one class.
    pairs = dict.fromkeys((sop_class, syntax) for _, sop_class, syntax in offers)
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    with open_association(peer, contexts, calling_ae_title, timeout_s) as association:
        accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in association.accepted_contexts
        }
    return tuple(Capability(*offer, (offer[1], offer[2]) in accepted) for offer in offers)
