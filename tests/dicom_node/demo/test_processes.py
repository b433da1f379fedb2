import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dicom_node.demo.processes import DemoError, Parts

STUBBORN = """\
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


def test_every_process_is_stopped_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.demo.processes._STOP_TIMEOUT_S", 0.2)
    with Parts(tmp_path, threading.Event()) as parts:
        part = parts.start("stubborn", [sys.executable, "-c", STUBBORN])
        parts.wait_until(lambda: part.log.read_bytes().endswith(b"\n"), "a child", 30)
        child = part.log.read_text().strip()
    assert part.process.returncode == -signal.SIGKILL
    assert _ends(Path("/proc", child, "stat"), within_s=10)


def _ends(stat: Path, within_s: float) -> bool:
    """Whether a process is gone or a zombie in time; SIGKILL takes effect a moment later."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
    return False


def test_process_that_ends_early_is_shown_with_its_last_words(tmp_path: Path) -> None:
    with Parts(tmp_path, threading.Event()) as parts:
        parts.start("brief", [sys.executable, "-c", "print('last words')"])
        with pytest.raises(DemoError, match="brief ended early:\nlast words"):
            parts.wait_until(lambda: False, "a wonder", 30)


def test_patience_ends(tmp_path: Path) -> None:
    with (
        Parts(tmp_path, threading.Event()) as parts,
        pytest.raises(DemoError, match=r"a wonder did not happen within 0\.2 s"),
    ):
        parts.wait_until(lambda: False, "a wonder", 0.2)


def test_missing_program_is_named(tmp_path: Path) -> None:
    with (
        Parts(tmp_path, threading.Event()) as parts,
        pytest.raises(DemoError, match="no-such-program does not start"),
    ):
        parts.start("none", ["no-such-program"])


def test_nothing_is_started_after_the_order_to_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    with Parts(tmp_path, stop) as parts:
        stop.set()
        with pytest.raises(KeyboardInterrupt):
            parts.start("late", [sys.executable, "-c", ""])
        assert parts.running == []
