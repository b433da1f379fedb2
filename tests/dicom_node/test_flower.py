"""Flower works at our broker, and sees nothing of a patient."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicom_node.celery_app import DELIVER, create_app
from dicom_node.demo.processes import free_port
from dicom_node.ledger import Ledger
from tests.dicom_node.factories import node_settings
from tests.servers import redis_server

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]

UID = "1.2.826.0.1.3680043.8.498.1"
LOGIN = "anna:let-me-in"


def asked(port: int, path: str, login: str = LOGIN, *, method: str = "GET") -> Any:
    """JSON of Flower's API; the status alone when it is no success, nothing while it starts."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    request.add_header("authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 150
    while not (seen := look()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return seen


def test_flower_shows_our_tasks_and_no_more(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("redis-server")
    port, login_file = free_port(), tmp_path / "login"
    login_file.write_text(LOGIN)
    running = []

    def start(*words: str) -> None:
        command = [sys.executable, "-m", "dicom_node", *words, "--config", str(config)]
        log = (tmp_path / f"{words[0]}.log").open("w")
        with log:
            process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        running.append(process)

    with redis_server() as broker:
        settings = node_settings(tmp_path, broker={"url": broker.url})
        Ledger.open(settings.ledger_url).close()
        config = tmp_path / "node.toml"
        config.write_text(
            f'[storage]\nfolder = "{tmp_path}"\n[broker]\nurl = "{broker.url}"\n'
            "[worker]\nevents = true\n"
        )
        app = create_app(settings)
        try:
            start("worker", "--queue", "node")
            start("flower", "--port", str(port), "--login-file", str(login_file))
            (name,) = eventually(lambda: asked(port, "/api/workers?refresh=1"))
            assert name.startswith("node-")

            def seen() -> Any:
                # Tasks that came before the worker was asked to tell of them are not seen.
                app.send_task(DELIVER, [UID, "pacs"])
                tasks = asked(port, "/api/tasks") or {}
                return [task for task in tasks.values() if task["state"] == "SUCCESS"]

            task = eventually(seen)[0]
            assert task["name"] == DELIVER
            assert task["args"] == f"['{UID}', 'pacs']"
            assert task["kwargs"] == "{}"
            # Who does not know the word sees nothing, and nobody may stop a worker from here.
            assert asked(port, "/api/workers", "anna:wrong") == 401
            shutdown = f"/api/worker/shutdown/{name}"
            assert asked(port, shutdown, method="POST") in {401, 403, 404, 405}
            assert running[0].poll() is None
        finally:
            for process in running:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_a_login_that_is_none_is_said(psoas: Callable[..., int], tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("no colon")
    assert psoas("flower", "--login-file", file) == 1
