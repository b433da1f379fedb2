import json
import subprocess
import sys

import pytest

# In an interpreter of its own: the configuration belongs to the process.
SCRIPT = """
import logging, warnings, structlog
from dicom_node.config import LogSettings
from dicom_node.logs import configure_logs
configure_logs(LogSettings(level="{level}", json_lines={json_lines}))
logger = structlog.get_logger("dicom_node.receiver")
logging.getLogger("pynetdicom.acse").info("quiet library")
logging.getLogger("pynetdicom.acse").warning("loud library")
warnings.warn_explicit("Phantom^Torso", UserWarning, "valuerep.py", 1, module="pydicom.valuerep")
logger.debug("details")
with structlog.contextvars.bound_contextvars(series="1.2.3"):
    logger.warning("instance refused", status="C000")
"""


def said(level: str, *, json_lines: bool) -> str:
    script = SCRIPT.format(level=level, json_lines=json_lines)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == ""
    return run.stderr


def test_json_lines_carry_the_series() -> None:
    library, refused = [json.loads(line) for line in said("info", json_lines=True).splitlines()]
    assert library["event"] == "loud library"
    assert refused["event"] == "instance refused"
    assert (refused["series"], refused["status"], refused["level"]) == ("1.2.3", "C000", "warning")
    assert refused["timestamp"].endswith("Z")


def test_text_is_for_people() -> None:
    text = said("debug", json_lines=False)
    assert "details" in text
    assert "instance refused" in text
    assert "series" in text


@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_do_not_tell_what_peers_sent(level: str) -> None:
    text = said(level, json_lines=True)
    assert "quiet library" not in text
    assert "Phantom" not in text


def test_less_is_said_when_asked_for() -> None:
    assert said("error", json_lines=True) == ""
