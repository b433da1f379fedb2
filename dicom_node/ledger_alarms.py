"""Raise and clear alarms within a transaction that the ledger opened."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, insert, update

from dicom_node.schema import ALARM


def raise_alarm(
    connection: Connection, code: str, subject: str, message: str, at: datetime
) -> None:
    """Raise an alarm; one that stands already is counted, with the latest message."""
    again = update(ALARM).where(_standing(code, subject))
    values = {"message": message, "last_at": at, "occurrences": ALARM.c.occurrences + 1}
    if connection.execute(again.values(**values)).rowcount:
        return
    connection.execute(
        insert(ALARM).values(
            code=code, subject=subject, message=message, raised_at=at, last_at=at, occurrences=1
        )
    )


def clear_alarm(connection: Connection, code: str, subject: str, at: datetime) -> None:
    """Note that an alarm is over; nothing when none stands."""
    connection.execute(update(ALARM).where(_standing(code, subject)).values(cleared_at=at))


def _standing(code: str, subject: str) -> ColumnElement[bool]:
    return and_(ALARM.c.code == code, ALARM.c.subject == subject, ALARM.c.cleared_at.is_(None))
