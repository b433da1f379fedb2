"""systemd is told that the listener is ready, alive and stopping."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.service_manager import READY, tell_manager

pytestmark = pytest.mark.network


@pytest.mark.parametrize("abstract", [False, True])
def test_news_reach_the_socket_that_is_named(tmp_path: Path, abstract: bool) -> None:
    name = f"@psoas-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        tell_manager(READY, {"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    address = str(tmp_path / "manager")
    tell_manager(READY, {"NOTIFY_SOCKET": address})
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        tell_manager(READY, {})
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        tell_manager(READY, {"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"


def test_a_listener_says_how_it_is(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        '[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n[listener]\nport = 0\n'
    )
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        command = [sys.executable, "-m", "dicom_node", "serve", "--config", str(config)]
        process = subprocess.Popen(
            command, env={**os.environ, "NOTIFY_SOCKET": address}, stderr=subprocess.DEVNULL
        )
        try:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            news = manager.recv(100)
            while news == b"WATCHDOG=1":
                news = manager.recv(100)
            assert news == b"STOPPING=1"
        finally:
            process.terminate()
            assert process.wait(60) == 0
