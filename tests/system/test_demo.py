"""The demo does what it says and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.system.running_node import wait_until

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]


def demo(folder: Path, pacs: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "dicom_node", "demo", "--pacs", pacs, "--keep", str(folder)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder; every part of a demo gets it as an argument."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


def test_demo_measures_and_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "auto") as process:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "same patient, same study, same area" in said
    for row in ("level", "skeletal muscle area", "interval", "cut-off", "verdict", "attenuation"):
        assert row in said
    assert f"Overlay: {folder / 'overlay.png'}" in said
    with Image.open(folder / "overlay.png") as picture:
        assert picture.size == (1024, 512)
    assert f"Key image, as the PACS shows it: {folder / 'key-image.png'}" in said
    with Image.open(folder / "key-image.png") as picture:
        assert picture.width == 1120
    assert processes_of(folder) == []


def test_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "builtin") as process:
        wait_until(lambda: len(processes_of(folder)) >= 6, "start of the parts")
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "everything that was started is stopped" in said
    assert processes_of(folder) == []


def test_demo_does_not_play_in_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with demo(tmp_path, "builtin") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "is not empty" in said
