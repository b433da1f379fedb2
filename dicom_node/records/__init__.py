"""The records that the node keeps: instances, series with their life, deliveries.

Times are aware and in UTC. UIDs identify everything; no record holds a patient's name or ID.
"""

from dicom_node.records.completeness import TIMER_ONLY, Announcement, Proof
from dicom_node.records.deliveries import (
    DELIVERY_TRANSITIONS,
    CommitmentReport,
    Delivery,
    DeliveryEvent,
    DeliveryState,
    ResultFile,
)
from dicom_node.records.images import ReceivedInstance, StoredAs
from dicom_node.records.results import PriorSearch, ResultEntry, ResultObject
from dicom_node.records.series import (
    TRANSITIONS,
    UNDER_WAY,
    HistoryEntry,
    Reason,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
)
from dicom_node.records.supervision import Alarm, Switch, SwitchRecord

__all__ = [
    "DELIVERY_TRANSITIONS",
    "TIMER_ONLY",
    "TRANSITIONS",
    "UNDER_WAY",
    "Alarm",
    "Announcement",
    "CommitmentReport",
    "Delivery",
    "DeliveryEvent",
    "DeliveryState",
    "HistoryEntry",
    "PriorSearch",
    "Proof",
    "Reason",
    "ReceivedInstance",
    "ResultEntry",
    "ResultFile",
    "ResultObject",
    "SeriesEvent",
    "SeriesRecord",
    "SeriesState",
    "StoredAs",
    "Switch",
    "SwitchRecord",
]
