"""Record images that only continue their series, by SQLite's own driver.

Nine of ten images do nothing else. SQLAlchemy spends five times as long on their four statements
as SQLite; so these, and no others, go to the driver directly. The texts are made from the same
statements that ``ledger_arrivals`` runs on every database.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite

from dicom_node.ledger_arrivals import (
    CONTINUE,
    INSERT,
    KNOWN,
    SERIES_STATE,
    Arrival,
    SeriesState,
    by_series,
    continuation,
)
from dicom_node.ledger_steps import instance_values

_DIALECT: Final = sqlite.dialect(paramstyle="named")


def _text(statement: ClauseElement, columns: Sequence[str] | None = None) -> str:
    return str(statement.compile(dialect=_DIALECT, column_keys=columns))


_KNOWN: Final = _text(KNOWN)
_SERIES_STATE: Final = _text(SERIES_STATE)
_CONTINUE: Final = _text(CONTINUE)


class QuickWriter:
    """One connection of its own to an SQLite file; one caller at a time.

    Every method raises ``sqlite3.Error`` as the driver does.

    Parameters
    ----------
    file : str
    busy_timeout_ms : int
    """

    def __init__(self, file: str, busy_timeout_ms: int) -> None:
        self._connection = sqlite3.connect(
            file,
            timeout=busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        # Not waited for: see Ledger.record_arrivals.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._insert = ""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def try_to_continue(self, arrivals: Sequence[Arrival]) -> bool:
        """Record instances in one transaction if all of them only continue their series.

        Returns
        -------
        bool
            ``False`` when nothing was changed.
        """
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            is_done = all(self._continue(cursor, group) for group in by_series(arrivals))
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT" if is_done else "ROLLBACK")
        return is_done

    def _continue(self, cursor: sqlite3.Cursor, group: Sequence[Arrival]) -> bool:
        instances = [arrival.instance for arrival in group]
        known = cursor.execute(_SERIES_STATE, {"uid": instances[0].series_instance_uid}).fetchone()
        change = None if known is None else continuation(_state(known), group)
        if change is None:
            return False
        for instance in instances:
            if cursor.execute(_KNOWN, {"uid": instance.sop_instance_uid}).fetchone():
                return False
        rows = [_plain(instance_values(instance)) for instance in instances]
        if not self._insert:
            self._insert = _text(INSERT, list(rows[0]))
        cursor.executemany(self._insert, rows)
        cursor.execute(_CONTINUE, _plain(change))
        return True


def _state(row: tuple[str, str, str, str, str]) -> SeriesState:
    state, patient_key, study_instance_uid, last_received_at, revision_started_at = row
    return SeriesState(
        state, patient_key, study_instance_uid, _time(last_received_at), _time(revision_started_at)
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Write times as SQLAlchemy does in SQLite."""
    return {
        name: value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        if isinstance(value, datetime)
        else value
        for name, value in values.items()
    }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
