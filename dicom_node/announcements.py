"""Take the lists of images that scanners and archives announce, as Service Class Provider.

A list shortens the wait for a series whose images are all here, and says what is missing of
another one. It is a hint, not a promise: nothing says when it is sent, nor that it is the last
one. Procedure steps are read, not kept.

References
----------
DICOM PS3.4 Annex R (Instance Availability Notification) and F.7 (Modality Performed Procedure
Step); PS3.3 C.4.23 and C.4.14 to C.4.15; PS3.7 10.1.3 and 10.1.5 (N-SET, N-CREATE).
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType

from dicom_node.config import NodeSettings, Service
from dicom_node.errors import LedgerError
from dicom_node.ledger import Ledger
from dicom_node.records import Announcement
from dicom_node.uids import is_uid

logger = structlog.get_logger(__name__)

INSTANCE_AVAILABILITY: Final = "1.2.840.10008.5.1.4.33"
PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
ANNOUNCING: Final = (INSTANCE_AVAILABILITY, PROCEDURE_STEP)
"""SOP Classes that this module answers."""

SUCCESS: Final = 0x0000
INVALID_VALUE: Final = 0x0106
PROCESSING_FAILURE: Final = 0x0110
_MOST_IMAGES: Final = 50_000
"""Of one message; whole-body series have some thousands."""


class AnnouncementDesk:
    """The part of the listener that hears what peers announce.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    clock : callable
        Returns the time, in UTC.
    """

    def __init__(
        self, settings: NodeSettings, ledger: Ledger, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock

    def prepare(self, ae: AE) -> None:
        """Let the entity accept peers that announce, if any may; the door says which."""
        callers = self._settings.callers
        if not callers or any(Service.NOTIFY in caller.services for caller in callers):
            for sop_class in ANNOUNCING:
                ae.add_supported_context(sop_class)

    def handlers(self) -> list[EventHandlerType]:
        """Return what pynetdicom is to call."""
        return [(evt.EVT_N_CREATE, self.on_create), (evt.EVT_N_SET, self.on_set)]

    def on_create(self, event: Event) -> tuple[int, Dataset]:
        """Answer an N-CREATE request: a notification, or the begin of a procedure step."""
        is_step = event.context.abstract_syntax == PROCEDURE_STEP
        status = self._hear(event, lambda: event.attribute_list, is_step=is_step)
        answer = Dataset()
        if getattr(event.request, "AffectedSOPInstanceUID", None) is None:
            # Who names no instance is told its name (PS3.7 10.1.5.1.4).
            answer.AffectedSOPInstanceUID = generate_uid(prefix=None)
        return status, answer

    def on_set(self, event: Event) -> tuple[int, None]:
        """Answer an N-SET request: news of a procedure step, also of one that began elsewhere."""
        return self._hear(event, lambda: event.modification_list, is_step=True), None

    def _hear(self, event: Event, read: Callable[[], Dataset], *, is_step: bool) -> int:
        said_by, now = event.assoc.requestor.ae_title, self._clock()
        understand = announced_by_step if is_step else announced_by_notification
        try:
            said = list(understand(read(), said_by, now))
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            logger.warning("announcement not understood", by=said_by, error=type(error).__name__)
            return INVALID_VALUE
        if sum(len(one.sop_instance_uids) for one in said) > _MOST_IMAGES:
            logger.warning("announcement too long", by=said_by)
            return INVALID_VALUE
        try:
            self._ledger.announcements.record(said)
        except LedgerError as error:
            logger.warning("announcement not recorded", code=error.code, error=str(error))
            return PROCESSING_FAILURE
        for one in said:
            series, images = one.series_instance_uid, len(one.sop_instance_uids)
            logger.info("announced", series=series, images=images, by=said_by, kind=one.kind)
        return SUCCESS


def announced_by_notification(
    content: Dataset, said_by: str, said_at: datetime
) -> Iterator[Announcement]:
    """Read an Instance Availability Notification (PS3.3 C.4.23).

    Raises
    ------
    AttributeError, ValueError
        It is none.
    """
    for series in content.ReferencedSeriesSequence:
        items = [
            item
            for item in series.ReferencedSOPSequence
            if str(item.get("InstanceAvailability", "")) != "UNAVAILABLE"
        ]
        yield _announcement(series, items, ("IAN", said_by), said_at)


def announced_by_step(content: Dataset, said_by: str, said_at: datetime) -> Iterator[Announcement]:
    """Read the list of a procedure step that is over; before that it is not the whole one.

    Raises
    ------
    AttributeError, ValueError
        It is none.

    References
    ----------
    DICOM PS3.3 C.4.14 (Performed Procedure Step Status), C.4.15 (Performed Series Sequence).
    """
    if str(content.get("PerformedProcedureStepStatus", "")) != "COMPLETED":
        return
    for series in content.get("PerformedSeriesSequence") or ():
        items = series.get("ReferencedImageSequence") or ()
        if items:
            yield _announcement(series, items, ("MPPS", said_by), said_at)


def _announcement(
    series: Dataset, items: "list[Dataset]", origin: tuple[str, str], said_at: datetime
) -> Announcement:
    kind, said_by = origin
    uids = frozenset(str(item.ReferencedSOPInstanceUID) for item in items)
    series_instance_uid = str(series.SeriesInstanceUID)
    if not all(map(is_uid, (series_instance_uid, *uids))):
        raise ValueError("what is announced has no UID")
    return Announcement(series_instance_uid, kind, said_by, said_at, uids)
