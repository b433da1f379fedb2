"""Published SMIT weights as the start of a training.

The layouts of every published SMIT file are read: a flat encoder, a dictionary with ``state_dict``,
an iBOT style dictionary with ``student``, each under any of the usual prefixes. The shape of the
network follows from the shapes of the tensors. Nothing is skipped silently: what is not used is
named, and a file that fills less than 95 % of the encoder is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import structlog
import torch
from torch import Tensor

from pipeline.networks.smit import SmitConfig, SmitNetwork
from training import checkpoint
from training.flatten import to_slices

log = structlog.get_logger(__name__)

_CONTAINERS: Final = ("student", "state_dict", "model", "net")
_PREFIX: Final = re.compile(r"^(module|backbone|encoder|transformer|swinViT)\.")
_ENCODER: Final = re.compile(r"^(patch_embed|layers\.\d|norm\d|mask_token)")
_DECODER: Final = re.compile(r"^(encoder\d+|decoder\d+|out)\.")
_LEAST_FILLED: Final = 0.95

# The order of the eight neighbours (h, w, t) that are merged: published, and MONAI's "mergingv2".
_PUBLISHED_ORDER: Final = ("000", "100", "010", "001", "110", "011", "101", "111")
_OUR_ORDER: Final = ("000", "001", "010", "011", "100", "101", "110", "111")


class PublishedWeightsError(ValueError):
    """A file is not a published SMIT checkpoint."""


@dataclass(frozen=True, slots=True, eq=False)
class PublishedWeights:
    """What a published file holds, under the names of ``pipeline.networks.smit``.

    Parameters
    ----------
    config : SmitConfig
        Inferred from the shapes; its ``window_merge`` is ``"smit_published"``.
    encoder : Mapping
    decoder : Mapping
        Empty for files of pre-training.
    unused : tuple of str
        Tensors that were left alone.
    filled : float
        Share of the encoder's parameters that the file fills, 0 to 1.
    """

    config: SmitConfig
    encoder: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    unused: tuple[str, ...]
    filled: float


def read_published(path: Path) -> PublishedWeights:
    """Read a checkpoint of the published SMIT sources.

    Parameters
    ----------
    path : Path
        Written by ``torch.save``; nothing but tensors and plain values is unpickled.

    Raises
    ------
    PublishedWeightsError
        If the file holds other objects or another network, or fills too little of the encoder.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise PublishedWeightsError(
            f"{path.name} holds objects besides tensors; save its tensors alone, with "
            "torch.save({'state_dict': torch.load(FILE, weights_only=False)['student']}, NEW), "
            "if you trust it"
        ) from error
    tensors = _tensors(stored)
    found = {_stripped(key): value for key, value in tensors.items()}
    encoder = {k: v for k, v in found.items() if _ENCODER.match(k) and v.is_floating_point()}
    if "patch_embed.proj.weight" not in encoder:
        raise PublishedWeightsError(f"{path.name} holds no patch embedding of a SMIT encoder")
    config = _infer(encoder)
    renamed = {_renamed(key): _reordered(key, value) for key, value in encoder.items()}
    decoder = {
        k: v for k, v in found.items() if _DECODER.match(k) and v.is_floating_point() and v.ndim
    }
    # The pre-training network has a head of this name that predicts pixels.
    decoder = decoder if "decoder5.transp_conv.conv.weight" in decoder else {}
    return _checked(path, config, renamed, decoder, found)


def import_published(path: Path, out: Path, *, slices: bool) -> dict[str, Any]:
    """Write a run folder that ``finetune --pretrained`` starts from.

    Parameters
    ----------
    path : Path
        A published checkpoint.
    out : Path
    slices : bool
        Make the weights of the same network for slices, see ``training.flatten``; the node
        measures slices.

    Returns
    -------
    dict
        ``network`` and ``arguments`` for the recipe of the fine-tuning.
    """
    published = read_published(path)
    encoder = {k: v for k, v in published.encoder.items() if k != "mask_token"}
    arguments = _arguments(published.config)
    if slices:
        encoder = to_slices(encoder, published.config)
        arguments |= {"spatial_dims": 2, "window_merge": "standard"}
    recipe = {"network": "smit", "arguments": arguments, "source": path.name}
    state = {"step": 0, "student": encoder, "recipe": recipe}
    checkpoint.save(out / "checkpoint.pt", state)
    log.info("imported", filled=round(published.filled, 4), unused=len(published.unused))
    for key in published.unused[:20]:
        log.info("not used", tensor=key)
    return {"network": "smit", "arguments": arguments}


