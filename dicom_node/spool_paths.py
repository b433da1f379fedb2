"""Where things lie in the spool: names made of checked UIDs and keys only."""

from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.uids import is_model_key, is_uid

INSTANCES: Final = Path("instances")
"""Folder of all instances, relative to the spool."""
PICTURE: Final = "overlay.png"
"""Name of the picture among the results of a revision; no destination gets it."""


def instance_path(series_instance_uid: str, sop_instance_uid: str, sha256: str) -> Path:
    """Where an instance lies, relative to the spool; other bytes have another name.

    Raises
    ------
    SpoolError
        For a UID that cannot name a file.
    """
    # In one piece: putting paths together takes as long as a statement of the ledger.
    series, instance = checked_uid(series_instance_uid), checked_uid(sop_instance_uid)
    return Path(f"{INSTANCES}/{series}/{instance}_{sha256[:16]}.dcm")


def instances_folder(series_instance_uid: str) -> Path:
    """Folder of the instances of a series, relative to the spool.

    Raises
    ------
    SpoolError
        For a UID that cannot name a folder.
    """
    return INSTANCES / checked_uid(series_instance_uid)


def revision_folder(series_instance_uid: str, revision: int) -> Path:
    """Folder of the results of a revision, relative to the spool."""
    return Path("results", checked_uid(series_instance_uid), f"revision_{revision}")


def work_path(series_instance_uid: str, revision: int, shadow: str) -> Path:
    """Work order of a revision, or of a shadow model that measures it, relative to the spool."""
    folder = revision_folder(series_instance_uid, revision)
    return folder / (f"shadow-{_checked_key(shadow)}-work.json" if shadow else "work.json")


def outcome_path(series_instance_uid: str, revision: int, shadow: str) -> Path:
    """How that work ended, relative to the spool."""
    folder = revision_folder(series_instance_uid, revision)
    return folder / (f"shadow-{_checked_key(shadow)}.json" if shadow else "outcome.json")


def _checked_key(model: str) -> str:
    if not is_model_key(model):
        raise SpoolError(f"{model!r} is no key of a model")
    return model


def checked_uid(uid: str) -> str:
    """Give a UID that can name a file.

    Raises
    ------
    SpoolError
        For one that cannot.
    """
    if not is_uid(uid):
        raise SpoolError("a UID that is not digits and dots cannot name a file")
    return uid
