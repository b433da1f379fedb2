"""Turn the destinations of the settings into peers that can be called."""

from dicom_node.config import DestinationSettings, NodeSettings
from dicom_node.errors import SettingsError
from dicom_node.sender import Peer, Security
from dicom_node.tls import client_context


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
