"""Tiny models on disk, made in a moment."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.networks import build_network
from pipeline.networks.classifier import CLASSES
from pipeline.preprocess import PreprocessSpec
from pipeline.tissues import Compartment

ARGUMENTS: dict[str, Any] = {"out_channels": len(Compartment)}


def write_tiny_model(folder: Path, members: int = 1, **changes: object) -> Path:
    """Write an untrained ``smit_test`` segmenter; ``changes`` replace entries of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for member in range(members):
        torch.manual_seed(member)
        state = build_network("smit_test", ARGUMENTS).state_dict()
        path = folder / f"member_{member}.safetensors"
        save_file({k: v.half() for k, v in state.items() if v.is_floating_point()}, path)
        files.append({"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    manifest = {
        "name": "tiny",
        "version": "1",
        "software_version": "0",
        "network": {"name": "smit_test", "arguments": ARGUMENTS},
        "preprocess": PreprocessSpec().to_dict(),
        "files": files,
        "labels": [compartment.name.lower() for compartment in Compartment],
        "extra": {"threshold": 0.45, "calibration": None},
        "data": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


def write_tiny_classifier(
    folder: Path, bias: tuple[float, float] = (0.0, 0.0), **changes: object
) -> Path:
    """Write an untrained classifier for images of 64 x 64 cells of 6 mm; ``bias`` is its head's.

    ``changes`` replace entries of its manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = build_network("resnet50", {}).state_dict()
    state["head.bias"] = torch.tensor(bias)
    path = folder / "member_0.safetensors"
    save_file({k: v.half() for k, v in state.items() if v.is_floating_point()}, path)
    spec = PreprocessSpec(spacing_mm=(6.0, 6.0), side_multiple=64, smallest_side=64)
    manifest = {
        "name": "tiny_classifier",
        "version": "1",
        "software_version": "0",
        "network": {"name": "resnet50", "arguments": {}},
        "preprocess": spec.to_dict(),
        "files": [{"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
        "labels": list(CLASSES),
        "extra": {"threshold": 0.5},
        "data": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder
