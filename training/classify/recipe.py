"""The settings of a classifier's training, read from a recipe."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.preprocess import PreprocessSpec
from training.augment import Augmentation
from training.cavity import Cavity
from training.config import read_augmentation, read_preprocess
from training.habitus import Habitus

PLAIN: Final = Augmentation(
    zoom=0.0, stretch=0.0, shear=0.0, contrast_chance=0.0, clear_chance=0.0, truncation_chance=0.0,
    habitus=Habitus(layer_chance=0.0, wasting_chance=0.0, infiltration_chance=0.0),
    cavity=Cavity(organ_chance=0.0, fluid_chance=0.0),
)  # fmt: skip
"""What leaves the size of the muscle as it is and needs no drawing."""


@dataclass(frozen=True, slots=True)
class ClassifyRecipe:
    """How to train a classifier of slices.

    Blocks of the backbone are unfrozen one after the other, from the head to the entrance.

    Parameters
    ----------
    name : str
        Of the model.
    network : str
        ``"densenet121"``, ``"inception_resnet_v2"``, ``"inception_v3"`` or ``"resnet50"``.
    arguments : Mapping
        Of the network; those that published weights ask for are added.
    cases : str
        Path of the case list.
    published : str
        File of published weights; empty for a fresh start.
    held_out, validation : tuple of str
        Patients that training must not see; the second choose the best weights.
    epochs : int
        Of each stage: the head alone, then one block more in each.
    patience : int
        A stage ends after so many epochs without a better balanced accuracy; 0 never.
    batch : int
    head_rate, stage_factor, least_rate : float
        Learning rate of the first stage, how it changes from stage to stage, and its lower limit.
    block_factor : float
        Of the rate from block to block towards the entrance.
    weight_decay : float
    seed, threads, helpers : int
    preprocess : PreprocessSpec
        Its smallest side is the side of the images.
    augmentation : Augmentation
        Nothing that needs labels, since there may be none.
    """

    name: str
    network: str = "densenet121"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cases: str = ""
    published: str = ""
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    epochs: int = 10
    patience: int = 0
    batch: int = 8
    head_rate: float = 1e-3
    stage_factor: float = 0.3
    least_rate: float = 1e-4
    block_factor: float = 0.5
    weight_decay: float = 0.0
    seed: int = 1
    threads: int = 1
    helpers: int = 0
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    augmentation: Augmentation = PLAIN

    def __post_init__(self) -> None:
        a = self.augmentation
        drawn = (a.contrast_chance, a.clear_chance, a.truncation_chance, a.habitus.layer_chance,
                 a.habitus.wasting_chance, a.habitus.infiltration_chance)  # fmt: skip
        if any(drawn):
            raise ValueError("a classifier has no labels to change contrast, habitus or outline by")
        if self.preprocess.side_multiple != self.preprocess.smallest_side:
            raise ValueError("a classifier's side_multiple and smallest_side are one number")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"preprocess": self.preprocess.to_dict()}


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> ClassifyRecipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
    changes : Mapping or None
        Fields to set instead of the file's.

    Raises
    ------
    TypeError
        If the file names a field that does not exist.
    """
    values = tomllib.loads(path.read_text()) | dict(changes or {})
    values["preprocess"] = read_preprocess(values.pop("preprocess", {}))
    if "augmentation" in values:
        own = dict(values.pop("augmentation"))
        plain = asdict(PLAIN) | own | {"habitus": PLAIN.habitus, "cavity": PLAIN.cavity}
        values["augmentation"] = Augmentation(**plain)
    for name in ("held_out", "validation"):
        values[name] = tuple(values.get(name, ()))
    return ClassifyRecipe(**values)


def recipe_of(values: Mapping[str, Any]) -> ClassifyRecipe:
    """Rebuild the recipe that a checkpoint holds."""
    held = {name: tuple(values[name]) for name in ("held_out", "validation")}
    rebuilt = {
        **values,
        **held,
        "preprocess": PreprocessSpec.from_dict(values["preprocess"]),
        "augmentation": read_augmentation(values["augmentation"]),
    }
    return ClassifyRecipe(**rebuilt)
