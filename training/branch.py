"""An encoder with everything that reads from it in pre-training."""

from typing import Final

from torch import Tensor, nn
from typing_extensions import override

from pipeline.networks.smit import SmitEncoder
from training.config import PretrainRecipe
from training.distillation import ProjectionHead

IMAGE_STRIDE: Final = 32
TOKEN_STRIDE: Final = 16


class Branch(nn.Module):
    """Student and teacher are one each.

    Parameters
    ----------
    encoder : SmitEncoder
        Of two or three dimensions.
    recipe : PretrainRecipe
    """

    def __init__(self, encoder: SmitEncoder, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.encoder = encoder
        # The norms of the skips are of use to the decoder alone, which is not here.
        for stage in range(4):
            encoder.get_submodule(f"norm{stage}").requires_grad_(requires_grad=False)
        channels = encoder.config.stage_dims[3]
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        sizes = (channels, recipe.hidden, recipe.bottleneck, recipe.prototypes)
        self.patch_head = ProjectionHead(*sizes, normalised=recipe.head_norm)
        self.global_head = ProjectionHead(*sizes, normalised=recipe.head_norm)
        dims = encoder.config.spatial_dims
        pixels = IMAGE_STRIDE**dims * encoder.config.in_channels
        convolution = nn.Conv3d if dims == 3 else nn.Conv2d
        self.to_pixels = convolution(2 * channels, pixels, 1)

    @override
    def forward(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return patch logits (B, cells, K), global logits (B, K) and the image predicted.

        Parameters
        ----------
        images : Tensor, shape (B, channels, ...)
        mask : Tensor of bool or None, shape (B, 1, ...)
            At half the sides of the images.
        """
        _, merged = self.encoder.stages(images, mask)
        tokens = self.norm(merged[2]).flatten(1, -2)
        predicted = unfold_pixels(self.to_pixels(merged[3].movedim(-1, 1)), images.shape[1])
        return self.patch_head(tokens), self.global_head(tokens.mean(1)), predicted


def unfold_pixels(features: Tensor, channels: int) -> Tensor:
    """Turn the channels of each cell into its pixels.

    Parameters
    ----------
    features : Tensor, shape (B, channels * stride ** dims, ...)
    channels : int

    Returns
    -------
    Tensor, shape (B, channels, ...)
        Each side ``stride`` times as long; in two dimensions as ``pixel_shuffle`` does it.
    """
    sides = features.shape[2:]
    dims = len(sides)
    split = features.reshape(len(features), channels, *[IMAGE_STRIDE] * dims, *sides)
    order = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
    return split.permute(0, 1, *order).reshape(
        len(features), channels, *(side * IMAGE_STRIDE for side in sides)
    )
