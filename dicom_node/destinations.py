"""Turn whom the settings name into peers that can be called: others, and our own listener."""

from typing import Final

from dicom_node.config import DestinationSettings, NodeSettings, QuerySettings
from dicom_node.errors import SettingsError
from dicom_node.sender import Peer, Security
from dicom_node.tls import client_context

_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def peer_of(destination: DestinationSettings, settings: NodeSettings) -> Peer:
    """Give the peer of a destination, with what it takes to reach it securely.

    Raises
    ------
    TlsError
        Our certificate or key cannot be used.
    """
    security = security_of(destination, settings, destination.host)
    return Peer(destination.ae_title, destination.host, destination.port, security)


def security_of(
    destination: DestinationSettings, settings: NodeSettings, host: str
) -> Security | None:
    """Give what it takes to reach a host of a destination securely, ``None`` in the clear.

    Raises
    ------
    TlsError
        Our certificate or key cannot be used.
    """
    if not destination.tls:
        return None
    if settings.tls is None:
        raise SettingsError(f"destination {destination.name} has tls, but there is no [tls]")
    return Security(client_context(settings.tls), destination.tls_name or host)


def queried_peer(query: QuerySettings, settings: NodeSettings) -> Peer:
    """Give the PACS of a source, with what it takes to reach it securely.

    Raises
    ------
    TlsError
        Our certificate or key cannot be used.
    """
    security = None
    if query.tls and settings.tls is not None:
        security = Security(client_context(settings.tls), query.tls_name or query.host)
    return Peer(query.ae_title, query.host, query.port, security)


def own_listener(settings: NodeSettings) -> Peer:
    """Give the way to our own listener on this host, by TLS when it has no other port.

    Raises
    ------
    TlsError
        Our certificate or key cannot be used.
    """
    listener, tls = settings.listener, settings.tls
    host = "127.0.0.1" if listener.host in _ANY_ADDRESS else listener.host
    if tls is None or not tls.only:
        return Peer(listener.ae_title, host, listener.port)
    context = client_context(tls)
    # Our certificate shows the name that others call; who answers at our own address, we know.
    context.check_hostname = False
    return Peer(listener.ae_title, host, tls.port, Security(context, host))
