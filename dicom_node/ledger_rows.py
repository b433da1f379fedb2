"""The way from a row of the ledger to a record."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from dicom_node.records import (
    Alarm,
    Announcement,
    Delivery,
    DeliveryState,
    HistoryEntry,
    Proof,
    Reason,
    ReceivedInstance,
    ResultFile,
    SeriesRecord,
    SeriesState,
    Switch,
    SwitchRecord,
)
from dicom_node.routes import Route


def to_switch(row: Row[Any]) -> SwitchRecord:
    """Switch of a row of ``SWITCH``."""
    return SwitchRecord(Switch(row.name), row.set_at, row.set_by)


def to_series(row: Row[Any]) -> SeriesRecord:
    """Series of a row of ``SERIES``."""
    return SeriesRecord(
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        state=SeriesState(row.state),
        reason=_to_reason(row),
        revision=row.revision,
        attempt=row.attempt,
        order_number=row.order_number,
        instance_count=row.instance_count,
        source_ae_title=row.source_ae_title,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        due_at=row.due_at,
        queued_at=row.queued_at,
        updated_at=row.updated_at,
        released_at=row.released_at,
        route=None if row.route is None else Route.from_json(row.route),
        model=row.model,
    )


def to_instance(row: Row[Any]) -> ReceivedInstance:
    """Instance of a row of ``INSTANCE``."""
    return ReceivedInstance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        calling_ae_title=row.calling_ae_title,
        sender_address=row.sender_address,
        path=Path(row.path),
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        patient_key=row.patient_key,
        received_at=row.received_at,
    )


def to_history(row: Row[Any]) -> HistoryEntry:
    """Step of a row of ``HISTORY``."""
    return HistoryEntry(
        series_instance_uid=row.series_instance_uid,
        at=row.at,
        event=row.event,
        state=SeriesState(row.state),
        revision=row.revision,
        reason=_to_reason(row),
    )


def to_delivery(row: Row[Any]) -> Delivery:
    """Delivery of a row of ``DELIVERY``."""
    return Delivery(
        result=ResultFile(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            path=Path(row.path),
        ),
        destination=row.destination,
        series_instance_uid=row.series_instance_uid,
        revision=row.revision,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        queued_at=row.queued_at,
        next_attempt_at=row.next_attempt_at,
        status=row.status,
        detail=row.detail,
        transaction_uid=row.transaction_uid,
    )


def to_proof(row: Row[Any]) -> Proof:
    """Proof of a row of ``PROOF``."""
    return Proof(
        series_instance_uid=row.series_instance_uid,
        revision=row.revision,
        settled=row.settled,
        sentence=row.sentence,
        due_at=row.due_at,
    )


def to_announcement(row: Row[Any]) -> Announcement:
    """Announcement of a row of ``ANNOUNCEMENT``."""
    return Announcement(
        series_instance_uid=row.series_instance_uid,
        kind=row.kind,
        said_by=row.said_by,
        said_at=row.said_at,
        sop_instance_uids=frozenset(json.loads(row.sop_instance_uids)),
    )


def to_alarm(row: Row[Any]) -> Alarm:
    """Alarm of a row of ``ALARM``."""
    return Alarm(
        code=row.code,
        subject=row.subject,
        message=row.message,
        raised_at=row.raised_at,
        last_at=row.last_at,
        occurrences=row.occurrences,
        cleared_at=row.cleared_at,
    )


def _to_reason(row: Row[Any]) -> Reason | None:
    return None if row.reason_code is None else Reason(row.reason_code, row.reason_message)
