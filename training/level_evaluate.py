"""How well finders of L3 do on volumes whose patient they had not seen."""

import json
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from pipeline.errors import PipelineError
from pipeline.level.l3 import L3Finder, load_level_finder
from training import checkpoint
from training.data import read_images
from training.level_export import export_level

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One volume: what was found and what was drawn.

    Parameters
    ----------
    case, patient : str
    seen_in_training : bool
    code : str
        ``"FOUND"`` or the code of the refusal.
    error_mm : float or None
        Found minus drawn, along the body; ``None`` when L3 was refused or is not drawn.
    has_l3 : bool
        Whether L3 is drawn.
    confidence : float or None
    """

    case: str
    patient: str
    seen_in_training: bool
    code: str
    error_mm: float | None
    has_l3: bool
    confidence: float | None


def evaluate_level(
    checkpoints: Sequence[Path], data_folder: Path, case_list: Path
) -> list[LevelResult]:
    """Find L3 in every volume of a list.

    A volume is read by the first finder that did not see its patient; where every finder did, by
    the first one, and the result says so. Volumes without vertebrae are negatives.

    Parameters
    ----------
    checkpoints : sequence of Path
        Of ``training.level``.
    data_folder : Path
    case_list : Path
        As for ``training.level_cases.read_cases``.
    """
    held_out = [tuple(checkpoint.load(path)["recipe"]["held_out"]) for path in checkpoints]
    finders = [_finder(path) for path in checkpoints]
    table = tomllib.loads(case_list.read_text())
    results = []
    for entry in [*_volumes(table), *_negatives(data_folder, table["negatives"])]:
        unseen = [i for i, patients in enumerate(held_out) if entry["patient"] in patients]
        finder = finders[unseen[0] if unseen else 0]
        result = _evaluate_case(finder, data_folder, entry, seen=not unseen)
        log.info("volume", case=result.case, code=result.code, error_mm=result.error_mm)
        results.append(result)
    return results


def _volumes(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in table["case"] if "images" in entry]


def _negatives(data_folder: Path, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    paths = sorted(data_folder.glob(entry["images"]))
    return [
        {"name": path.name.split(".")[0], "patient": path.name.split(".")[0], "images": path}
        for path in paths
    ]


def _evaluate_case(
    finder: L3Finder, data_folder: Path, entry: Mapping[str, Any], *, seen: bool
) -> LevelResult:
    volume = read_images(data_folder / entry["images"])
    drawn: dict[str, Any] = {}
    if "labels" in entry:
        drawn = json.loads((data_folder / entry["labels"]).read_text())["vertebrae"]
    has_l3 = "L3" in drawn
    try:
        level = finder.find(volume)
    except PipelineError as refusal:
        return LevelResult(
            entry["name"], entry["patient"], seen, refusal.code, None, has_l3, confidence=None
        )
    z_mm = float(volume.affine[2, 3] + volume.affine[2, 0] * level.slice_index)
    error_mm = z_mm - drawn["L3"]["z_mm"] if has_l3 else None
    return LevelResult(
        entry["name"], entry["patient"], seen, "FOUND", error_mm, has_l3, level.confidence
    )


def _finder(path: Path) -> L3Finder:
    """Load a checkpoint as the node would load what is exported from it."""
    with tempfile.TemporaryDirectory() as folder:
        export_level([path], "0", {}, Path(folder))
        return load_level_finder(Path(folder), torch.device("cpu"))