def _arguments(config: SmitConfig) -> dict[str, Any]:
    kept = ("spatial_dims", "embed_dim", "depths", "heads", "window", "qkv_bias", "window_merge")
    values = asdict(config)
    return {
        name: list(values[name]) if isinstance(values[name], tuple) else values[name]
        for name in kept
    }


def _tensors(stored: object) -> dict[str, Tensor]:
    """Take the weights out of whatever they are wrapped in."""
    if isinstance(stored, Mapping):
        for name in _CONTAINERS:
            if isinstance(stored.get(name), Mapping):
                stored = stored[name]
                break
    if not isinstance(stored, Mapping):
        raise PublishedWeightsError("the file holds no dictionary of tensors")
    return {str(key): value for key, value in stored.items() if isinstance(value, Tensor)}


def _stripped(key: str) -> str:
    """Remove prefixes as long as what follows, or what is left, belongs to the encoder."""
    while not _ENCODER.match(key) and _PREFIX.match(key):
        key = _PREFIX.sub("", key, count=1)
    return key


def _infer(encoder: Mapping[str, Tensor]) -> SmitConfig:
    depths, heads = [], []
    for stage in range(4):
        blocks = {
            match[1]
            for key in encoder
            if (match := re.match(rf"layers\.{stage}\.blocks\.(\d+)\.", key))
        }
        table = encoder.get(f"layers.{stage}.blocks.0.attn.relative_position_bias_table")
        if not blocks or table is None:
            raise PublishedWeightsError(f"stage {stage} of the encoder is missing")
        depths.append(len(blocks))
        heads.append(table.shape[1])
    embedding = encoder["patch_embed.proj.weight"]
    table = encoder["layers.0.blocks.0.attn.relative_position_bias_table"]
    dims = embedding.ndim - 2
    return SmitConfig(
        spatial_dims=dims,
        in_channels=embedding.shape[1],
        embed_dim=embedding.shape[0],
        depths=tuple(depths),
        heads=tuple(heads),
        window=(round(table.shape[0] ** (1 / dims)) + 1) // 2,
        qkv_bias="layers.0.blocks.0.attn.qkv.bias" in encoder,
        window_merge="smit_published",
    )


def _renamed(key: str) -> str:
    return key.replace(".mlp.fc1.", ".mlp.linear1.").replace(".mlp.fc2.", ".mlp.linear2.")


def _reordered(key: str, value: Tensor) -> Tensor:
    """Put the merged neighbours, and the axes of the mask token, into our order."""
    if ".downsample.norm." in key or key.endswith(".downsample.reduction.weight"):
        parts = dict(zip(_PUBLISHED_ORDER, value.chunk(8, dim=-1), strict=True))
        return torch.cat([parts[offset] for offset in _OUR_ORDER], dim=-1).contiguous()
    if key == "mask_token":
        return value.reshape(1, -1, 1, 1, 1)
    return value


def _checked(
    path: Path,
    config: SmitConfig,
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
) -> PublishedWeights:
    with torch.device("meta"):
        wanted = dict(SmitNetwork(config).transformer.named_parameters())
    fits = {k for k, v in wanted.items() if k in encoder and encoder[k].shape == v.shape}
    filled = sum(wanted[k].numel() for k in fits) / sum(v.numel() for v in wanted.values())
    if filled < _LEAST_FILLED:
        missing = ", ".join(sorted(set(wanted) - fits)[:3])
        raise PublishedWeightsError(
            f"{path.name} fills {filled:.0%} of the encoder; missing or of another shape: {missing}"
        )
    used = {_renamed(key) for key in found} & (fits | set(decoder) | {"mask_token"})
    unused = tuple(sorted(k for k in found if _renamed(k) not in used))
    return PublishedWeights(config, dict(encoder), dict(decoder), unused, filled)
