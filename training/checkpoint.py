"""The state of a training run on disk, complete enough to go on bit for bit."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch


def save(path: Path, state: dict[str, Any], generator: np.random.Generator) -> None:
    """Write ``state`` and the state of both random generators, never half a file.

    Parameters
    ----------
    path : Path
    state : dict
        Tensors and plain values only, so that it loads without unpickling code.
    generator : numpy.random.Generator
        Of the samples; torch's own generator is saved too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    randomness = {"numpy": generator.bit_generator.state, "torch": torch.get_rng_state()}
    torch.save(state | {"random": randomness}, partial)
    os.replace(partial, path)  # noqa: PTH105 - says that it is the atomic one


def load(path: Path, generator: np.random.Generator | None = None) -> dict[str, Any]:
    """Read a checkpoint and set both generators back when ``generator`` is given."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    randomness = state.pop("random")
    if generator is not None:
        generator.bit_generator.state = randomness["numpy"]
        torch.set_rng_state(randomness["torch"])
    return state
