"""Keep what shadow models measured: for comparison only, it is never delivered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update

from dicom_node.database import Database
from dicom_node.records import Reason
from dicom_node.schema import SHADOW


class ShadowState(StrEnum):
    """Where a silent measurement stands."""

    WAITING = "waiting"
    SENT = "sent"
    MEASURED = "measured"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """A silent measurement of one revision of a series.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    model : str
        Key of the installed model.
    state : ShadowState
    attempt : int
    asked_by : str
        Account of a person, or ``settings``.
    asked_at : datetime
    due_at : datetime or None
        When it counts as lost, while it is sent.
    reason : Reason or None
        Why there is no measurement.
    measurement : mapping
        As in ``measurement.json``; empty without one.
    """

    series_instance_uid: str
    revision: int
    model: str
    state: ShadowState
    attempt: int
    asked_by: str
    asked_at: datetime
    due_at: datetime | None
    reason: Reason | None
    measurement: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells it from every other one."""
        return self.series_instance_uid, self.revision, self.model


class ShadowLedger:
    """Silent measurements; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, key: tuple[str, int, str], by: str, at: datetime, *, again: bool = False) -> bool:
        """Ask for a silent measurement; return whether there was none yet.

        One that came to nothing is done ``again`` when a person asks for it.
        """

        def put(connection: Connection) -> bool:
            row = connection.execute(select(SHADOW).where(_is(key)).with_for_update()).first()
            values = {
                "state": ShadowState.WAITING.value,
                "attempt": 0,
                "asked_by": by[:64],
                "asked_at": at,
                "due_at": None,
                "reason_code": None,
                "reason_message": None,
            }
            if row is None:
                uid, revision, model = key
                names = {"series_instance_uid": uid, "revision": revision, "model": model}
                connection.execute(insert(SHADOW).values(**names, **values))
                return True
            if again and row.state == ShadowState.NOT_MEASURED:
                connection.execute(update(SHADOW).where(_is(key)).values(**values))
                return True
            return False

        return self._database.write(put)

    def due(self, now: datetime, limit: int) -> tuple[ShadowRun, ...]:
        """Return what waits, or was sent and not heard of in time, the longest waiting first."""
        lost = and_(SHADOW.c.state == ShadowState.SENT.value, SHADOW.c.due_at <= now)
        waiting = or_(SHADOW.c.state == ShadowState.WAITING.value, lost)
        return self._runs(waiting, limit=limit)

    def under_way(self, now: datetime) -> int:
        """How many workers may be busy with it."""
        sent = and_(SHADOW.c.state == ShadowState.SENT.value, SHADOW.c.due_at > now)
        query = select(func.count()).select_from(SHADOW).where(sent)
        return self._database.read(lambda connection: connection.execute(query).scalar_one())

    def sent(self, run: ShadowRun, due_at: datetime) -> None:
        """Note that it was handed to a worker, which is the next attempt."""
        values = {"state": ShadowState.SENT.value, "due_at": due_at, "attempt": run.attempt + 1}
        self._database.write(
            lambda connection: connection.execute(
                update(SHADOW).where(_is(run.key)).values(**values)
            )
        )

    def end(
        self,
        key: tuple[str, int, str],
        at: datetime,
        measurement: Mapping[str, Any],
        reason: Reason | None = None,
    ) -> None:
        """Note what came of it; only the first outcome counts."""
        state = ShadowState.MEASURED if measurement else ShadowState.NOT_MEASURED
        open_states = (ShadowState.WAITING.value, ShadowState.SENT.value)
        changed = update(SHADOW).where(_is(key), SHADOW.c.state.in_(open_states))
        values = {
            "state": state.value,
            "ended_at": at,
            "due_at": None,
            "measurement": json.dumps(dict(measurement)) if measurement else None,
            "reason_code": reason and reason.code[:32],
            "reason_message": reason and reason.message,
        }
        self._database.write(lambda connection: connection.execute(changed.values(**values)))

    def of_series(self, series_instance_uid: str) -> tuple[ShadowRun, ...]:
        """Every silent measurement of a series, the first one first."""
        return self._runs(SHADOW.c.series_instance_uid == series_instance_uid)

    def of_model(self, model: str, since: datetime | None = None) -> tuple[ShadowRun, ...]:
        """Every silent measurement by a model, the first one first."""
        conditions: list[ColumnElement[bool]] = [SHADOW.c.model == model]
        if since is not None:
            conditions.append(SHADOW.c.asked_at >= since)
        return self._runs(*conditions)

    def counts(self) -> Mapping[str, Mapping[ShadowState, int]]:
        """How many measurements of each model are in which state."""
        query = select(SHADOW.c.model, SHADOW.c.state, func.count().label("runs")).group_by(
            SHADOW.c.model, SHADOW.c.state
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        found: dict[str, dict[ShadowState, int]] = {}
        for row in rows:
            found.setdefault(row.model, {})[ShadowState(row.state)] = row.runs
        return found

    def _runs(
        self, *conditions: ColumnElement[bool], limit: int | None = None
    ) -> tuple[ShadowRun, ...]:
        query = select(SHADOW).where(*conditions).order_by(SHADOW.c.asked_at).limit(limit)
        return self._database.read(
            lambda connection: tuple(_to_run(row) for row in connection.execute(query))
        )


def _is(key: tuple[str, int, str]) -> ColumnElement[bool]:
    uid, revision, model = key
    return and_(
        SHADOW.c.series_instance_uid == uid,
        SHADOW.c.revision == revision,
        SHADOW.c.model == model,
    )


def _to_run(row: Row[Any]) -> ShadowRun:
    return ShadowRun(
        series_instance_uid=row.series_instance_uid,
        revision=row.revision,
        model=row.model,
        state=ShadowState(row.state),
        attempt=row.attempt,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        due_at=row.due_at,
        reason=None if row.reason_code is None else Reason(row.reason_code, row.reason_message),
        measurement=json.loads(row.measurement) if row.measurement else {},
    )
