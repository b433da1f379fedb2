"""Tell systemd how a service is: ready, alive, stopping. Says nothing where no systemd listens."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"


def tell_manager(news: str, environment: Mapping[str, str]) -> None:
    """Send one datagram of sd_notify(3) to the socket that the environment names.

    Parameters
    ----------
    news : str
        ``READY``, ``ALIVE`` or ``STOPPING``.
    environment : mapping of str to str
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # "@" stands for the zero byte of a name that lies in no folder.
    name = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(name)
        manager.sendall(news.encode())
