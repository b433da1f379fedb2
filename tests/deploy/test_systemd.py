"""The systemd units load, give away little, and name what exists."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import NodeSettings
from tests.deploy.commands import understands

Tool = Callable[[str], str]
PROGRAM = "/opt/psoas/.venv/bin/psoas"
UNITS = ("listener", "worker-node", "worker-gpu", "console")
# Of 10, as "systemd-analyze security" counts; 2 is "OK", an ordinary service has 9.6.
EXPOSURE_TENTHS = 15


@pytest.fixture
def units(repository: Path, tmp_path: Path) -> Path:
    """The units, with the program where this environment has it."""
    folder = tmp_path / "units"
    shutil.copytree(repository / "deploy" / "systemd", folder)
    for unit in folder.glob("*.service"):
        text = unit.read_text()
        assert PROGRAM in text
        unit.write_text(text.replace(PROGRAM, sys.executable))
    return folder


def analyze(tool: Tool, units: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_PAGER": ""}
    return subprocess.run(
        [tool("systemd-analyze"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def sections(path: Path) -> dict[str, dict[str, list[str]]]:
    """The settings of a unit; one that stands twice has both values."""
    found: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> float:
    units = {"min": 60, "s": 1, "h": 3600}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)(min|s|h)", text))


def test_every_unit_loads_without_a_word(units: Path, tool: Tool) -> None:
    files = [str(path) for path in sorted(units.glob("psoas*.*")) if path.is_file()]
    files = [file for file in files if not file.endswith(".conf")]
    assert len(files) == len(UNITS) + 1
    run = analyze(tool, units, "verify", "--man=no", *files)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [("Type=notify", "Type=notfy"), ("[Install]", "Wants=none.service\n[Install]")],
)
def test_a_mistake_in_a_unit_would_be_seen(
    units: Path, tool: Tool, before: str, after: str
) -> None:
    unit = units / "psoas-listener.service"
    unit.write_text(unit.read_text().replace(before, after))
    assert analyze(tool, units, "verify", "--man=no", str(unit)).stderr != ""


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_away_little(units: Path, tool: Tool, name: str) -> None:
    unit = str(units / f"psoas-{name}.service")
    run = analyze(tool, units, "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", unit)
    assert run.returncode == 0, run.stdout
    told: list[dict[str, Any]] = json.loads(
        analyze(tool, units, "security", "--offline=true", "--json=short", unit).stdout
    )
    missing = {entry["json_field"] for entry in told if entry["set"] is False}
    for_the_gpu = {"PrivateDevices", "MemoryDenyWriteExecute"}
    assert missing & for_the_gpu == (for_the_gpu if name == "worker-gpu" else set())
    assert "UserOrDynamicUser" not in missing


@pytest.mark.parametrize("name", UNITS)
def test_the_command_of_a_unit_exists(repository: Path, name: str) -> None:
    service = sections(repository / "deploy" / "systemd" / f"psoas-{name}.service")["Service"]
    assert understands(service["ExecStart"][0].split())


def test_what_is_under_way_is_finished_on_stop(repository: Path) -> None:
    folder = repository / "deploy" / "systemd"
    settings = NodeSettings.model_validate({"storage": {"folder": "x"}})
    common = sections(folder / "psoas-.service.d" / "10-hardening.conf")["Service"]
    # Celery's children would end at once if they were told to stop themselves.
    assert common["KillMode"] == ["mixed"]
    # A node that "psoas drain" stopped ends with 0 and stays stopped.
    assert common["Restart"] == ["on-failure"]
    gpu = sections(folder / "psoas-worker-gpu.service")["Service"]
    assert seconds(gpu["TimeoutStopSec"][0]) > settings.worker.time_limit_s
    listener = sections(folder / "psoas-listener.service")["Service"]
    assert seconds(listener["TimeoutStopSec"][0]) > settings.listener.stop_grace_s
    for name in ("worker-node", "worker-gpu", "console"):
        unit = sections(folder / f"psoas-{name}.service")["Unit"]
        # What starts later stops earlier: the embedded broker outlives its workers.
        assert unit["After"] == ["psoas-listener.service"]


def test_secrets_are_credentials(repository: Path) -> None:
    folder = repository / "deploy" / "systemd"
    common = sections(folder / "psoas-.service.d" / "10-hardening.conf")["Service"]
    assert common["LoadCredential"] == ["secrets:/etc/psoas/secrets"]
    example = (repository / "deploy" / "node.example.toml").read_text()
    assert set(re.findall(r'(?:password|webhook)_file = "(.*?)/', example)) == {"secrets"}


def test_the_account_has_the_number_of_the_container(repository: Path, tool: Tool) -> None:
    conf = repository / "deploy" / "systemd" / "psoas.sysusers.conf"
    run = subprocess.run(
        [tool("systemd-sysusers"), "--dry-run", str(conf)],
        capture_output=True,
        text=True,
        check=True,
    )
    dockerfile = (repository / "deploy" / "Dockerfile").read_text()
    number = re.findall(r"USER (\d+):", dockerfile)[0]
    assert f"UID {number}" in run.stdout + run.stderr or "already exists" in run.stderr
    assert f"u psoas {number} " in conf.read_text()


# PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN of Linux 6.3: what MemoryDenyWriteExecute=yes asks for.
LOCKED = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(99)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
# A container whose root is read-only; its volume is the one place that is not.
SEALED = """
mount --bind "$0" "$0" && mount -o remount,ro,bind / || exit 99
touch /written 2>/dev/null && exit 98
exec "$@"
"""


def first_news(tmp_path: Path, *before: str) -> tuple[bytes, int | None]:
    """What a listener in some surroundings tells systemd first, and its status if it ended."""
    config = tmp_path / "node.toml"
    config.write_text(
        '[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n[listener]\nport = 0\n'
    )
    address = str(tmp_path / "notify")
    surroundings = {"NOTIFY_SOCKET": address, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(1)
        process = subprocess.Popen(
            [*before, "-m", "dicom_node", "serve", "--config", str(config)],
            env={**os.environ, **surroundings},
            stderr=subprocess.DEVNULL,
        )
        try:
            news = b""
            while not news and process.poll() is None:
                try:
                    news = manager.recv(100)
                except TimeoutError:
                    continue
            return news, process.returncode
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.mark.network
def test_the_listener_needs_no_memory_that_is_writable_and_executable(tmp_path: Path) -> None:
    news, status = first_news(tmp_path, sys.executable, "-c", LOCKED)
    if status == 99:
        pytest.skip("this kernel cannot forbid such memory")
    assert news == b"READY=1"


@pytest.mark.network
@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_the_listener_writes_to_its_volume_only(tmp_path: Path, tool: Tool) -> None:
    sealed = [tool("unshare"), "--mount", "sh", "-c", SEALED, str(tmp_path)]
    news, status = first_news(tmp_path, *sealed, sys.executable)
    assert status not in {98, 99}
    assert news == b"READY=1"
