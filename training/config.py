"""The settings of a training run, read from a recipe."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pipeline.preprocess import HUWindow, PreprocessSpec
from training.augment import Augmentation
from training.cavity import Cavity
from training.habitus import Habitus

CASES_FOLDER: Final = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How to train a segmenter on labelled slices.

    Parameters
    ----------
    name : str
        Of the model; also of its folder.
    network : str
        A key of ``pipeline.networks.NETWORKS``.
    arguments : Mapping
        Of the network, besides its output channels.
    cases : str
        File name of a case list beside this module, or a path.
    held_out : tuple of str
        Patients that training must not see.
    steps, batch : int
    learning_rate, weight_decay : float
    warmup_steps : int
        The rate rises linearly over these, then falls as a cosine to zero.
    average_decay : float
        Of the running mean of the weights, which is what is evaluated and exported.
    clip : float
        Largest norm of the gradient.
    seed : int
    threads : int
        Of the processor.
    checkpoint_steps : int
        A checkpoint is written after each so many steps.
    pretrained : str
        Checkpoint of pre-training whose student encoder is the start; empty for a fresh start.
    weights : str
        Folder of a run or of exported weights that are the start, encoder and decoder; empty for
        none. A run that has seen a patient to be left out is refused.
    epochs : float
        Passes over the slices; above 0 it decides ``steps``, and ``warmup_epochs`` the warm-up.
    warmup_epochs : float
    schedule : str
        ``"cosine"``, or ``"constant"`` after the warm-up.
    validation : tuple of str
        Patients that choose the best step and stop the run; training does not see them either.
    validation_steps : int
        Validate after each so many steps; 0 never.
    patience : int
        Stop after so many validations without a better one; 0 never.
    picture_steps : int
        A picture of a prediction is made after each so many steps; 0 never.
    accumulate : int
        Batches whose gradients are summed for one step.
    precision : str
        ``"float32"``, or ``"bfloat16"`` or ``"float16"`` where that is safe.
    helpers : int
        Processes that draw samples ahead.
    preprocess : PreprocessSpec
    augmentation : Augmentation
    """

    name: str
    network: str = "smit_compact"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cases: str = "labelled_l3.toml"
    held_out: tuple[str, ...] = ()
    steps: int = 1500
    batch: int = 2
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    warmup_steps: int = 50
    average_decay: float = 0.99
    clip: float = 3.0
    seed: int = 1
    threads: int = 1
    checkpoint_steps: int = 100
    pretrained: str = ""
    weights: str = ""
    epochs: float = 0.0
    warmup_epochs: float = 0.0
    schedule: str = "cosine"
    validation: tuple[str, ...] = ()
    validation_steps: int = 0
    patience: int = 0
    picture_steps: int = 0
    accumulate: int = 1
    precision: str = "float32"
    helpers: int = 0
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def case_list(self) -> Path:
        """Path of the case list."""
        bundled = CASES_FOLDER / self.cases
        return bundled if bundled.exists() else Path(self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"preprocess": self.preprocess.to_dict()}


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """How to train an encoder without labels.

    Parameters
    ----------
    name : str
    network : str
        A SMIT of two or three dimensions.
    arguments : Mapping
    images : str
        File name of a list of images beside this module, or a path.
    steps, batch : int
        The batch is that of all processes together.
    epochs, warmup_epochs, freeze_epochs, temperature_epochs, patch_temperature_epochs : float
        Above 0, ``epochs`` decides ``steps`` by the number of volumes, and the others decide
        ``warmup_steps``, ``freeze_steps``, ``temperature_rise`` and ``patch_temperature_start``.
    accumulate : int
        Batches whose gradients are summed for one step.
    precision : str
        ``"float32"``, or ``"bfloat16"`` or ``"float16"`` where that is safe.
    helpers : int
        Processes that draw samples ahead.
    region, crop : int
        Sides in cells: of the region that both views come from, and of a view.
    volume_spacing_mm : tuple of float
        Of the cells in three dimensions.
    mask_ratio : float
        Share of cells of 16 x 16 that the student does not see.
    hidden, bottleneck, prototypes : int
        Sizes of the projection heads.
    head_norm : bool
        Batch norm in the heads.
    distillation_weight : float
        Of either distillation; the prediction of masked pixels weighs 1.
    student_temperature : float
    teacher_temperature : tuple[float, float]
    temperature_rise : float
        Share of the run over which the teacher's temperature rises from the first to the second.
    patch_temperature_start : float
        Share of the run after which that of patches begins to rise.
    center_momentum, teacher_momentum : float
    freeze_steps : int
        The prototypes stay fixed for so many steps.
    collapse_steps : int
        Pre-training stops after so many collapsed steps in a row.
    learning_rate, weight_decay : float
    warmup_steps : int
    clip : float
    seed, threads, checkpoint_steps, picture_steps : int
    preprocess : PreprocessSpec
    augmentation : Augmentation
    """

    name: str
    network: str = "smit_compact"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    images: str = "unlabelled.toml"
    steps: int = 1500
    batch: int = 4
    epochs: float = 0.0
    warmup_epochs: float = 0.0
    freeze_epochs: float = 0.0
    temperature_epochs: float = 0.0
    patch_temperature_epochs: float = 0.0
    accumulate: int = 1
    precision: str = "float32"
    helpers: int = 0
    region: int = 160
    crop: int = 128
    volume_spacing_mm: tuple[float, ...] = (2.0, 2.0, 2.0)
    mask_ratio: float = 0.7
    hidden: int = 256
    bottleneck: int = 64
    prototypes: int = 1024
    head_norm: bool = True
    distillation_weight: float = 0.1
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    temperature_rise: float = 0.3
    patch_temperature_start: float = 0.0
    center_momentum: float = 0.9
    teacher_momentum: float = 0.996
    freeze_steps: int = 20
    collapse_steps: int = 100
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    warmup_steps: int = 40
    clip: float = 3.0
    seed: int = 1
    threads: int = 1
    checkpoint_steps: int = 50
    picture_steps: int = 0
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def image_list(self) -> Path:
        """Path of the list of images."""
        bundled = CASES_FOLDER / self.images
        return bundled if bundled.exists() else Path(self.images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"preprocess": self.preprocess.to_dict()}


