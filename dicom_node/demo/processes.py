"""Start the parts of the demo as processes and stop every one of them again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_STOP_TIMEOUT_S: Final = 8.0
_POLL_S: Final = 0.1
_SHOWN_LINES: Final = 15


class DemoError(Exception):
    """A step of the demo did not happen."""


@dataclass(frozen=True, slots=True)
class Part:
    """A running process.

    Parameters
    ----------
    name : str
    process : Popen
        Leader of a process group of its own, so that Ctrl-C reaches the demo alone.
    log : Path
        Everything it prints.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


@dataclass(slots=True)
class Parts:
    """The processes of one demo; leaving the context stops them, the last one first.

    Parameters
    ----------
    folder : Path
        For their logs.
    stop : Event
        Set by Ctrl-C: whatever waits here ends.
    """

    folder: Path
    stop: threading.Event
    running: list[Part] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in reversed(self.running):
            _stop(part.process)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Part:
        """Start a process that logs to ``folder/name.log``.

        Raises
        ------
        DemoError
            There is no such program.
        KeyboardInterrupt
        """
        self.heed_stop()
        log = self.folder / f"{name}.log"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - our own programs and Orthanc
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"{command[0]} does not start: {error.strerror}") from None
        part = Part(name, process, log)
        self.running.append(part)
        return part

    def start_psoas(self, name: str, *arguments: str) -> Part:
        """Start one of our own commands."""
        return self.start_module(name, "dicom_node", *arguments)

    def start_module(self, name: str, module: str, *arguments: str) -> Part:
        """Start a module of this Python."""
        return self.start(name, [sys.executable, "-m", module, *arguments])

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait for a condition while all processes live.

        Parameters
        ----------
        condition : callable
        what : str
            For the message, as in "the listener answers".
        timeout_s : float

        Raises
        ------
        DemoError
            A process ended, or the time is over.
        KeyboardInterrupt
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            for part in self.running:
                if part.process.poll() is not None:
                    raise DemoError(f"{part.name} ended early:\n{_last_lines(part.log)}")
            if time.monotonic() > deadline:
                logs = ", ".join(str(part.log) for part in self.running)
                raise DemoError(f"{what} did not happen within {timeout_s:g} s; logs: {logs}")
            if self.stop.wait(_POLL_S):
                raise KeyboardInterrupt

    def heed_stop(self) -> None:
        """Raise ``KeyboardInterrupt`` when it is time to stop."""
        if self.stop.is_set():
            raise KeyboardInterrupt


def free_port() -> int:
    """Return a TCP port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    # Children that outlived their leader are in its group still.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LINES:])
