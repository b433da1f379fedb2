from pydicom.pixels import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_node.ae import build_ae
from dicom_node.config import ListenerSettings
from dicom_node.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES


def test_the_worker_decodes_every_accepted_syntax() -> None:
    for syntax in TRANSFER_SYNTAXES:
        assert get_decoder(UID(syntax.uid)).is_available, syntax.uid


def test_deflated_is_not_accepted() -> None:
    assert DeflatedExplicitVRLittleEndian not in {syntax.uid for syntax in TRANSFER_SYNTAXES}


def test_every_syntax_stands_once_with_a_reason() -> None:
    uids = [syntax.uid for syntax in TRANSFER_SYNTAXES]
    assert len(set(uids)) == len(uids)
    assert all(syntax.reason for syntax in TRANSFER_SYNTAXES)


def test_the_entity_offers_the_table_plus_verification() -> None:
    ae = build_ae(ListenerSettings())
    offered = {
        str(context.abstract_syntax): set(context.transfer_syntax)
        for context in ae.supported_contexts
    }
    assert set(offered) == {"1.2.840.10008.1.1", *STORAGE_SOP_CLASSES}
    for sop_class in STORAGE_SOP_CLASSES:
        assert offered[sop_class] == {syntax.uid for syntax in TRANSFER_SYNTAXES}