def read_finetune_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> FinetuneRecipe:
    """Read a recipe for fine-tuning.

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
    values = _read(path) | dict(changes or {})
    for name in ("held_out", "validation"):
        values[name] = tuple(values.get(name, ()))
    return FinetuneRecipe(**values)


def read_pretrain_recipe(path: Path) -> PretrainRecipe:
    """Read a recipe for pre-training; as ``read_finetune_recipe``."""
    values = _read(path)
    for name in ("teacher_temperature", "volume_spacing_mm"):
        if name in values:
            values[name] = tuple(values[name])
    return PretrainRecipe(**values)


def finetune_in_steps(recipe: FinetuneRecipe, slices: int) -> FinetuneRecipe:
    """Turn epochs into steps for so many slices; a recipe without epochs stays."""
    if not recipe.epochs:
        return recipe
    per_epoch = slices / (recipe.batch * recipe.accumulate)
    return replace(
        recipe,
        steps=math.ceil(recipe.epochs * per_epoch),
        warmup_steps=math.ceil(recipe.warmup_epochs * per_epoch),
    )


def pretrain_in_steps(recipe: PretrainRecipe, volumes: int) -> PretrainRecipe:
    """Turn epochs into steps for so many volumes; a recipe without epochs stays."""
    if not recipe.epochs:
        return recipe
    per_epoch = volumes / (recipe.batch * recipe.accumulate)
    return replace(
        recipe,
        steps=math.ceil(recipe.epochs * per_epoch),
        warmup_steps=math.ceil(recipe.warmup_epochs * per_epoch),
        freeze_steps=math.ceil(recipe.freeze_epochs * per_epoch),
        temperature_rise=recipe.temperature_epochs / recipe.epochs,
        patch_temperature_start=recipe.patch_temperature_epochs / recipe.epochs,
    )


def read_preprocess(values: Mapping[str, Any]) -> PreprocessSpec:
    """Build the preprocessing from its table in a recipe."""
    fields = dict(values)
    window = HUWindow(**fields.pop("window", {}))
    if "spacing_mm" in fields:
        fields["spacing_mm"] = tuple(fields["spacing_mm"])
    return PreprocessSpec(window=window, **fields)


def read_augmentation(values: Mapping[str, Any]) -> Augmentation:
    """Build the augmentation from its table in a recipe or a checkpoint."""
    fields = dict(values)
    habitus = Habitus(**fields.pop("habitus", {}))
    cavity = Cavity(**fields.pop("cavity", {}))
    return Augmentation(habitus=habitus, cavity=cavity, **fields)


def _read(path: Path) -> dict[str, Any]:
    """Read TOML and build the parts that both kinds of recipe share."""
    values = tomllib.loads(path.read_text())
    values["preprocess"] = read_preprocess(values.pop("preprocess", {}))
    values["augmentation"] = read_augmentation(values.pop("augmentation", {}))
    return values
