"""Brokers of production: Redis behind Sentinels, Redis with TLS."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.broker import is_answering
from dicom_node.celery_app import GPU_QUEUE, create_app
from dicom_node.config import NodeSettings
from dicom_node.dispatch import CeleryDispatcher
from dicom_node.queues import queue_lengths
from tests.dicom_node.factories import node_settings
from tests.servers import redis_server, sentinel

Tool = Callable[[str], str]


def takes_work(settings: NodeSettings) -> bool:
    """Whether a task that was sent lies in the queue."""
    app = create_app(settings)
    CeleryDispatcher(app).send_analysis("1.2.3", 1, 1)
    with app.connection_for_read() as connection:
        queue = connection.default_channel.queue_declare(GPU_QUEUE, passive=True)
    return bool(queue.message_count == 1)


@pytest.mark.network
@pytest.mark.redis
def test_master_that_a_sentinel_names_takes_work(tmp_path: Path, tool: Tool) -> None:
    tool("redis-server")
    with redis_server() as master, sentinel(master, "psoas") as watcher:
        broker = {"url": watcher.url, "sentinel_master": "psoas"}
        settings = node_settings(tmp_path, broker=broker)
        assert is_answering(settings)
        assert takes_work(settings)
        assert queue_lengths(settings) == {"gpu": 1, "node": 0}
        master.kill()
        assert not is_answering(settings)


@pytest.mark.network
@pytest.mark.redis
def test_redis_with_tls_takes_work(tmp_path: Path, tool: Tool) -> None:
    tool("redis-server")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject],
        check=True,
        capture_output=True,
    )
    tls = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    tls += ["--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]
    query = f"?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    with redis_server(*tls, scheme="rediss", query=query) as server:
        settings = node_settings(tmp_path, broker={"url": server.url})
        assert is_answering(settings)
        assert takes_work(settings)
        # A certificate that nobody vouches for is refused.
        unknown = server.url.split("&")[0]
        assert not is_answering(node_settings(tmp_path, broker={"url": unknown}))


@pytest.mark.parametrize(
    "broker",
    [
        {"url": "amqp://localhost"},
        {"url": "sentinel://localhost:26379"},
        {"url": "redis://localhost", "sentinel_master": "psoas"},
    ],
)
def test_broker_that_cannot_work_is_refused(broker: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"broker"):
        node_settings(tmp_path, broker=broker)
