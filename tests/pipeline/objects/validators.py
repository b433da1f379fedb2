"""Programs of others that judge our objects, and what they said."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.types import CTVolume

Tool = Callable[[str], str]

# The stylesheets of the validator need more than Java allows by default.
_LIMITS = "-Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathExprGrpLimit=0"
# It ends before the second compiler and collector threads pay: 16 s of a core instead of 29.
_JAVA = f"{_LIMITS} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def stored(result: Dataset, path: Path) -> Path:
    result.save_as(path, enforce_file_format=True)
    return path


def dciodvfy_errors(tool: Tool, path: Path) -> list[str]:
    """Errors of David Clunie's dciodvfy."""
    lines = _said([tool("dciodvfy"), str(path)]).splitlines()
    return [line for line in lines if line.startswith("Error")]


def dsrdump_complaints(tool: Tool, path: Path) -> list[str]:
    """Errors and warnings of DCMTK's reader of structured reports."""
    run = subprocess.run(
        [tool("dsrdump"), str(path)], check=False, capture_output=True, text=True, errors="replace"
    )
    complaints = [line for line in run.stderr.splitlines() if re.match(r"[EFW]: ", line)]
    # It cannot judge values in UTF-8 and says so.
    complaints = [line for line in complaints if "VR checker does not support" not in line]
    return complaints if run.returncode == 0 else [f"status {run.returncode}", *complaints]


def pixelmed_errors(tool: Tool, path: Path) -> list[str]:
    """Errors of PixelMed's validator of templates; that it broke off is one."""
    said = _said([tool("DicomSRValidator"), str(path)], JAVA_TOOL_OPTIONS=_JAVA)
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    whole = "IOD validation complete" in said and "Root Template Validation Complete" in said
    return errors if whole else [*errors, f"it broke off: {said[-200:]}"]


def dcmqi_masks(tool: Tool, path: Path, folder: Path) -> list[SimpleITK.Image]:
    """Each segment as dcmqi reads it."""
    folder.mkdir()
    _said(
        [
            *(tool("segimage2itkimage"), "--inputDICOM", str(path)),
            *("--outputDirectory", str(folder), "-t", "nrrd"),
        ]
    )
    files = sorted(folder.glob("*.nrrd"), key=lambda file: int(file.stem.rsplit("-")[-1]))
    return [SimpleITK.ReadImage(str(file)) for file in files]


def on_grid_of(volume: CTVolume, mask: SimpleITK.Image, index: int) -> NDArray[np.bool_]:
    """Ask a mask at the middle of each pixel of a slice; the grids must agree to 0.01 pixels."""
    shape = volume.hu.shape[1:]
    rows, columns = np.indices(shape)
    homogeneous = np.stack([np.full(shape, index), rows, columns, np.ones(shape)], axis=-1)
    places_mm = homogeneous @ volume.affine.T[:, :3]
    direction = np.array(mask.GetDirection()).reshape(3, 3)
    indices = (places_mm - mask.GetOrigin()) @ direction / mask.GetSpacing()
    nearest = np.rint(indices).astype(int)
    assert np.abs(indices - nearest).max() < 0.01, "the grids differ"
    column, row, plane = np.moveaxis(nearest, -1, 0)
    found: NDArray[np.bool_] = SimpleITK.GetArrayViewFromImage(mask)[plane, row, column] > 0
    return found


def dcmqi_report(tool: Tool, path: Path, output: Path) -> dict[str, Any]:
    """Return the report as dcmqi reads it."""
    _said([tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(output)])
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def _said(command: list[str], **environment: str) -> str:
    run = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | environment,
    )
    return run.stdout
