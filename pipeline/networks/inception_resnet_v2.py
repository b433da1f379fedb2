"""Inception-ResNet V2 of slices, whole, without its head.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017. Parameters have timm's names, so that published weights load; the
architecture is that of Google's release, which Keras and timm share.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pipeline.networks.inception_v3 import ConvNorm, Layer, half, same, unpadded

CHANNELS: Final = 1536
"""Of what the network returns."""

BLOCKS: Final[tuple[tuple[str, ...], ...]] = (
    ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a"),
    ("mixed_5b", "repeat"),
    ("mixed_6a", "repeat_1"),
    ("mixed_7a", "repeat_2", "block8", "conv2d_7b"),
)
"""Modules from the entrance to the end, in the groups that are unfrozen together."""


class InceptionResNetV2(nn.Module):
    """Features of images of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = ConvNorm(3, half("", 32))
        self.conv2d_2a = ConvNorm(32, unpadded("", 32))
        self.conv2d_2b = ConvNorm(32, same("", 64, 3))
        self.conv2d_3b = ConvNorm(64, same("", 80, 1))
        self.conv2d_4a = ConvNorm(80, unpadded("", 192))
        self.mixed_5b = _Mixed(192, _FIRST, "average")
        self.repeat = nn.Sequential(*(_Residual(320, _SHORT, 0.17) for _ in range(10)))
        self.mixed_6a = _Mixed(320, _TO_SIXTEENTH, "largest")
        self.repeat_1 = nn.Sequential(*(_Residual(1088, _LONG, 0.1) for _ in range(20)))
        self.mixed_7a = _Mixed(1088, _TO_THIRTYSECOND, "largest")
        self.repeat_2 = nn.Sequential(*(_Residual(2080, _LAST, 0.2) for _ in range(9)))
        self.block8 = _Residual(2080, _LAST, 1.0, last=True)
        self.conv2d_7b = ConvNorm(2080, same("", CHANNELS, 1))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return features, (B, 3, rows, columns) to (B, CHANNELS).

        Sides of 75 pixels and more.
        """
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        x = self.conv2d_4a(self.conv2d_3b(functional.max_pool2d(x, 3, 2)))
        x = self.repeat(self.mixed_5b(functional.max_pool2d(x, 3, 2)))
        x = self.repeat_1(self.mixed_6a(x))
        x = self.block8(self.repeat_2(self.mixed_7a(x)))
        features: Tensor = self.conv2d_7b(x).mean(dim=(2, 3))
        return features


def _chain(channels: int, layers: Sequence[Layer]) -> nn.Module:
    """Stack layers; one alone is not wrapped, as the published names have it."""
    stacked = []
    for layer in layers:
        stacked.append(ConvNorm(channels, layer))
        channels = layer.channels
    return stacked[0] if len(stacked) == 1 else nn.Sequential(*stacked)


class _Mixed(nn.Module):
    """Chains of layers over the same input and a pool, their outputs side by side."""

    def __init__(self, channels: int, chains: Sequence[Sequence[Layer]], pool: str) -> None:
        super().__init__()
        for place, layers in enumerate(chains):
            self.add_module(f"branch{place}", _chain(channels, layers))
        self.count = len(chains)
        self.pool: nn.Module = nn.MaxPool2d(3, 2)
        if pool == "average":
            # Published files have the pool as layer 0 of the branch and its convolution as 1.
            average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
            self.pool = nn.Identity()
            self.add_module(f"branch{self.count}", nn.Sequential(average, _chain(channels, _POOL)))
            self.count += 1

    @override
    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.get_submodule(f"branch{place}")(x) for place in range(self.count)]
        if not isinstance(self.pool, nn.Identity):
            outputs.append(self.pool(x))
        return torch.cat(outputs, dim=1)


class _Residual(nn.Module):
    """Chains whose outputs, brought to the channels of the input and scaled, are added to it."""

    def __init__(
        self, channels: int, chains: Sequence[Sequence[Layer]], scale: float, *, last: bool = False
    ) -> None:
        super().__init__()
        for place, layers in enumerate(chains):
            self.add_module(f"branch{place}", _chain(channels, layers))
        self.count = len(chains)
        self.conv2d = nn.Conv2d(sum(layers[-1].channels for layers in chains), channels, 1)
        self.scale = scale
        self.last = last

    @override
    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.get_submodule(f"branch{place}")(x) for place in range(self.count)]
        y = x + self.scale * self.conv2d(torch.cat(outputs, dim=1))
        return y if self.last else functional.relu(y)


# Chains have no names of their own here: their place in the module is their name.
_POOL: Final = (same("", 64, 1),)
_FIRST: Final = (
    (same("", 96, 1),),
    (same("", 48, 1), same("", 64, 5)),
    (same("", 64, 1), same("", 96, 3), same("", 96, 3)),
)
_SHORT: Final = (
    (same("", 32, 1),),
    (same("", 32, 1), same("", 32, 3)),
    (same("", 32, 1), same("", 48, 3), same("", 64, 3)),
)
_TO_SIXTEENTH: Final = (
    (half("", 384),),
    (same("", 256, 1), same("", 256, 3), half("", 384)),
)
_LONG: Final = (
    (same("", 192, 1),),
    (same("", 128, 1), same("", 160, 1, 7), same("", 192, 7, 1)),
)
_TO_THIRTYSECOND: Final = (
    (same("", 256, 1), half("", 384)),
    (same("", 256, 1), half("", 288)),
    (same("", 256, 1), same("", 288, 3), half("", 320)),
)
_LAST: Final = (
    (same("", 192, 1),),
    (same("", 192, 1), same("", 224, 1, 3), same("", 256, 3, 1)),
)
