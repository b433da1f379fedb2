"""Arithmetic in half the bits where that is safe."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch

_TYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def low_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which networks are called.

    Parameters
    ----------
    precision : str
        ``"float32"`` changes nothing.
    device : torch.device

    Raises
    ------
    ValueError
        If the precision is unknown, or not to be had on the device.
    """
    if precision == "float32":
        return nullcontext()
    if precision not in _TYPES:
        raise ValueError(f"precision {precision!r} is unknown, known are float32, {list(_TYPES)}")
    if precision == "float16" and device.type != "cuda":
        raise ValueError("float16 needs CUDA; bfloat16 works on a processor too")
    return torch.autocast(device.type, dtype=_TYPES[precision])


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return what keeps small gradients of float16 from vanishing; idle otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
