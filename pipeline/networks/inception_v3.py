"""Inception V3 of slices, whole, without its head and its auxiliary head.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016. Parameters
have torchvision's names, so that published weights load; the tables below are the architecture.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

CHANNELS: Final = 2048
"""Of what the network returns."""

BLOCKS: Final[tuple[tuple[str, ...], ...]] = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
"""Modules from the entrance to the end, in the groups that are unfrozen together."""

Kernel = tuple[int, int]
_NONE: Final = (0, 0)


class Layer(NamedTuple):
    """A convolution with what belongs to it."""

    name: str
    channels: int
    kernel: Kernel
    stride: int
    padding: Kernel


class Chain(NamedTuple):
    """Layers after each other, and a fork of layers that all read the last of them."""

    layers: tuple[Layer, ...]
    fork: tuple[Layer, ...] = ()
    pool: str = ""


class ConvNorm(nn.Module):
    """A convolution without bias, batch norm and ReLU.

    Parameters
    ----------
    channels_in : int
    layer : Layer
    """

    def __init__(self, channels_in: int, layer: Layer) -> None:
        super().__init__()
        _, channels, kernel, stride, padding = layer
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class InceptionV3(nn.Module):
    """Features of images of three channels.

    Parameters
    ----------
    pool_counts_padding : bool
        Zeros around a map count in its average pools, as in torchvision; in Keras they do not.
    """

    def __init__(self, *, pool_counts_padding: bool = True) -> None:
        super().__init__()
        channels = 3
        for layer in _STEM:
            self.add_module(layer.name, ConvNorm(channels, layer))
            channels = layer.channels
        for name, chains in _MIXED:
            mixed = _Mixed(channels, chains, pool_counts_padding=pool_counts_padding)
            self.add_module(name, mixed)
            channels = mixed.channels

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return features, (B, 3, rows, columns) to (B, CHANNELS).

        Sides of 75 pixels and more.
        """
        x = images
        for layer in _STEM:
            x = self.get_submodule(layer.name)(x)
            if layer.name in _POOL_AFTER:
                x = functional.max_pool2d(x, 3, 2)
        for name, _ in _MIXED:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


class _Mixed(nn.Module):
    """Chains of layers over the same input, their outputs side by side."""

    def __init__(
        self, channels_in: int, chains: Sequence[Chain], *, pool_counts_padding: bool
    ) -> None:
        super().__init__()
        self.chains = chains
        self.pool_counts_padding = pool_counts_padding
        self.channels = 0
        for chain in chains:
            channels = channels_in
            for layer in chain.layers:
                self.add_module(layer.name, ConvNorm(channels, layer))
                channels = layer.channels
            for layer in chain.fork:
                self.add_module(layer.name, ConvNorm(channels, layer))
            self.channels += sum(layer.channels for layer in chain.fork) or channels

    @override
    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for chain in self.chains:
            y = self._pooled(x, chain.pool)
            for layer in chain.layers:
                y = self.get_submodule(layer.name)(y)
            outputs += [self.get_submodule(layer.name)(y) for layer in chain.fork] or [y]
        return torch.cat(outputs, dim=1)

    def _pooled(self, x: Tensor, pool: str) -> Tensor:
        if pool == "average":
            return functional.avg_pool2d(
                x, 3, stride=1, padding=1, count_include_pad=self.pool_counts_padding
            )
        return functional.max_pool2d(x, 3, 2) if pool == "largest" else x


