"""The state of a training run on disk, complete enough to go on bit for bit."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch


def save(path: Path, state: dict[str, Any], generator: np.random.Generator | None = None) -> None:
    """Write ``state``, never half a file.

    Parameters
    ----------
    path : Path
    state : dict
        Tensors and plain values only, so that it loads without unpickling code.
    generator : numpy.random.Generator or None
        Of samples that depend on what was drawn before; its state and torch's are kept too. Where
        samples are functions of seed and step there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    if generator is not None:
        randomness = {"numpy": generator.bit_generator.state, "torch": torch.get_rng_state()}
        state = state | {"random": randomness}
    torch.save(state, partial)
    os.replace(partial, path)  # noqa: PTH105 - says that it is the atomic one


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the processor."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
