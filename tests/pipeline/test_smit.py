import itertools

import numpy as np
import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask
from torch import nn

from pipeline.errors import ModelError
from pipeline.networks import build_network
from pipeline.networks.smit import (
    Block,
    SmitConfig,
    SmitEncoder,
    shift_mask,
    smit_test,
    window_partition,
    window_reverse,
)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def slow_partition(x: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    windows = []
    for batch in x:
        starts = [range(0, s, w) for s, w in zip(batch.shape[:-1], window, strict=True)]
        for corner in itertools.product(*starts):
            cut = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
            windows.append(batch[cut].reshape(-1, batch.shape[-1]))
    return np.stack(windows)


# Published sizes: MICCAI 2022, MHub lung GTV, HeartSubSeg; whole segmenter and encoder.
@pytest.mark.parametrize(
    ("arguments", "whole", "encoder"),
    [
        ({}, 66_488_546, 12_363_840),
        ({"depths": [2, 2, 8, 2]}, 64_698_114, 10_573_408),
        (
            {
                "depths": [2, 2, 4, 2],
                "heads": [4, 4, 4, 4],
                "qkv_bias": False,
                "decoder_norm": "batch",
            },
            62_897_802,
            8_763_784,
        ),
    ],
)
def test_full_configuration_has_the_published_size(
    arguments: dict[str, object], whole: int, encoder: int
) -> None:
    with torch.device("meta"):
        network = build_network("smit_full", arguments)
    assert parameters(network) == whole
    assert parameters(network.get_submodule("transformer")) == encoder


def test_compact_configuration_has_six_and_a_half_million_parameters() -> None:
    assert parameters(build_network("smit_compact", {})) == 6_528_566


def test_full_configuration_has_the_published_parameter_names() -> None:
    with torch.device("meta"):
        names = set(build_network("smit_full", {}).state_dict())
    assert {
        "transformer.patch_embed.norm.weight",
        "transformer.layers.2.blocks.11.attn.relative_position_bias_table",
        "transformer.layers.3.downsample.reduction.weight",
        "transformer.norm3.bias",
        "encoder1.layer.conv3.conv.weight",
        "encoder10.layer.conv2.conv.weight",
        "decoder5.transp_conv.conv.weight",
        "decoder1.conv_block.conv3.conv.weight",
        "out.conv.conv.bias",
    } <= names


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_have_the_sides_of_the_image(spatial_dims: int) -> None:
    network = smit_test(spatial_dims=spatial_dims, out_channels=5).eval()
    image = torch.rand(1, 1, *[64, 32, 32][:spatial_dims])
    with torch.no_grad():
        assert network(image).shape == (1, 5, *image.shape[2:])


def test_skips_are_taken_before_merging() -> None:
    encoder = smit_test().transformer.eval()
    with torch.no_grad():
        skips, bottleneck = encoder(torch.rand(1, 1, 64, 64))
    assert [tuple(s.shape[1:]) for s in skips] == [
        (12, 32, 32),
        (24, 16, 16),
        (48, 8, 8),
        (96, 4, 4),
    ]
    assert bottleneck.shape == (1, 192, 2, 2)


@pytest.mark.parametrize(
    ("sides", "window"), [((8, 12), (4, 4)), ((4, 8, 12), (2, 4, 3)), ((6, 6), (3, 2))]
)
def test_partition_equals_a_slow_one(sides: tuple[int, ...], window: tuple[int, ...]) -> None:
    x = torch.rand(2, *sides, 5)
    assert np.array_equal(window_partition(x, window).numpy(), slow_partition(x.numpy(), window))


@pytest.mark.parametrize(
    ("sides", "window"), [((8, 12), (4, 4)), ((4, 8, 12), (2, 4, 3)), ((6, 6), (3, 2))]
)
def test_standard_reverse_undoes_the_partition(
    sides: tuple[int, ...], window: tuple[int, ...]
) -> None:
    x = torch.rand(2, *sides, 5)
    windows = window_partition(x, window)
    assert torch.equal(window_reverse(windows, window, sides, "standard"), x)


def test_published_reverse_moves_tokens_in_three_dimensions() -> None:
    x = torch.arange(2 * 8**3).reshape(2, 8, 8, 8, 1)
    windows = window_partition(x, (4, 4, 4))
    merged = window_reverse(windows, (4, 4, 4), (8, 8, 8), "smit_published")
    # The published permutation, written out by index.
    w = windows.numpy().reshape(2, 2, 2, 2, 4, 4, 4, 1)
    expected = np.empty((2, 2, 2, 4, 2, 4, 4, 1), dtype=w.dtype)
    for a, b, c, i, j, k in itertools.product(*[range(2)] * 3, *[range(4)] * 3):
        expected[:, a, c, j, b, i, k] = w[:, a, b, c, i, j, k]
    assert np.array_equal(merged.numpy(), expected.reshape(2, 8, 8, 8, 1))
    assert not torch.equal(merged, x)


def test_window_merge_changes_what_a_three_dimensional_network_computes() -> None:
    torch.manual_seed(0)
    standard = SmitEncoder(SmitConfig(embed_dim=12, depths=(2, 1, 1, 1), heads=(1, 2, 4, 8)))
    published = SmitEncoder(
        SmitConfig(
            embed_dim=12,
            depths=(2, 1, 1, 1),
            heads=(1, 2, 4, 8),
            window_merge="smit_published",
        )
    )
    published.load_state_dict(standard.state_dict())
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        difference = standard.eval()(image)[0][0] - published.eval()(image)[0][0]
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("sides", [(16, 24), (12, 10), (8, 8, 12)])
def test_block_equals_monais(sides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dims = len(sides)
    window, shift = (4,) * dims, (2,) * dims
    config = SmitConfig(spatial_dims=dims, embed_dim=12, heads=(2, 2, 4, 8), window=4)
    ours = Block(config, 0, 0.0).eval()
    reference = SwinTransformerBlock(12, 2, window, shift).eval()
    reference.load_state_dict(ours.state_dict())
    x = torch.rand(2, *sides, 12)
    padded = tuple(-(-s // 4) * 4 for s in sides)
    with torch.no_grad():
        ours_out = ours(x, window, shift, shift_mask(padded, window, shift, x.device))
        expected = reference(x, compute_mask(padded, window, shift, x.device))
    assert torch.allclose(ours_out, expected, atol=1e-6)


def test_mask_token_replaces_masked_patches_only() -> None:
    encoder = smit_test(mask_token=True).transformer.eval()
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., :16] = True
    first, second = torch.rand(2, 1, 1, 64, 64)
    second[..., 32:] = first[..., 32:]
    with torch.no_grad():
        assert torch.equal(encoder(first, mask)[1], encoder(second, mask)[1])
        assert not torch.equal(encoder(first)[1], encoder(second)[1])


def test_mask_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="without a mask token"):
        smit_test().transformer(torch.rand(1, 1, 32, 32), torch.ones(1, 1, 16, 16).bool())


def test_same_seed_gives_the_same_network() -> None:
    torch.manual_seed(3)
    first = smit_test().state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(v, first[k]) for k, v in smit_test().state_dict().items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vnet", {}),
        ("smit_test", {"depth": 3}),
        ("smit_test", {"spatial_dims": 4}),
        ("smit_test", {"heads": [5, 5, 5, 5]}),
        ("smit_test", {"window_merge": "odd"}),
        ("smit_test", {"decoder_norm": "none"}),
        ("smit_test", {"depths": [1, 1]}),
    ],
)
def test_network_that_cannot_be_built_is_refused(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        build_network(name, arguments)
