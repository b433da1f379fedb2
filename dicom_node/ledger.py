"""Keep the state of every instance, series and delivery; the only writer of state."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from dicom_node.config import CompletionSettings
from dicom_node.database import BUSY_TIMEOUT_MS, Database
from dicom_node.ledger_announcements import Announcements
from dicom_node.ledger_arrivals import Arrival, add_arrivals
from dicom_node.ledger_capabilities import CapabilityLedger
from dicom_node.ledger_clock import shift_times
from dicom_node.ledger_custody import Alarms, Commitments
from dicom_node.ledger_findings import Findings
from dicom_node.ledger_models import ModelLedger
from dicom_node.ledger_outbox import Deliveries
from dicom_node.ledger_prior_searches import PriorSearches
from dicom_node.ledger_proofs import Proofs
from dicom_node.ledger_quick import QuickWriter
from dicom_node.ledger_results import ResultLedger
from dicom_node.ledger_retention import Retention
from dicom_node.ledger_routes import set_route, take_next_best
from dicom_node.ledger_rows import to_history, to_instance, to_series, to_switch
from dicom_node.ledger_search import series_ending_in
from dicom_node.ledger_shadows import ShadowLedger
from dicom_node.ledger_steps import Step, add_instance, locked_series, take_step
from dicom_node.records import (
    HistoryEntry,
    Reason,
    ReceivedInstance,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
    StoredAs,
    Switch,
    SwitchRecord,
)
from dicom_node.routes import Route
from dicom_node.schema import HISTORY, INSTANCE, SERIES, SWITCH

_WORKING: Final = (SeriesState.QUEUED.value, SeriesState.ANALYZING.value)

Record = TypeVar("Record")


class Ledger:
    """State of instances, series and deliveries in one database.

    Every change is one transaction that is on disk when the method returns, but for
    ``record_arrivals``. Methods may be called
    from any thread. Opened by the listener and by the tasks of queue ``node`` only.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
        With the present tables; ``Ledger.open`` makes sure of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.deliveries = Deliveries(database)
        self.commitments = Commitments(database)
        self.alarms = Alarms(database)
        self.findings = Findings(database)
        file = database.file
        self._quick = None if file is None else QuickWriter(file, BUSY_TIMEOUT_MS)
        self.retention = Retention(database)
        self.proofs = Proofs(database)
        self.announcements = Announcements(database)
        self.results = ResultLedger(database)
        self.capabilities = CapabilityLedger(database)
        self.prior_searches = PriorSearches(database)
        self.models = ModelLedger(database)
        self.shadows = ShadowLedger(database)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a ledger, creating or migrating its tables first.

        Parameters
        ----------
        url : str
            SQLAlchemy URL.

        Raises
        ------
        SettingsError
            When the URL names no database that can be used.
        LedgerError
            When it cannot be opened or migrated.
        """
        return cls(Database.open(url))

    def close(self) -> None:
        """Close every connection."""
        if self._quick is not None:
            self._quick.close()
        self._database.close()

    def read(self, query: Callable[[Connection], Record]) -> Record:
        """Run one of ``ledger_queries`` on one consistent state of the ledger."""
        return self._database.read(query)

    def record_instance(
        self, instance: ReceivedInstance, completion: CompletionSettings
    ) -> StoredAs:
        """Record an instance that lies in the spool, with what it means for its series.

        A duplicate (same bytes) changes nothing. A conflict (same SOP Instance UID with other
        bytes, or another patient or study within the series) is kept too and puts the series into
        quarantine. A late instance starts a new revision.

        Parameters
        ----------
        instance : ReceivedInstance
        completion : CompletionSettings
            Rule of the source; the association counts as open.
        """
        return self._database.write(
            lambda connection: add_instance(connection, instance, completion)
        )

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> list[StoredAs]:
        """Record instances as ``record_instance`` does, all in one transaction.

        This alone is not waited for until it is on disk: everybody sees it, it outlives the
        process, but a power cut can undo it. ``recovery.recover`` then writes it again, from the
        records in the files.

        Parameters
        ----------
        arrivals : sequence of Arrival

        Returns
        -------
        list of StoredAs
            In the order of ``arrivals``.
        """
        quick = self._quick
        if quick and self._database.write_beside(lambda: quick.try_to_continue(arrivals)):
            return [StoredAs.NEW] * len(arrivals)
        return self._database.write(
            lambda connection: add_arrivals(connection, arrivals), flushed=False
        )

    def newest_arrival(self) -> datetime | None:
        """When the last image was received that the ledger knows of."""
        query = select(SERIES.c.last_received_at).order_by(SERIES.c.last_received_at.desc())
        times = self._rows(query.limit(1), lambda row: row.last_received_at)
        return times[0] if times else None

    def record_release(
        self,
        series_instance_uids: Collection[str],
        completion: CompletionSettings,
        at: datetime,
    ) -> None:
        """Shorten the quiet period of series whose associations have all been released normally.

        Parameters
        ----------
        series_instance_uids : collection of str
        completion : CompletionSettings
        at : datetime
        """
        quiet = timedelta(seconds=completion.quiet_after_release_s)

        def shorten(connection: Connection) -> None:
            for uid in series_instance_uids:
                row = locked_series(connection, uid)
                due_at = row.last_received_at + quiet
                if row.state == SeriesState.RECEIVING and due_at < row.due_at:
                    where = SERIES.c.series_instance_uid == uid
                    changed = update(SERIES).where(where).values(due_at=due_at, updated_at=at)
                    connection.execute(changed)

        self._database.write(shorten)

    def advance(
        self,
        series_instance_uid: str,
        event: SeriesEvent,
        at: datetime,
        *,
        revision: int | None = None,
        reason: Reason | None = None,
        due_at: datetime | None = None,
    ) -> SeriesRecord:
        """Take one step in the life of a series.

        ``TASK_SENT`` counts an attempt and sets ``queued_at`` the first time of a revision;
        ``WORK_LOST`` out of QUEUED takes the attempt back, because no worker began it;
        ``RETRY_REQUESTED`` starts counting anew.

        Parameters
        ----------
        series_instance_uid : str
        event : SeriesEvent
        at : datetime
        revision : int, optional
            The revision that the event is about.
        reason : Reason, optional
        due_at : datetime, optional
            When the work counts as lost; kept while it is under way.

        Raises
        ------
        UnknownSeriesError, StaleRevisionError
        IllegalTransitionError
            When ``records.TRANSITIONS`` has no such step.
        """
        step = Step(event, at, reason, due_at)
        return self._database.write(
            lambda connection: take_step(
                connection, locked_series(connection, series_instance_uid, revision), step
            )
        )

    def series(self, series_instance_uid: str) -> SeriesRecord:
        """One series.

        Raises
        ------
        UnknownSeriesError
        """
        return self._database.read(
            lambda connection: to_series(locked_series(connection, series_instance_uid))
        )

    def list_series(
        self, states: Collection[SeriesState] = (), limit: int = 100
    ) -> tuple[SeriesRecord, ...]:
        """Series in any of ``states`` (in any state when empty), the last to receive one first."""
        query = select(SERIES).order_by(SERIES.c.last_received_at.desc()).limit(limit)
        if states:
            query = query.where(SERIES.c.state.in_([state.value for state in states]))
        return self._rows(query, to_series)

    def series_ending_in(self, ending: str) -> tuple[SeriesRecord, ...]:
        """Up to two series whose UID ends so."""
        return self._rows(series_ending_in(ending), to_series)

    def due_series(self, now: datetime) -> tuple[SeriesRecord, ...]:
        """Series whose quiet period is over."""
        return self._series_where(
            SERIES.c.state == SeriesState.RECEIVING.value, SERIES.c.due_at <= now
        )

    def study_series(self, study_instance_uid: str) -> tuple[SeriesRecord, ...]:
        """Every series of a study, in the order of their last images."""
        return self._series_where(SERIES.c.study_instance_uid == study_instance_uid)

    def series_since(self, moment: datetime) -> tuple[SeriesRecord, ...]:
        """Every series that received an image since then, in the order of their last images."""
        return self._series_where(SERIES.c.last_received_at >= moment)

    def set_route(
        self,
        series_instance_uid: str,
        revision: int,
        route: Route | None,
        trail: Sequence[Reason],
        at: datetime,
    ) -> None:
        """Write what the rules decided about a revision, and in its history how they came to it.

        Parameters
        ----------
        series_instance_uid : str
        revision : int
        route : Route or None
        trail : sequence of Reason
            One for each rule that was tried.
        at : datetime

        Raises
        ------
        UnknownSeriesError, StaleRevisionError
        """
        place = series_instance_uid, revision
        self._database.write(lambda connection: set_route(connection, place, route, trail, at))

    def take_next_best(self, series_instance_uid: str, at: datetime) -> bool:
        """Let the next candidate follow a chosen series; see ``ledger_routes.take_next_best``."""
        return self._database.write(
            lambda connection: take_next_best(connection, series_instance_uid, at)
        )

    def complete_series(self) -> tuple[SeriesRecord, ...]:
        """Series that wait to be sent to a worker, the oldest first."""
        return self._series_where(SERIES.c.state == SeriesState.COMPLETE.value)

    def lost_work(self, now: datetime) -> tuple[SeriesRecord, ...]:
        """Series whose work was sent or begun and not heard of within its time."""
        return self._series_where(SERIES.c.state.in_(_WORKING), SERIES.c.due_at <= now)

    def instances(self, series_instance_uid: str) -> tuple[ReceivedInstance, ...]:
        """Every instance of a series in the order of arrival, conflicting ones included."""
        order = (INSTANCE.c.received_at, INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256)
        return self._rows(_of(INSTANCE, series_instance_uid).order_by(*order), to_instance)

    def own_instances(self, series_instance_uid: str) -> tuple[ReceivedInstance, ...]:
        """Instances of a series that are analysed: all that do not contradict earlier ones.

        Of conflicting bytes under one SOP Instance UID the first stand, images of another patient
        or study stay out. They come to be analysed only when a person has looked at the series
        and asks for it; nothing is deleted.
        """

        def read(connection: Connection) -> tuple[ReceivedInstance, ...]:
            row = locked_series(connection, series_instance_uid)
            order = (INSTANCE.c.received_at, INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256)
            own = _of(INSTANCE, series_instance_uid).where(
                INSTANCE.c.patient_key == row.patient_key,
                INSTANCE.c.study_instance_uid == row.study_instance_uid,
            )
            first: dict[str, ReceivedInstance] = {}
            for instance in connection.execute(own.order_by(*order)):
                first.setdefault(instance.sop_instance_uid, to_instance(instance))
            return tuple(first.values())

        return self._database.read(read)

    def history(self, series_instance_uid: str) -> tuple[HistoryEntry, ...]:
        """Every change of state of a series, the first one first."""
        return self._rows(_of(HISTORY, series_instance_uid).order_by(HISTORY.c.number), to_history)

    def counts(self) -> dict[SeriesState, int]:
        """How many series are in each state; a state without series is absent."""
        query = select(SERIES.c.state, func.count().label("series_count")).group_by(SERIES.c.state)
        return dict(self._rows(query, _to_count))

    def turn_on(self, switch: Switch, by: str, at: datetime) -> None:
        """Turn a switch on; one that is on already keeps its time."""
        values = {"name": switch.value, "set_at": at, "set_by": by[:64]}

        def turn(connection: Connection) -> None:
            known = select(SWITCH).where(SWITCH.c.name == switch.value).with_for_update()
            if connection.execute(known).one_or_none() is None:
                connection.execute(insert(SWITCH).values(**values))

        self._database.write(turn)

    def turn_off(self, switch: Switch) -> None:
        """Turn a switch off."""
        where = SWITCH.c.name == switch.value
        self._database.write(lambda connection: connection.execute(delete(SWITCH).where(where)))

    def switches(self) -> dict[Switch, SwitchRecord]:
        """Every switch that is on."""
        records = self._rows(select(SWITCH).order_by(SWITCH.c.name), to_switch)
        return {record.switch: record for record in records}

    def shift_times(self, by: timedelta) -> None:
        """Move everything that waits for a time, after the clock was set.

        Parameters
        ----------
        by : timedelta
            How far the clock stepped; negative when it was set back.
        """
        self._database.write(lambda connection: shift_times(connection, by))

    def _series_where(self, *conditions: ColumnElement[bool]) -> tuple[SeriesRecord, ...]:
        query = select(SERIES).where(*conditions).order_by(SERIES.c.last_received_at)
        return self._rows(query, to_series)

    def _rows(
        self, query: Select[Any], convert: Callable[[Row[Any]], Record]
    ) -> tuple[Record, ...]:
        return self._database.read(
            lambda connection: tuple(convert(row) for row in connection.execute(query))
        )


def _of(table: Table, series_instance_uid: str) -> Select[Any]:
    return select(table).where(table.c.series_instance_uid == series_instance_uid)


def _to_count(row: Row[Any]) -> tuple[SeriesState, int]:
    return SeriesState(row.state), row.series_count
