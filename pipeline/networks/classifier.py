"""Classifiers of a slice: a published backbone with one linear layer.

Backbones are those of Mei et al., "RadImageNet", Radiol Artif Intell 2022;4:e210315: DenseNet121
and ResNet50 from MONAI, the two Inceptions beside this file. Weights of RadImageNet and ImageNet
load into them, see ``training.classify.published``.
"""

from typing import Final

import torch
from monai.networks.nets.densenet import DenseNet121 as MonaiDenseNet121
from monai.networks.nets.resnet import resnet50 as monai_resnet50
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pipeline.networks import inception_resnet_v2, inception_v3

CLASSES: Final = ("not_low", "low")
"""What the outputs stand for: muscle that is not below the cut-off, and muscle that is."""

# Mean and standard deviation of each channel that the published weights expect, images 0 to 1.
# RadImageNet and Inception: (x - 127.5) * 2 / 255 for x from 0 to 255.
_SCALINGS: Final = {
    "radimagenet": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_KERAS_EPSILON: Final = 1.001e-5

Blocks = tuple[tuple[str, ...], ...]

_DENSENET_BLOCKS: Final = (
    ("features.conv0", "features.norm0"),
    ("features.denseblock1", "features.transition1"),
    ("features.denseblock2", "features.transition2"),
    ("features.denseblock3", "features.transition3"),
    ("features.denseblock4", "features.norm5"),
)
_RESNET_BLOCKS: Final = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


class Classifier(nn.Module):
    """A backbone, dropout and one linear layer.

    Parameters
    ----------
    backbone : nn.Module
        (B, 3, rows, columns) to (B, channels).
    channels : int
    blocks : tuple of tuple of str
        Modules of the backbone from its entrance to its end, in groups that are unfrozen together.
    scaling : str
        ``"radimagenet"`` (also for Inception weights of ImageNet) or ``"imagenet"``.
    dropout : float
        Before the linear layer.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, blocks: Blocks, scaling: str, dropout: float
    ) -> None:
        super().__init__()
        if scaling not in _SCALINGS:
            raise ValueError(f"scaling {scaling!r} is none of {', '.join(sorted(_SCALINGS))}")
        self.backbone = backbone
        self.blocks = blocks
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(channels, len(CLASSES))
        mean, deviation = (torch.tensor(v)[:, None, None] for v in _SCALINGS[scaling])
        # They are no weights: no file holds them.
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return logits of ``CLASSES``, (B, 1, R, A) with values 0 to 1 to (B, classes)."""
        # As a radiologist looks at it: rows to the back, columns to the patient's left.
        seen = images.transpose(2, 3).flip(2, 3).expand(-1, 3, -1, -1)
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        logits: Tensor = self.head(self.drop(self.backbone((seen - mean) / deviation)))
        return logits


class _DenseNetFeatures(nn.Module):
    """The part of MONAI's DenseNet before its head, with the mean over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.features = MonaiDenseNet121(spatial_dims=2, in_channels=3, out_channels=1).features

    @override
    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.features(images)).mean(dim=(2, 3))


def densenet121(
    *, scaling: str = "radimagenet", dropout: float = 0.5, keras: bool = False
) -> nn.Module:
    """Build a classifier on DenseNet121.

    Parameters
    ----------
    scaling, dropout
        As for ``Classifier``.
    keras : bool
        For weights from Keras, whose batch norms have another epsilon.
    """
    backbone = _DenseNetFeatures()
    if keras:
        _set_epsilon(backbone)
    return Classifier(backbone, 1024, _DENSENET_BLOCKS, scaling, dropout)


def resnet50(
    *, scaling: str = "radimagenet", dropout: float = 0.5, keras: bool = False
) -> nn.Module:
    """Build a classifier on ResNet50.

    Parameters
    ----------
    scaling, dropout
        As for ``Classifier``.
    keras : bool
        For weights from Keras: its blocks take the stride in the first convolution, not in the
        second, and its batch norms have another epsilon. Biases of convolutions belong into the
        running means of the batch norms behind them.
    """
    backbone: nn.Module = monai_resnet50(
        spatial_dims=2, n_input_channels=3, feed_forward=False, shortcut_type="B",
        bias_downsample=False, conv1_t_size=7, conv1_t_stride=2,
    )  # fmt: skip
    if keras:
        _set_epsilon(backbone)
        for layer in ("layer2", "layer3", "layer4"):
            for name, stride in (("conv1", 2), ("conv2", 1)):
                convolution = backbone.get_submodule(f"{layer}.0.{name}")
                convolution.stride = (stride, stride)  # type: ignore[assignment] # torch's Module
    return Classifier(backbone, 2048, _RESNET_BLOCKS, scaling, dropout)


def inception_v3_classifier(
    *, scaling: str = "radimagenet", dropout: float = 0.5, keras: bool = False
) -> nn.Module:
    """Build a classifier on Inception V3.

    Parameters
    ----------
    scaling, dropout
        As for ``Classifier``.
    keras : bool
        For weights from Keras, whose average pools do not count the zeros around a map.
    """
    backbone = inception_v3.InceptionV3(pool_counts_padding=not keras)
    return Classifier(backbone, inception_v3.CHANNELS, inception_v3.BLOCKS, scaling, dropout)


def inception_resnet_v2_classifier(
    *, scaling: str = "radimagenet", dropout: float = 0.5
) -> nn.Module:
    """Build a classifier on Inception-ResNet V2; parameters are those of ``Classifier``."""
    backbone = inception_resnet_v2.InceptionResNetV2()
    channels = inception_resnet_v2.CHANNELS
    return Classifier(backbone, channels, inception_resnet_v2.BLOCKS, scaling, dropout)


def _set_epsilon(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = _KERAS_EPSILON
