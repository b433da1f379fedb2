"""Keep which model is in use, since when and by whom, and let another one measure a series."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from dicom_node.database import Database
from dicom_node.ledger_steps import Step, locked_series, take_step
from dicom_node.model_store import ModelKind
from dicom_node.records import Reason, SeriesEvent, SeriesRecord
from dicom_node.schema import MODEL_USE


@dataclass(frozen=True, slots=True)
class ModelUse:
    """That a model was put to use.

    Parameters
    ----------
    kind : ModelKind
    model : str
        Its key.
    used_at : datetime
    used_by : str
        Account of the person.
    because : str
    withdrawn_at : datetime or None
        When it was rolled back; ``None`` while it holds, even behind a later one.
    withdrawn_by : str or None
    """

    kind: ModelKind
    model: str
    used_at: datetime
    used_by: str
    because: str
    withdrawn_at: datetime | None = None
    withdrawn_by: str | None = None


class ModelLedger:
    """Which model is in use; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def active(self) -> Mapping[ModelKind, str]:
        """Key of the model in use of each kind; of an absent kind, what the settings name."""
        return {use.kind: use.model for use in self.history() if use.withdrawn_at is None}

    def history(self) -> tuple[ModelUse, ...]:
        """Everything that was put to use, the first one first."""
        query = select(MODEL_USE).order_by(MODEL_USE.c.number)
        return self._database.read(
            lambda connection: tuple(_to_use(row) for row in connection.execute(query))
        )

    def use(self, kind: ModelKind, model: str, by: str, at: datetime, because: str = "") -> None:
        """Put a model to use: every series that is handed to a worker from now on gets it."""
        values = {"kind": kind.value, "model": model, "used_at": at, "used_by": by[:64]}
        self._database.write(
            lambda connection: connection.execute(
                insert(MODEL_USE).values(because=because, **values)
            )
        )

    def roll_back(self, by: str, at: datetime) -> ModelUse | None:
        """Withdraw what was put to use last; ``None`` when nothing is left to withdraw."""

        def withdraw(connection: Connection) -> ModelUse | None:
            last = (
                select(MODEL_USE)
                .where(MODEL_USE.c.withdrawn_at.is_(None))
                .order_by(MODEL_USE.c.number.desc())
                .limit(1)
                .with_for_update()
            )
            row = connection.execute(last).one_or_none()
            if row is None:
                return None
            where = MODEL_USE.c.number == row.number
            values = {"withdrawn_at": at, "withdrawn_by": by[:64]}
            connection.execute(update(MODEL_USE).where(where).values(**values))
            return _to_use(row)

        return self._database.write(withdraw)

    def replay(
        self, record: SeriesRecord, model: str | None, at: datetime, reason: Reason
    ) -> SeriesRecord:
        """Let a series that ended be measured once more, by ``model`` or the active one.

        Raises
        ------
        UnknownSeriesError, StaleRevisionError, IllegalTransitionError
        """
        step = Step(SeriesEvent.REPLAY_REQUESTED, at, reason, model=model)
        uid, revision = record.series_instance_uid, record.revision
        return self._database.write(
            lambda connection: take_step(connection, locked_series(connection, uid, revision), step)
        )


def _to_use(row: Row[Any]) -> ModelUse:
    return ModelUse(
        ModelKind(row.kind),
        row.model,
        row.used_at,
        row.used_by,
        row.because,
        row.withdrawn_at,
        row.withdrawn_by,
    )
