"""A plain 2-D U-Net: the baseline that SMIT is compared with.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015;
the network is MONAI's ``BasicUNet``.
"""

from monai.networks.nets.basic_unet import BasicUNet
from torch import nn

_FEATURES = (32, 32, 64, 128, 256, 32)


def unet(out_channels: int, features: tuple[int, ...] = _FEATURES) -> nn.Module:
    """Build a U-Net with one input channel.

    Parameters
    ----------
    out_channels : int
    features : tuple of int
        Channels of the five levels and of the last block.
    """
    network: nn.Module = BasicUNet(2, 1, out_channels, features)
    return network
