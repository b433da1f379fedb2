"""Put into the ledger what a power cut took out of it, from the files of the spool."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.admission import Command, Rejection, admit, patient_key, search_keys
from dicom_node.arrival_record import PREAMBLE_BYTES, ArrivalRecord
from dicom_node.config import NodeSettings
from dicom_node.ledger import Ledger
from dicom_node.part_file import left_behind
from dicom_node.records import ReceivedInstance
from dicom_node.search_keys import SearchAttribute
from dicom_node.spool import Spool
from dicom_node.spool_paths import instance_path

logger = structlog.get_logger(__name__)

_MARGIN: Final = timedelta(minutes=10)
"""Clocks of the file system and of the node differ, and may step back."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The way of files without a record back into the ledger.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    spool : Spool
    """

    settings: NodeSettings
    ledger: Ledger
    spool: Spool

    def run(self) -> int:
        """Record every instance that arrived whole and is unknown; remove what broke off.

        For the start of a listener, before anybody can associate with it; others of the same
        spool may be at work.

        Returns
        -------
        int
            How many instances were recorded.

        Raises
        ------
        LedgerError, SpoolError
        """
        named = sum(self._name(part) for part in self.spool.parts())
        recorded = sum(map(self._record_unknown, _recent_series(self.ledger, self.spool)))
        if named or recorded:
            logger.warning("arrivals recovered from the spool", instances=recorded, unnamed=named)
        return recorded

    def _name(self, part: Path) -> bool:
        """Publish one whole file that has no name yet; remove one that broke off.

        What another listener of this spool is writing at the moment is left to it.
        """
        with left_behind(part) as is_ours:
            if not is_ours:
                return False
            instance = self._understand(part)
            if instance is None:
                part.unlink()
                return False
            self.spool.adopt(part, instance.path)
            return True

    def _record_unknown(self, series_instance_uid: str) -> int:
        unknown = [
            instance
            for relative in _unknown_files(series_instance_uid, self.ledger, self.spool)
            if (instance := self._understand(self.spool.path(relative))) is not None
        ]
        for instance in sorted(unknown, key=lambda instance: instance.received_at):
            completion = self.settings.completion_for(instance.calling_ae_title)
            self.ledger.record_instance(instance, completion)
        return len(unknown)

    def _understand(self, path: Path) -> ReceivedInstance | None:
        """Read what a file says of its arrival; ``None`` when it is not whole or not ours."""
        content = path.read_bytes()
        record = ArrivalRecord.from_preamble(content[:PREAMBLE_BYTES])
        if record is None:
            return None
        with suppress(InvalidDicomError, OSError, AttributeError):
            meta = read_file_meta_info(path)
            start = PREAMBLE_BYTES + 4 + 12 + int(meta.FileMetaInformationGroupLength)
            data = memoryview(content)[start:]
            command = Command(
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
            )
            header = admit(data, command)
            if isinstance(header, Rejection) or sha256(data).hexdigest() != record.sha256:
                return None
            secret = self.spool.patient_secret()
            keys = search_keys(header, secret)
            return ReceivedInstance(
                sop_instance_uid=header.sop_instance_uid,
                sop_class_uid=header.sop_class_uid,
                series_instance_uid=header.series_instance_uid,
                study_instance_uid=header.study_instance_uid,
                transfer_syntax_uid=command.transfer_syntax_uid,
                calling_ae_title=str(meta.SourceApplicationEntityTitle),
                sender_address=record.sender_address,
                path=instance_path(
                    header.series_instance_uid, header.sop_instance_uid, record.sha256
                ),
                sha256=record.sha256,
                size_bytes=len(data),
                patient_key=patient_key(header, secret),
                received_at=record.received_at,
                accession_key=keys[SearchAttribute.ACCESSION_NUMBER],
                patient_id_key=keys[SearchAttribute.PATIENT_ID],
            )
        return None


def unrecorded(ledger: Ledger, spool: Spool) -> Iterator[Path]:
    """Files that ``Recovery`` would look at: what arrived and what the ledger does not name.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool

    Yields
    ------
    Path
        Relative to the spool. Nothing that is being written.
    """
    for part in spool.parts():
        with left_behind(part) as is_left:
            if is_left:
                yield part.relative_to(spool.path(Path()))
    for series_instance_uid in _recent_series(ledger, spool):
        yield from _unknown_files(series_instance_uid, ledger, spool)


def _recent_series(ledger: Ledger, spool: Spool) -> list[str]:
    newest = ledger.newest_arrival() or datetime(1970, 1, 1, tzinfo=UTC)
    return spool.recent_series(newest - _MARGIN)


def _unknown_files(series_instance_uid: str, ledger: Ledger, spool: Spool) -> list[Path]:
    known = {instance.path for instance in ledger.instances(series_instance_uid)}
    files = spool.instance_files(series_instance_uid)
    return [relative for relative in files if relative not in known]
