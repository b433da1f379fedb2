"""The SMIT network: a Swin encoder with a UNETR decoder, in two or three dimensions.

Jiang et al., "Self-supervised 3D anatomy segmentation using self-distilled masked image
transformer (SMIT)", MICCAI 2022. Windows and merging follow Liu et al., "Swin Transformer", ICCV
2021; the decoder follows Hatamizadeh et al., "UNETR", WACV 2022. Blocks come from MONAI.

Three things set it apart from MONAI's ``SwinUNETR``: the patch embedding is normalised, patch
merging follows each of the four stages, and a skip is the output of a stage's blocks *before* the
merging, through a LayerNorm of its own. In three dimensions the parameter names are the published
ones, except for ``mlp.fc1``/``mlp.fc2`` (here ``mlp.linear1``/``mlp.linear2``) and the order of
the merged neighbours.

Shapes: B batch, C channels, D/H/W spatial, N tokens of a window; channels stand last inside the
encoder, first outside of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.mlp import MLPBlock
from monai.networks.blocks.patchembedding import PatchEmbed
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.layers.drop_path import DropPath
from monai.networks.nets.swin_unetr import PatchMergingV2, WindowAttention
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

WindowMerge = Literal["standard", "smit_published"]


@dataclass(frozen=True, slots=True)
class SmitConfig:
    """Shape of a SMIT network.

    Parameters
    ----------
    spatial_dims : int
        2 for slices, 3 for volumes.
    in_channels, out_channels : int
    embed_dim : int
        Channels of the first stage; each later stage has twice as many.
    depths, heads : tuple of int
        Blocks and attention heads of the four stages.
    window : int
        Side of an attention window in tokens; odd blocks are shifted by half of it.
    mlp_ratio : float
    qkv_bias : bool
    drop_path : float
        Stochastic depth of the last block; it rises linearly from 0 at the first.
    decoder_norm : str
        ``"instance"`` or ``"batch"``.
    window_merge : str
        ``"standard"``, or ``"smit_published"`` for weights that were trained with the published
        sources, which put the tokens of a window back in a permuted order.
    mask_token : bool
        Adds the learned token that stands for masked patches in pre-training.
    """

    spatial_dims: int = 3
    in_channels: int = 1
    out_channels: int = 2
    embed_dim: int = 48
    depths: tuple[int, ...] = (2, 2, 12, 2)
    heads: tuple[int, ...] = (4, 4, 8, 16)
    window: int = 4
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    drop_path: float = 0.1
    decoder_norm: str = "instance"
    window_merge: WindowMerge = "standard"
    mask_token: bool = False

    def __post_init__(self) -> None:
        if self.spatial_dims not in {2, 3}:
            raise ValueError(f"spatial_dims is {self.spatial_dims}, must be 2 or 3")
        if len(self.depths) != 4 or len(self.heads) != 4:
            raise ValueError(f"depths {self.depths} and heads {self.heads} must name four stages")
        for dim, heads in zip(self.stage_dims, self.heads, strict=True):
            if dim % heads:
                raise ValueError(f"{dim} channels cannot be split into {heads} heads")
        if self.decoder_norm not in {"instance", "batch"}:
            raise ValueError(f"decoder_norm {self.decoder_norm!r} must be 'instance' or 'batch'")
        if self.window_merge not in {"standard", "smit_published"}:
            raise ValueError(f"window_merge {self.window_merge!r} is unknown")

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.embed_dim * 2**stage for stage in range(4))


class SmitNetwork(nn.Module):
    """Image to compartment logits.

    Parameters
    ----------
    config : SmitConfig

    Notes
    -----
    Takes (B, in_channels, H, W) or (B, in_channels, D, H, W) with sides that are multiples of 32,
    returns (B, out_channels, ...) of the same sides.
    """

    def __init__(self, config: SmitConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.stage_dims
        first, last = config.embed_dim, 2 * dims[-1]
        self.transformer = SmitEncoder(config)
        self.encoder1 = _basic_block(config, config.in_channels, first)
        self.encoder2 = _basic_block(config, first, first)
        self.encoder3 = _basic_block(config, dims[1], dims[1])
        self.encoder4 = _basic_block(config, dims[2], dims[2])
        self.encoder10 = _basic_block(config, last, last)
        self.decoder5 = _up_block(config, last, dims[3])
        self.decoder4 = _up_block(config, dims[3], dims[2])
        self.decoder3 = _up_block(config, dims[2], dims[1])
        self.decoder2 = _up_block(config, dims[1], first)
        self.decoder1 = _up_block(config, first, first)
        self.out = UnetOutBlock(config.spatial_dims, first, config.out_channels)

    @override
    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the same sides as ``image``."""
        skips, bottleneck = self.transformer(image)
        x = self.decoder5(self.encoder10(bottleneck), skips[3])
        x = self.decoder4(x, self.encoder4(skips[2]))
        x = self.decoder3(x, self.encoder3(skips[1]))
        x = self.decoder2(x, self.encoder2(skips[0]))
        x = self.decoder1(x, self.encoder1(image))
        logits: Tensor = self.out(x)
        return logits


