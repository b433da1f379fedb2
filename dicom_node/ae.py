"""The application entity as a peer sees it: services, limits, identity."""

from typing import Final

from pynetdicom import AE

from dicom_node.config import ListenerSettings
from dicom_node.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MAXIMUM_PDU_BYTES: Final = 2**17
"""The largest that DCMTK sends; larger ones gain nothing (a 512 x 512 image fills four)."""


def build_ae(listener: ListenerSettings) -> AE:
    """Make the entity that receives images.

    Verification and Storage of CT images as SCP, nothing else; who may associate is decided by
    ``door.Door``.

    Parameters
    ----------
    listener : ListenerSettings

    References
    ----------
    DICOM PS3.4 Annex A (Verification) and Annex B (Storage).
    """
    ae = AE(ae_title=listener.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = listener.maximum_associations
    ae.maximum_pdu_size = MAXIMUM_PDU_BYTES
    ae.acse_timeout = listener.association_timeout_s
    ae.dimse_timeout = listener.network_timeout_s
    ae.network_timeout = listener.network_timeout_s
    ae.add_supported_context(VERIFICATION)
    syntaxes = [syntax.uid for syntax in TRANSFER_SYNTAXES]
    for sop_class in STORAGE_SOP_CLASSES:
        ae.add_supported_context(sop_class, syntaxes)
    return ae
