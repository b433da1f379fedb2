from pathlib import Path

import pytest

import dicom_node


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """Return the folder of the twenty real slices that are shipped; L3 is number 9 from below."""
    return Path(dicom_node.__file__).parent / "demo" / "ct"
