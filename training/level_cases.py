"""Views of the spine with their vertebral centres, read from disk for the finder of L3."""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its manual uses
from numpy.typing import NDArray

from pipeline.level.projections import (
    AIR_HU,
    COLUMNS,
    ROW_MM,
    SIDE_COLUMN_MM,
    SpineImages,
    body_of_section,
    project,
)
from pipeline.types import CTVolume
from training.data import read_images

VERTEBRAE: Final = (
    *(f"T{i}" for i in range(1, 13)),
    *(f"L{i}" for i in range(1, 6)),
    "S1",
)
"""Names by number, T1 first with number 1."""

SIDEWAYS_MM: Final = (-7.0, -3.5, 0.0, 3.5, 7.0)
_BODY_BEFORE_PATH_MM: Final = 22.0
_SPINE_FROM_EDGE_MM: Final = 170.0


@dataclass(frozen=True, slots=True, eq=False)
class LevelCase:
    """Views of one image set with what is known of its vertebrae.

    Parameters
    ----------
    name, patient : str
    sides : tuple of NDArray[np.float32], shape (rows, COLUMNS)
        Side views in HU, at slightly different distances from the mid-line.
    front : NDArray[np.float32], shape (3, rows, COLUMNS), or None
        ``None`` for single sagittal images.
    numbers : NDArray[np.float64], shape (vertebrae,)
        Positions in ``VERTEBRAE``, from 1; descending with the row.
    rows, columns : NDArray[np.float64], shape (vertebrae,)
        Centres in the side view.
    confidence : float
        Of the numbering, 0 to 1.
    """

    name: str
    patient: str
    sides: tuple[NDArray[np.float32], ...]
    front: NDArray[np.float32] | None
    numbers: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    confidence: float = 1.0


def read_cases(data_folder: Path, case_list: Path) -> list[LevelCase]:
    """Read all cases of a list, those without vertebrae last.

    Parameters
    ----------
    data_folder : Path
    case_list : Path
        TOML: ``[[case]]`` with ``name``, ``patient``, ``images`` or ``sagittal``, ``labels``, and
        ``[negatives]`` with ``images`` (a pattern) and ``leave_out`` (beginnings of names).
    """
    table = tomllib.loads(case_list.read_text())
    cases = [_read_case(data_folder, case) for case in table["case"]]
    return cases + list(_read_negatives(data_folder, table["negatives"]))


def case_volume(data_folder: Path, case_list: Path, name: str) -> CTVolume:
    """Read the volume of the case ``name``."""
    table = tomllib.loads(case_list.read_text())
    entry = next(case for case in table["case"] if case["name"] == name)
    return read_images(data_folder / entry["images"])


def _read_case(data_folder: Path, entry: Mapping[str, Any]) -> LevelCase:
    labels = json.loads((data_folder / entry["labels"]).read_text())
    read = _read_section if "sagittal" in entry else _read_volume
    case = read(data_folder, entry, labels["vertebrae"])
    confidence = labels.get("numbering_confidence") or 0.95
    return replace(case, confidence=float(confidence))


def _read_volume(
    data_folder: Path, entry: Mapping[str, Any], vertebrae: Mapping[str, Any]
) -> LevelCase:
    volume = read_images(data_folder / entry["images"])
    views = [project(volume, sideways) for sideways in SIDEWAYS_MM]
    middle = views[len(views) // 2]
    z_mm = np.array([point["z_mm"] for point in vertebrae.values()])
    row_of_label = np.array([point["row"] for point in vertebrae.values()], np.float64)
    rows = volume.hu.shape[1]
    if entry.get("rows_from_back"):
        row_of_label = rows - 1 - row_of_label
    row_of_label *= rows / entry.get("label_matrix", rows)
    slices = (z_mm - volume.affine[2, 3]) / volume.affine[2, 0]
    y_mm = row_of_label * volume.affine[1, 1] - middle.edges_mm[0]
    return _case(
        entry,
        tuple(view.side for view in views),
        middle.front,
        vertebrae,
        _rows_of_slices(middle, slices),
        y_mm / SIDE_COLUMN_MM,
    )


def _rows_of_slices(views: SpineImages, slices: NDArray[np.float64]) -> NDArray[np.float64]:
    first, last = views.slice_of_row[[0, -1]]
    count = len(views.slice_of_row)
    return np.asarray((slices - first) / (last - first) * (count - 1), np.float64)


def _read_section(
    data_folder: Path, entry: Mapping[str, Any], vertebrae: Mapping[str, Any]
) -> LevelCase:
    """Read one sagittal image whose rows run to the feet, columns to the back."""
    image = sitk.ReadImage(str(data_folder / entry["sagittal"]))
    pixel_mm = image.GetSpacing()[0]
    hu = np.clip(sitk.GetArrayFromImage(image)[0], AIR_HU, 3000).astype(np.float32)[::-1]
    hu = np.where(body_of_section(hu, pixel_mm), hu, np.float32(AIR_HU))
    points = np.array([(point["row"], point["column"]) for point in vertebrae.values()])
    bottom_rows = hu.shape[0] - 1 - points[:, 0]
    edge = np.median(points[:, 1]) * pixel_mm + _BODY_BEFORE_PATH_MM - _SPINE_FROM_EDGE_MM
    count = int(hu.shape[0] * pixel_mm / ROW_MM)
    row_of = (np.arange(count) + 0.5) * ROW_MM / pixel_mm - 0.5
    column_of = (edge + np.arange(COLUMNS) * SIDE_COLUMN_MM) / pixel_mm
    side = _bilinear(hu, row_of, column_of)
    return _case(
        entry,
        (side,),
        None,
        vertebrae,
        ((bottom_rows + 0.5) * pixel_mm / ROW_MM) - 0.5,
        (points[:, 1] * pixel_mm - edge) / SIDE_COLUMN_MM,
    )


def _bilinear(
    hu: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample ``hu`` on the product of two axes, air outside."""
    own_rows, own_columns = np.arange(hu.shape[0]), np.arange(hu.shape[1])
    across = np.stack([np.interp(columns, own_columns, line, AIR_HU, AIR_HU) for line in hu])
    return np.stack([np.interp(rows, own_rows, line) for line in across.T], axis=1).astype(
        np.float32
    )


def _case(
    entry: Mapping[str, Any],
    sides: tuple[NDArray[np.float32], ...],
    front: NDArray[np.float32] | None,
    vertebrae: Mapping[str, Any],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> LevelCase:
    numbers = np.array([1.0 + VERTEBRAE.index(name) for name in vertebrae])
    order = np.argsort(rows)
    return LevelCase(
        entry["name"],
        entry["patient"],
        sides,
        front,
        numbers[order],
        rows[order],
        columns[order],
    )


def _read_negatives(data_folder: Path, entry: Mapping[str, Any]) -> Iterator[LevelCase]:
    nothing = np.zeros(0)
    for path in sorted(data_folder.glob(entry["images"])):
        if path.name.startswith(tuple(entry["leave_out"])):
            continue
        views = project(read_images(path))
        name = path.name.split(".")[0]
        yield LevelCase(name, name, (views.side,), views.front, nothing, nothing, nothing)
