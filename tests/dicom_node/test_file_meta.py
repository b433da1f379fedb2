import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.file_meta import file_meta
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "1" * 59])
@pytest.mark.parametrize("calling", ["CT1", "SCANNER1", "A" * 16])
def test_it_is_what_pydicom_writes(uid: str, calling: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = calling
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    packed = file_meta(CTImageStorage, uid, ExplicitVRLittleEndian, calling)
    assert packed == b"DICM" + buffer.getvalue()
