import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from dicom_node.broker import (
    EmbeddedBroker,
    broker_folder,
    broker_url,
    is_answering,
    socket_path,
)
from dicom_node.errors import BrokerError
from tests.dicom_node.factories import node_settings

pytestmark = [pytest.mark.redis, pytest.mark.network]

Soon = Callable[[Callable[[], bool]], None]


def client(folder: Path) -> "redis.Redis[bytes]":
    return redis.Redis(unix_socket_path=str(socket_path(folder)))


def process_id(folder: Path) -> int:
    with client(folder) as connection:
        return int(connection.info()["process_id"])


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()


def test_broker_answers_while_it_is_wanted_and_not_after(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    assert not is_answering(settings)
    with EmbeddedBroker(broker_folder(settings)):
        assert is_answering(settings)
        pid = process_id(broker_folder(settings))
    assert not is_answering(settings)
    assert not is_alive(pid)


def test_messages_survive_a_restart(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path), client(tmp_path) as connection:
        connection.lpush("gpu", "message")
    with EmbeddedBroker(tmp_path), client(tmp_path) as connection:
        assert connection.lrange("gpu", 0, -1) == [b"message"]


def test_broker_that_was_killed_comes_back_with_its_messages(tmp_path: Path, soon: Soon) -> None:
    settings = node_settings(tmp_path)
    folder = broker_folder(settings)
    with EmbeddedBroker(folder):
        with client(folder) as connection:
            connection.lpush("gpu", "message")
        killed = process_id(folder)
        os.kill(killed, signal.SIGKILL)
        soon(lambda: is_answering(settings))
        assert process_id(folder) != killed
        with client(folder) as connection:
            assert connection.llen("gpu") == 1


def test_a_broker_that_refuses_even_a_ping_is_left_to_recover(tmp_path: Path) -> None:
    # As on a full disk: with the word for it, nothing else about the server changes.
    with EmbeddedBroker(tmp_path), client(tmp_path) as connection:
        connection.execute_command("ACL", "SETUSER", "default", "-ping")
        with pytest.raises(redis.ResponseError):
            connection.ping()
        before = process_id(tmp_path)
        # Longer than it takes to notice a server that is gone.
        assert connection.blpop(["nothing"], timeout=3) is None
        assert process_id(tmp_path) == before


def test_folder_has_one_broker_at_a_time(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(tmp_path),
        pytest.raises(BrokerError, match="another psoas serve uses"),
        EmbeddedBroker(tmp_path),
    ):
        pass


def test_server_that_outlived_a_killed_listener_gives_way(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal; from dicom_node.broker import EmbeddedBroker;"
        f"EmbeddedBroker(pathlib.Path({str(tmp_path)!r})).__enter__();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    orphan = process_id(tmp_path)
    with EmbeddedBroker(tmp_path):
        assert process_id(tmp_path) != orphan
        assert not is_alive(orphan)


def test_nobody_else_may_open_the_socket(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path):
        assert tmp_path.stat().st_mode & 0o077 == 0
        assert socket_path(tmp_path).stat().st_mode & 0o077 == 0


def test_long_folder_gets_a_socket_that_fits(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    path = socket_path(folder)
    assert len(os.fsencode(path)) < 104
    assert path == socket_path(folder)
    assert path != socket_path(tmp_path / ("gone" * 30))
    with EmbeddedBroker(folder), client(folder) as connection:
        assert connection.ping()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BrokerError, match="cannot be used"),
        EmbeddedBroker(tmp_path / "file" / "broker"),
    ):
        pass


def test_named_broker_is_taken_as_it_is(tmp_path: Path) -> None:
    url = "redis://broker:6379/3"
    assert broker_url(node_settings(tmp_path, broker={"url": url})) == url


def test_broker_that_is_away_does_not_answer(tmp_path: Path) -> None:
    settings = node_settings(tmp_path, broker={"url": "redis://127.0.0.1:1/0"})
    assert not is_answering(settings)
