"""Write what the rules decided, within a transaction that the ledger opened."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, insert, select, update

from dicom_node.ledger_rows import to_series
from dicom_node.ledger_steps import Step, locked_series, take_step
from dicom_node.records import Reason, SeriesEvent, SeriesState
from dicom_node.routes import Choice, Route
from dicom_node.schema import HISTORY, SERIES

NOT_BEST_OF_STUDY: Final = "NOT_BEST_OF_STUDY"
"""Code of the refusal of a candidate that another one was preferred to."""


def set_route(
    connection: Connection,
    place: tuple[str, int],
    route: Route | None,
    trail: Sequence[Reason],
    at: datetime,
) -> None:
    """Write the route of one revision (Series Instance UID, number) and how it came about."""
    uid, revision = place
    row = locked_series(connection, uid, revision)
    content = None if route is None else route.to_json()
    where = SERIES.c.series_instance_uid == uid
    connection.execute(update(SERIES).where(where).values(route=content))
    if trail:
        connection.execute(
            insert(HISTORY),
            [
                {
                    "series_instance_uid": uid,
                    "at": at,
                    "event": reason.code.lower(),
                    "state": row.state,
                    "revision": revision,
                    "reason_code": reason.code,
                    "reason_message": reason.message,
                }
                for reason in trail
            ],
        )


def take_next_best(connection: Connection, series_instance_uid: str, at: datetime) -> bool:
    """Let the next candidate of a study follow a chosen series that could not be measured.

    Returns
    -------
    bool
        Whether there was one.
    """
    failed = to_series(locked_series(connection, series_instance_uid))
    if failed.route is None or failed.route.choice is not Choice.CHOSEN:
        return False
    rule = failed.route.rule
    losers = and_(
        SERIES.c.study_instance_uid == failed.study_instance_uid,
        SERIES.c.state == SeriesState.SKIPPED.value,
        SERIES.c.reason_code == NOT_BEST_OF_STUDY,
    )
    rows = connection.execute(select(SERIES).where(losers).with_for_update()).all()
    candidates = [row for row in rows if (r := to_series(row).route) and r.rule == rule]
    if not candidates:
        return False
    following = min(candidates, key=lambda row: Route.from_json(row.route).rank)
    reason = Reason(
        "NEXT_BEST_OF_STUDY", f"series {series_instance_uid} was chosen but cannot be measured"
    )
    take_step(connection, following, Step(SeriesEvent.NEXT_BEST, at, reason))
    return True
