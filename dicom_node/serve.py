"""Run the listener: receive images, look after every series, until told to stop."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from pynetdicom import AE

from dicom_node.administration import under_way
from dicom_node.ae import build_ae
from dicom_node.announcements import AnnouncementDesk
from dicom_node.assembly import Assembly
from dicom_node.audit_process import auditing
from dicom_node.celery_app import work_lease_s
from dicom_node.clock_watch import ClockWatch
from dicom_node.commitment_reports import ReportDesk
from dicom_node.completeness import ProofDesk
from dicom_node.config import NodeSettings
from dicom_node.custody import Custody
from dicom_node.dispatch import Dispatcher
from dicom_node.errors import LedgerError
from dicom_node.guarded_server import GuardedServer
from dicom_node.housekeeping import Steward
from dicom_node.ledger import Ledger
from dicom_node.listeners import close_servers, open_servers
from dicom_node.outbox import Outbox
from dicom_node.prior_desk import PriorDesk
from dicom_node.receiver import Receiver
from dicom_node.records import Switch
from dicom_node.recovery import Recovery
from dicom_node.refusals import teller
from dicom_node.retention import Releaser
from dicom_node.rules.reading import RuleFile
from dicom_node.rules.routing import Router
from dicom_node.shadows import ShadowDesk
from dicom_node.spool import Spool
from dicom_node.worklog import WorkLog

logger = structlog.get_logger(__name__)

_TICK_S: Final = 0.5
_ABORT_S: Final = 5.0
"""How long aborted associations are waited for."""


def serve(
    settings: NodeSettings,
    dispatcher: Dispatcher,
    stop: threading.Event,
    ready: Callable[[int], None] = lambda _port: None,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Receive images and look after every series until ``stop`` is set.

    Parameters
    ----------
    settings : NodeSettings
    dispatcher : Dispatcher
        Sends work to the queues.
    stop : threading.Event
    ready : callable, optional
        Called with the TCP port as soon as peers can associate.
    alive : callable, optional
        Called after each look at the series.

    Raises
    ------
    SettingsError
        The address cannot be listened on, or the ledger's URL names no database.
    LedgerError, SpoolError
        Ledger or spool cannot be opened.
    """
    spool = Spool.of(settings.storage)
    with closing(spool), closing(Ledger.open(settings.ledger_url)) as ledger:
        outbox = Outbox(ledger, spool, settings.delivery, settings.destinations)
        steward = _steward(settings, outbox, dispatcher)
        receiver = Receiver(
            settings, ledger, spool, utc_now, lambda: steward.is_on(Switch.DRAINING)
        )
        Releaser(outbox, settings.retention).finish(utc_now())
        Recovery(settings, ledger, spool).run()
        _end_finished_drain(ledger)
        if settings.broker.url is None:
            # A broker of its own is shared with other listeners and remembers its messages.
            steward.resume(utc_now())
        # pynetdicom collects all garbage twice a minute; what is there for good need not be seen.
        gc.freeze()
        desks = (
            ReportDesk(settings, Custody(outbox), utc_now),
            AnnouncementDesk(settings, ledger, utc_now),
        )
        with auditing(settings, receiver.audit), listening(settings, receiver, *desks) as port:
            ready(port)
            clock_watch = ClockWatch(ledger)
            while not stop.wait(_TICK_S):
                now = utc_now()
                with suppress(LedgerError):  # the duties complain of it
                    clock_watch.look(now)
                steward.tick(now)
                alive()
                if steward.is_on(Switch.DRAINING) and _is_drained(ledger):
                    logger.info("drained")
                    break
    logger.info("listener stopped")


def _end_finished_drain(ledger: Ledger) -> None:
    # One that a crash interrupted goes on; a node that was drained was started to work again.
    if Switch.DRAINING in ledger.switches() and under_way(ledger) == 0:
        ledger.turn_off(Switch.DRAINING)


def _is_drained(ledger: Ledger) -> bool:
    with suppress(LedgerError):
        return under_way(ledger) == 0
    return False


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT set ``stop``; for the main thread of a process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())


@contextmanager
def listening(
    settings: NodeSettings, receiver: Receiver, *desks: ReportDesk | AnnouncementDesk
) -> Iterator[int]:
    """Accept associations; at the end let open ones finish for a moment, then abort them.

    Yields
    ------
    int
        The TCP port, that with TLS when it is the only one.

    Raises
    ------
    SettingsError
        The address cannot be listened on.
    TlsError
        Certificate, key or authorities cannot be used.
    """
    ae = build_ae(settings.listener)
    handlers = receiver.handlers()
    for desk in desks:
        desk.prepare(ae)
        handlers += desk.handlers()
    servers = open_servers(settings, ae, handlers, receiver.audit, utc_now)
    try:
        yield servers[0].port
    finally:
        _stop(ae, servers, settings.listener.stop_grace_s)


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def _stop(ae: AE, servers: Sequence[GuardedServer], grace_s: float) -> None:
    close_servers(servers)
    _wait_for_associations(ae, grace_s)
    for association in ae.active_associations:
        association.abort()
    _wait_for_associations(ae, _ABORT_S)


def _wait_for_associations(ae: AE, longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while ae.active_associations and time.monotonic() < deadline:
        time.sleep(0.05)


def _steward(settings: NodeSettings, outbox: Outbox, dispatcher: Dispatcher) -> Steward:
    proofs = ProofDesk(outbox.ledger, settings, dispatcher.send_proof)
    lease_s = work_lease_s(settings)
    return Steward(
        Assembly(
            outbox.ledger,
            outbox.spool,
            dispatcher,
            lease_s=lease_s,
            router=Router(
                outbox.ledger, outbox.spool, RuleFile(settings).current, proofs.is_settled
            ),
            queue_ahead=settings.worker.queue_ahead,
            may_be_sent=PriorDesk(outbox.ledger, settings, dispatcher.send_search).is_settled,
        ),
        WorkLog(
            outbox.ledger,
            settings.destinations,
            settings.worker.attempts,
            settings.shadow.models,
            teller(outbox.ledger, outbox.spool),
        ),
        outbox,
        Releaser(outbox, settings.retention),
        ShadowDesk(
            outbox.ledger,
            outbox.spool,
            dispatcher,
            lease_s,
            settings.worker.attempts,
            settings.shadow.at_once,
        ),
    )