class SmitEncoder(nn.Module):
    """Patch embedding and four Swin stages, each followed by patch merging.

    Parameters
    ----------
    config : SmitConfig
    """

    def __init__(self, config: SmitConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(
            patch_size=2,
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            norm_layer=nn.LayerNorm,
            spatial_dims=config.spatial_dims,
        )
        rates = np.linspace(0, config.drop_path, sum(config.depths)).tolist()
        ends = [0, *accumulate(config.depths)]
        self.layers = nn.ModuleList(
            Stage(config, stage, rates[start:end])
            for stage, (start, end) in enumerate(pairwise(ends))
        )
        for stage, dim in enumerate(config.stage_dims):
            self.add_module(f"norm{stage}", nn.LayerNorm(dim))
        self.mask_token: nn.Parameter | None = None
        if config.mask_token:
            token = torch.zeros(1, config.embed_dim, *[1] * config.spatial_dims)
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(token, std=0.02))

    @override
    def forward(self, image: Tensor, mask: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the four skips and the bottleneck.

        Parameters
        ----------
        image : Tensor, shape (B, in_channels, ...)
        mask : Tensor of bool or None, shape (B, 1, ...)
            Patches, at half the sides of ``image``, to replace by the mask token.

        Returns
        -------
        tuple
            Skips of stride 2, 4, 8, 16, and the bottleneck of stride 32, channels first.
        """
        features, merged = self.stages(image, mask)
        skips = [
            getattr(self, f"norm{stage}")(feature).movedim(-1, 1).contiguous()
            for stage, feature in enumerate(features)
        ]
        return skips, merged[-1].movedim(-1, 1).contiguous()

    def stages(
        self, image: Tensor, mask: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what each stage's blocks put out, before and after its merging, channels last."""
        x: Tensor = self.patch_embed(image)
        if mask is not None:
            if self.mask_token is None:
                raise ValueError("the network was built without a mask token")
            x = torch.where(mask, self.mask_token.to(x.dtype), x)
        x = x.movedim(1, -1)
        features, merged = [], []
        for layer in self.layers:
            feature, x = layer(x)
            features.append(feature)
            merged.append(x)
        return features, merged


class Stage(nn.Module):
    """The blocks of one stage, then patch merging.

    Parameters
    ----------
    config : SmitConfig
    stage : int
        0 to 3.
    drop_paths : sequence of float
        One rate for each block.
    """

    def __init__(self, config: SmitConfig, stage: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.window = config.window
        self.keeps_shift = config.window_merge == "smit_published"
        dim = config.stage_dims[stage]
        self.blocks = nn.ModuleList(Block(config, stage, rate) for rate in drop_paths)
        self.downsample = PatchMergingV2(dim, nn.LayerNorm, config.spatial_dims)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the blocks and the same merged, both channels last."""
        sides = tuple(x.shape[1:-1])
        window = tuple(min(side, self.window) for side in sides)
        # Where a single window covers an axis there is nothing to shift; the published sources
        # shift nevertheless.
        shift = tuple(
            self.window // 2 if self.keeps_shift or side > self.window else 0 for side in sides
        )
        padded = tuple(-(-side // w) * w for side, w in zip(sides, window, strict=True))
        mask = shift_mask(padded, window, shift, x.device) if any(shift) else None
        for index, block in enumerate(self.blocks):
            x = block(x, window, shift, mask) if index % 2 else block(x, window, (), None)
        return x, self.downsample(x)


class Block(nn.Module):
    """One Swin block: attention within windows, then a two-layer perceptron.

    Parameters
    ----------
    config : SmitConfig
    stage : int
    drop_path : float
    """

    def __init__(self, config: SmitConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        dim = config.stage_dims[stage]
        self.window_merge = config.window_merge
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(
            dim,
            config.heads[stage],
            (config.window,) * config.spatial_dims,
            qkv_bias=config.qkv_bias,
            use_flash_attention=True,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, int(dim * config.mlp_ratio), dropout_mode="swin")

    @override
    def forward(
        self, x: Tensor, window: tuple[int, ...], shift: tuple[int, ...], mask: Tensor | None
    ) -> Tensor:
        """Map (B, ..., C) to the same shape; an empty ``shift`` leaves the windows in place."""
        x = x + self.drop_path(self._attend(self.norm1(x), window, shift, mask))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attend(
        self, x: Tensor, window: tuple[int, ...], shift: tuple[int, ...], mask: Tensor | None
    ) -> Tensor:
        sides = x.shape[1:-1]
        pads = [(-side) % w for side, w in zip(sides, window, strict=True)]
        x = functional.pad(x, [0, 0] + [p for pad in reversed(pads) for p in (0, pad)])
        padded = tuple(x.shape[1:-1])
        axes = tuple(range(1, x.ndim - 1))
        if shift:
            x = torch.roll(x, tuple(-s for s in shift), axes)
        windows = self.attn(window_partition(x, window), mask)
        x = window_reverse(windows, window, padded, self.window_merge)
        if shift:
            x = torch.roll(x, shift, axes)
        return x[(slice(None), *(slice(0, side) for side in sides))]


def window_partition(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """Cut (B, ..., C) into windows of tokens, shape (B * windows, N, C)."""
    n = len(window)
    split: list[int] = [x.shape[0]]
    for side, w in zip(x.shape[1:-1], window, strict=True):
        split += [side // w, w]
    x = x.reshape(*split, x.shape[-1])
    outer, inner = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
    x = x.permute(0, *outer, *inner, 2 * n + 1)
    return x.reshape(-1, math.prod(window), x.shape[-1])


def window_reverse(
    windows: Tensor, window: tuple[int, ...], sides: tuple[int, ...], merge: WindowMerge
) -> Tensor:
    """Undo ``window_partition``.

    Parameters
    ----------
    windows : Tensor, shape (B * windows, N, C)
    window, sides : tuple of int
    merge : str
        ``"smit_published"`` applies the permutation (0, 1, 3, 5, 2, 4, 6, 7) of the published
        sources, which is not the inverse (0, 1, 4, 2, 5, 3, 6, 7) in three dimensions. In two
        dimensions the two are the same.

    Returns
    -------
    Tensor, shape (B, ..., C)
    """
    n = len(window)
    counts = [side // w for side, w in zip(sides, window, strict=True)]
    x = windows.reshape(-1, *counts, *window, windows.shape[-1])
    if merge == "smit_published" and n == 3:
        x = x.permute(0, 1, 3, 5, 2, 4, 6, 7)
    else:
        order = [
            axis
            for pair in zip(range(1, n + 1), range(n + 1, 2 * n + 1), strict=True)
            for axis in pair
        ]
        x = x.permute(0, *order, 2 * n + 1)
    return x.reshape(-1, *sides, windows.shape[-1])


def shift_mask(
    sides: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: torch.device
) -> Tensor:
    """Bias that keeps tokens apart which only the cyclic shift made neighbours.

    Returns
    -------
    Tensor, shape (windows, N, N)
        0 within a region, -100 between regions.
    """
    region = torch.zeros((1, *sides, 1), device=device)
    for axis, (side, w, s) in enumerate(zip(sides, window, shift, strict=True)):
        position = torch.arange(side, device=device)
        part = (position >= side - w).int() + (position >= side - s).int() if s else 0 * position
        shape = [1] * region.ndim
        shape[axis + 1] = side
        region = 3 * region + part.reshape(shape)
    ids = window_partition(region, window).squeeze(-1)
    return torch.where(ids[:, None, :] == ids[:, :, None], 0.0, -100.0)


def _basic_block(config: SmitConfig, inputs: int, outputs: int) -> nn.Module:
    block: nn.Module = UnetrBasicBlock(
        config.spatial_dims, inputs, outputs, 3, 1, config.decoder_norm, res_block=True
    )
    return block


def _up_block(config: SmitConfig, inputs: int, outputs: int) -> nn.Module:
    block: nn.Module = UnetrUpBlock(
        config.spatial_dims, inputs, outputs, 3, 2, config.decoder_norm, res_block=True
    )
    return block


_COMPACT = SmitConfig(
    spatial_dims=2, embed_dim=24, depths=(2, 2, 4, 2), heads=(2, 4, 8, 16), window=8
)
_TEST = SmitConfig(spatial_dims=2, embed_dim=12, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=4)


def smit(**arguments: Any) -> SmitNetwork:  # noqa: ANN401 - fields of SmitConfig
    """Build a SMIT network of any shape; ``arguments`` are the fields of ``SmitConfig``."""
    return SmitNetwork(SmitConfig(**arguments))


def smit_full(**changes: Any) -> SmitNetwork:  # noqa: ANN401 - fields of SmitConfig
    """Three dimensions, the shapes of the published 10k-CT model; made for a GPU."""
    return SmitNetwork(replace(SmitConfig(), **changes))


def smit_compact(**changes: Any) -> SmitNetwork:  # noqa: ANN401 - fields of SmitConfig
    """Two dimensions, 6.5 million parameters; runs in a second on a processor."""
    return SmitNetwork(replace(_COMPACT, **changes))


def smit_test(**changes: Any) -> SmitNetwork:  # noqa: ANN401 - fields of SmitConfig
    """Two dimensions, just large enough to have every part."""
    return SmitNetwork(replace(_TEST, **changes))
