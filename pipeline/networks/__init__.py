"""The networks that a model manifest may name."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from pipeline.errors import ModelError
from pipeline.networks.classifier import (
    densenet121,
    inception_resnet_v2_classifier,
    inception_v3_classifier,
    resnet50,
)
from pipeline.networks.level import LevelNet
from pipeline.networks.smit import smit, smit_compact, smit_full, smit_test
from pipeline.networks.unet import unet

NETWORKS: Final[dict[str, Callable[..., nn.Module]]] = {
    "densenet121": densenet121,
    "inception_resnet_v2": inception_resnet_v2_classifier,
    "inception_v3": inception_v3_classifier,
    "level": LevelNet,
    "resnet50": resnet50,
    "smit": smit,
    "smit_compact": smit_compact,
    "smit_full": smit_full,
    "smit_test": smit_test,
    "unet": unet,
}


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build the network ``name`` with fresh weights.

    Parameters
    ----------
    name : str
        A key of ``NETWORKS``.
    arguments : Mapping
        Keyword arguments of the builder; lists stand for tuples, as JSON and TOML have none.

    Raises
    ------
    ModelError
        If the name is unknown or the builder refuses the arguments.
    """
    if name not in NETWORKS:
        raise ModelError(f"unknown network {name!r}, known are {', '.join(sorted(NETWORKS))}")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
    try:
        return NETWORKS[name](**plain)
    except (TypeError, ValueError) as error:
        raise ModelError(f"network {name!r} cannot be built: {error}") from error
