"""The tasks: unpack, call, report; the one place that catches every error."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from kombu.exceptions import OperationalError

from dicom_node.celery_app import (
    ANALYZE_SERIES,
    DELIVER,
    PROVE,
    RECORD_LOST,
    RECORD_OUTCOME,
    RECORD_SHADOW,
    RECORD_STARTED,
    SEARCH_PRIORS,
    SHADOW_SERIES,
    work_lease_s,
)
from dicom_node.config import NodeSettings
from dicom_node.errors import SpoolError, WorkerLostError
from dicom_node.outcomes import UNFORESEEN, Outcome, failure, reason_of
from dicom_node.records import Reason
from dicom_node.spool import Spool

if TYPE_CHECKING:
    # The listener's host has no networks, a worker's host neither ledger nor pynetdicom.
    from dicom_node.ledger import Ledger
    from dicom_node.worker import WorkerContext
    from dicom_node.worklog import WorkLog

logger = structlog.get_logger(__name__)

BEAT_S: Final = 2.0
"""How often a process at work shows that it lives."""

Measure = Callable[[str, int], Outcome]
"""Measures one revision of a series; raises what stands in ``dispositions``."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Sends a worker's news to queue ``node``, by name.

    News that cannot be sent is made up for: outcomes lie in the spool, and work that nobody hears
    of is done again.
    """

    app: Celery

    def send(self, name: str, *arguments: str | int) -> None:
        """Send one task."""
        try:
            self.app.send_task(name, arguments)
        except (OperationalError, OSError) as error:
            logger.warning("news not sent", task=name, error=str(error))


@dataclass(frozen=True, slots=True)
class Analyst:
    """The work of queue ``gpu``.

    Parameters
    ----------
    spool : Spool
    measure : callable
        From (Series Instance UID, revision) to ``Outcome``.
    send : callable
        Takes the name of a task and its arguments.
    time_limit_s : float
        For the message when it is over.
    """

    spool: Spool
    measure: Measure
    send: Callable[..., None]
    time_limit_s: float

    def analyze(
        self, series_instance_uid: str, revision: int, order: int, *, redelivered: bool
    ) -> None:
        """Measure a series, leave the outcome in the spool, report it.

        A task that comes again after its outcome is written only reports, and one that a newer
        task replaced does nothing. One whose worker died is not done here: the ledger counts
        such losses and decides.
        """
        key = (series_instance_uid, revision)
        if self.spool.read_outcome(*key) is not None:
            self.send(RECORD_OUTCOME, *key)
            return
        if redelivered:
            reason = reason_of(WorkerLostError("a worker died or vanished at this series"))
            self.send(RECORD_LOST, *key, order, reason.code, reason.message)
            return
        if self._is_replaced(*key, order):
            logger.info("a newer task does this", series=series_instance_uid, order=order)
            return
        self.send(RECORD_STARTED, *key, order)
        with self._beating(*key):
            error = caught(partial(self._measure, *key))
        if isinstance(error, SoftTimeLimitExceeded):
            error = WorkerLostError(f"the work took longer than {self.time_limit_s:g} s")
        if error is None or self._fail(error, *key):
            self.send(RECORD_OUTCOME, *key)
        else:
            reason = reason_of(error)
            self.send(RECORD_LOST, *key, order, reason.code, reason.message)

    def _is_replaced(self, series_instance_uid: str, revision: int, order: int) -> bool:
        try:
            return self.spool.read_work(series_instance_uid, revision).number > order
        except SpoolError:
            # Whoever measures finds out what is wrong with it, and says so.
            return False

    @contextmanager
    def _beating(self, series_instance_uid: str, revision: int) -> Iterator[None]:
        """Show that this process lives: a machine that dies at work cannot say so."""
        done = threading.Event()

        def beat() -> None:
            while not done.is_set():
                caught(lambda: self.spool.beat(series_instance_uid, revision))
                done.wait(BEAT_S)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _measure(self, series_instance_uid: str, revision: int) -> None:
        outcome = self.measure(series_instance_uid, revision)
        self.spool.put_outcome(series_instance_uid, revision, outcome.to_json())

    def _fail(self, error: Exception, series_instance_uid: str, revision: int) -> bool:
        """Write the outcome that an error means; ``False`` when the work is to be done again."""
        outcome = failure(error)
        if outcome is None:
            return False
        self.spool.put_outcome(series_instance_uid, revision, outcome.to_json())
        return True


def analyze_silently(
    key: tuple[str, int, str],
    spool: Spool,
    measure: Callable[[str, int, str], Outcome],
    send: Callable[..., None],
) -> None:
    """Measure a series by a shadow model, leave the outcome in the spool, report it.

    Passing trouble leaves no outcome: whoever looks after shadows asks again.
    """
    uid, revision, model = key
    if spool.read_outcome(uid, revision, shadow=model) is None:
        outcomes: list[Outcome | None] = []
        error = caught(lambda: outcomes.append(measure(*key)))
        if isinstance(error, SoftTimeLimitExceeded):
            return
        outcome = outcomes[0] if error is None else failure(error)
        if outcome is None:
            return
        spool.put_outcome(uid, revision, outcome.to_json(), shadow=model)
    send(RECORD_SHADOW, *key)


def register_analysis(
    app: Celery, settings: NodeSettings, context: "Callable[[], WorkerContext]"
) -> None:
    """Add the task of queue ``gpu``.

    Parameters
    ----------
    app : Celery
    settings : NodeSettings
    context : callable
        Returns the context of this process, the same one each time.
    """

    @app.task(name=ANALYZE_SERIES, bind=True, shared=False)
    def analyze_series(
        task: "Task[Any, None]", series_instance_uid: str, revision: int, order: int = 0
    ) -> None:
        # Tasks of earlier versions, which an upgrade finds in the broker, have no number.
        from dicom_node.worker import measure

        here = context()
        redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
        analyst = Analyst(
            here.spool,
            partial(measure, context=here),
            Reporter(app).send,
            settings.worker.time_limit_s,
        )
        key = (series_instance_uid, revision, order)
        caught(partial(analyst.analyze, *key, redelivered=redelivered))

    @app.task(name=SHADOW_SERIES, bind=True, shared=False)
    def shadow_series(
        task: "Task[Any, None]", series_instance_uid: str, revision: int, model: str
    ) -> None:
        from dicom_node.worker import measure_silently

        if (task.request.delivery_info or {}).get("redelivered"):
            # A worker died at it; whoever looks after shadows counts that.
            return
        here = context()
        key = (series_instance_uid, revision, model)
        with structlog.contextvars.bound_contextvars(shadow=model):
            measure = partial(measure_silently, context=here)
            caught(partial(analyze_silently, key, here.spool, measure, Reporter(app).send))


def register_records(
    app: Celery, settings: NodeSettings, ledger: "Callable[[], Ledger]", spool: Spool
) -> None:
    """Add the tasks of queue ``node``.

    What one of them cannot do is logged and left: the listener notices what stands still.

    Parameters
    ----------
    app : Celery
    settings : NodeSettings
    ledger : callable
        Returns the ledger of this process, the same one each time.
    spool : Spool
    """
    from dicom_node.audit_delivery import audited
    from dicom_node.commitment import ask_at
    from dicom_node.custody import Custody
    from dicom_node.outbox import Outbox, store_at
    from dicom_node.refusals import teller
    from dicom_node.worklog import Work, WorkLog

    def work_log() -> WorkLog:
        tell = teller(ledger(), spool)
        return WorkLog(
            ledger(), settings.destinations, settings.worker.attempts, settings.shadow.models, tell
        )

    @app.task(name=RECORD_STARTED, shared=False)
    def record_started(series_instance_uid: str, revision: int, order: int) -> None:
        now = datetime.now(UTC)
        due_at = now + timedelta(seconds=work_lease_s(settings))
        work = Work(series_instance_uid, revision, order)
        caught(lambda: work_log().started(work, now, due_at))

    @app.task(name=RECORD_OUTCOME, shared=False)
    def record_outcome(series_instance_uid: str, revision: int) -> None:
        caught(lambda: _record_outcome(work_log(), spool, series_instance_uid, revision))

    @app.task(name=RECORD_LOST, shared=False)
    def record_lost(
        series_instance_uid: str, revision: int, order: int, code: str, message: str
    ) -> None:
        reason, work = Reason(code, message), Work(series_instance_uid, revision, order)
        caught(lambda: work_log().lost(work, reason, datetime.now(UTC)))

    @app.task(name=DELIVER, shared=False)
    def deliver(series_instance_uid: str, destination: str) -> None:
        outbox = Outbox(ledger(), spool, settings.delivery, settings.destinations)
        send = audited(
            store_at(destination, settings), series_instance_uid, destination, settings, ledger()
        )
        caught(lambda: outbox.deliver(series_instance_uid, destination, send, datetime.now(UTC)))
        ask = ask_at(destination, settings)
        if ask is not None:
            where = (series_instance_uid, destination)
            caught(lambda: Custody(outbox).seek(*where, ask, datetime.now(UTC)))

    _register_questions(app, settings, ledger, spool)


def _register_questions(
    app: Celery, settings: NodeSettings, ledger: "Callable[[], Ledger]", spool: Spool
) -> None:
    """Add the tasks that ask a PACS before a series is measured."""
    from dicom_node.completeness import record_proof

    @app.task(name=PROVE, shared=False)
    def prove_completeness(series_instance_uid: str, revision: int) -> None:
        now = datetime.now(UTC)
        caught(lambda: record_proof(series_instance_uid, revision, ledger(), settings, now))

    @app.task(name=SEARCH_PRIORS, shared=False)
    def search_for_priors(series_instance_uid: str, revision: int) -> None:
        caught(lambda: _search_priors(ledger(), spool, settings, (series_instance_uid, revision)))

    _register_silent_records(app, ledger, spool)


def _register_silent_records(app: Celery, ledger: "Callable[[], Ledger]", spool: Spool) -> None:
    from dicom_node.shadows import record_silent_outcome

    @app.task(name=RECORD_SHADOW, shared=False)
    def record_shadow(series_instance_uid: str, revision: int, model: str) -> None:
        key = (series_instance_uid, revision, model)
        caught(lambda: record_silent_outcome(key, ledger(), spool, datetime.now(UTC)))


def _record_outcome(
    work_log: "WorkLog", spool: Spool, series_instance_uid: str, revision: int
) -> None:
    content = spool.read_outcome(series_instance_uid, revision)
    if content is None:
        logger.warning("no outcome in the spool", series=series_instance_uid, revision=revision)
        return
    outcome = Outcome.from_json(content)
    work_log.ended(series_instance_uid, revision, outcome, datetime.now(UTC))


def _search_priors(
    ledger: "Ledger", spool: Spool, settings: NodeSettings, order: tuple[str, int]
) -> None:
    from dicom_node.priors import search_priors
    from dicom_node.report_archives import reports_of

    series_instance_uid, revision = order
    record, pacs = ledger.series(series_instance_uid), reports_of(settings)
    if pacs is not None and record.revision == revision:
        search_priors(record, ledger, spool, pacs, datetime.now(UTC))


def caught(body: Callable[[], object]) -> Exception | None:
    """Run the body of a task and return what it raised, if anything, after logging it."""
    try:
        body()
    except Exception as error:  # noqa: BLE001 - the one place: every error gets a disposition
        reason = reason_of(error)
        place = {}
        if reason.code == UNFORESEEN:
            # The frames tell the place; the text of a foreign error may hold patient data.
            place = {"place": "".join(traceback.format_tb(error.__traceback__))}
        logger.warning("failed", code=reason.code, error=reason.message, **place)
        return error
    return None
