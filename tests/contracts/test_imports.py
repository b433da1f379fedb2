import subprocess
import sys

import pytest

# The last one is dictionaries of all concepts: 115 MiB, and half a second at each start.
HEAVY = {"torch", "monai", "SimpleITK", "highdicom", "pydicom.sr"}
LISTENING = [
    "dicom_node.admission",
    "dicom_node.ae",
    "dicom_node.assembly",
    "dicom_node.dispatch",
    "dicom_node.housekeeping",
    "dicom_node.ledger",
    "dicom_node.outbox",
    "dicom_node.receiver",
    "dicom_node.sender",
    "dicom_node.serve",
    "dicom_node.spool",
]


@pytest.mark.parametrize("modules", [LISTENING], ids=["listener"])
def test_the_listening_process_never_loads_what_measures(modules: list[str]) -> None:
    # import-linter reads the sources; only a fresh interpreter sees what is loaded in the end.
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=280
    )
    loaded = set(run.stdout.split())
    assert set(modules) <= loaded
    assert not loaded & HEAVY
