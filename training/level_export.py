"""Trained finders of L3 turned into a model folder that the pipeline loads."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.level.projections import COLUMNS, FRONT_COLUMN_MM, ROW_MM, SIDE_COLUMN_MM
from pipeline.networks.level import LEVEL_CLASSES
from training import checkpoint
from training.members import write_members


def export_level(
    checkpoints: Sequence[Path], model_version: str, data: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write a model folder with one member for each checkpoint.

    Parameters
    ----------
    checkpoints : sequence of Path
    model_version : str
    data : Mapping
        Where images and labels come from, and their licences.
    folder : Path
        Weight files of an earlier export are removed.

    Returns
    -------
    dict
        The manifest.
    """
    states = [checkpoint.load(path) for path in checkpoints]
    files = write_members(folder, [state["network"] for state in states])
    recipe = states[0]["recipe"]
    manifest = {
        "name": recipe["name"],
        "version": model_version,
        "software_version": version("psoas"),
        "network": {"name": "level", "arguments": {"width": recipe["width"]}},
        "preprocess": {
            "row_mm": ROW_MM,
            "side_column_mm": SIDE_COLUMN_MM,
            "front_column_mm": FRONT_COLUMN_MM,
            "columns": COLUMNS,
        },
        "files": files,
        "labels": list(LEVEL_CLASSES),
        "extra": {},
        "data": {
            **data,
            "held_out": [list(state["recipe"]["held_out"]) for state in states],
            "steps": [state["recipe"]["steps"] for state in states],
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest
