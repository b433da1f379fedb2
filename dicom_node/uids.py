"""The UIDs of Psoas itself, with the test for those of others."""

import re
from typing import Final

from pydicom.uid import UID

from dicom_node import __version__

# Derived from a UUID (PS3.5 B.2), made once for Psoas.
IMPLEMENTATION_CLASS_UID: Final = UID("2.25.55473556440468009328032172021798980975")
IMPLEMENTATION_VERSION_NAME: Final = f"PSOAS {__version__}"[:16]

_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_MAXIMUM_LENGTH: Final = 64
_MODEL_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)


def is_uid(text: str) -> bool:
    """Whether ``text`` has the form of a UID, which also makes it safe as a file name.

    Leading zeros of a component are let pass: they occur, and confuse nothing here.

    References
    ----------
    DICOM PS3.5 section 9.1.
    """
    return len(text) <= _MAXIMUM_LENGTH and _UID.fullmatch(text) is not None


def is_model_key(text: str) -> bool:
    """Whether ``text`` has the form of an installed model's key, which is a safe file name."""
    return _MODEL_KEY.fullmatch(text) is not None
