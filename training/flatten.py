"""Weights of a volume network turned into those of the same network for slices.

On a volume that is the same in every slice, a convolution acts as the sum of its kernel over the
slices, patch merging as one with the sum of its columns, layer norms and perceptrons as they are.
Attention sees each token once per slice; where the position bias does not depend on the slice it
weighs these alike, elsewhere the mean of the bias is taken. So the slice network starts where the
volume network is on such a volume. The published permutation of windows has no counterpart in a
slice: what published weights are worth flattened has to be measured.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline.networks.smit import SmitConfig


def to_slices(encoder: Mapping[str, Tensor], config: SmitConfig) -> dict[str, Tensor]:
    """Flatten an encoder of three dimensions.

    Parameters
    ----------
    encoder : Mapping
        Under our names, without the mask token.
    config : SmitConfig
        Of three dimensions.

    Raises
    ------
    ValueError
        If the encoder is not one of volumes.
    """
    if config.spatial_dims != 3:
        raise ValueError(f"an encoder of {config.spatial_dims} dimensions cannot be flattened")
    flat = {}
    for key, value in encoder.items():
        if key == "patch_embed.proj.weight":
            flat[key] = value.sum(dim=-1)
        elif key.endswith("relative_position_bias_table"):
            flat[key] = _flat_bias(value, config.window)
        elif ".downsample." not in key and value.is_floating_point():
            flat[key] = value
    for stage in range(4):
        flat |= _flat_merging(encoder, f"layers.{stage}.downsample")
    return flat


def _flat_bias(table: Tensor, window: int) -> Tensor:
    """Mean over the slices of a window, each distance as often as pairs of slices have it."""
    side = 2 * window - 1
    pairs = window - (torch.arange(side) - (window - 1)).abs().to(table.dtype)
    weights = (pairs / pairs.sum())[None, None, :, None]
    volume = table.reshape(side, side, side, -1)
    return (volume * weights).sum(dim=2).reshape(side * side, -1)


def _flat_merging(encoder: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Merge two equal slices: W (g n + b), summed over both, becomes W' (n + b').

    W' has more columns than rows, so a b' that gives the same offset exists.
    """
    weight, scale, offset = (
        encoder[f"{name}.{part}"] for part in ("reduction.weight", "norm.weight", "norm.bias")
    )
    scaled = _sum_of_slices((weight * scale).chunk(8, dim=1))
    constant = weight @ offset
    shift = torch.linalg.lstsq(scaled.double(), constant.double()[:, None], driver="gelsd").solution
    return {
        f"{name}.reduction.weight": scaled,
        f"{name}.norm.weight": torch.ones(scaled.shape[1], dtype=scale.dtype),
        f"{name}.norm.bias": shift[:, 0].to(offset.dtype),
    }


def _sum_of_slices(parts: Sequence[Tensor]) -> Tensor:
    """Columns of (h, w, t) in the order 000, 001, 010 ... to those of (h, w): 00, 10, 01, 11."""
    pairs = [parts[i] + parts[i + 1] for i in range(0, 8, 2)]
    return torch.cat([pairs[i] for i in (0, 2, 1, 3)], dim=1)
