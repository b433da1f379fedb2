"""Trained checkpoints turned into a model folder that the pipeline loads."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.tissues import Compartment
from pipeline.weights import LoadedModel, load_model
from training import checkpoint
from training.card import write_card

_AVERAGE_PREFIX: Final = "module."
_ANY_THRESHOLD: Final = 0.45


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a manifest says besides the weights.

    Parameters
    ----------
    name, version : str
    threshold : float
        Probability from which a pixel is muscle compartment.
    calibration : Mapping or None
        ``{"scores": [...], "patients": n}``.
    data : Mapping
        Where images and labels come from, and their licences.
    evaluation : Mapping or None
        What was measured, for the model card: an entry of ``evaluation.json``.
    """

    name: str
    version: str
    threshold: float
    calibration: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None


def export(
    checkpoints: Sequence[Path], description: ModelDescription, folder: Path
) -> dict[str, Any]:
    """Write a model folder with one member for each checkpoint.

    Parameters
    ----------
    checkpoints : sequence of Path
        Of runs with the same network and preprocessing.
    description : ModelDescription
    folder : Path
        Weight files of an earlier export that are not written again are removed. Weights, manifest
        and model card are written.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If the checkpoints differ in network or preprocessing.
    """
    states = [checkpoint.load(path) for path in checkpoints]
    recipes = [state["recipe"] for state in states]
    shared = [(r["network"], r["arguments"], r["preprocess"]) for r in recipes]
    if any(other != shared[0] for other in shared):
        raise ValueError("members of an ensemble must share network and preprocessing")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    files = [
        _write_member(folder / f"member_{index}.safetensors", _weights(state))
        for index, state in enumerate(states)
    ]
    network, arguments, preprocess = shared[0]
    manifest = {
        "name": description.name,
        "version": description.version,
        "software_version": version("psoas"),
        "network": {
            "name": network,
            "arguments": {**arguments, "out_channels": len(Compartment)},
        },
        "preprocess": preprocess,
        "files": files,
        "labels": [compartment.name.lower() for compartment in Compartment],
        "extra": {"threshold": description.threshold, "calibration": description.calibration},
        "data": {
            **description.data,
            "held_out": [list(r["held_out"]) for r in recipes],
            "steps": [state["step"] for state in states],
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    write_card(folder, manifest, states, description.evaluation)
    return manifest


def load_checkpoint(path: Path, device: torch.device) -> LoadedModel:
    """Load a checkpoint as the node would load what is exported from it."""
    with tempfile.TemporaryDirectory() as folder:
        export([path], ModelDescription("run", "0", _ANY_THRESHOLD), Path(folder))
        return load_model(Path(folder), device)


def _weights(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the running mean of the weights, that of the best validation if there was one."""
    chosen: Mapping[str, Tensor] = state.get("best") or state["average"]
    return chosen


def _write_member(path: Path, average: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the running mean of the weights in half precision."""
    tensors = {
        key.removeprefix(_AVERAGE_PREFIX): value.half().contiguous()
        for key, value in average.items()
        if key.startswith(_AVERAGE_PREFIX) and value.is_floating_point()
    }
    save_file(tensors, path)
    path.chmod(0o644)
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
