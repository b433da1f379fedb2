"""Open the ports of a node: one in the clear, one with TLS, or one of them."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from pynetdicom import AE
from pynetdicom.events import EventHandlerType

from dicom_node.association_limits import AssociationLimits
from dicom_node.audit_digest import AuditDigest
from dicom_node.config import NodeSettings
from dicom_node.door import Door
from dicom_node.errors import SettingsError
from dicom_node.guarded_server import Guard, GuardedServer
from dicom_node.lobby import LobbyRules
from dicom_node.tls import Credentials

logger = structlog.get_logger(__name__)


def open_servers(
    settings: NodeSettings,
    ae: AE,
    handlers: Sequence[EventHandlerType],
    audit: AuditDigest,
    clock: Callable[[], datetime],
) -> list[GuardedServer]:
    """Accept associations on every port that the settings name.

    Parameters
    ----------
    settings : NodeSettings
    ae : AE
    handlers : sequence
        What pynetdicom is to call.
    audit : AuditDigest
        Is told of refusals.
    clock : callable
        Returns the time, in UTC.

    Returns
    -------
    list of GuardedServer
        The one in the clear first.

    Raises
    ------
    SettingsError
        An address cannot be listened on.
    TlsError
        Certificate, key or authorities cannot be used.
    """
    listener = settings.listener
    limits = AssociationLimits(listener.maximum_associations, time.monotonic)
    guard = Guard(listener, Door(settings), limits, audit, clock)
    patience = listener.connections_per_address, listener.association_timeout_s
    ports: list[tuple[int, LobbyRules]] = []
    if settings.tls is None or not settings.tls.only:
        ports.append((listener.port, LobbyRules(*patience, guard.dismissed)))
    if settings.tls is not None:
        secure = Credentials(settings.tls, clock).server
        ports.append((settings.tls.port, LobbyRules(*patience, guard.dismissed, secure)))
    servers: list[GuardedServer] = []
    for port, rules in ports:
        try:
            server = GuardedServer(ae, (listener.host, port), guard, handlers, rules)
        except OSError as error:
            close_servers(servers)
            raise SettingsError(
                f"listener: {listener.host}:{port} cannot be listened on: {error.strerror}"
            ) from None
        server.open()
        servers.append(server)
        logger.info(
            "listening",
            ae_title=listener.ae_title,
            host=listener.host,
            port=server.port,
            tls=rules.secure is not None,
        )
    return servers


def close_servers(servers: Sequence[GuardedServer]) -> None:
    """Stop accepting; associations go on."""
    for server in servers:
        server.shutdown()
