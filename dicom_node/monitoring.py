"""Watch a listener from beside it: metrics, health, alarms."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from dicom_node.config import NodeSettings
from dicom_node.exposition import Check, broker_check, exposing
from dicom_node.ledger import Ledger
from dicom_node.metrics import NodeCollector
from dicom_node.spool import Spool
from dicom_node.watch import watching

_CONNECT_TIMEOUT_S: Final = 2.0


@contextmanager
def monitoring(settings: NodeSettings) -> Iterator[None]:
    """Answer Prometheus and look for alarms while a listener runs.

    Raises
    ------
    SettingsError
        The address of the metrics cannot be listened on.
    LedgerError
    """
    here = settings.metrics
    address = None if here.port is None else (here.host, here.port)
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        collector = NodeCollector(settings, ledger, _utc_now)
        ready = _readiness(settings, ledger)
        # Without a broker images are taken and kept all the same: no reason to turn scanners away.
        told = {"broker": broker_check(settings)}
        with (
            exposing(address, collector, _listens(settings), ready, told),
            watching(settings, ledger, _utc_now),
        ):
            yield


def _readiness(settings: NodeSettings, ledger: Ledger) -> dict[str, Check]:
    """Return what has to work for images to be taken."""
    spool = Spool.of(settings.storage)

    def room() -> str:
        free_mib, least_mib = spool.free_mib(), settings.storage.free_space_watermark_mib
        return "" if free_mib >= least_mib else f"{free_mib} MiB are free, {least_mib} are needed"

    def books() -> str:
        ledger.counts()
        return ""

    return {"spool": room, "ledger": books}


def _listens(settings: NodeSettings) -> Check:
    """Return the check that peers can connect."""
    host, port = settings.listener.host, settings.listener.port
    if settings.tls is not None and settings.tls.only:
        port = settings.tls.port
    reached = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound

    def check() -> str:
        try:
            with socket.create_connection((reached, port), _CONNECT_TIMEOUT_S):
                return ""
        except OSError as error:
            return f"{reached}:{port} does not take connections: {error.strerror}"

    return check


def _utc_now() -> datetime:
    return datetime.now(UTC)
