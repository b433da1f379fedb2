"""Members of an exported ensemble: what they share, and their files of weights."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def shared_network(states: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any], Any]:
    """Name of the network, its arguments and the preprocessing of all checkpoints.

    Raises
    ------
    ValueError
        If the checkpoints differ in them.
    """
    recipes = [state["recipe"] for state in states]
    shared = [(r["network"], r["arguments"], r["preprocess"]) for r in recipes]
    if any(other != shared[0] for other in shared):
        raise ValueError("members of an ensemble must share network and preprocessing")
    return shared[0]


def write_members(folder: Path, weights: Sequence[Mapping[str, Tensor]]) -> list[dict[str, str]]:
    """Write the floating-point tensors of each member in half precision, in place of earlier ones.

    Returns
    -------
    list of dict
        Path within the folder and SHA-256 of each, as a manifest lists them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    return [
        _write(folder / f"member_{index}.safetensors", tensors)
        for index, tensors in enumerate(weights)
    ]


def _write(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    halves = {
        name: tensor.half().contiguous()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    save_file(halves, path)
    path.chmod(0o644)
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
