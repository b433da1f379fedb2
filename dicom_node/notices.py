"""Find the reports that a series was not analysed which went out."""

from typing import Final

from dicom_node.background import Notice
from dicom_node.ledger import Ledger
from dicom_node.profiles import NOT_ANALYSED, object_name
from dicom_node.records import DeliveryState
from dicom_node.spool import Spool
from pipeline.objects.attributes import text
from pipeline.objects.part10 import readable_files

_TAKEN: Final = frozenset({DeliveryState.ACCEPTED, DeliveryState.COMMITTED})


def notices_of(series_instance_uid: str, ledger: Ledger, spool: Spool) -> tuple[Notice, ...]:
    """List the reports that some destination has; one that left the spool is not remembered.

    Parameters
    ----------
    series_instance_uid : str
        Of the images.
    ledger : Ledger
    spool : Spool

    Returns
    -------
    tuple of Notice
        The first revision first.
    """
    told = {
        delivery.result.path: delivery.revision
        for delivery in ledger.deliveries.of(series_instance_uid)
        if object_name(delivery.result) == NOT_ANALYSED and delivery.state in _TAKEN
    }
    return tuple(
        Notice(
            revision,
            text(report, "StudyInstanceUID"),
            text(report, "SeriesInstanceUID"),
            text(report, "SOPInstanceUID"),
            text(report, "SOPClassUID"),
        )
        for path, revision in sorted(told.items(), key=lambda item: item[1])
        for report in readable_files([spool.path(path)])
    )
