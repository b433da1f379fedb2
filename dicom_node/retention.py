"""Delete images and results that every destination has, after the time that the settings name."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from dicom_node.config import RetentionSettings
from dicom_node.outbox import Outbox
from dicom_node.records import SeriesRecord, SeriesState
from dicom_node.spool_release import FRESH_S, discard_instance, discard_results, leftovers

logger = structlog.get_logger(__name__)

_REMEMBERED: Final = timedelta(days=30)
"""Announcements are kept for so long, and a release that broke off is finished at a start; one
that is older when its series is forgotten."""
_AT_ONCE: Final = 100
"""Series that one step lets go of; the others follow with the next one."""


@dataclass(frozen=True, slots=True)
class Releaser:
    """Frees the disk of what is done.

    Nothing but a delivered (and committed, where it must be) or skipped series is ever deleted;
    failed and quarantined ones wait for a person.

    Parameters
    ----------
    outbox : Outbox
    settings : RetentionSettings
    """

    outbox: Outbox
    settings: RetentionSettings

    def finish(self, now: datetime) -> int:
        """Delete what a crash left of images that were let go of; for the start of a listener.

        The ledger had forgotten them, their files had not all gone. Without this they would look
        like images that a power cut took out of the ledger.

        Returns
        -------
        int
            Files that are gone.

        Raises
        ------
        LedgerError, SpoolError
        """
        released = self.outbox.ledger.retention.released_since(now - _REMEMBERED)
        gone = sum(self._discard_leftovers(uid, at) for uid, at in released.items())
        if gone:
            logger.info("release finished that a crash broke off", files=gone)
        return gone

    def release(self, now: datetime) -> None:
        """Let go of what is old enough.

        Raises
        ------
        LedgerError, SpoolError
            What was not deleted is deleted the next time.
        """
        days = {
            SeriesState.DELIVERED: self.settings.images_days,
            SeriesState.SKIPPED: self.settings.skipped_days,
        }
        retention, committing = self.outbox.ledger.retention, self.outbox.committing
        for state, age_days in days.items():
            # What is let go of must be deletable: the ledger does not come back to it.
            before = now - max(timedelta(days=age_days), timedelta(seconds=2 * FRESH_S))
            for record in retention.releasable(state, before, committing, _AT_ONCE):
                self._release(record, now)
        old = now - timedelta(days=self.settings.records_days)
        for record in retention.forgettable(old, _AT_ONCE):
            self._forget(record)
        retention.forget_alarms(old)
        self.outbox.ledger.announcements.forget(now - _REMEMBERED)

    def _release(self, record: SeriesRecord, now: datetime) -> None:
        ledger, spool = self.outbox.ledger, self.outbox.spool
        paths = ledger.retention.release(record, now)
        is_known = ledger.retention.is_known
        deleted = [discard_instance(spool, path, is_known) for path in paths]
        uid = record.series_instance_uid
        logger.info("images released", series=uid, files=sum(deleted), kept=deleted.count(False))

    def _forget(self, record: SeriesRecord) -> None:
        uid = record.series_instance_uid
        if self.outbox.ledger.retention.forget(record):
            discard_results(self.outbox.spool, uid, record.revision)
            self._discard_leftovers(uid, record.released_at or record.updated_at)
            logger.info("series forgotten", series=uid)

    def _discard_leftovers(self, series_instance_uid: str, released_at: datetime) -> int:
        ledger, spool = self.outbox.ledger, self.outbox.spool
        is_known = ledger.retention.is_known
        unknown = [
            path
            for path in leftovers(spool, series_instance_uid, released_at)
            if not is_known(path) or not spool.path(path).exists()
        ]
        return sum(discard_instance(spool, path, is_known) for path in unknown)
