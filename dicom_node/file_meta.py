"""Write the file meta information that the node puts before a received data set."""

import struct
from typing import Final

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREFIX: Final = b"DICM"
_VERSION: Final = struct.pack("<HH2sHI2s", 2, 0x0001, b"OB", 0, 2, b"\0\1")


def file_meta(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str
) -> bytes:
    """Encode prefix and group 0002, what follows the preamble.

    Packed by hand: a toolkit takes longer for this than the disk for the image.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
    calling_ae_title : str

    References
    ----------
    DICOM PS3.10 section 7.1.
    """
    group = _VERSION + b"".join(
        (
            _element(0x0002, b"UI", sop_class_uid, b"\0"),
            _element(0x0003, b"UI", sop_instance_uid, b"\0"),
            _element(0x0010, b"UI", transfer_syntax_uid, b"\0"),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\0"),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
            _element(0x0016, b"AE", calling_ae_title, b" "),
        )
    )
    return _PREFIX + struct.pack("<HH2sHI", 2, 0x0000, b"UL", 4, len(group)) + group


def _element(number: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
