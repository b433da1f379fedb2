"""Whoever starts workers again can see whether they work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.celery_app import create_app
from dicom_node.demo.processes import free_port
from dicom_node.ledger import Ledger
from dicom_node.worker_health import complaint
from tests.dicom_node.factories import node_settings
from tests.dicom_node.test_metrics import get
from tests.servers import redis_server

pytestmark = [pytest.mark.network, pytest.mark.redis]


def reached(port: int) -> bool:
    try:
        return get(port, "/ready")[0] == 200
    except OSError:
        return False


def test_a_worker_that_hears_the_broker_is_well(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("redis-server")
    port = free_port()
    with redis_server() as broker:
        settings = node_settings(tmp_path, broker={"url": broker.url})
        Ledger.open(settings.ledger_url).close()
        config = tmp_path / "node.toml"
        config.write_text(
            f'[storage]\nfolder = "{tmp_path}"\n[broker]\nurl = "{broker.url}"\n'
            f"[metrics]\nnode_worker_port = {port}\n"
        )
        command = [sys.executable, "-m", "dicom_node", "worker", "--queue", "node"]
        process = subprocess.Popen(
            [*command, "--config", str(config)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 60
            while not (reached(port) and get(port, "/health") == (200, "ok\n")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            # Of a worker that has gone the same question finds no answer.
            app = create_app(settings)
            assert complaint(app, settings, "node-0@nowhere") == "node-0@nowhere does not answer"
            broker.kill()
            assert complaint(app, settings, "node-0@nowhere") == ""
            assert get(port, "/health") == (200, "ok\n")
            status, body = get(port, "/ready")
            assert (status, json.loads(body)) == (503, {"broker": "the broker does not answer"})
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
