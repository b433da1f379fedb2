"""Answer over HTTP: metrics for Prometheus, health and readiness for whoever starts us again."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from typing_extensions import override

from dicom_node.broker import is_answering
from dicom_node.config import NodeSettings
from dicom_node.errors import NodeError, SettingsError

logger = structlog.get_logger(__name__)

_PLAIN: Final = "text/plain; charset=utf-8"

Check = Callable[[], str]
"""Returns why something is not ready; empty when it is."""


@contextmanager
def exposing(
    address: tuple[str, int] | None,
    collector: Collector,
    health: Check,
    ready: Mapping[str, Check],
    told: Mapping[str, Check] | None = None,
) -> Iterator[int | None]:
    """Answer ``/metrics``, ``/health`` and ``/ready`` in threads of their own.

    Parameters
    ----------
    address : (str, int) or None
        Host and port; nothing is answered when ``None``.
    collector : Collector
    health : callable
        Why this process should be restarted; empty when it should not.
    ready : mapping of str to callable
        Why no work should be given to it, one reason for each part.
    told : mapping of str to callable, optional
        What ``/ready`` tells as well, and which is no reason to turn work away.

    Yields
    ------
    int or None
        The TCP port.

    Raises
    ------
    SettingsError
        The address cannot be listened on.
    """
    if address is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(collector)
    for of_python in (ProcessCollector, PlatformCollector, GCCollector):
        of_python(registry=registry)
    try:
        server = _Server(address, registry, health, Readiness(ready, told or {}))
    except OSError as error:
        place = f"{address[0]}:{address[1]}"
        raise SettingsError(f"metrics: {place} cannot be listened on: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    logger.info("metrics", host=address[0], port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def broker_check(settings: NodeSettings) -> Check:
    """Return the check that the broker answers."""
    return lambda: "" if is_answering(settings) else "the broker does not answer"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is asked when somebody wants to know whether to send work.

    Parameters
    ----------
    decisive : mapping of str to callable
        One complaint here and no work should come.
    told : mapping of str to callable
        Complaints that are only passed on.
    """

    decisive: Mapping[str, Check]
    told: Mapping[str, Check]

    def ask(self) -> tuple[bool, dict[str, str]]:
        """Return whether work may come, and what each part says."""
        complaints = {name: _tried(check) for name, check in self.decisive.items()}
        ready = not any(complaints.values())
        complaints |= {name: _tried(check) for name, check in self.told.items()}
        return ready, {name: text or "ok" for name, text in complaints.items()}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        health: Check,
        ready: Readiness,
    ) -> None:
        super().__init__(address, _Handler)
        self.registry = registry
        self.health = health
        self.ready = ready


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.server.registry))
            case "/health":
                complaint = self.server.health()
                body = (complaint or "ok") + "\n"
                self._answer(503 if complaint else 200, _PLAIN, body.encode())
            case "/ready":
                ready, parts = self.server.ready.ask()
                body = json.dumps(parts) + "\n"
                self._answer(200 if ready else 503, "application/json", body.encode())
            case _:
                self._answer(404, _PLAIN, b"/metrics, /health or /ready\n")

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each scrape."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _tried(check: Check) -> str:
    try:
        return check()
    except NodeError as error:
        return f"{error} [{error.code}]"