def same(name: str, channels: int, *kernel: int) -> Layer:
    """Describe a layer whose output has the sides of its input."""
    rows, columns = kernel if len(kernel) == 2 else kernel * 2
    return Layer(name, channels, (rows, columns), 1, (rows // 2, columns // 2))


def half(name: str, channels: int) -> Layer:
    """Describe a layer that halves the sides."""
    return Layer(name, channels, (3, 3), 2, _NONE)


def unpadded(name: str, channels: int) -> Layer:
    """Describe a layer that takes a pixel off every side."""
    return Layer(name, channels, (3, 3), 1, _NONE)


def _narrow(pool_channels: int) -> tuple[Chain, ...]:
    """Describe maps of an eighth of the image's sides: 5 x 5, and 3 x 3 twice."""
    twice = (
        same("branch3x3dbl_1", 64, 1), same("branch3x3dbl_2", 96, 3), same("branch3x3dbl_3", 96, 3),
    )  # fmt: skip
    return (
        Chain((same("branch1x1", 64, 1),)),
        Chain((same("branch5x5_1", 48, 1), same("branch5x5_2", 64, 5))),
        Chain(twice),
        Chain((same("branch_pool", pool_channels, 1),), pool="average"),
    )


def _long(channels: int) -> tuple[Chain, ...]:
    """Describe maps of a sixteenth: 7 x 7 as 1 x 7 and 7 x 1, once and twice."""
    once = (
        same("branch7x7_1", channels, 1),
        same("branch7x7_2", channels, 1, 7),
        same("branch7x7_3", 192, 7, 1),
    )
    twice = (
        same("branch7x7dbl_1", channels, 1),
        same("branch7x7dbl_2", channels, 7, 1),
        same("branch7x7dbl_3", channels, 1, 7),
        same("branch7x7dbl_4", channels, 7, 1),
        same("branch7x7dbl_5", 192, 1, 7),
    )
    return (
        Chain((same("branch1x1", 192, 1),)),
        Chain(once),
        Chain(twice),
        Chain((same("branch_pool", 192, 1),), pool="average"),
    )


_TO_SIXTEENTH: Final = (
    Chain((half("branch3x3", 384),)),
    Chain(
        (same("branch3x3dbl_1", 64, 1), same("branch3x3dbl_2", 96, 3), half("branch3x3dbl_3", 96))
    ),
    Chain((), pool="largest"),
)
_TO_THIRTYSECOND: Final = (
    Chain((same("branch3x3_1", 192, 1), half("branch3x3_2", 320))),
    Chain(
        (
            same("branch7x7x3_1", 192, 1),
            same("branch7x7x3_2", 192, 1, 7),
            same("branch7x7x3_3", 192, 7, 1),
            half("branch7x7x3_4", 192),
        )
    ),
    Chain((), pool="largest"),
)
_WIDE: Final = (
    Chain((same("branch1x1", 320, 1),)),
    Chain(
        (same("branch3x3_1", 384, 1),),
        fork=(same("branch3x3_2a", 384, 1, 3), same("branch3x3_2b", 384, 3, 1)),
    ),
    Chain(
        (same("branch3x3dbl_1", 448, 1), same("branch3x3dbl_2", 384, 3)),
        fork=(same("branch3x3dbl_3a", 384, 1, 3), same("branch3x3dbl_3b", 384, 3, 1)),
    ),
    Chain((same("branch_pool", 192, 1),), pool="average"),
)

_STEM: Final = (
    half("Conv2d_1a_3x3", 32),
    unpadded("Conv2d_2a_3x3", 32),
    same("Conv2d_2b_3x3", 64, 3),
    same("Conv2d_3b_1x1", 80, 1),
    unpadded("Conv2d_4a_3x3", 192),
)
_POOL_AFTER: Final = frozenset({"Conv2d_2b_3x3", "Conv2d_4a_3x3"})
_MIXED: Final[tuple[tuple[str, tuple[Chain, ...]], ...]] = (
    ("Mixed_5b", _narrow(32)),
    ("Mixed_5c", _narrow(64)),
    ("Mixed_5d", _narrow(64)),
    ("Mixed_6a", _TO_SIXTEENTH),
    ("Mixed_6b", _long(128)),
    ("Mixed_6c", _long(160)),
    ("Mixed_6d", _long(160)),
    ("Mixed_6e", _long(192)),
    ("Mixed_7a", _TO_THIRTYSECOND),
    ("Mixed_7b", _WIDE),
    ("Mixed_7c", _WIDE),
)
