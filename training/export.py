"""Trained checkpoints turned into a model folder that the pipeline loads."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pipeline.tissues import Compartment
from pipeline.weights import LoadedModel, load_model
from training import checkpoint
from training.card import write_card
from training.members import shared_network, write_members

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
    network, arguments, preprocess = shared_network(states)
    files = write_members(folder, [_weights(state) for state in states])
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
    return {
        name.removeprefix(_AVERAGE_PREFIX): tensor
        for name, tensor in chosen.items()
        if name.startswith(_AVERAGE_PREFIX)
    }
