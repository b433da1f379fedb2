"""Images that lie in the spool."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance that lies in the spool, flushed to disk.

    Parameters
    ----------
    sop_instance_uid, sop_class_uid, series_instance_uid, study_instance_uid : str
    transfer_syntax_uid : str
    calling_ae_title : str
    sender_address : str
        IP address of the peer.
    path : Path
        Relative to the spool.
    sha256 : str
        Hexadecimal digest of the data set as received, without file meta information.
    size_bytes : int
    patient_key : str
        Keyed digest of the patient's identity: tells two patients apart, names none.
    received_at : datetime
    accession_key, patient_id_key : str or None
        Keyed digests by which the series is found; the ledger keeps those of its first image.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    sender_address: str
    path: Path
    sha256: str
    size_bytes: int
    patient_key: str
    received_at: datetime
    accession_key: str | None = None
    patient_id_key: str | None = None


class StoredAs(StrEnum):
    """What the ledger found an instance to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
