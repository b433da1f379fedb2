"""Find series in the ledger's tables by the end of their UID."""

from typing import Any

from sqlalchemy import Select, select

from dicom_node.schema import SERIES


def series_ending_in(ending: str) -> Select[Any]:
    """Query for the series whose UID ends so; at most two, for one is wanted."""
    uid = SERIES.c.series_instance_uid
    return select(SERIES).where(uid.endswith(ending, autoescape=True)).limit(2)
