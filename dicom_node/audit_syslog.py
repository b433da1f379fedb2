"""Send audit messages to a repository: RFC 5424 messages over TLS.

The protocol has no answer, so each batch is a connection of its own that ends with both sides
saying goodbye: a repository that was cut off never says it, and gets the batch again.

References
----------
RFC 5425 (TLS transport of syslog); DICOM PS3.15 section A.6.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.errors import AuditError, TlsError

_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class SyslogOverTls:
    """An audit repository.

    Parameters
    ----------
    host : str
        Also the name that its certificate must show.
    port : int
    context : callable
        Returns the context of TLS.
    """

    host: str
    port: int
    context: Callable[[], ssl.SSLContext]

    def write(self, messages: Sequence[bytes]) -> None:
        """Send messages; see ``audit.Sink``."""
        if not messages:
            return
        frames = b"".join(b"%d %s" % (len(message), message) for message in messages)
        address = (self.host, self.port)
        try:
            with (
                socket.create_connection(address, timeout=_TIMEOUT_S) as plain,
                self.context().wrap_socket(plain, server_hostname=self.host) as connection,
            ):
                connection.sendall(frames)
                _say_goodbye(connection)
        except (OSError, TlsError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise AuditError(
                f"the audit repository {self.host}:{self.port} does not take messages: {reason}"
            ) from None


def _say_goodbye(connection: ssl.SSLSocket) -> None:
    try:
        connection.unwrap()
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return  # it closed after it had read everything
    except ssl.SSLError as error:
        if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            raise
