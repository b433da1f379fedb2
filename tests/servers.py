"""Real servers on loopback for tests: PostgreSQL, Redis and its Sentinel."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from dicom_node.demo.processes import free_port

_DEADLINE_S = 60.0


@dataclass
class Server:
    """A running server that a test may kill and start again."""

    url: str
    port: int
    command: list[str]
    user: str | None
    answers: Callable[[], bool]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _DEADLINE_S
        while not self.answers():
            assert self.process.poll() is None, f"{self.command[0]} ended"
            assert time.monotonic() < deadline, f"{self.command[0]} does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut does."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()


@contextmanager
def postgresql() -> Iterator[Server]:
    """Debian's PostgreSQL with an empty database; as user postgres when the test is root."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="psoas-pg-"))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    port = free_port()
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "psoas", "--no-sync"],
        user=user,
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    ask = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "psoas"]

    def answers() -> bool:
        return subprocess.run(ask, check=False).returncode == 0

    url = f"postgresql+psycopg://psoas@127.0.0.1:{port}/postgres"
    server = Server(url, port, command, user, answers)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server(*options: str, scheme: str = "redis", query: str = "") -> Iterator[Server]:
    """A Redis that writes every command to disk."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="psoas-redis-") as folder:
        plain = (
            ["--port", str(port)] if scheme == "redis" else ["--port", "0", "--tls-port", str(port)]
        )
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command = ["redis-server", *plain, *durable, "--dir", folder, *options]
        url = f"{scheme}://127.0.0.1:{port}/0{query}"

        def answers() -> bool:
            try:
                with redis.Redis.from_url(url) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        server = Server(url, port, command, None, answers)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def sentinel(master: Server, name: str) -> Iterator[Server]:
    """One Sentinel that watches a master."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="psoas-sentinel-") as folder:
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(
            f"port {port}\ndir {folder}\nsentinel monitor {name} 127.0.0.1 {master.port} 1\n"
        )

        def answers() -> bool:
            try:
                with redis.Redis(port=port) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        command = ["redis-server", str(settings), "--sentinel"]
        server = Server(f"sentinel://127.0.0.1:{port}", port, command, None, answers)
        try:
            server.start()
            yield server
        finally:
            server.kill()
