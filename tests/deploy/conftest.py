"""What a deployment finds on its host."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def secrets(tmp_path: Path, repository: Path) -> Path:
    """A folder that deploy/secrets.sh filled."""
    folder = tmp_path / "secrets"
    script = repository / "deploy" / "secrets.sh"
    subprocess.run(["bash", script, folder], check=True, capture_output=True)
    return folder
