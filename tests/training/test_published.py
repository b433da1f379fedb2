"""Published layouts, made here: no published file is at hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.networks.smit import SmitConfig, SmitEncoder, SmitNetwork
from training import checkpoint
from training.config import FinetuneRecipe
from training.finetune import start
from training.flatten import to_slices
from training.published import PublishedWeightsError, import_published, read_published

# MICCAI 2022: no bias of queries, keys and values; as small as four stages can be.
CONFIG = SmitConfig(embed_dim=12, depths=(1, 1, 2, 1), heads=(1, 1, 2, 4), qkv_bias=False,
                    window_merge="smit_published", decoder_norm="batch")  # fmt: skip

# Neighbours (h, w, t): where the published order has what ours has in this place.
_OURS_TO_PUBLISHED = [0, 4, 2, 1, 6, 3, 5, 7]


def _published(network: SmitNetwork) -> dict[str, Tensor]:
    """The tensors of a network under the names and in the order of the published sources."""
    tensors = {}
    for key, value in network.state_dict().items():
        name = key.replace(".linear1.", ".fc1.").replace(".linear2.", ".fc2.")
        if "downsample.norm" in key or "reduction" in key:
            parts = value.chunk(8, dim=-1)
            parts = [parts[i] for i in _OURS_TO_PUBLISHED]
            tensors[name.removeprefix("transformer.")] = torch.cat(parts, dim=-1)
        else:
            tensors[name.removeprefix("transformer.")] = value
    return tensors


@pytest.fixture(scope="module")
def network() -> SmitNetwork:
    torch.manual_seed(0)
    return SmitNetwork(CONFIG).eval()


def _layouts(network: SmitNetwork) -> dict[str, object]:
    tensors = _published(network)
    encoder = {k: v for k, v in tensors.items() if not k.startswith(("encoder", "decoder", "out"))}
    whole = {(k if k not in encoder else f"transformer.{k}"): v for k, v in tensors.items()}
    head = {"decoder1.conv.conv.weight": torch.zeros(8, 192, 1, 1, 1)}
    token = {"mask_token": torch.zeros(1, 1, 12)}
    return {
        "flat encoder of 2022": {f"module.{k}": v for k, v in encoder.items()},
        "state_dict of the 2022 script": {"epoch": 3, "state_dict": encoder | token | head},
        "student of iBOT": {"student": {f"module.backbone.{k}": v for k, v in encoder.items()}},
        "student under transformer": {
            "student": {f"module.backbone.transformer.{k}": v for k, v in encoder.items()}
        },
        "whole segmenter": {"state_dict": whole, "epoch": 1, "best_acc": 0.5},
    }


@pytest.mark.parametrize(
    "layout",
    [
        "flat encoder of 2022",
        "state_dict of the 2022 script",
        "student of iBOT",
        "student under transformer",
        "whole segmenter",
    ],
)
def test_every_published_layout_fills_the_whole_encoder(
    network: SmitNetwork, tmp_path: Path, layout: str
) -> None:
    torch.save(_layouts(network)[layout], tmp_path / "weights.pt")
    published = read_published(tmp_path / "weights.pt")
    assert published.filled == 1.0
    config = published.config
    assert (config.depths, config.heads, config.window) == (CONFIG.depths, CONFIG.heads, 4)
    assert (config.qkv_bias, config.window_merge) == (False, "smit_published")
    for key, value in network.transformer.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(published.encoder[key], value), key
    assert bool(published.decoder) == (layout == "whole segmenter")


def test_neighbours_are_in_the_published_order() -> None:
    """Offsets (h, w, t) as the published merging lists them."""
    ours = ["000", "001", "010", "011", "100", "101", "110", "111"]
    published = "000 100 010 001 110 011 101 111"
    assert " ".join(ours[i] for i in _OURS_TO_PUBLISHED) == published


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(PublishedWeightsError, match="patch embedding"):
        read_published(tmp_path / "other.pt")


def test_half_an_encoder_is_refused(network: SmitNetwork, tmp_path: Path) -> None:
    tensors = {k: v for k, v in _published(network).items() if "layers.3.blocks.0.mlp" not in k}
    torch.save(tensors, tmp_path / "part.pt")
    with pytest.raises(PublishedWeightsError, match="fills"):
        read_published(tmp_path / "part.pt")


def test_file_with_code_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"student": {}, "args": PublishedWeightsError("x")}, tmp_path / "code.pt")
    with pytest.raises(PublishedWeightsError, match="save its tensors alone"):
        read_published(tmp_path / "code.pt")


def test_flattened_encoder_does_to_a_slice_what_the_encoder_does_to_equal_slices() -> None:
    torch.manual_seed(1)
    config = SmitConfig(embed_dim=12, depths=(2, 1, 1, 1), heads=(1, 1, 2, 4), drop_path=0.0)
    volume_encoder = SmitEncoder(config).eval()
    state = volume_encoder.state_dict()
    for key, value in state.items():
        if key.endswith("relative_position_bias_table"):
            # Bias that does not depend on the distance in slices.
            table = torch.randn(7, 7, 1, value.shape[1]).expand(7, 7, 7, -1)
            value.copy_(table.reshape(value.shape))
        elif "downsample.norm" in key:
            value.copy_(1 + 0.3 * torch.randn_like(value))
    slice_encoder = SmitEncoder(
        SmitConfig(2, embed_dim=12, depths=(2, 1, 1, 1), heads=(1, 1, 2, 4), drop_path=0.0)
    ).eval()
    flat = to_slices({k: v for k, v in state.items() if v.is_floating_point()}, config)
    missing, unexpected = slice_encoder.load_state_dict(flat, strict=False)
    assert unexpected == []
    assert all(key.endswith("relative_position_index") for key in missing)
    image = torch.rand(1, 1, 64, 32)
    with torch.no_grad():
        in_slice = slice_encoder(image)
        in_volume = volume_encoder(image[..., None].expand(-1, -1, -1, -1, 64).contiguous())
    for plane, volume in zip(
        [*in_slice[0], in_slice[1]], [*in_volume[0], in_volume[1]], strict=True
    ):
        assert torch.allclose(plane, volume[..., 0], atol=2e-4)


def test_imported_weights_are_a_run_that_fine_tuning_starts_from(
    network: SmitNetwork, tmp_path: Path
) -> None:
    torch.save(_layouts(network)["whole segmenter"], tmp_path / "weights.pt")
    made = import_published(tmp_path / "weights.pt", tmp_path / "run", slices=True)
    recipe = FinetuneRecipe(
        "own", "smit", made["arguments"], pretrained=str(tmp_path / "run" / "checkpoint.pt")
    )
    started = start(recipe).network.get_submodule("transformer").state_dict()
    student = checkpoint.load(tmp_path / "run" / "checkpoint.pt")["student"]
    assert all(torch.equal(started[key], value) for key, value in student.items())
