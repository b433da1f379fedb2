"""Weights that follow from their names, so that two implementations can be given the same ones."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def formula_tensor(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values of a size that keeps activations finite through a deep network."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.replace("/", ".").rsplit(".", 1)[-1]
    if len(shape) == 4:
        # Kernels: (height, width, inputs, outputs) in Keras, (outputs, inputs, ...) in torch.
        fan_in = np.prod(shape) / (shape[-1] if leaf == "kernel" else shape[0])
        values = generator.standard_normal(shape) * np.sqrt(2 / fan_in)
    elif "var" in leaf or leaf in {"gamma", "weight"}:
        values = generator.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * generator.standard_normal(shape)
    return values.astype(np.float32)


def formula_state(network: nn.Module) -> dict[str, Tensor]:
    """State of a torch network; counters stay as they are."""
    return {
        name: torch.from_numpy(formula_tensor(name, tuple(value.shape)))
        if value.is_floating_point()
        else value
        for name, value in network.state_dict().items()
    }


def formula_image() -> NDArray[np.float32]:
    """One image, shape (1, 3, 139, 139), values -1 to 1."""
    return (np.random.default_rng(0).random((1, 3, 139, 139)) * 2 - 1).astype(np.float32)


def listing_digest(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Name a list of tensors by their names and shapes."""
    lines = [f"{name} {list(shape)}" for name, shape in tensors]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
