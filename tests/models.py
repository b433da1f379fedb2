"""Tiny models on disk, made in a moment."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.networks import build_network
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
