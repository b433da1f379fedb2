"""Run the audit trail of a listener: start, stop, what is due, what is passed on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from dicom_node.audit import AuditTrail, DailyFiles, Sink, keep_forwarding
from dicom_node.audit_digest import AuditDigest
from dicom_node.audit_events import application_activity
from dicom_node.audit_syslog import SyslogOverTls
from dicom_node.config import NodeSettings
from dicom_node.tls import Credentials

_STOP_TIMEOUT_S: Final = 10.0


@contextmanager
def auditing(settings: NodeSettings, digest: AuditDigest) -> Iterator[None]:
    """Audit the start and the stop of the node; pass messages on in between.

    A repository that is silent holds up nothing but its own messages.

    Raises
    ------
    AuditError
        Not even the start can be audited.
    """
    trail = AuditTrail.of(settings)
    trail.prepare()
    trail.record(application_activity(trail.ae_title, datetime.now(UTC), started=True))
    stop = threading.Event()
    arguments = trail, _sink_of(settings), digest, stop
    thread = threading.Thread(target=_run, args=arguments, name="audit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        digest.write_all(datetime.now(UTC))
        trail.note(application_activity(trail.ae_title, datetime.now(UTC), started=False))
        stop.set()
        thread.join(_STOP_TIMEOUT_S)


def _run(trail: AuditTrail, sink: Sink, digest: AuditDigest, stop: threading.Event) -> None:
    keep_forwarding(trail, sink, stop, lambda: digest.write_due(_utc_now()))


def _sink_of(settings: NodeSettings) -> Sink:
    audit, tls = settings.audit, settings.tls
    if audit.repository is None or tls is None:
        return DailyFiles(settings.storage.folder / "audit", audit.keep_days, _utc_now)
    credentials = Credentials(tls, _utc_now)
    return SyslogOverTls(audit.repository, audit.repository_port, credentials.client)


def _utc_now() -> datetime:
    return datetime.now(UTC)
